// What has come of one answer, frame by frame. A frame is one unit after one forward; nothing here knows the page.

export class Run {
  // masks: whether its units begin as masks (tokens that are written one by one do not).
  constructor(masks = true) {
    this.masks = masks;
    this.frames = [];
    this.units = new Map(); // index -> its frames
    this.text = ""; // what is final
    this.done = false;
    this.usage = null;
    this.begun = performance.now();
    this.start = Infinity; // place of the first new token
    this.end = 0; // behind the last one that was heard of
    this.tokens = Infinity; // how many there are in the end
    this._fixed = 0;
  }

  get forwards() {
    return this.frames.at(-1)?.forwards ?? 0;
  }

  add({ text, unit, usage }, now = performance.now()) {
    this.text += text;
    if (usage) this.usage = usage;
    if (!unit) return;
    const own = this.units.get(unit.index) ?? [];
    const before = own.at(-1);
    const tokens = unit.tokens.map((token, i) => this._token(token, before?.tokens[i], unit));
    const fixed = tokens.filter(token => token.fixed).length;
    this._fixed += fixed - (before?.count ?? 0);
    const frame = {
      index: unit.index, start: unit.start, clean: unit.clean, level: unit.level, forwards: unit.forwards, tokens,
      text, count: fixed, fixed: this._fixed, seconds: (now - this.begun) / 1000, size: unit.tokens.length,
    };
    own.push(frame);
    this.units.set(unit.index, own);
    this.frames.push(frame);
    this.start = Math.min(this.start, unit.start);
    this.end = Math.max(this.end, unit.start + unit.tokens.length);
  }

  // A token is masked, drafted (it may change), or fixed; the forward that fixed it is remembered.
  _token({ id, text, logprob, order }, before, unit) {
    const fixed = id !== null && ((order ?? null) !== null || unit.clean);
    const same = before?.fixed && before.id === id;
    return {
      id, text: id === null ? "" : text, fixed, order: order ?? null,
      sure: fixed && (logprob ?? null) !== null ? Math.exp(logprob) : null,
      forward: fixed ? (same ? before.forward : unit.forwards) : null,
    };
  }

  // A unit before its first forward: all of it is open.
  prior(frame) {
    const open = { id: null, text: "", fixed: false, order: null, sure: null, forward: null };
    frame.before ??= { ...frame, clean: false, level: 1, text: "", tokens: frame.tokens.map(() => open) };
    return frame.before;
  }

  // The answer has ended: what lies behind a stop is no part of it.
  close() {
    this.done = true;
    const tokens = this.last().filter(frame => frame.clean).flatMap(frame => frame.tokens);
    const told = tokens.map(token => token.text).join("");
    if (!this.text || !(told.startsWith(this.text) || this.text.startsWith(told))) return;
    const ends = tokens.findLast(token => token.text);
    if (ends) ends.text += this.text.slice(told.length); // of a broken character, which came last
    let left = this.text.length;
    this.tokens = 0;
    for (const token of tokens) {
      token.cut = left <= 0;
      token.text = token.text.slice(0, Math.max(0, left));
      left -= token.text.length;
      this.tokens += !token.cut;
    }
    this.tokens = this.usage?.completion_tokens ?? this.tokens;
  }

  // The last frame of every unit, first unit first.
  last() {
    return [...this.units.values()].map(own => own.at(-1)).sort((a, b) => a.start - b.start);
  }

  // How many frames there are up to a forward.
  upto(forward) {
    let low = 0, high = this.frames.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.frames[middle].forwards <= forward) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  stats(count) {
    const frame = this.frames[count - 1];
    if (!frame) return null;
    const tokens = Math.min(frame.fixed, this.tokens);
    return {
      tokens, forwards: frame.forwards, ratio: tokens / Math.max(1, frame.forwards),
      rate: tokens / Math.max(1e-3, frame.seconds),
    };
  }
}
