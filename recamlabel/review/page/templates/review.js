"use strict";
// The review part of the report. Without it the page still shows everything; nothing here leaves the browser.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("review-data").textContent);
  const FORMAT = "recamlabel-decisions", VERSION = 1, STATUSES = ["accepted", "rejected", "fix"];
  const OURS = `recamlabel:decisions:${data.run.dataset}:`, KEY = OURS + data.run.masks, PREFERENCES = "recamlabel:preferences";
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
  }));
  const known = new Map(cards.map((card) => [card.image, card]));

  // ---- what is kept in the browser: only what this reviewer touched, by image id
  let kept = new Map(), storable = true;
  function read(key, fallback) {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? fallback;
    } catch {
      return fallback;
    }
  }
  function write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      storable = false;
      byId("warning").textContent = "This browser keeps nothing here: download decisions.json before you close the page.";
    }
  }
  // Maps, not plain objects: an image may be called "__proto__".
  const reload = () => { kept = new Map(read(KEY, [])); };
  function keep(image, entry) {
    if (storable) reload(); // another tab, with another page of this report, writes to the same place
    kept.set(image, entry);
    write(KEY, [...kept]);
  }
  // What the run has recorded since, from another reviewer or another tool, is the later word.
  function stateOf(card) {
    const entry = kept.get(card.image);
    return entry && Date.parse(entry.time) >= card.recorded ? entry : card.initial;
  }
  // Made again, with another threshold say, many masks are the same as before: so is what was said of them.
  function inherit() {
    let taken = 0;
    for (const key of Object.keys(localStorage).filter((name) => name.startsWith(OURS) && name !== KEY)) {
      for (const [image, entry] of read(key, [])) {
        if (known.get(image)?.mask !== entry.mask || (kept.get(image)?.time ?? "") >= entry.time) continue;
        kept.set(image, entry);
        taken += 1;
      }
    }
    if (taken) write(KEY, [...kept]);
  }

  // ---- a card shows its state
  const WORD = { accepted: "accepted", rejected: "rejected", fix: "to fix" };
  function show(card) {
    const { status, note } = stateOf(card);
    card.badge.textContent = status ? WORD[status] : "";
    card.badge.dataset.status = card.element.dataset.status = status ?? "";
    for (const button of card.buttons) button.setAttribute("aria-pressed", String((status ?? "") === button.dataset.status));
    if (card.note !== document.activeElement) card.note.value = note;
  }
  function progress() {
    const count = (test) => cards.filter(test).length;
    const parts = STATUSES.map((status) => `${count((card) => stateOf(card).status === status)} ${WORD[status]}`);
    const elsewhere = [...kept].filter(([image, entry]) => !known.has(image) && entry.status).length;
    const decided = count((card) => stateOf(card).status);
    byId("progress").textContent =
      `${decided} of ${cards.length} decided: ${parts.join(", ")}` +
      (elsewhere ? `; ${elsewhere} on other pages` : "") + ` · ${count((card) => !card.element.hidden)} shown`;
  }
  const say = (text) => { byId("said").textContent = text; };
  function change(card, part) {
    const before = stateOf(card);
    // Accepting again is not nothing: an earlier mask may have been accepted. Undecided again is.
    if (part.status === null && !before.status) return;
    keep(card.image, {
      status: before.status, note: before.note, ...part, time: new Date().toISOString(), mask: card.mask,
    });
    show(card);
    progress();
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
    change(card, { status });
    if (advance && status && byId("advance").checked) go(1);
  }

  function prepare(card) {
    const bar = byId("decide").content.cloneNode(true).firstElementChild;
    bar.setAttribute("aria-label", `Decision on ${card.image}`);
    card.buttons = [...bar.querySelectorAll("button")];
    for (const button of card.buttons) {
      button.addEventListener("click", () => change(card, { status: button.dataset.status || null }));
    }
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
    o: () => {
      const off = strength.value === "0";
      if (!off) before = strength.value;
      setOpacity(off ? before : 0);
      say(off ? "overlays on" : "overlays off");
    },
    "[": () => setOpacity(Number(strength.value) - 10),
    "]": () => setOpacity(Number(strength.value) + 10),
  };
  const WRITING = "input:not([type=range]):not([type=checkbox]):not([type=file]), textarea, select";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.matches?.(WRITING)) {
      if (event.key === "Escape") (event.target.closest(".card") ?? event.target).focus();
      return;
    }
    const action = KEYS[event.key.toLowerCase()];
    if (!action || !byId("shortcuts").checked || event.repeat && "arfu".includes(event.key.toLowerCase())) return;
    event.preventDefault();
    action();
  });

  // ---- filter and sort
  function fits(card) {
    const state = stateOf(card), wanted = byId("by-status").value, kind = byId("by-class").value;
    const low = Number(byId("from").value || 0), high = Number(byId("to").value || 1);
    return (
      (!kind || (kind === "none" ? card.labels.length === 0 : card.labels.includes(kind))) &&
      (!wanted || (wanted === "undecided" ? !state.status : wanted === "noted" ? state.note : state.status === wanted)) &&
      (card.score === null || (card.score >= low && card.score <= high)) &&
      card.image.toLowerCase().includes(byId("by-name").value.trim().toLowerCase())
    );
  }
  const RANK = { fix: 0, rejected: 1, accepted: 3 };
  const SORTS = {
    order: (card) => card.place,
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

  function rearrange() {
    arrange();
    say(`${visible().length} image${visible().length === 1 ? "" : "s"} shown`);
  }

  // ---- to and from a file
  function download() {
    reload();
    const name = byId("reviewer").value.trim();
    const tree = {
      format: FORMAT, version: VERSION, run: data.run, ...(name ? { reviewer: name } : {}),
      saved: new Date().toISOString(),
      decisions: [...kept].map(([image, entry]) => ({ image, ...entry })),
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(tree, null, 1)], { type: "application/json" }));
    link.download = "decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`${kept.size} decisions downloaded`);
  }
  function usable(tree) {
    if (tree?.format !== FORMAT || tree.version !== VERSION || !Array.isArray(tree.decisions)) {
      throw new Error("it is not a decisions.json of this version");
    }
    if (tree.run?.dataset !== data.run.dataset) throw new Error(`it belongs to another run, ${tree.run?.name}`);
    return tree.decisions.filter((one) =>
      typeof one?.image === "string" && typeof one.time === "string" && (one.status === null || STATUSES.includes(one.status)));
  }
  async function load(file) {
    try {
      const entries = usable(JSON.parse(await file.text()));
      let taken = 0, changed = 0;
      reload();
      for (const { image, status, note, time, mask } of entries) {
        const card = known.get(image);
        if (card ? card.mask !== mask : false) { changed += 1; continue; }
        if ((kept.get(image)?.time ?? "") >= time) continue; // what was said later counts
        kept.set(image, { status, note: String(note ?? "").replace(LINE, " "), time, mask });
        taken += 1;
      }
      write(KEY, [...kept]);
      cards.forEach(show);
      progress();
      const text = `${file.name}: ${taken} decision${taken === 1 ? "" : "s"} loaded` + (changed ? `, ${changed} left out: their masks have changed` : "");
      byId("warning").textContent = changed ? text : "";
      say(text);
    } catch (error) {
      byId("warning").textContent = `${file.name} was not loaded: ${error.message}`;
    }
  }

  // ---- start
  const PREFERRED = ["shortcuts", "advance", "reviewer", "size"];
  const valueOf = (element) => (element.type === "checkbox" ? "checked" : "value");
  const chosen = read(PREFERENCES, {});
  for (const id of PREFERRED) {
    const element = byId(id);
    if (chosen[id] !== undefined) element[valueOf(element)] = chosen[id];
    element.addEventListener("change", () =>
      write(PREFERENCES, Object.fromEntries(PREFERRED.map((name) => [name, byId(name)[valueOf(byId(name))]]))));
  }
  reload();
  try { inherit(); } catch { /* no storage: there is nothing to inherit */ }
  cards.forEach(prepare);
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
  addEventListener("storage", (event) => {
    if (event.key === KEY) reload(), cards.forEach(show), progress();
  });
  addEventListener("beforeunload", (event) => { if (!storable && kept.size) event.preventDefault(); });
  byId("download").hidden = !data.run.masks;
  byId("load").parentElement.hidden = !data.run.masks;
  byId("tools").hidden = false;
  setOpacity(strength.value);
  arrange();
})();
