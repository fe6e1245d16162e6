"use strict";
// Masks as the page and decisions.json hold them: run lengths, row by row.
const Planes = (() => {
  let lines = null;
  // The text of a plane of a card, or undefined. The block is cut into lines when first asked for: it may be long.
  function text(place, name) {
    if (!lines) {
      lines = new Map();
      for (const line of document.getElementById("planes").textContent.split("\n")) {
        const [at, kind, packed] = line.split(" ");
        lines.set(`${at} ${kind}`, packed);
      }
    }
    return lines.get(`${place} ${name}`);
  }
  // Base64 of a zlib stream of LEB128 numbers: value, length, value, …
  async function numbers(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const found = [];
    let value = 0, factor = 1;
    for (const byte of new Uint8Array(await new Response(plain).arrayBuffer())) {
      value += (byte & 127) * factor;
      if (byte & 128) factor *= 128;
      else found.push(value), value = 0, factor = 1;
    }
    return found;
  }
  function spread(runs, length) {
    const mask = new Uint16Array(length);
    let at = 0;
    for (let place = 0; place + 1 < runs.length; place += 2) {
      mask.fill(runs[place], at, at + runs[place + 1]);
      at += runs[place + 1];
    }
    if (at !== length) throw new Error(`a mask of ${at} pixels, expected ${length}`);
    return mask;
  }
  return {
    has: (place, name) => text(place, name) !== undefined,
    // The plane of a card as numbers, one a pixel; null where the page has none.
    async read(place, name, length) {
      const packed = text(place, name);
      return packed === undefined ? null : spread(await numbers(packed), length);
    },
    fromJson: (tree) => spread(tree.runs, tree.size[0] * tree.size[1]),
    toJson(mask, height, width) {
      const runs = [];
      for (let start = 0, at = 1; at <= mask.length; at += 1) {
        if (at === mask.length || mask[at] !== mask[start]) runs.push(mask[start], at - start), start = at;
      }
      return { size: [height, width], runs };
    },
    equal: (one, two) => one.length === two.length && one.every((value, at) => value === two[at]),
  };
})();
