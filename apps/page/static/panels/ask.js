// Asks the memory: by words, by an example picture (chosen, dropped, pasted or a kept one), by time.
import { clock, el, number, setText } from "../dom.js";
import { card, mountMoment, openMoment } from "./moment.js";

export const title = "Ask this memory";
export const classes = "ask wide";

const SIDE = 1024;  // pixels of an example's longer side that are sent: encoders look at less
const TRIES = 40, AGAIN_MS = 250;  // of a question that comes with another
const ui = {};
let able = null;    // what can be asked; null until the program has said
let session = "";
let reasons = {};
let example = null; // { address, name } and blob, or seq: the number of a kept frame
let turn = 0;       // counts what was done to the example: what comes late is not taken
let linked = false;
let loaded = false;  // whether the program has its encoder at hand
let running = null; // AbortController of the question that is being answered

export const canAsk = () => able !== null;

export function mount(root) {
  ui.root = root;
  ui.words = el("input", { type: "search", id: "ask-words", autocomplete: "off", maxlength: 2000, "aria-describedby": "ask-why" });
  ui.file = el("input", { type: "file", id: "ask-file", accept: "image/*", onchange: () => { take(ui.file.files[0]); ui.file.value = ""; } });
  ui.from = time("ask-from", "From");
  ui.to = time("ask-to", "To");
  ui.submit = el("button", { class: "plain main", type: "submit" }, "Ask");
  ui.why = el("p", { class: "why", id: "ask-why" });
  ui.picture = el("img", { alt: "" });
  ui.name = el("span", { class: "name" });
  ui.drop = el("button", { type: "button", class: "plain", onclick: () => { forget(); say(""); ui.file.focus(); } }, "Remove");
  ui.example = el("div", { class: "example", hidden: true }, ui.picture, ui.name, ui.drop);
  ui.form = el("form", { onsubmit: (event) => { event.preventDefault(); ask(); } },
    el("div", { class: "field words" }, el("label", { for: "ask-words" }, "Words"), ui.words),
    el("div", { class: "field" }, el("span", { class: "label", "aria-hidden": "true" }, "Example"),
      el("label", { class: "plain choose" }, ui.file, el("span", {}, "Picture…"))),
    ui.from.field, ui.to.field,
    el("div", { class: "field" }, el("span", { class: "label", "aria-hidden": "true" }, "\u00a0"), ui.submit));
  ui.said = el("p", { class: "said", role: "status" });
  ui.list = el("ol", { class: "found" });
  root.append(
    el("header", {}, el("h2", {}, title), el("span", { class: "hint" }, "by words, by an example picture (choose, drop or paste it), by time")),
    ui.form, ui.why, ui.example, ui.said, ui.list, mountMoment(like));
  root.hidden = true;
  receive(root);
}

function time(id, name) {
  const input = el("input", { type: "text", id, inputmode: "numeric", placeholder: "m:ss", autocomplete: "off", size: 6, "aria-label": `${name}, minutes and seconds`, oninput: () => input.removeAttribute("aria-invalid") });
  return { input, name, field: el("div", { class: "field time" }, el("label", { for: id }, name), input) };
}

export function update(patch) {
  if (patch.link) {
    linked = patch.link === "open";
    ui.submit.disabled = !linked;
  }
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    reasons = patch.about.reasons;
    learn();
  }
}

async function learn() {
  running?.abort();
  forget();
  ui.list.replaceChildren();
  say("");
  able = null;
  loaded = false;
  try {
    const told = await (await fetch("/api/ask")).json();
    able = told.asks ? told : null;
  } catch {
    return;  // main.js says that the program is away, and comes back
  }
  ui.root.hidden = !able;
  if (!able) return;
  ui.words.disabled = !able.words;
  ui.words.placeholder = able.words ? "for example: a red car on a wet street" : "";
  setText(ui.why, able.why);
  ui.why.hidden = !able.why;
}

// The example.

