// One model's answer: its text, its numbers, its path.

import { Path } from "./path.js";
import { Text } from "./text.js";

const number = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export class Lane {
  constructor(template, tip) {
    this.node = template.content.firstElementChild.cloneNode(true);
    const find = selector => this.node.querySelector(selector);
    this.text = new Text(find(".text"), tip);
    this.path = new Path(find("svg"), find(".walked"), tip);
    this.stats = Object.fromEntries([...this.node.querySelectorAll("[data-stat]")].map(node => [node.dataset.stat, node]));
    this.title = find("h2");
    this.kind = find(".kind");
    this.copy = find(".copy");
    this.keep = find(".keep");
    this.run = null;
    this.count = 0;
  }

  // model: whose lane it is; as: what it is; hue: its colour, 0 to 2.
  name(model, as, hue) {
    this.model = model;
    this.node.dataset.hue = hue;
    this.title.textContent = model.id;
    const { system, title = system, block_size: size } = as;
    this.kind.textContent = size > 1 ? `${title}, units of ${size}` : title ?? "";
    this.text.root.setAttribute("aria-label", `Text of ${model.id}; arrow keys go from token to token`);
  }

  rest(note) {
    this.run = null;
    this.count = 0;
    this.text.clear(note);
    this.path.clear();
    this._numbers(null);
    this.copy.disabled = this.keep.disabled = true;
  }

  begin(run, before, after) {
    this.rest("");
    this.run = run;
    this.text.begin(before, after);
    this.node.setAttribute("aria-busy", "true");
  }

  // What is known up to a forward.
  show(forward, flash) {
    if (!this.run) return;
    const count = this.run.upto(forward);
    if (count === this.count && !this._closing) return;
    this._closing = false;
    this.text.show(this.run, count, flash && count > this.count);
    this.path.show(this.run, count);
    this._numbers(this.run.stats(count));
    this.count = count;
  }

  close() {
    this._closing = true;
    this.text.forget();
    this.node.removeAttribute("aria-busy");
    this.copy.disabled = this.keep.disabled = !this.run?.text;
  }

  _numbers(stats) {
    const said = stats
      ? { tokens: number(stats.tokens, 0), forwards: number(stats.forwards, 0), ratio: number(stats.ratio, 2), rate: number(stats.rate, stats.rate < 10 ? 1 : 0) }
      : { tokens: "–", forwards: "–", ratio: "–", rate: "–" };
    for (const [name, text] of Object.entries(said)) this.stats[name].textContent = text;
  }
}
