// What has come of one answer, frame by frame. A frame is one unit after one forward; nothing here knows the page.

const BROKEN = "\ufffd"; // what stands for bytes that are no character

// The texts of the tokens of frames, first unit first: frame -> texts. A character whose bytes are spread over tokens
// side by side is the text of the last of them, whichever unit came first; of one whose other bytes are not known, the
// server says whether it is to be seen.
export function spelt(frames) {
  const found = new Map(), decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let last = null, place = null; // the token that ends with a part of a character, and where its unit ends
  const end = next => {
    const rest = decoder.decode();
    if (last?.token.text.endsWith(BROKEN) && !next.startsWith(BROKEN)) last.texts[last.i] += rest;
    last = null;
  };
  for (const frame of frames) {
    if (frame.start !== place) end("");
    const texts = frame.tokens.map(token => token.text);
    frame.tokens.forEach((token, i) => {
      if (token.bytes) {
        texts[i] = decoder.decode(Uint8Array.from(token.bytes), { stream: true });
        last = { token, texts, i };
      } else if (token.id === null || token.text) {
        end(token.text); // what has no text (a special token) parts nothing
      }
    });
    found.set(frame, texts);
    place = frame.start + frame.size;
  }
  end("");
  return found;
}

// The texts as they stand in the text that they make up, null for those behind its end; null if they are not its. They
// may differ in what stands for broken bytes.
function fitted(texts, whole) {
  let at = 0;
  const found = [];
  for (const text of texts) {
    let fit = at < whole.length ? "" : null;
    for (const sign of fit === null ? "" : text) {
      while (sign !== BROKEN && whole[at] === BROKEN) fit += whole[at++];
      if (at >= whole.length) break;
      if (whole.startsWith(sign, at)) {
        fit += sign;
        at += sign.length;
      } else if (sign !== BROKEN) {
        return null;
      }
    }
    found.push(fit);
  }
  const last = found.findLastIndex(text => text);
  if (last >= 0) found[last] += whole.slice(at); // of a broken character, which came last
  return found;
}

export class Run {
  // masks: whether its units begin as masks (tokens that are written one by one do not).
  constructor(masks = true) {
    this.masks = masks;
    this.frames = [];
    this.units = new Map(); // index -> its frames
    this.text = ""; // what is final
    this.done = false;
    this.usage = null;
    this.parts = false; // whether characters are spread over tokens
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
    this.parts ||= tokens.some(token => token.bytes);
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
  _token({ id, text, logprob, order, bytes }, before, unit) {
    const fixed = id !== null && ((order ?? null) !== null || unit.clean);
    const same = before?.fixed && before.id === id;
    return {
      id, text: id === null ? "" : text, bytes: (id !== null && bytes) || null, fixed, order: order ?? null,
      sure: fixed && (logprob ?? null) !== null ? Math.exp(logprob) : null,
      forward: fixed ? (same ? before.forward : unit.forwards) : null,
    };
  }

  // A unit before its first forward: all of it is open.
  prior(frame) {
    const open = { id: null, text: "", bytes: null, fixed: false, order: null, sure: null, forward: null };
    frame.before ??= { ...frame, clean: false, level: 1, text: "", tokens: frame.tokens.map(() => open) };
    return frame.before;
  }

  // The answer has ended: what lies behind a stop is no part of it. (If it broke off, nothing is known of its end.)
  close() {
    this.done = true;
    if (!this.usage) return;
    const frames = this.last(), clean = frames.filter(frame => frame.clean), found = spelt(clean);
    const tokens = clean.flatMap(frame => frame.tokens), told = clean.flatMap(frame => found.get(frame));
    const texts = fitted(told, this.text);
    if (!texts) return;
    tokens.forEach((token, i) => {
      token.cut = texts[i] === null;
      if (texts[i] !== told[i]) Object.assign(token, { text: texts[i] ?? "", bytes: null });
    });
    for (const frame of frames) if (!frame.clean) frame.tokens.forEach(token => { token.cut = true; });
    this.tokens = this.usage.completion_tokens ?? tokens.filter(token => !token.cut).length;
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
