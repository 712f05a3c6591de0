// A text whose tokens can be watched, hovered over and walked through.

import { spelt } from "./run.js";

const seen = text => text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·");
const hex = byte => `\\x${byte.toString(16).padStart(2, "0")}`;
const spelled = ({ text, bytes }) => seen(text) || bytes?.map(hex).join("") || "(no text)";

function described(token) {
  if (token.id === null) return ["masked", "nothing known yet"];
  if (!token.fixed) return [spelled(token), "a draft; it may still change"];
  const sure = token.sure === null ? "confidence not told" : `confidence ${percent(token.sure)}`;
  return [spelled(token), `${sure}, fixed in forward ${token.forward}`];
}

export const percent = share => (share > 0.9995 ? "100 %" : `${(100 * share).toFixed(share > 0.995 ? 1 : 0)} %`);

export class Text {
  // tip: what shows the particulars of a token.
  constructor(root, tip) {
    this.root = root;
    this.tip = tip;
    this.known = new WeakMap();
    root.addEventListener("pointerover", event => this._show(event.target));
    root.addEventListener("pointerleave", () => this._rest());
    root.addEventListener("focusin", event => this._show(event.target));
    root.addEventListener("focusout", () => this.tip.hide());
    root.addEventListener("scroll", () => this.tip.hide(), { passive: true });
    root.addEventListener("keydown", event => this._key(event));
    this.above = document.createElement("div"); // what was said before, in a chat
    this.clear();
  }

  clear(empty = "") {
    this.nodes = new Map();
    this.shown = new Map();
    this.live = this._span("live");
    this.after = this._span("given");
    const before = this._span("given"), note = this._span("empty");
    note.textContent = empty;
    this.root.replaceChildren(this.above, before, this.live, this.after, note);
    this.before = before;
    this.note = note;
  }

  begin(before, after = "") {
    this.clear();
    this.before.textContent = before;
    this.after.textContent = after;
    this.live.classList.toggle("filled", Boolean(after));
    this.root.scrollTop = this.root.scrollHeight;
  }

  // Draw every unit anew, next time.
  forget() {
    this.shown.clear();
  }

  _span(name) {
    const span = document.createElement("span");
    span.className = name;
    return span;
  }

  // The frames of a run up to the count-th; flash: whether a token that is fixed now shows it.
  show(run, count, flash) {
    const near = this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight < 48;
    const last = new Map();
    for (let i = 0; i < count; i++) last.set(run.frames[i].index, run.frames[i]);
    const next = run.frames[count];
    if (next && run.masks && !last.has(next.index)) last.set(next.index, run.prior(next));
    for (const [index, node] of this.nodes) {
      if (last.has(index)) continue;
      node.remove();
      this.nodes.delete(index);
      this.shown.delete(index);
    }
    const frames = [...last.values()].sort((a, b) => a.start - b.start);
    const found = run.parts ? spelt(frames) : null; // a neighbour may make a character of what a unit has
    for (const frame of frames) {
      const { index } = frame, texts = found?.get(frame), key = texts?.join("\0"), before = this.shown.get(index);
      if (before?.frame === frame && before.key === key) continue;
      this._unit(index, frame, texts, flash);
      this.shown.set(index, { frame, key });
    }
    if (flash && near) this.root.scrollTop = this.root.scrollHeight;
  }

  _unit(index, frame, texts, flash) {
    let node = this.nodes.get(index);
    if (!node) {
      node = this._span("unit");
      node.start = frame.start;
      let before = this.live.lastChild; // units may come in any order
      while (before && before.start > frame.start) before = before.previousSibling;
      if (before) before.after(node);
      else this.live.prepend(node);
      this.nodes.set(index, node);
    }
    while (node.children.length > frame.tokens.length) node.lastChild.remove();
    frame.tokens.forEach((own, i) => {
      const token = texts ? { ...own, text: texts[i] } : own;
      const span = node.children[i] ?? node.appendChild(Object.assign(this._span(), { tabIndex: -1 }));
      const before = this.known.get(span);
      const tone = token.id === null ? "masked" : frame.clean ? "" : token.fixed ? "draft" : "draft loose";
      const name = `token ${tone}`.trim() + (token.cut ? " cut" : "") + (token.sure === null ? "" : ` sure${Math.min(4, Math.floor(token.sure * 5))}`);
      const fresh = token.fixed && !(before?.fixed && before.id === token.id);
      if (span.dataset.name !== name) span.className = span.dataset.name = name;
      if (span.textContent !== token.text) span.textContent = token.text;
      if (token.id === null) span.setAttribute("aria-label", "masked");
      else span.removeAttribute("aria-label");
      if (fresh && flash) {
        span.classList.add("flash");
        span.addEventListener("animationend", () => span.classList.remove("flash"), { once: true });
      }
      this.known.set(span, token);
    });
  }

  _show(target) {
    const token = this.known.get(target);
    if (!token || token.cut) return this._rest();
    const [text, note] = described(token);
    this.tip.show(target, text, note, token.sure);
  }

  // Without a pointer on it the tip goes back to the token in focus, if there is one.
  _rest() {
    const token = this.known.get(document.activeElement);
    if (token && this.root.contains(document.activeElement)) this._show(document.activeElement);
    else this.tip.hide();
  }

  _key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if ((!step && event.key !== "Home" && event.key !== "End") || event.ctrlKey || event.metaKey || event.altKey) return;
    const tokens = [...this.live.querySelectorAll(".token:not(.cut)")];
    if (!tokens.length) return;
    event.preventDefault();
    const now = tokens.indexOf(document.activeElement);
    const to = event.key === "Home" ? 0 : event.key === "End" ? tokens.length - 1 : now < 0 ? (step > 0 ? 0 : tokens.length - 1) : now + step;
    tokens[Math.max(0, Math.min(tokens.length - 1, to))].focus();
  }
}
