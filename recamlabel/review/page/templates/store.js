"use strict";
// What is kept in the browser: only what this reviewer touched, by image id. Decisions lie in one place, which is
// written at every change, painted masks in a place of their own each.
const makeStore = (run, known, failed) => {
  const OURS = `recamlabel:decisions:${run.dataset}:`, KEY = OURS + run.masks, PAINT = `recamlabel:painted:${run.dataset}:`;
  // Maps, not plain objects: an image may be called "__proto__".
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
      if (value === undefined) localStorage.removeItem(key);
      else localStorage.setItem(key, JSON.stringify(value));
    } catch {
      storable = false;
      failed();
    }
  }
  const paintKey = (image, entry) => `${PAINT}${entry.mask}:${image}`;
  // In the browser's store an entry says only that there is a painted mask; it lies elsewhere.
  const light = ([image, entry]) => [image, entry.painted ? { ...entry, painted: true } : entry];
  function whole([image, entry]) {
    if (!entry.painted) return [image, entry];
    const before = kept.get(image);
    if (before?.painted && before.time === entry.time && before.mask === entry.mask) return [image, before];
    const { painted, ...rest } = entry, tree = read(paintKey(image, entry), null);
    // Where the store had no room for it: what was said was said of a mask that is lost.
    return [image, tree ? { ...rest, painted: tree } : { ...rest, status: null }];
  }
  const save = () => write(KEY, [...kept].map(light));
  function reload() {
    if (storable) kept = new Map(read(KEY, []).map(whole));
  }
  reload();
  return {
    read, write, reload,
    key: KEY,
    get entries() { return kept; },
    get storable() { return storable; },
    // Says something of an image, or takes it back (undefined).
    keep(image, entry) {
      reload(); // another tab, with another page of this report, writes to the same place
      const before = kept.get(image);
      if (entry) kept.set(image, entry);
      else kept.delete(image);
      const painted = entry?.painted;
      if (painted !== before?.painted && (painted || before?.painted)) write(paintKey(image, entry ?? before), painted);
      save();
    },
    // Takes many at once, those that are later than what is here.
    merge(entries) {
      let taken = 0;
      reload();
      for (const [image, entry] of entries) {
        if ((kept.get(image)?.time ?? "") >= entry.time) continue;
        kept.set(image, entry);
        if (entry.painted) write(paintKey(image, entry), entry.painted);
        taken += 1;
      }
      save();
      return taken;
    },
    // Made again, with another threshold say, many masks are the same as before: so is what was said of them. Of the
    // others `lost` gives what was said.
    inherit() {
      const entries = [], lost = new Map();
      for (const key of Object.keys(localStorage).filter((name) => name.startsWith(OURS) && name !== KEY)) {
        for (const [image, entry] of read(key, []).map(whole)) {
          if (!known.has(image)) continue;
          if (known.get(image) === entry.mask) entries.push([image, entry]);
          else if (entry.status && (lost.get(image)?.time ?? "") < entry.time) lost.set(image, entry);
        }
      }
      if (entries.length) this.merge(entries);
      return lost;
    },
  };
};
