"use strict";
// The lightbox: one image at full size, with its mask to look at and to repair. All work is done on numbers (class ids, one
// a pixel of the image); the canvas only shows them. `page` is what the review page offers: see its end.
const makeEditor = (data, page) => {
  const byId = (id) => document.getElementById(id);
  const dialog = byId("editor"), canvas = byId("sheet-mask"), area = byId("stage"), shape = byId("brush-shape");
  // Above the class id: whether a person painted the pixel. The level slider leaves those alone.
  const BY_HAND = 0x10000, ID = 0xffff, MOST_PIXELS = 100e6, MOST_WEIGHT = 40e6, STRIPES = 90;
  let card = null, height = 0, width = 0, cells = null, made = null, levels = null, opening = 0;
  let tool = "move", chosen = 1, level = 0, space = false, stroke = null;
  const stage = makeStage(area, byId("sheet"), (scale, real) => {
    byId("zoom-value").textContent = `${Math.round(real * 100)} %`;
    sizeShape(scale);
  });
  const history = makeHistory(MOST_WEIGHT, showSteps);

  // ---- what is seen
  const colours = new Uint32Array(ID + 1);
  const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  function setColours() {
    colours.fill(0);
    data.names.forEach((_, id) => { if (id) colours[id] = packed(data.colours[id]); });
    colours[data.ignore] = packed(data.colours.at(-1));
    for (const id of page.hidden) colours[id] = 0;
  }
  const DARK = packed([60, 60, 60]);
  let picture = null, pixels = null, period = 8;
  function draw(left = 0, top = 0, right = width, bottom = height) {
    if (right <= left || bottom <= top) return;
    for (let row = top; row < bottom; row += 1) {
      for (let index = row * width + left, column = left; column < right; column += 1, index += 1) {
        const id = cells[index] & ID;
        // Withheld pixels are hatched, in stripes as wide as the image asks for.
        pixels[index] = id === data.ignore && colours[id] && (row + column) % period < period / 3 ? DARK : colours[id];
      }
    }
    canvas.getContext("2d").putImageData(picture, 0, 0, left, top, right - left, bottom - top);
  }
  function drawRows(indices) {
    let low = Infinity, high = -1;
    for (const index of indices) low = Math.min(low, index), high = Math.max(high, index);
    if (high >= 0) draw(0, Math.floor(low / width), width, Math.floor(high / width) + 1);
  }
  function sizeShape(scale) {
    const size = Number(byId("brush-size").value) * scale;
    shape.style.width = shape.style.height = `${size}px`;
    shape.hidden = !["brush", "eraser"].includes(tool);
  }
  function showSteps() {
    byId("editor-undo").disabled = !history.canUndo;
    byId("editor-redo").disabled = !history.canRedo;
    if (card) byId("editor-state").textContent = `${page.wordOf(card)}${isPainted() ? " · painted" : ""}`;
  }
  const isPainted = () => made !== null && cells.some((cell, index) => (cell & ID) !== made[index]);

  // ---- steps
  function put(indices, values) {
    indices.forEach((index, at) => { cells[index] = values[at]; });
    drawRows(indices);
  }
  function remember(indices, before, slider = level) {
    if (!indices.length) return;
    const after = Uint32Array.from(indices, (index) => cells[index]), now = level;
    history.push({
      weight: indices.length,
      undo: () => { put(indices, before); setLevel(slider); },
      redo: () => { put(indices, after); setLevel(now); },
    });
  }
  // Gives every pixel another cell, as one step.
  function change(next, slider) {
    const indices = [], before = [];
    for (let index = 0; index < cells.length; index += 1) {
      const value = next(index, cells[index]);
      if (value === cells[index]) continue;
      indices.push(index);
      before.push(cells[index]);
      cells[index] = value;
    }
    drawRows(indices);
    remember(indices, before, slider);
  }

  // ---- brush, eraser, fill
  const canChange = (cell) => (tool === "eraser" ? (cell & ID) === chosen : true);
  const paintOf = () => (tool === "eraser" ? nothing() : chosen) | BY_HAND;
  const nothing = () => (data.background ? 0 : data.ignore);
  function begin(point) {
    if (tool === "fill") return fill(point);
    stroke = { indices: [], before: [], last: point };
    extend(point);
  }
  function extend(point) {
    const value = paintOf(), radius = Number(byId("brush-size").value) / 2, first = stroke.indices.length;
    Paint.line(width, height, stroke.last, point, radius, (index) => {
      if (cells[index] === value || !canChange(cells[index])) return;
      stroke.indices.push(index);
      stroke.before.push(cells[index]);
      cells[index] = value;
    });
    drawRows(stroke.indices.slice(first));
    stroke.last = point;
  }
  function end() {
    if (stroke) remember(stroke.indices, stroke.before);
    stroke = null;
  }
  function giveUp() {
    if (stroke) put(stroke.indices, stroke.before);
    stroke = null;
  }
  function fill([x, y]) {
    const column = Math.floor(x), row = Math.floor(y);
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const start = row * width + column, id = cells[start] & ID;
    const indices = Paint.region(width, height, start, (index) => (cells[index] & ID) === id);
    const before = indices.map((index) => cells[index]);
    put(indices, indices.map(() => chosen | BY_HAND));
    remember(indices, before);
  }

  // ---- the whole mask
  function classAt(place, index) {
    const code = levels[index];
    if (!code) return 0;
    const count = card.ids.length;
    return Math.floor((code - 1) / count) + 1 > place ? card.ids[(code - 1) % count] : 0;
  }
  function setLevel(place) {
    level = place;
    byId("level").value = data.levels.length - 1 - place; // to the right is larger, which is a lower level
    const own = data.levels[place] === data.level ? ", the run's" : "";
    byId("level-value").textContent = levels ? `background level ${data.levels[place].toFixed(2)}${own}` : "";
  }
  // While the slider moves, everything is shown; one step is remembered when it comes to rest.
  let before = null;
  function slide(place) {
    before ??= { cells: cells.slice(), level };
    for (let index = 0; index < cells.length; index += 1) {
      const from = before.cells[index];
      cells[index] = from & BY_HAND ? from : classAt(place, index);
    }
    setLevel(place);
    draw();
  }
  function rest() {
    if (!before) return;
    const { cells: old, level: slider } = before, indices = [], values = [];
    before = null;
    for (let index = 0; index < cells.length; index += 1) if (old[index] !== cells[index]) indices.push(index), values.push(old[index]);
    remember(indices, values, slider);
  }
  async function takeSegmenter() {
    const of = card, mask = await Planes.read(card.place, "segmenter", cells.length);
    if (mask && of === card) change((index) => mask[index]);
  }
  const clearWithheld = () => change((index, cell) =>
    (cell & ID) === data.ignore ? (levels ? classAt(level, index) : nothing()) | BY_HAND : cell);
  const takeMade = () => change((index) => made[index]);

  // ---- opening and closing
  function showPhoto() {
    byId("sheet-photo")?.remove();
    const photo = new Image();
    photo.id = "sheet-photo";
    photo.draggable = false;
    photo.alt = `Image ${card.image}`;
    const preview = () => { photo.onload = photo.onerror = null; photo.src = card.preview(); byId("editor").dataset.photo = "preview"; };
    photo.onerror = preview;
    // Another size than the mask's: not its photograph.
    photo.onload = () => {
      if (photo.naturalWidth !== width || photo.naturalHeight !== height) preview();
      else byId("editor").dataset.photo = "file";
    };
    byId("editor").dataset.photo = "";
    if (card.file) photo.src = card.file;
    else preview();
    byId("sheet").prepend(photo);
  }
  function showClasses() {
    const own = new Set(card.labels.map(Number)), ids = data.names.map((_, id) => id).slice(1);
    const order = [...ids.filter((id) => own.has(id)), ...ids.filter((id) => !own.has(id))];
    const rows = [...order, ...(data.background ? [0] : []), data.ignore];
    byId("editor-classes").replaceChildren(...rows.map((id) => {
      const row = document.createElement("label"), input = document.createElement("input"), swatch = document.createElement("span");
      input.type = "radio";
      input.name = "class";
      input.value = id;
      input.addEventListener("change", () => { chosen = id; });
      swatch.className = id === data.ignore ? "swatch hatched" : "swatch";
      if (id && id !== data.ignore) swatch.style.background = `rgb(${data.colours[id].join(" ")})`;
      row.append(input, swatch, id === data.ignore ? "withheld" : data.names[id]);
      if (own.has(id)) row.className = "own";
      return row;
    }));
    choose(order[0] ?? rows[0]);
  }
  function choose(id) {
    chosen = id;
    const input = byId("editor-classes").querySelector(`input[value="${id}"]`);
    if (input) input.checked = true;
  }
  function nextClass() {
    const inputs = [...byId("editor-classes").querySelectorAll("input")], at = inputs.findIndex((one) => one.checked);
    choose(Number(inputs[(at + 1) % inputs.length].value));
  }
  function setTool(name) {
    tool = name;
    for (const button of dialog.querySelectorAll(".tool")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    area.dataset.tool = name;
    sizeShape(stage.scale);
  }
  async function open(next, wanted) {
    const turn = opening += 1;
    const [rows, columns] = next.size, size = rows * columns;
    if (!Planes.has(next.place, "mask")) return;
    if (size > MOST_PIXELS) return page.warn(`${next.image} is too large to edit here; paint it in CVAT or FiftyOne`);
    let mask, codes;
    try {
      [mask, codes] = await Promise.all(["mask", "levels"].map((name) => Planes.read(next.place, name, size)));
    } catch (error) {
      return page.warn(`${next.image} cannot be opened here (${error.message}): a newer browser is needed, or another tool`);
    }
    if (turn !== opening) return;
    if (card) keep(); // a stroke made while the next one was read
    [card, made, levels, height, width] = [next, mask, codes, rows, columns];
    const painted = page.paintedOf(card);
    cells = Uint32Array.from(painted ? Planes.fromJson(painted) : made, (id, index) => id === made[index] ? id : id | BY_HAND);
    canvas.width = width;
    canvas.height = height;
    picture = canvas.getContext("2d").createImageData(width, height);
    pixels = new Uint32Array(picture.data.buffer);
    period = Math.max(6, Math.round(Math.max(width, height) / STRIPES));
    setColours();
    draw();
    history.clear();
    byId("editor-name").textContent = card.image;
    showPhoto();
    showClasses();
    byId("level-box").hidden = !levels;
    byId("level").max = data.levels.length - 1;
    setLevel(Math.max(0, data.levels.indexOf(data.level)));
    byId("take-segmenter").disabled = !Planes.has(card.place, "segmenter");
    setTool(wanted ?? tool);
    if (!dialog.open) dialog.showModal();
    stage.size(width, height);
    stage.fit();
    showSteps();
    area.focus();
  }
  // Nothing that was painted is lost: it is kept with the card, and can be undone there.
  function keep() {
    end();
    rest();
    if (!card || !history.canUndo) return;
    const ids = Uint16Array.from(cells, (cell) => cell & ID);
    page.keepPainted(card, Planes.equal(ids, made) ? undefined : Planes.toJson(ids, height, width));
    history.clear();
  }
  function close() {
    keep();
    const last = card;
    card = null;
    if (dialog.open) dialog.close();
    last?.element.focus({ preventScroll: true });
  }
  function move(step) {
    keep();
    const next = page.neighbour(card, step);
    if (next && next !== card) open(next);
  }
  function decide(status) {
    keep();
    const of = card, next = page.neighbour(card, 1);
    page.decide(of, status);
    if (next && next !== of) open(next);
    else close();
  }

  // ---- mouse, pen, finger
  const pointers = new Map();
  let panning = false;
  function down(event) {
    event.preventDefault();
    area.focus();
    area.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, stage.inner(event));
    if (pointers.size > 1) return giveUp();
    panning = tool === "move" || space || event.button === 1;
    if (!panning && event.button === 0) begin(stage.point(event));
  }
  function moved(event) {
    const at = stage.inner(event);
    [shape.style.left, shape.style.top] = at.map((value) => `${value}px`);
    const last = pointers.get(event.pointerId);
    if (!last) return;
    if (pointers.size === 2) pinch(event.pointerId, last, at);
    else if (panning) stage.pan(at[0] - last[0], at[1] - last[1]);
    else if (stroke) for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) extend(stage.point(one));
    pointers.set(event.pointerId, at);
  }
  function pinch(id, last, at) {
    const other = [...pointers].find(([key]) => key !== id)[1];
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    stage.pan((at[0] - last[0]) / 2, (at[1] - last[1]) / 2);
    stage.by(apart(at) / apart(last), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  }
  function up(event) {
    pointers.delete(event.pointerId);
    if (!pointers.size) end(), panning = false;
  }
  area.addEventListener("pointerdown", down);
  area.addEventListener("pointermove", moved);
  area.addEventListener("pointerup", up);
  area.addEventListener("pointercancel", (event) => { giveUp(); up(event); });
  area.addEventListener("wheel", (event) => {
    event.preventDefault();
    stage.by(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...stage.inner(event));
  }, { passive: false });

  // ---- buttons and keys
  const brush = (size) => {
    byId("brush-size").value = size;
    byId("brush-value").textContent = `${byId("brush-size").value} px`;
    sizeShape(stage.scale);
  };
  const opacity = (value) => { byId("editor-opacity").value = value; canvas.style.opacity = value / 100; };
  let seen = "50";
  const overlay = () => {
    const now = byId("editor-opacity").value;
    if (now !== "0") seen = now;
    opacity(now === "0" ? seen : 0);
  };
  const undo = () => { rest(); history.undo(); };
  const redo = () => { rest(); history.redo(); };
  const CLICKS = {
    "zoom-in": () => stage.by(1.5), "zoom-out": () => stage.by(1 / 1.5), "zoom-fit": stage.fit, "zoom-real": stage.real,
    "editor-previous": () => move(-1), "editor-next": () => move(1), "editor-accept": () => decide("accepted"), "editor-close": close,
    "editor-undo": undo, "editor-redo": redo,
    "take-segmenter": takeSegmenter, "clear-withheld": clearWithheld, "take-made": takeMade,
  };
  for (const [id, action] of Object.entries(CLICKS)) byId(id).addEventListener("click", action);
  for (const button of dialog.querySelectorAll(".tool")) button.addEventListener("click", () => setTool(button.dataset.tool));
  byId("brush-size").addEventListener("input", (event) => brush(event.target.value));
  byId("editor-opacity").addEventListener("input", (event) => opacity(event.target.value));
  byId("level").addEventListener("input", (event) => slide(data.levels.length - 1 - event.target.value));
  byId("level").addEventListener("change", rest);
  byId("photo-grey").addEventListener("change", (event) => byId("sheet").classList.toggle("grey", event.target.checked));
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(); });
  const step = (sign) => brush(Math.max(1, Math.round(Number(byId("brush-size").value) * (sign > 0 ? 1.25 : 0.8)) + (sign > 0 ? 1 : -1)));
  const KEYS = {
    h: () => setTool("move"), b: () => setTool("brush"), e: () => setTool("eraser"), g: () => setTool("fill"), c: nextClass,
    "[": () => step(-1), "]": () => step(1), "+": () => stage.by(1.5), "=": () => stage.by(1.5), "-": () => stage.by(1 / 1.5),
    0: stage.fit, 1: stage.real, o: overlay, j: () => move(1), k: () => move(-1),
    a: () => decide("accepted"), r: () => decide("rejected"), f: () => decide("fix"),
  };
  dialog.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") event.preventDefault(), event.shiftKey ? redo() : undo();
      if (key === "y") event.preventDefault(), redo();
      return;
    }
    if (key === " " && event.target === area) event.preventDefault(), space = true;
    const moves = event.target.type === "range" || event.target.type === "radio";
    if (event.altKey || !KEYS[key] || !page.shortcuts() || (moves && "01".includes(key)) || (event.repeat && "arf".includes(key))) return;
    event.preventDefault();
    KEYS[key]();
  });
  dialog.addEventListener("keyup", (event) => { if (event.key === " ") space = false; });
  addEventListener("pagehide", () => { if (card) keep(); });
  opacity(50);
  return { open, recolour: () => { if (card) setColours(), draw(); }, get isOpen() { return card !== null; } };
};
