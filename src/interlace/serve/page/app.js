// The page: what is asked for, and where the answers go.

import { complete, hasKey, models as askModels, Trouble, useKey } from "./api.js";
import { examples, unmarked } from "./examples.js";
import { Lane } from "./lane.js";
import { Player } from "./player.js";
import { Run } from "./run.js";
import { Settings } from "./settings.js";
import * as share from "./share.js";
import { Tip } from "./tip.js";

const $ = id => document.getElementById(id);
const form = $("form"), prompt = $("prompt"), main = $("main");
const tip = new Tip($("tip"));
const settings = new Settings($("panel"), changed);
const lanes = [new Lane($("lane"), tip), new Lane($("lane"), tip)];
const shown = () => (view() === "compare" ? lanes : lanes.slice(0, 1));
const player = new Player({ bar: $("transport"), play: $("play"), range: $("at"), where: $("where"), pace: $("pace") }, shown);
let models = [];
let abort = null; // of the answers that are under way
let asked = null; // what to do again after a trouble
let talk = []; // the chat so far
let under = null; // where its last answer goes, once there is another
let given = ""; // where the answer was shown: what stood before it
let ready = false;
let era = 0; // counts how often everything was cleared

const view = () => form.ownerDocument.querySelector("input[name=view]:checked").value;
const model = id => models.find(one => one.id === id);
const chosen = () => (view() === "compare" ? [$("model-a").value, $("model-b").value] : [$("model-a").value]).map(model).filter(Boolean);
const talks = one => ["model", "plain"].includes(one?.interlace?.chat_template);
const joins = one => one?.interlace?.chat_template === "plain";
const denoises = one => !one || settings.as(one).denoises !== false;
const fills = one => !one || settings.as(one).infills !== false;
const GAIN = 1.2, LOWER = 0.6; // below so many tokens per forward, a threshold that is worth another try
const mac = /Mac|iPhone|iPad/.test(navigator.platform);
const say = text => { $("status").textContent = text; };

// --- the address ---------------------------------------------------------------------------------------------------

let later = 0;
function changed() {
  const { count } = settings;
  $("changed").textContent = count ? `${count} changed` : "";
  $("reset").hidden = !count;
  if (!ready) return;
  clearTimeout(later);
  later = setTimeout(remember, 250);
}

function remember() {
  clearTimeout(later);
  share.write({
    view: view(), model: $("model-a").value, other: view() === "compare" ? $("model-b").value : null, prompt: prompt.value,
    tokens: $("tokens").value, hole: $("hole").value, seed: $("seed").value, pace: $("pace").value,
    gap: gap(), settings: settings.given,
  });
}

function restore() {
  const state = share.read();
  const choice = document.querySelector(`input[name=view][value=${["complete", "compare", "chat"].includes(state.view) ? state.view : "complete"}]`);
  choice.checked = choice.value !== "chat" || models.some(talks);
  if (model(state.model)) $("model-a").value = state.model;
  if (model(state.other)) $("model-b").value = state.other;
  prompt.value = state.prompt ?? (choice.checked && choice.value === "chat" ? "" : unmarked(examples[0].text).text);
  for (const name of ["tokens", "hole", "seed"]) if (state[name] !== null) $(name).value = state[name];
  if ([...$("pace").options].some(one => one.value === String(state.pace))) $("pace").value = String(state.pace);
  settings.given = state.settings;
  arrange();
  if (state.gap) prompt.setSelectionRange(...state.gap);
  mark();
}

// --- the form ------------------------------------------------------------------------------------------------------

function offer() {
  for (const id of ["model-a", "model-b"]) {
    $(id).replaceChildren(...models.map(one => Object.assign(document.createElement("option"), { value: one.id, textContent: one.id })));
  }
  const steady = models.find(one => !denoises(one));
  const moving = models.find(one => denoises(one)) ?? models[0];
  $("model-a").value = moving?.id ?? "";
  $("model-b").value = (models.find(one => one !== moving && one === steady) ?? models.find(one => one !== moving) ?? moving)?.id ?? "";
  $("chat-view").hidden = !models.some(talks);
}

