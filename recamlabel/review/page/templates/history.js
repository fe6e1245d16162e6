"use strict";
// Steps that can be taken back and done again. A step is { undo(), redo(), weight }; the oldest go where they weigh too much.
const makeHistory = (most = Infinity, changed = () => {}) => {
  let done = [], undone = [], weight = 0;
  return {
    push(step) {
      done.push(step);
      undone = [];
      weight += step.weight ?? 1;
      while (weight > most && done.length > 1) weight -= done.shift().weight ?? 1;
      changed();
    },
    undo() {
      const step = done.pop();
      if (step) step.undo(), undone.push(step), weight -= step.weight ?? 1, changed();
      return Boolean(step);
    },
    redo() {
      const step = undone.pop();
      if (step) step.redo(), done.push(step), weight += step.weight ?? 1, changed();
      return Boolean(step);
    },
    clear() { done = []; undone = []; weight = 0; changed(); },
    get canUndo() { return done.length > 0; },
    get canRedo() { return undone.length > 0; },
  };
};
