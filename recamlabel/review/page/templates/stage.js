"use strict";
// A sheet of an image's size on a stage that zooms and pans; it knows where on the image a point of the screen lies.
const makeStage = (stage, sheet, moved) => {
  const SMALLEST = 0.02, LARGEST = 40;
  let scale = 1, left = 0, top = 0, width = 1, height = 1;
  const oneToOne = () => 1 / (window.devicePixelRatio || 1);
  function place() {
    sheet.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    sheet.classList.toggle("near", scale > 2 * oneToOne());
    moved(scale, scale / oneToOne());
  }
  function to(next, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const before = scale;
    scale = Math.min(Math.max(next, SMALLEST), LARGEST);
    left = x - (x - left) * (scale / before);
    top = y - (y - top) * (scale / before);
    place();
  }
  const inner = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
  };
  return {
    inner,
    // Where on the image an event is, in pixels; the centre of the first one is (0.5, 0.5).
    point(event) {
      const [x, y] = inner(event);
      return [(x - left) / scale, (y - top) / scale];
    },
    size(columns, rows) {
      [width, height] = [columns, rows];
      sheet.style.width = `${width}px`;
      sheet.style.height = `${height}px`;
    },
    fit() {
      scale = Math.min(stage.clientWidth / width, stage.clientHeight / height, 8);
      left = (stage.clientWidth - width * scale) / 2;
      top = (stage.clientHeight - height * scale) / 2;
      place();
    },
    real: () => to(oneToOne()),
    by: (factor, x, y) => to(scale * factor, x, y),
    pan(x, y) { left += x; top += y; place(); },
    get scale() { return scale; },
  };
};