// Everything that depends on the view and the models.
function arrange() {
  const now = view(), both = now === "compare", chat = now === "chat";
  main.dataset.view = now;
  $("model-b-field").hidden = !both;
  $("model-a-word").textContent = both ? "Compare" : "Model";
  for (const option of $("model-a").options) option.disabled = chat && !talks(model(option.value));
  if (chat && !talks(model($("model-a").value))) $("model-a").value = models.find(talks)?.id ?? "";
  $("hole").disabled = now !== "complete"; // a field that is not seen is not asked for
  prompt.placeholder = chat ? "" : "def area(width, height):";
  $("prompt-word").textContent = chat ? "Message" : "Prompt";
  $("go").firstElementChild.textContent = chat ? "Send" : "Generate";
  $("go").lastElementChild.textContent = chat ? "↵" : mac ? "⌘ ↵" : "Ctrl ↵";
  for (const id of ["fill", "hole-field", "gap", "examples"]) $(id).hidden = now !== "complete" && (id !== "examples" || chat);
  const found = chosen();
  main.classList.toggle("joined", chat && joins(found[0])); // code, as a rule
  $("about").textContent = both && models.length < 2
    ? "This server has one model only, so it is compared with itself. Start it with two models to see them side by side."
    : chat && joins(found[0])
      ? `${found[0].id} has no chat template: the texts are simply joined, with an empty line between them, and it writes on.`
      : "";
  settings.offer(found);
  entitle();
  $("lanes").replaceChildren(...shown().map(lane => lane.node));
  changed();
}

// Whose lanes they are, and as which system.
function entitle() {
  const found = chosen(), hues = found.map(one => (!denoises(one) ? 0 : 1));
  if (hues.length > 1 && hues[0] === hues[1]) hues[1] = 2;
  found.forEach((one, i) => lanes[i].name(one, settings.as(one), hues[i]));
}

function clear() {
  era += 1;
  halt();
  player.clear();
  talk = [];
  lanes[0].text.above.replaceChildren();
  const note = view() === "chat" ? "Nothing said yet. Write a message and press Send." : "Nothing here yet. Write how the text begins, or take an example, and press Generate.";
  for (const lane of lanes) lane.rest(note);
  $("verdict").hidden = true;
  say("");
}

// The stretch of the prompt that can be filled: what is selected, or the place of the caret inside the text.
function gap() {
  const { selectionStart: start, selectionEnd: end, value } = prompt;
  return view() === "complete" && (start < end || (start > 0 && start < value.trimEnd().length)) ? [start, end] : null;
}

function mark() {
  const place = gap(), note = $("gap");
  $("fill").disabled = !place || Boolean(abort) || !fills(chosen()[0]);
  note.replaceChildren();
  if (view() !== "complete") return;
  if (chosen()[0] && !fills(chosen()[0])) {
    const other = models.find(fills);
    const { system, title = system } = settings.as(chosen()[0]), as = settings.of(chosen()[0]).system ? ` as ${title}` : "";
    note.textContent = `${chosen()[0].id}${as} cannot fill a gap${other ? `; ${other.id} can` : ""}.`;
  } else if (!place) {
    note.textContent = "To fill a gap, select it in the text.";
  } else if (place[0] === place[1]) {
    note.textContent = "The gap is where the caret stands.";
  } else {
    const code = document.createElement("code");
    const text = prompt.value.slice(...place).replace(/\n/g, "↵");
    code.textContent = text.length > 36 ? `${text.slice(0, 35)}…` : text;
    note.append("The gap takes the place of ", code);
  }
  changed();
}

function example(one) {
  const { text, start, end } = unmarked(one.text);
  clear();
  if (start !== undefined && view() !== "complete") {
    document.querySelector("input[name=view][value=complete]").checked = true;
    arrange();
  }
  prompt.value = text;
  if (one.tokens) $("hole").value = one.tokens;
  prompt.focus({ preventScroll: true });
  prompt.setSelectionRange(start ?? text.length, end ?? text.length);
  mark();
}

// --- answers -------------------------------------------------------------------------------------------------------

let pressed = null; // the button that was in focus as it was disabled

// A button that is disabled loses the focus; afterwards it has it again, unless the reader went elsewhere.
function busy(on) {
  const at = document.activeElement;
  if (on) pressed = [$("go"), $("fill")].includes(at) ? at : null;
  else if (at === $("stop")) pressed = $("go");
  else if (at !== document.body) pressed = null;
  $("go").disabled = on;
  $("stop").disabled = !on;
  main.classList.toggle("busy", on);
  mark();
  if (!on) (pressed?.disabled ? $("go") : pressed)?.focus({ preventScroll: true });
}

function halt() {
  abort?.abort();
}

// The picture of every lane has room for the longest path, so that their slopes can be compared.
function rescale(expected) {
  const runs = shown().map(lane => lane.run).filter(Boolean);
  const done = runs.every(run => run.done);
  const wide = Math.max(16, ...runs.map(run => run.forwards));
  const tall = Math.max(1, done ? 0 : expected, ...runs.map(run => (run.frames.length ? run.end - run.start : 0)));
  for (const lane of shown()) lane.path.scale(done ? wide : Math.max(wide, Math.ceil(expected / 2)), tall);
}