function receive(root) {
  const holds = (event) => able && [...event.dataTransfer.items].some((item) => item.kind === "file");
  root.addEventListener("dragover", (event) => { if (holds(event)) { event.preventDefault(); root.classList.add("over"); } });
  root.addEventListener("dragleave", (event) => { if (!root.contains(event.relatedTarget)) root.classList.remove("over"); });
  root.addEventListener("drop", (event) => {
    root.classList.remove("over");
    if (!holds(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = able && [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file, "the pasted picture");
  });
}

async function take(file, name = file?.name) {
  if (!file) return false;
  const mine = ++turn;
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
    const canvas = el("canvas", { width: Math.max(1, Math.round(picture.width * scale)), height: Math.max(1, Math.round(picture.height * scale)) });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    if (mine !== turn) return false;
    choose({ blob, address: URL.createObjectURL(blob), name });
  } catch {
    say(`${name} is no picture that this browser can read.`, true);
    return false;
  }
  say("");
  return true;
}

function choose(one) {
  forget();
  example = one;
  ui.picture.src = one.address;
  setText(ui.name, `Like ${one.name}`);
  ui.example.hidden = false;
}

function forget() {
  turn += 1;
  if (example) URL.revokeObjectURL(example.address);
  example = null;
  ui.example.hidden = true;
}

// A kept moment as the example, asked at once: by its number, which needs no picture and no encoder.
export function like(seq, address, name) {
  choose({ seq, address, name });
  ui.words.value = "";
  ui.root.scrollIntoView({ block: "nearest" });
  ui.submit.focus({ preventScroll: true });
  ask();
}

// Its picture instead: beside words, or when the memory has let it go.
async function byPicture() {
  const { address, name } = example;
  const mine = ++turn;
  try {
    const answer = await fetch(address);
    if (mine !== turn) return false;
    if (answer.status !== 200) throw new Error(String(answer.status));
    return await take(await answer.blob(), name);
  } catch {
    say("The picture of that moment is gone.", true);
    return false;
  }
}

// The question and its answer.

async function ask() {
  const asked = { k: 6 };
  for (const [key, part] of [["start_s", ui.from], ["end_s", ui.to]]) {
    const seconds = secondsOf(part.input.value);
    if (Number.isNaN(seconds)) {
      part.input.setAttribute("aria-invalid", "true");
      part.input.focus();
      return say(`“${part.name}” is a time such as 1:30.`, true);
    }
    if (seconds != null) asked[key] = seconds;
  }
  if (able.words && ui.words.value.trim()) asked.text = ui.words.value.trim();
  if (!example && !asked.text && asked.start_s == null && asked.end_s == null) {
    return say(able.words ? "Give words, an example picture or a time." : "Give an example picture or a time.", true);
  }
  running?.abort();
  const kept = example?.seq != null && !asked.text;
  if (kept) Object.assign(asked, { seq: example.seq, if_held: true });
  else if (example && !example.blob && !(await byPicture())) return;
  const mine = running = new AbortController();
  const began = performance.now();
  ui.submit.setAttribute("aria-busy", "true");
  say(loaded || kept || !(example || asked.text) ? "Looking…" : "Looking; the first question loads the encoder…");
  try {
    const blob = kept ? null : example?.blob;
    const send = () => fetch(blob ? `/api/ask?${new URLSearchParams(asked)}` : "/api/ask", {
      method: "POST", signal: mine.signal, body: blob ?? JSON.stringify(asked),
      headers: { "X-Retain": "1", "Content-Type": blob ? "image/jpeg" : "application/json" },
    });
    let answer = await send();
    // The question that this one replaces may still be answered there.
    for (let tries = 0; answer.status === 429 && tries < TRIES; tries += 1) {
      await new Promise((done) => setTimeout(done, AGAIN_MS));
      answer = await send();
    }
    const told = await answer.json();
    if (told.held === false) {
      if (example?.seq !== asked.seq) return say("That frame has left the memory.", true);
      return (await byPicture()) ? ask() : undefined;
    }
    if (!answer.ok) return say(`${told.error} ${told.hint ?? ""}`.trim(), true);
    loaded ||= Boolean(told.encoder) && !kept;
    show(told, performance.now() - began);
  } catch {
    if (!mine.signal.aborted) say("The program does not answer; it may have ended.", true);
  } finally {
    if (running === mine) ui.submit.removeAttribute("aria-busy");
  }
}

function show({ moments, notes, encoder }, took) {
  const count = moments.length === 1 ? "1 moment" : `${number(moments.length)} moments`;
  const by = encoder ? `, best first, compared by ${short(encoder)}` : ", in order of time";
  say([`${count}${by}, in ${number(took / 1000, 1)} s.`, ...notes].join(" "));
  ui.list.replaceChildren(...moments.map((moment) => card(moment, session, (one) => openMoment(one, session, factsOf(one)))));
}

function factsOf(moment) {
  const long = moment.end_s - moment.start_s > 0.05;
  return [
    ...(moment.score == null ? [] : [["Score", number(moment.score, 3)]]),
    ["Moment", long ? `${clock(moment.start_s)} – ${clock(moment.end_s)}` : clock(moment.seconds)],
    ["Kept frames", number(moment.frames)], ["Kept because", reasons[moment.reason] ?? moment.reason], ["Frame", `#${moment.seq}`],
  ];
}

// "openclip:/a/model.json@/a/weights.bin" is "openclip model".
function short(encoder) {
  const [kind, ...variant] = encoder.split("@")[0].split(":");
  return [kind, ...variant.map((name) => name.split("/").at(-1).replace(/\.json$/, ""))].join(" ");
}

function say(text, wrong = false) {
  setText(ui.said, text);
  ui.said.classList.toggle("wrong", wrong);
  if (wrong) ui.list.replaceChildren();
}

// "90", "1:30" or "0:01:30.5" in seconds; null when empty, NaN when it is no time.
function secondsOf(text) {
  if (!text.trim()) return null;
  const parts = text.trim().split(":");
  if (parts.length > 3 || !parts.every((part) => /^\d+(\.\d*)?$/.test(part))) return NaN;
  return parts.reduce((sum, part) => 60 * sum + Number(part), 0);
}
