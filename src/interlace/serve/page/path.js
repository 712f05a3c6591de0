// The path over the grid, as it is walked: forwards to the right, tokens downward in their units; a cell is as dark as
// its unit is clean.

const SVG = "http://www.w3.org/2000/svg";
const make = (name, attributes) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

let drawn = 0;

export class Path {
  constructor(svg, caption, tip) {
    this.svg = svg;
    this.caption = caption;
    this.tip = tip;
    this.wide = 1;
    this.tall = 1;
    const id = `walked-${++drawn}`;
    this.clip = make("rect", { x: 0, y: 0, width: 0, height: 1 });
    const clip = make("clipPath", { id });
    clip.append(this.clip);
    this.rest = make("g", { class: "rest", "clip-path": `url(#${id})` });
    this.cells = make("g", { class: "cells" });
    this.even = make("path", { class: "even", d: "" });
    svg.replaceChildren(clip, this.rest, this.cells, this.even);
    svg.addEventListener("pointermove", event => this._hover(event));
    svg.addEventListener("pointerleave", () => this.tip.hide());
    this.clear();
  }

  clear() {
    this.run = null;
    this.count = 0;
    this.rest.replaceChildren();
    this.cells.replaceChildren();
    this.svg.setAttribute("aria-label", "The path over the grid: nothing walked yet");
    this.caption.textContent = "forwards →";
    this.scale(1, 1);
    this.even.setAttribute("d", "");
  }

  // How many forwards and tokens the picture holds; lanes that are compared get the same.
  scale(wide, tall) {
    this.wide = wide;
    this.tall = tall;
    this.svg.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    this.clip.setAttribute("height", tall);
    const even = Math.min(wide, tall);
    this.even.setAttribute("d", `M0 0L${even} ${even}`);
  }

  show(run, count) {
    if (run !== this.run) {
      this.cells.replaceChildren();
      this.rest.replaceChildren();
      this.run = run;
      this.count = 0;
      this.drawn = 0;
    }
    for (; this.drawn < count; this.drawn++) this._cell(run.frames[this.drawn]);
    const [low, high] = [Math.min(count, this.count), Math.max(count, this.count)];
    for (let i = low; i < high; i++) this.cells.children[i].classList.toggle("ahead", i >= count);
    this.count = count;
    const frame = run.frames[count - 1];
    const forwards = frame?.forwards ?? 0;
    this.clip.setAttribute("width", forwards);
    const units = frame ? new Set(run.frames.slice(0, count).map(one => one.index)).size : 0;
    this.caption.textContent = `${forwards} forward${forwards === 1 ? "" : "s"} → ${units} unit${units === 1 ? "" : "s"} ↓`;
    this.svg.setAttribute("aria-label", `The path over the grid: ${units} units after ${forwards} forwards`);
  }

  _cell(frame) {
    const y = frame.start - this.run.start, x = frame.forwards - 1;
    const cell = make("rect", { x, y, width: 1, height: frame.size });
    cell.style.fillOpacity = 0.16 + 0.84 * (1 - frame.level);
    this.cells.append(cell);
    if (frame.clean) this.rest.append(make("rect", { x: x + 1, y, width: 1e5, height: frame.size }));
  }

  _hover(event) {
    if (!this.run) return;
    const box = this.svg.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.wide) + 1;
    const y = ((event.clientY - box.top) / box.height) * this.tall + this.run.start;
    let level = 1, index = null;
    for (const own of this.run.units.values()) {
      if (y < own[0].start || y >= own[0].start + own[0].size) continue;
      index = own[0].index;
      for (const frame of own) if (frame.forwards <= x) level = frame.level;
    }
    if (index === null || x > (this.run.frames[this.count - 1]?.forwards ?? 0)) return this.tip.hide();
    this.tip.show({ x: event.clientX, y: event.clientY - 6 }, `forward ${x}, unit ${index}`, level === 0 ? "clean" : `level ${level.toFixed(2)}`);
  }
}