async function follow(lane, body, signal, expected) {
  const { run } = lane;
  try {
    for await (const chunk of complete(body, signal)) {
      run.add(chunk);
      rescale(expected);
    }
  } finally {
    run.close();
    lane.close();
  }
}

async function answer(kind) {
  if (abort) return;
  asked = () => answer(kind);
  quiet();
  const text = prompt.value, place = gap();
  if (kind === "fill" && (!place || !fills(chosen()[0]))) return;
  if (kind === "chat" && !text.trim()) return;
  if (!chosen().length) return explain(new Trouble("There is no model to ask.", "Reload the page."));
  if (!form.reportValidity()) return;
  remember();
  const mine = era;
  abort = new AbortController();
  const { signal } = abort;
  busy(true);
  $("verdict").hidden = true;
  let [before, after] = kind === "fill" ? [text.slice(0, place[0]), text.slice(place[1])] : [kind === "chat" ? "" : text, ""];
  const tokens = Number($(kind === "fill" ? "hole" : "tokens").value);
  if (kind === "chat") send(text);
  given = { before, after, kind };
  entitle();
  const running = shown();
  const works = running.map((lane, i) => {
    const one = chosen()[i];
    const body = { model: one.id, max_tokens: tokens, seed: Number($("seed").value), ...settings.of(one) };
    if (kind === "chat") body.messages = [...talk];
    else body.prompt = before;
    if (kind === "fill") body.suffix = after;
    lane.begin(new Run(denoises(one)), before, after);
    return follow(lane, body, signal, tokens);
  });
  player.begin();
  if ($("lanes").getBoundingClientRect().top > innerHeight * 0.6) {
    $("lanes").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
  rescale(tokens);
  say(`${running.map(lane => lane.model.id).join(" and ")} at work`);
  const ends = await Promise.allSettled(works);
  const failed = ends.find(end => end.status === "rejected" && end.reason.name !== "AbortError");
  const stopped = signal.aborted;
  abort = null;
  busy(false);
  if (mine !== era) return;
  rescale(tokens);
  if (kind === "chat") settle();
  if (!running.some(lane => lane.run.frames.length)) player.clear();
  for (const lane of running) if (!lane.run.frames.length) lane.rest("Nothing has come.");
  if (failed) {
    say(""); // it is told as an alert
    explain(failed.reason);
  }
  await player.end();
  if (abort || mine !== era) return; // the next one has begun meanwhile
  const sums = running.filter(lane => lane.run?.frames.length).map(lane => {
    const { tokens: count, forwards } = lane.run.stats(lane.run.frames.length);
    return `${lane.model.id}: ${count} tokens in ${forwards} forwards`;
  });
  if (sums.length && !failed) say(`${stopped ? "Stopped" : "Finished"}. ${sums.join("; ")}.`);
  if (running.length > 1 && !failed && !stopped) verdict(running);
}

function verdict(running) {
  const [a, b] = running.map(lane => ({ id: lane.model.id, ...lane.run.stats(lane.run.frames.length) }));
  if (!a.ratio || !b.ratio) return;
  const [more, less] = a.ratio >= b.ratio ? [a, b] : [b, a];
  const times = more.ratio / less.ratio;
  $("verdict").textContent = times < 1.005
    ? `Both take ${a.forwards} forwards for ${a.tokens} tokens.`
    : `${more.id} fixes ${times.toFixed(2)} times as many tokens in a forward as ${less.id}. Both ran at the same time, on one machine.`;
  const slow = running.find(lane => denoises(lane.model) && settings.threshold(lane.model) > LOWER && lane.run.stats(lane.run.frames.length).ratio < GAIN);
  if (slow) $("verdict").append(...lower(slow.model));
  $("verdict").hidden = false;
}

// Few tokens in a forward are what a high threshold asks for: another try, at a lower one.
function lower(slow) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: `Again at ${LOWER}` });
  button.addEventListener("click", () => {
    settings.set({ ...settings.given, threshold: LOWER });
    generate();
  });
  return [` Of this text ${slow.id} is seldom surer than its threshold of ${settings.threshold(slow)}; a lower one fixes more at once, and may write another text. `, button];
}

// What was said stays above the answer that is under way. The place of the text is returned.
function turn(role, content) {
  const node = Object.assign(document.createElement("div"), { className: `turn ${role}` });
  const who = Object.assign(document.createElement("span"), { className: "who", textContent: role === "user" ? "You" : lanes[0].model.id });
  const text = Object.assign(document.createElement("p"), { textContent: content });
  node.append(who, text);
  lanes[0].text.above.append(node);
  return text;
}

// The answer before becomes one of the things that were said; then comes the message, and room for the next answer.
function send(message) {
  if (talk.at(-1)?.role === "assistant") under.textContent = talk.at(-1).content;
  talk.push({ role: "user", content: message });
  turn("user", message);
  under = turn("assistant", "");
  prompt.value = "";
}

