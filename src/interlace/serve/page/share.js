// The state of the page in the address, so that a link shows the same. A key for the server is never part of it.

export function read(hash = location.hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const settings = {};
  for (const [name, value] of found) {
    if (!name.startsWith("set.")) continue;
    const number = Number(value);
    settings[name.slice(4)] = value === "true" || value === "false" ? value === "true" : value !== "" && !Number.isNaN(number) ? number : value;
  }
  const whole = name => (/^\d{1,15}$/.test(found.get(name) ?? "") ? Number(found.get(name)) : null);
  return {
    view: found.get("view"), model: found.get("model"), other: found.get("with"), prompt: found.get("prompt"),
    tokens: whole("tokens"), hole: whole("hole"), seed: whole("seed"), pace: whole("pace"),
    gap: /^\d+-\d+$/.test(found.get("gap") ?? "") ? found.get("gap").split("-").map(Number) : null, settings,
  };
}

export function write(state) {
  const said = new URLSearchParams();
  const { view, model, other, prompt, tokens, hole, seed, pace, gap, settings } = state;
  const plain = { view, model, with: other, prompt, tokens, hole, seed, pace, gap: gap?.join("-") };
  for (const [name, value] of Object.entries(plain)) if (value !== null && value !== undefined && value !== "") said.set(name, value);
  for (const [name, value] of Object.entries(settings)) said.set(`set.${name}`, value);
  history.replaceState(null, "", `#${said}`);
}
