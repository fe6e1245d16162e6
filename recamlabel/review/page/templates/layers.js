"use strict";
// Hides classes in the mask pictures of the cards: the PNG's text chunk `ids` names the class of each colour of its palette,
// and a colour that is clear in the chunk tRNS is not seen.
const Layers = (() => {
  const HEAD = "data:image/png;base64,", SIGNATURE = 8;
  const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
    for (let bit = 0; bit < 8; bit += 1) number = number & 1 ? 0xedb88320 ^ (number >>> 1) : number >>> 1;
    return number;
  });
  function checksum(bytes) {
    let sum = 0xffffffff;
    for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
    return (sum ^ 0xffffffff) >>> 0;
  }
  // The address of the same picture with the colours of some class ids clear; the address itself where it names no ids.
  function without(address, hidden) {
    if (!address.startsWith(HEAD) || !hidden.size) return address;
    const bytes = Uint8Array.from(atob(address.slice(HEAD.length)), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), chunks = new Map();
    for (let at = SIGNATURE; at < bytes.length; at += 12 + view.getUint32(at)) {
      const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
      if (!chunks.has(name)) chunks.set(name, [at + 8, view.getUint32(at)]);
    }
    if (!chunks.has("tEXt") || !chunks.has("tRNS")) return address;
    const [textAt, textLength] = chunks.get("tEXt"), [at, length] = chunks.get("tRNS");
    const ids = String.fromCharCode(...bytes.subarray(textAt, textAt + textLength)).split("\0")[1].split(" ").map(Number);
    for (let place = 0; place < length; place += 1) if (hidden.has(ids[place])) bytes[at + place] = 0;
    view.setUint32(at + length, checksum(bytes.subarray(at - 4, at + length)));
    let text = "";
    for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode(...bytes.subarray(start, start + 8192));
    return HEAD + btoa(text);
  }
  const originals = new WeakMap();
  return {
    // Shows a picture of the cards without some classes; `address` gives it another content first.
    show(image, hidden, address) {
      if (address) originals.set(image, address);
      else if (!originals.has(image)) originals.set(image, image.src);
      image.src = without(originals.get(image), hidden);
    },
  };
})();