// A message that was not answered goes back to where it can be mended.
function settle() {
  const { text } = lanes[0].run;
  if (text) return talk.push({ role: "assistant", content: text });
  prompt.value ||= talk.pop().content;
  for (const _ of [1, 2]) lanes[0].text.above.lastChild.remove();
}

// --- troubles ------------------------------------------------------------------------------------------------------

function explain(error) {
  if (error.status === 401 || error.status === 403) return askKey(error);
  const box = $("trouble");
  box.querySelector(".what").textContent = error instanceof Trouble ? error.message : "The page has a fault of its own.";
  box.querySelector(".remedy").textContent = error instanceof Trouble ? error.remedy : `Reload it. (${error.message})`;
  box.hidden = false;
  if (!(error instanceof Trouble)) console.error(error);
}

function quiet() {
  $("trouble").hidden = true;
}

function askKey() {
  const dialog = $("ask");
  $("secret").value = "";
  $("wrong").hidden = !hasKey();
  dialog.showModal();
  dialog.onclose = () => {
    if (dialog.returnValue !== "ok" || !$("secret").value) {
      const box = new Trouble("The server asks for a key.", "Press Try again to enter it.");
      return explain(box);
    }
    useKey($("secret").value.trim());
    $("secret").value = "";
    asked?.();
  };
}

// --- what the reader does ------------------------------------------------------------------------------------------

const generate = () => answer(view() === "chat" ? "chat" : "complete");

form.addEventListener("submit", event => {
  event.preventDefault();
  generate();
});
$("skip").addEventListener("click", event => {
  event.preventDefault(); // the address is the state of the page
  prompt.focus();
});
form.addEventListener("invalid", event => {
  if ($("settings").contains(event.target)) $("settings").open = true; // so that it can be seen what is wrong
}, true);
$("fill").addEventListener("click", () => answer("fill"));
$("stop").addEventListener("click", halt);
$("help").addEventListener("click", () => $("keys").showModal());
$("reset").addEventListener("click", () => { settings.set({}); mark(); });
$("panel").addEventListener("input", mark); // another system may fill gaps, or not
$("trouble").querySelector(".again").addEventListener("click", () => { quiet(); asked?.(); });
$("trouble").querySelector(".close").addEventListener("click", quiet);
$("sure").addEventListener("change", event => main.classList.toggle("shade", event.target.checked));
$("link").addEventListener("click", async () => {
  remember();
  const word = $("link").querySelector(".word");
  try {
    await navigator.clipboard.writeText(location.href);
    word.textContent = "Copied";
    say("The link is copied");
  } catch {
    word.textContent = "In the address";
    say("The link is in the address bar");
  }
  setTimeout(() => { word.textContent = "Link"; }, 1600);
});
for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => { clear(); arrange(); clear(); mark(); });
}
for (const id of ["model-a", "model-b"]) $(id).addEventListener("change", () => { clear(); arrange(); mark(); });
for (const id of ["tokens", "hole", "seed", "pace"]) $(id).addEventListener("input", changed);
prompt.addEventListener("input", mark);
document.addEventListener("selectionchange", () => document.activeElement === prompt && mark());
addEventListener("hashchange", () => { clear(); restore(); });
addEventListener("keydown", event => {
  const command = event.ctrlKey || event.metaKey;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && command) {
    event.preventDefault();
    if (event.shiftKey) answer("fill");
    else generate();
  } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && view() === "chat" && event.target === prompt) {
    event.preventDefault();
    generate();
  } else if (event.key === "Escape" && abort) {
    halt();
  } else if (event.key === "/" && command) {
    event.preventDefault();
    $("keys").showModal();
  }
});
for (const lane of lanes) {
  lane.copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(lane.run.text).catch(() => {});
    lane.copy.textContent = "Copied";
    setTimeout(() => { lane.copy.textContent = "Copy"; }, 1600);
  });
  lane.keep.addEventListener("click", () => {
    const { before, after } = given, text = lane.run.text;
    prompt.value = before + text + after;
    prompt.focus();
    prompt.setSelectionRange(before.length + (after ? 0 : text.length), before.length + text.length);
    mark();
  });
}
for (const one of examples) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: one.name });
  button.addEventListener("click", () => example(one));
  $("examples").append(button);
}

async function begin() {
  asked = begin;
  try {
    models = await askModels();
  } catch (error) {
    return explain(error);
  }
  offer();
  restore();
  clear();
  ready = true;
  document.documentElement.dataset.ready = "";
  if (!models.length) explain(new Trouble("The server has no model.", "Start it with one: interlace serve twin"));
}

clear();
$("lanes").replaceChildren(lanes[0].node);
begin();
