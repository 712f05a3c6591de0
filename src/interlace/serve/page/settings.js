// The panel of settings, made from what the models say they have. Only what differs from the default is sent.

const OWN = new Set(["max_tokens", "seed", "stop", "mask_id", "eos_ids"]); // asked for elsewhere, or the checkpoint's

const SURE = new Set(["dynamic", "threshold", "leading"]); // reveal rules that go by the threshold

const make = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

// A field of a form for one setting, as JSON schema tells of it.
function control({ type, default: usual, enum: choices, minimum: low, maximum: high }) {
  if (choices?.length) {
    const all = usual == null ? ["", ...choices] : choices;
    return make("select", {}, ...all.map(choice => make("option", { value: String(choice), textContent: String(choice) || "automatic" })));
  }
  if (type === "boolean") return make("input", { type: "checkbox" });
  if (type !== "integer" && type !== "number") return make("input", { type: "text", placeholder: usual ?? "" });
  const whole = type === "integer";
  return make("input", {
    type: "number", step: whole ? 1 : "any", inputMode: whole ? "numeric" : "decimal", placeholder: usual ?? "automatic",
    min: low ?? "", max: high ?? "",
  });
}

// What a model has: its settings, and the systems that its weights can be decoded as.
function specs({ interlace: said }) {
  const { settings = {}, systems = [], system } = said ?? {};
  if (systems.length < 2) return settings;
  return { ...settings, system: { type: "string", enum: systems, default: system, description: "decode the same weights as another system" } };
}

export class Settings {
  constructor(panel, changed) {
    this.panel = panel;
    this.changed = changed;
    this.given = {}; // name -> value that differs from the default
    this.specs = {};
    panel.addEventListener("input", event => this._read(event.target));
  }

  // The settings of some models; a value that was given stays, if any of them has its setting.
  offer(models) {
    this.specs = Object.assign({}, ...models.toReversed().map(specs));
    for (const name of OWN) delete this.specs[name];
    const rows = Object.entries(this.specs).map(([name, spec]) => {
      const input = control(spec);
      input.name = name;
      input.id = `set-${name}`;
      const note = make("small", { id: `about-${name}`, textContent: spec.description ?? "" });
      input.setAttribute("aria-describedby", note.id);
      const label = make("label", { htmlFor: input.id, textContent: name.replaceAll("_", " ") });
      return make("div", { className: "setting" }, label, input, note);
    });
    const stop = make("input", { type: "text", name: "stop", id: "set-stop", placeholder: "\\nclass" });
    stop.setAttribute("aria-describedby", "about-stop");
    rows.push(make("div", { className: "setting" },
      make("label", { htmlFor: "set-stop", textContent: "stop" }), stop,
      make("small", { id: "about-stop", textContent: "a text that ends the answer, and is no part of it; \\n is a line end" })));
    this.panel.replaceChildren(...rows);
    this.set(this.given);
  }

  set(given) {
    this.given = { ...given };
    for (const input of this.panel.querySelectorAll("[name]")) {
      const value = this.given[input.name], usual = this.specs[input.name]?.default;
      if (input.type === "checkbox") input.checked = Boolean(value ?? usual);
      else if (input.tagName === "SELECT") input.value = String(value ?? usual ?? "");
      else input.value = value ?? "";
    }
    this.changed();
  }

  _read(input) {
    const { name } = input, usual = this.specs[name]?.default;
    let value = input.type === "checkbox" ? input.checked : input.type === "number" ? input.valueAsNumber : input.value;
    if (value === "" || Number.isNaN(value) || String(value) === String(usual)) delete this.given[name];
    else this.given[name] = value;
    this.changed();
  }

  get count() {
    return Object.keys(this.given).length;
  }

  // What a model is, as the system that it is to be decoded as.
  as(model) {
    const { system } = this.of(model), { interlace: said = {} } = model;
    return { ...said, ...(system && { system, title: system, ...said.decodings?.[system] }) };
  }

  // The confidence above which a model's tokens are fixed, or null where none is asked for.
  threshold(model) {
    const own = { ...Object.fromEntries(Object.entries(specs(model)).map(([name, { default: usual }]) => [name, usual])), ...this.of(model) };
    const same = (own.system ?? model.interlace?.system) === model.interlace?.system; // another one may know no threshold
    const rule = own.reveal ?? (own.threshold < 1 ? "threshold" : "static");
    return same && model.interlace?.dial === "threshold" && SURE.has(rule) ? own.threshold ?? null : null;
  }

  // What a request to one model is given.
  of(model) {
    const own = Object.entries(this.given).filter(([name]) => name !== "stop" && name in specs(model));
    const stop = this.given.stop?.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
    return { ...Object.fromEntries(own), ...(stop && { stop: [stop] }) };
  }
}
