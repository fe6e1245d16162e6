"use strict";
// The review part of the report. Without it the page still shows everything; nothing here leaves the browser.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("review-data").textContent);
  const FORMAT = "recamlabel-decisions", VERSION = 2, STATUSES = ["accepted", "rejected", "fix"], PREFERENCES = "recamlabel:preferences";
  const LINE = /[\r\n\u2028\u2029]+/g;
  const list = byId("cards");
  const cards = [...list.children].map((element, place) => ({
    element, place, ...data.cards[place],
    initial: { status: data.cards[place].status, note: data.cards[place].note },
    recorded: Date.parse(data.cards[place].time) || 0,
    number: Number(element.dataset.number),
    labels: element.dataset.labels.split(" ").filter(Boolean),
    score: "score" in element.dataset ? Number(element.dataset.score) : null,
    withheld: Number(element.dataset.withheld ?? 0),
    missing: "missing" in element.dataset,
    preview: () => getComputedStyle(element).getPropertyValue("--photo").trim().slice(4, -1),
  }));
  const known = new Map(cards.map((card) => [card.image, card]));

  // ---- what is kept in the browser
  const store = makeStore(data.run, new Map(cards.map((card) => [card.image, card.mask])), () => {
    byId("warning").textContent = "This browser keeps nothing more here: download decisions.json before you close the page.";
  });
  // What the run has recorded since, from another reviewer or another tool, is the later word.
  function stateOf(card) {
    const entry = store.entries.get(card.image);
    return entry && Date.parse(entry.time) >= card.recorded ? entry : card.initial;
  }

  // ---- a card shows its state
  const WORD = { accepted: "accepted", rejected: "rejected", fix: "to fix" };
  const hidden = new Set();
  function show(card) {
    const { status, note, painted } = stateOf(card);
    card.badge.textContent = (status ? WORD[status] : "") + (painted ? (status ? ", painted" : "painted") : "");
    card.badge.dataset.status = card.element.dataset.status = status ?? "";
    for (const button of card.buttons) button.setAttribute("aria-pressed", String((status ?? "") === button.dataset.status));
    card.mend.hidden = status !== "fix";
    if (card.note !== document.activeElement) card.note.value = note;
    if (painted !== card.shown) showMask(card, painted), card.shown = painted;
  }
  // The mask's picture on the card, by the mask that was painted; the pixel at each centre, as Python draws it.
  function showMask(card, painted) {
    const image = card.element.querySelector("[data-subject] img[data-mask]");
    if (!image) return;
    card.made ??= image.src;
    Layers.show(image, hidden, painted ? picture(painted, card) : card.made);
  }
  function picture(painted, card) {
    const [height, width] = painted.size, mask = Planes.fromJson(painted), canvas = document.createElement("canvas");
    const scale = Math.min(1, 320 / Math.max(height, width));
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
    for (let row = 0, at = 0; row < canvas.height; row += 1) {
      for (let column = 0; column < canvas.width; column += 1, at += 4) {
        const y = Math.floor((row + 0.5) * height / canvas.height), x = Math.floor((column + 0.5) * width / canvas.width);
        const id = mask[y * width + x];
        if (!id || hidden.has(id)) continue;
        const colour = id === data.ignore ? ((row + column) % 6 < 2 ? [60, 60, 60] : data.colours.at(-1)) : data.colours[id];
        pixels.data.set([...colour, 255], at);
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas.toDataURL();
  }
  function progress() {
    const count = (test) => cards.filter(test).length;
    const parts = STATUSES.map((status) => `${count((card) => stateOf(card).status === status)} ${WORD[status]}`);
    const painted = count((card) => stateOf(card).painted);
    if (painted) parts.push(`${painted} painted`);
    const elsewhere = [...store.entries].filter(([image, entry]) => !known.has(image) && entry.status).length;
    const decided = count((card) => stateOf(card).status);
    byId("progress").textContent =
      `${decided} of ${cards.length} decided: ${parts.join(", ")}` +
      (elsewhere ? `; ${elsewhere} on other pages` : "") + ` · ${count((card) => !card.element.hidden)} shown`;
  }
  const say = (text) => { byId("said").textContent = text; };
  const steps = makeHistory(1000, () => { byId("undo").disabled = !steps.canUndo; });
  function put(card, entry) {
    store.keep(card.image, { ...entry, time: new Date().toISOString(), mask: card.mask });
    show(card);
    progress();
  }
  // Takes an entry that was there before; what was written meanwhile in the note stays.
  function restore(card, { status, painted }) {
    const { note } = stateOf(card);
    put(card, { status, note, ...(painted ? { painted } : {}) });
    say(`${card.image}: ${WORD[status] ?? "undecided"}`);
    arrangeIfFiltered();
    if (!card.element.hidden) card.element.focus({ preventScroll: true }), card.element.scrollIntoView({ block: "nearest" });
  }
  function change(card, part) {
    const { status, note, painted } = stateOf(card);
    // Accepting again is not nothing: an earlier mask may have been accepted. Undecided again is.
    if (part.status === null && !status) return;
    const before = { status, painted }, after = { ...before, ...part };
    put(card, { status, note, ...(painted ? { painted } : {}), ...part });
    if (!("note" in part)) steps.push({ undo: () => restore(card, before), redo: () => restore(card, after) });
    if ("status" in part) say(`${card.image}: ${WORD[part.status] ?? "undecided"}`);
  }

  // ---- moving about
  let current = null;
  const visible = () => [...list.children].filter((element) => !element.hidden);
  function go(step) {
    const shown = visible();
    const at = current ? shown.indexOf(current.element) : -1;
    const next = shown[Math.min(Math.max(at + step, 0), shown.length - 1)];
    if (next) next.focus({ preventScroll: true }), next.scrollIntoView({ block: "start" });
  }
  function decide(card, status, advance) {
    // The next one is looked for before: with a filter by status, this one is gone from the list then.
    const moves = advance && status && byId("advance").checked, next = neighbour(card, 1);
    change(card, { status });
    arrangeIfFiltered();
    if (moves && next) next.element.focus({ preventScroll: true }), next.element.scrollIntoView({ block: "start" });
  }
  function neighbour(card, step) {
    const shown = visible(), at = shown.indexOf(card.element) + step;
    return shown[at] ? cards.find((one) => one.element === shown[at]) : null;
  }

  function prepare(card) {
    const bar = byId("decide").content.cloneNode(true).firstElementChild;
    bar.setAttribute("aria-label", `Decision on ${card.image}`);
    card.buttons = [...bar.querySelectorAll("button[data-status]")];
    for (const button of card.buttons) {
      button.addEventListener("click", () => decide(card, button.dataset.status || null, false));
    }
    for (const button of bar.querySelectorAll(".edit")) button.addEventListener("click", () => editor.open(card, "brush"));
    bar.querySelector(".ids").addEventListener("click", downloadIds);
    card.mend = bar.querySelector(".mend");
    for (const one of card.element.querySelectorAll(".picture")) one.addEventListener("click", () => editor.open(card, "move"));
    card.note = bar.querySelector("input");
    card.note.setAttribute("aria-label", `Note on ${card.image}`);
    card.note.addEventListener("input", () => change(card, { note: card.note.value.trim() }));
    card.badge = card.element.querySelector(".state");
    card.element.querySelector(":scope > .said")?.remove(); // the note field shows it
    if (data.run.masks) card.element.append(bar);
    card.element.addEventListener("focusin", () => {
      current?.element.removeAttribute("aria-current");
      current = card;
      card.element.setAttribute("aria-current", "true");
    });
    show(card);
  }

  // ---- keys
  const strength = byId("opacity");
  let before = strength.value;
  function setOpacity(value) {
    strength.value = value;
    byId("opacity-value").textContent = `${strength.value} %`;
    document.documentElement.style.setProperty("--overlay", strength.value / 100);
  }
  const onCurrent = (action) => () => { if (current && data.run.masks) action(current); };
  const KEYS = {
    j: () => go(1),
    k: () => go(-1),
    a: onCurrent((card) => decide(card, "accepted", true)),
    r: onCurrent((card) => decide(card, "rejected", true)),
    f: onCurrent((card) => decide(card, "fix", true)),
    u: onCurrent((card) => decide(card, null, false)),
    n: onCurrent((card) => card.note.focus()),
    e: onCurrent((card) => editor.open(card, "brush")),
    enter: onCurrent((card) => editor.open(card, "move")),
    o: () => {
      const off = strength.value === "0";
      if (!off) before = strength.value;
      setOpacity(off ? before : 0);
      say(off ? "overlays on" : "overlays off");
    },
    "[": () => setOpacity(Number(strength.value) - 10),
    "]": () => setOpacity(Number(strength.value) + 10),
  };
  // In a note Ctrl+Z is the note's own.
  function undoKeys(event) {
    const key = event.key.toLowerCase();
    if (event.target.matches?.(WRITING) || !"zy".includes(key)) return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) steps.redo();
    else steps.undo();
  }
  const WRITING = "input:not([type=range]):not([type=checkbox]):not([type=file]), textarea, select";
  document.addEventListener("keydown", (event) => {
    if (editor.isOpen || event.altKey || event.isComposing) return;
    if (event.ctrlKey || event.metaKey) return undoKeys(event);
    if (event.target.matches?.(WRITING)) {
      if (event.key === "Escape") (event.target.closest(".card") ?? event.target).focus();
      return;
    }
    const action = KEYS[event.key.toLowerCase()];
    if (event.key === "Enter" && event.target !== current?.element) return;
    if (!action || !byId("shortcuts").checked || event.repeat && "arfu".includes(event.key.toLowerCase())) return;
    event.preventDefault();
    action();
  });

  // ---- filter and sort
  const TESTS = {
    undecided: (card, state) => !state.status,
    noted: (card, state) => state.note,
    painted: (card, state) => state.painted,
    missing: (card) => card.missing,
    since: (card) => card.since,
  };
  function fits(card) {
    const state = stateOf(card), wanted = byId("by-status").value, kind = byId("by-class").value;
    const low = Number(byId("from").value || 0), high = Number(byId("to").value || 1);
    return (
      (!kind || (kind === "none" ? card.labels.length === 0 : card.labels.includes(kind))) &&
      (!wanted || (TESTS[wanted] ?? ((one, { status }) => status === wanted))(card, state)) &&
      (card.score === null || (card.score >= low && card.score <= high)) &&
      card.image.toLowerCase().includes(byId("by-name").value.trim().toLowerCase())
    );
  }
  const RANK = { fix: 0, rejected: 1, accepted: 3 };
  const SORTS = {
    order: (card) => card.place,
    worst: (card) => card.score ?? 1,
    best: (card) => -(card.score ?? 0),
    withheld: (card) => -card.withheld,
    class: (card) => Number(card.labels[0] ?? 0),
    status: (card) => RANK[stateOf(card).status] ?? 2,
    number: (card) => card.number,
  };
  function arrange() {
    for (const card of cards) card.element.hidden = !fits(card);
    const value = SORTS[byId("sort").value];
    const ranked = [...cards].sort((one, two) => value(one) - value(two) || one.place - two.place);
    list.append(...ranked.map((card) => card.element));
    list.dataset.size = byId("size").value;
    progress();
    if (current?.element.hidden) current = null;
  }

  function arrangeIfFiltered() {
    if (byId("by-status").value || byId("sort").value === "status") arrange();
  }
  function rearrange() {
    arrange();
    say(`${visible().length} image${visible().length === 1 ? "" : "s"} shown`);
  }

  // ---- to and from a file
  function save(text, type, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  function download() {
    store.reload();
    const name = byId("reviewer").value.trim();
    const tree = {
      format: FORMAT, version: VERSION, run: data.run, ...(name ? { reviewer: name } : {}),
      saved: new Date().toISOString(),
      decisions: [...store.entries].map(([image, entry]) => ({ image, ...entry })),
    };
    // A decision a line: painted masks are long.
    const { decisions, ...head } = tree;
    const rows = decisions.map((one) => `  ${JSON.stringify(one)}`).join(",\n");
    save(`${JSON.stringify(head, null, 1).slice(0, -2)},\n "decisions": [\n${rows}\n ]\n}\n`, "application/json", "decisions.json");
    say(`${decisions.length} decisions downloaded`);
  }
  // For `recamlabel export RUN --ids`: the images to be painted in another tool.
  function downloadIds() {
    const ids = cards.filter((card) => stateOf(card).status === "fix").map((card) => card.image);
    save(`${ids.join("\n")}\n`, "text/plain", "to-fix.txt");
    say(`${ids.length} image names downloaded`);
  }
  function usable(tree) {
    if (tree?.format !== FORMAT || !(tree.version >= 1 && tree.version <= VERSION) || !Array.isArray(tree.decisions)) {
      throw new Error("it is not a decisions.json of this version");
    }
    if (tree.run?.dataset !== data.run.dataset) throw new Error(`it belongs to another run, ${tree.run?.name}`);
    return tree.decisions.filter((one) =>
      typeof one?.image === "string" && typeof one.time === "string" && (one.status === null || STATUSES.includes(one.status))
      && (!one.painted || fitting(one)));
  }
  // A painted mask is taken if it has its image's size; an image of another page cannot be asked.
  function fitting({ image, painted: { size, runs } }) {
    const wanted = known.get(image)?.size ?? size;
    return Array.isArray(runs) && runs.every((number) => Number.isInteger(number) && number >= 0)
      && size?.[0] === wanted[0] && size[1] === wanted[1]
      && runs.reduce((sum, number, at) => (at % 2 ? sum + number : sum), 0) === size[0] * size[1];
  }
  async function load(file) {
    try {
      const tree = JSON.parse(await file.text()), entries = usable(tree), damaged = tree.decisions.length - entries.length;
      const usableHere = entries.filter(({ image, mask }) => !known.has(image) || known.get(image).mask === mask);
      const changed = entries.length - usableHere.length;
      const taken = store.merge(usableHere.map(({ image, status, note, time, mask, painted }) =>
        [image, { status, note: String(note ?? "").replace(LINE, " "), time, mask, ...(painted ? { painted } : {}) }]));
      cards.forEach(show);
      progress();
      const left = [[changed, "their masks have changed"], [damaged, "damaged"]].filter(([number]) => number);
      const text = `${file.name}: ${taken} decision${taken === 1 ? "" : "s"} loaded`
        + left.map(([number, why]) => `, ${number} left out: ${why}`).join("");
      byId("warning").textContent = left.length ? text : "";
      say(text);
    } catch (error) {
      byId("warning").textContent = `${file.name} was not loaded: ${error.message}`;
    }
  }

  // ---- start
  const PREFERRED = ["shortcuts", "advance", "reviewer", "size"];
  const valueOf = (element) => (element.type === "checkbox" ? "checked" : "value");
  const chosen = store.read(PREFERENCES, {});
  for (const id of PREFERRED) {
    const element = byId(id);
    if (chosen[id] !== undefined) element[valueOf(element)] = chosen[id];
    element.addEventListener("change", () =>
      store.write(PREFERENCES, Object.fromEntries(PREFERRED.map((name) => [name, byId(name)[valueOf(byId(name))]]))));
  }
  let lost = new Map();
  try { lost = store.inherit(); } catch { /* no storage: there is nothing to inherit */ }
  for (const card of cards) card.since ||= lost.has(card.image);
  const editor = makeEditor(data, {
    hidden, neighbour,
    warn: (text) => { byId("warning").textContent = text; },
    paintedOf: (card) => stateOf(card).painted,
    wordOf: (card) => WORD[stateOf(card).status] ?? "undecided",
    keepPainted: (card, painted) => { if (painted || stateOf(card).painted) change(card, { painted }); },
    decide: (card, status) => { change(card, { status }); arrangeIfFiltered(); },
    shortcuts: () => byId("shortcuts").checked,
  });
  cards.forEach(prepare);
  for (const [image, entry] of lost) {
    const mark = known.get(image).element.querySelector(".since");
    mark.hidden = false;
    mark.textContent = `mask changed since it was ${WORD[entry.status]}`;
  }
  const form = document.querySelector("form.tools");
  form.addEventListener("input", rearrange);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(rearrange));
  strength.addEventListener("input", () => setOpacity(strength.value));
  byId("download").addEventListener("click", download);
  byId("load").addEventListener("change", (event) => {
    if (event.target.files[0]) load(event.target.files[0]);
    event.target.value = "";
  });
  byId("undo").addEventListener("click", () => steps.undo());
  for (const button of document.querySelectorAll(".hide")) {
    button.addEventListener("click", () => {
      const id = Number(button.dataset.class), there = hidden.delete(id);
      if (!there) hidden.add(id);
      button.setAttribute("aria-pressed", String(there));
      for (const one of list.querySelectorAll(`img[data-class="${id}"]`)) one.closest("figure").hidden = !there;
      for (const image of document.querySelectorAll("img[data-mask]")) Layers.show(image, hidden);
      for (const card of cards) if (card.shown) showMask(card, card.shown);
      editor.recolour();
      say(`${button.textContent.trim()} ${there ? "shown" : "hidden"}`);
    });
  }
  addEventListener("storage", (event) => {
    if (event.key === store.key) store.reload(), cards.forEach(show), progress();
  });
  addEventListener("beforeunload", (event) => { if (!store.storable && store.entries.size) event.preventDefault(); });
  byId("download").hidden = !data.run.masks;
  byId("load").parentElement.hidden = !data.run.masks;
  byId("tools").hidden = false;
  byId("filters").open = innerWidth > 820;
  if (innerWidth > 820) byId("bar").append(document.querySelector(".legend")); // in sight all the time
  setOpacity(strength.value);
  arrange();
})();
