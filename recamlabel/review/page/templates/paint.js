"use strict";
// Which pixels a tool reaches. A pixel counts where its centre does; nothing here knows of the screen.
const Paint = {
  // Calls reach(index) for every pixel with its centre at most `radius` from the line between two points.
  line(width, height, from, to, radius, reach) {
    const [x0, y0] = from, dx = to[0] - x0, dy = to[1] - y0, length = dx * dx + dy * dy;
    const clip = (value, most) => Math.min(Math.max(value, 0), most);
    const top = clip(Math.floor(Math.min(y0, to[1]) - radius), height), bottom = clip(Math.ceil(Math.max(y0, to[1]) + radius), height);
    const left = clip(Math.floor(Math.min(x0, to[0]) - radius), width), right = clip(Math.ceil(Math.max(x0, to[0]) + radius), width);
    for (let row = top; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1) {
        const x = column + 0.5 - x0, y = row + 0.5 - y0;
        const along = length ? clip((x * dx + y * dy) / length, 1) : 0;
        const apartX = x - along * dx, apartY = y - along * dy;
        if (apartX * apartX + apartY * apartY <= radius * radius) reach(row * width + column);
      }
    }
  },
  // Indices of the pixels that hang together with one (by their sides) and for which same(index) holds.
  region(width, height, start, same) {
    const seen = new Uint8Array(width * height), found = [start];
    seen[start] = 1;
    for (let at = 0; at < found.length; at += 1) {
      const index = found[at], column = index % width;
      const near = [column > 0 ? index - 1 : -1, column < width - 1 ? index + 1 : -1, index - width, index + width];
      for (const next of near) {
        if (next >= 0 && next < seen.length && !seen[next] && same(next)) seen[next] = 1, found.push(next);
      }
    }
    return found;
  },
};
