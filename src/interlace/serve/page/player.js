// Shows what has come, no faster than the reader wants; afterwards it can be played again, and walked through by hand.

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Player {
  constructor({ bar, play, range, where, pace }, lanes) {
    Object.assign(this, { bar, button: play, range, where, pace, lanes });
    this.at = this.drawn = this.rested = 0;
    this.playing = false;
    play.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    range.addEventListener("input", () => {
      this.pause();
      this.at = Number(range.value);
      this._draw(false);
    });
    if (still.matches) pace.value = "0";
    this.clear();
  }

  clear() {
    this.pause();
    this.at = 0;
    this.done = true;
    this.button.disabled = this.range.disabled = true;
    this.range.value = 0;
    this.where.textContent = "";
  }

  // A new answer begins.
  begin() {
    this.at = 0;
    this.done = false;
    this.button.disabled = this.range.disabled = false;
    this._set(true);
  }

  // All of it has come; a promise of the moment when all of it has been shown.
  end() {
    this.done = true;
    this._draw(false);
    return new Promise(resolve => (this.playing ? (this.shown = resolve) : resolve()));
  }

  get last() {
    return Math.max(0, ...this.lanes().map(lane => lane.run?.forwards ?? 0));
  }

  play() {
    if (this.done && this.at >= this.last) this.at = 0;
    this._set(true);
  }

  pause() {
    this._set(false);
  }

  _set(playing) {
    this.playing = playing;
    this.bar.classList.toggle("playing", playing);
    this.button.setAttribute("aria-label", playing ? "Pause" : "Play");
    if (!playing) {
      this.shown?.();
      this.shown = null;
    } else if (!this.frame) {
      this.before = performance.now();
      this.frame = requestAnimationFrame(now => this._tick(now));
    }
  }

  _tick(now) {
    this.frame = 0;
    if (!this.playing) return;
    const rate = Number(this.pace.value), last = this.last;
    this.at = rate ? Math.min(last, this.at + ((now - this.before) / 1000) * rate) : last;
    this.before = now;
    const end = this.done && this.at >= last;
    // The server may share this processor: drawing takes a third of the time at most.
    if (end || now >= this.rested) {
      this._draw(!still.matches);
      this.rested = now + 3 * (performance.now() - now);
    }
    if (end) return this._set(false);
    this.frame = requestAnimationFrame(next => this._tick(next));
  }

  _draw(flash) {
    const now = Math.floor(this.at), last = this.last;
    flash &&= now - this.drawn <= 6; // where tokens pour in, nothing is seen of a flash
    this.drawn = now;
    for (const lane of this.lanes()) lane.show(now, flash);
    this.range.max = Math.max(1, last);
    this.range.value = now;
    this.range.setAttribute("aria-valuetext", `forward ${now} of ${last}`);
    this.where.textContent = last ? `${now} / ${last}` : "";
  }
}
