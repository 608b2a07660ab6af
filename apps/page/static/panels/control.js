// The head of the console: how many streams run, and the buttons for all of them.
import { clock, el, number, setText } from "../dom.js";
import { post } from "../post.js";

export const title = "Control";
export const classes = "status wide control";

const WORDS = { connecting: "Starting…", running: "Running", finishing: "Stopping…",
  finished: "Stopped", failed: "Failed", lost: "Reconnecting…" };
const ui = {};

export function mount(root) {
  ui.title = el("h1", {}, "retain");
  ui.source = el("p", { class: "source" }, "\u00a0");
  ui.word = el("span", {}, WORDS.connecting);
  ui.pill = el("span", { class: "pill connecting", role: "status" }, el("i"), ui.word);
  const facts = el("dl", { class: "facts num" });
  for (const [key, name] of [["up", "streams up"], ["rate", "frames/s"], ["time", "running for"]]) {
    ui[key] = el("dd", {}, "–");
    facts.append(el("div", {}, el("dt", {}, name), ui[key]));
  }
  ui.text = el("p");
  ui.buttons = [
    el("button", { class: "plain", onclick: () => ui.dialog.showModal() }, "Add stream"),
    el("button", { class: "plain", onclick: save }, "Snapshot"),
    el("button", { class: "plain danger", onclick: stop }, "Stop"),
  ];
  ui.sentence = el("div", { class: "sentence", role: "status" }, ui.text,
    el("div", { class: "actions" }, ...ui.buttons));
  ui.dialog = adding();
  root.append(
    el("div", { class: "line" },
      el("img", { class: "logo", src: "/static/icon.svg", alt: "", width: 28, height: 28 }),
      el("div", { class: "names" }, ui.title, ui.source), facts, ui.pill),
    ui.sentence, ui.dialog,
  );
}

export function update(patch, state) {
  if (patch.about) {
    setText(ui.title, patch.about.title);
    setText(ui.source, patch.about.source);
    document.title = `${patch.about.title} · retain`;
  }
  const run = state.run ?? { state: "connecting" };
  const streams = state.streams?.streams ?? [];
  const over = run.state === "finished" || run.state === "failed";
  const word = state.link === "lost" && !over ? "lost" : run.state;
  ui.pill.className = `pill ${word}`;
  setText(ui.word, WORDS[word] ?? word);
  const up = streams.filter((stream) => stream.state === "running").length;
  setText(ui.up, streams.length ? `${up} of ${streams.length}` : "–");
  const remember = run.stages?.find((stage) => stage.name === "remember");
  setText(ui.rate, remember ? number(remember.rate, 1) : "–");
  setText(ui.time, run.uptime_s == null ? "–" : clock(run.uptime_s, 0));
  for (const button of ui.buttons) button.disabled = state.link !== "open" || over || run.state === "finishing";
  if (!ui.told || Date.now() > ui.told) say(sentence(word, state, up, streams));
}

function sentence(word, state, up, streams) {
  if (word === "lost") return "The connection to the program is gone; trying again every second.";
  if (state.streams?.mistake) return `The file has a mistake, so the streams stay as they were. ${state.streams.mistake}`;
  if (word === "finished" || word === "failed") return state.run.message || "The run has ended. The terminal says how.";
  if (word === "finishing") return "What has been taken is worked off.";
  if (!streams.length) return "No streams yet. Add one here, or in the file.";
  return up === streams.length ? "All streams give pictures." : `${streams.length - up} of ${streams.length} streams without pictures; the cards say why.`;
}

function say(text, failed = false, seconds = 0) {
  ui.told = seconds ? Date.now() + 1000 * seconds : 0;
  ui.sentence.classList.toggle("failed", failed);
  setText(ui.text, text);
}

async function save(event) {
  event.target.disabled = true;
  say("Taking a snapshot…", false, 60);
  await ask("/api/save");
}

function stop() {
  if (confirm("Stop all streams? Memories are saved.")) ask("/api/stop");
}

async function ask(path, body) {
  const { ok, text } = await post(path, body);
  say(text, !ok, 8);
  return ok;
}

function adding() {
  const field = (name, label, more) => {
    const input = el("input", { name, required: true, autocomplete: "off", spellcheck: "false", ...more });
    return [el("label", {}, label, input), input];
  };
  const [nameLabel, name] = field("name", "Name", { pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]{0,39}", title: "Letters, digits, - and _" });
  const [sourceLabel, source] = field("source", "Source", { placeholder: "rtsp://user:${PASSWORD}@host/path, or 0" });
  const [fpsLabel, fps] = field("fps", "Frames looked at per second", { type: "number", min: "0", step: "any", value: "2" });
  const said = el("p", { class: "said", role: "alert" });
  const dialog = el("dialog", { class: "add", "aria-label": "Add stream" });
  const form = el("form", { onsubmit: async (event) => {
    event.preventDefault();
    const { ok, text } = await post("/api/streams", { name: name.value, source: source.value, fps: Number(fps.value) });
    setText(said, ok ? "" : text);
    if (!ok) return;
    say(text, false, 5);
    form.reset();
    dialog.close();
  } }, el("h2", {}, "Add stream"), nameLabel, sourceLabel,
    el("p", { class: "help" }, "Write passwords as ${NAME}: the variable is read where the command runs."), fpsLabel, said,
    el("div", { class: "actions" },
      el("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Cancel"),
      el("button", { class: "plain main" }, "Add")));
  dialog.append(form);
  return dialog;
}
