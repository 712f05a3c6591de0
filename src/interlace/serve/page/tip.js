// The one small note that says what is known of a token, or of a point of the path.

export class Tip {
  constructor(node) {
    this.node = node;
    addEventListener("keydown", event => event.key === "Escape" && this.hide(), true);
    addEventListener("scroll", () => this.hide(), { passive: true });
  }

  // at: an element, or {x, y}. sure: a share that is drawn as a bar, or null.
  show(at, title, note, sure = null) {
    const strong = document.createElement("strong"), line = document.createElement("span");
    strong.textContent = title;
    line.textContent = note;
    this.node.replaceChildren(strong, line);
    if (sure !== null) {
      const bar = document.createElement("i"), fill = document.createElement("b");
      fill.style.width = `${100 * sure}%`;
      bar.append(fill);
      this.node.append(bar);
    }
    this._forget();
    if (at instanceof Element) {
      this.target = at;
      at.setAttribute("aria-describedby", this.node.id);
    }
    this.node.hidden = false;
    this._place(at instanceof Element ? at.getClientRects()[0] ?? at.getBoundingClientRect() : new DOMRect(at.x, at.y, 0, 0));
  }

  hide() {
    this._forget();
    this.node.hidden = true;
  }

  _forget() {
    this.target?.removeAttribute("aria-describedby");
    this.target = null;
  }

  _place(box) {
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const left = Math.max(8, Math.min(innerWidth - width - 8, box.left + box.width / 2 - width / 2));
    const above = box.top - height - 8;
    this.node.style.left = `${left}px`;
    this.node.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  }
}
