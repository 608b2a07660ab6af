// A card for every stream; one opens large, with the moments its memory holds.
import { bytes, clock, el, mark, milliseconds, number, setText, TIERS } from "../dom.js";
import { post } from "../post.js";

export const title = "Streams";
export const classes = "streams wide";

const WORDS = { connecting: "Connecting", running: "Running", stalled: "Stalled", backoff: "Waiting to retry", failed: "Failed", ended: "Ended" };
const ui = { cards: new Map() };
let reasons = {};
let open = null; // the large one: { name, kept }

export function mount(root) {
  ui.list = el("ul", { class: "grid" });
  ui.none = el("p", { class: "none" }, "No streams yet.");
  root.append(el("header", {}, el("h2", {}, title), el("span", { class: "hint" }, "Click, or press Enter, to open one.")), ui.list, ui.none, large());
}

export function update(patch, state) {
  reasons = state.about?.reasons ?? reasons;
  if (!patch.streams) return;
  const streams = patch.streams.streams;
  ui.none.hidden = streams.length > 0;
  const names = new Set(streams.map((stream) => stream.name));
  for (const [name, card] of ui.cards) {
    if (names.has(name)) continue;
    card.root.remove();
    ui.cards.delete(name);
  }
  streams.forEach((stream, place) => {
    if (!ui.cards.has(stream.name)) ui.cards.set(stream.name, card(stream.name));
    const own = ui.cards.get(stream.name);
    if (ui.list.children[place] !== own.root) ui.list.insertBefore(own.root, ui.list.children[place] ?? null);
    show(own, stream);
  });
  if (!open) return;
  const stream = streams.find((one) => one.name === open.name);
  if (stream) showLarge(stream);
  else ui.dialog.close();
}

function pictured() {
  return { image: el("img", { alt: "", hidden: true }), none: el("span", { class: "gone" }, "No picture yet") };
}

function card(name) {
  const own = { ...pictured(), version: 0 };
  own.state = el("span", {});
  own.pill = el("span", { class: "state" }, el("i"), own.state);
  own.facts = el("span", { class: "num" });
  own.lost = el("span", { class: "num lost" });
  own.fill = el("i");
  own.memory = el("span", { class: "num" });
  own.cause = el("span", { class: "cause" });
  own.root = el("li", {}, el("button", { onclick: () => enlarge(name) },
    el("span", { class: "picture" }, own.image, own.none),
    el("span", { class: "row" }, el("b", {}, name), own.pill),
    el("span", { class: "row sub" }, own.facts, own.lost),
    el("span", { class: "bar" }, own.fill),
    el("span", { class: "row sub" }, own.memory), own.cause));
  return own;
}

function age(stream) {
  if (!stream.frames) return "–";
  return stream.silent_s > 5 ? `silent ${clock(stream.silent_s, 0)}` : milliseconds(Math.round(stream.done_age_ms));
}

function drops(stream) {
  const causes = [["replaced by newer", stream.dropped], ["in the source", stream.lost]].filter(([, count]) => count);
  return causes.map(([cause, count]) => `${number(count)} ${cause}`).join(", ");
}

function restarts(stream) {
  return stream.reconnects ? `${number(stream.reconnects)} reconnect${stream.reconnects > 1 ? "s" : ""}` : "";
}

function picture(own, stream) {
  if (own.version === stream.picture || !stream.picture) return;
  own.version = stream.picture;
  own.image.hidden = false;
  own.none.hidden = true;
  own.image.src = `/api/streams/${stream.name}.jpg?v=${stream.picture}`;
}

function show(own, stream) {
  own.last = stream;
  picture(own, stream);
  own.pill.className = `state ${stream.state}`;
  setText(own.state, WORDS[stream.state] ?? stream.state);
  own.root.classList.toggle("away", stream.state !== "running");
  setText(own.facts, stream.fps == null ? "–" : `${number(stream.fps, 1)} fps · ${age(stream)}`);
  setText(own.lost, drops(stream) ? `${number(stream.dropped + stream.lost)} dropped` : "");
  own.lost.title = drops(stream);
  own.fill.style.width = `${stream.byte_budget ? Math.min(100, (100 * stream.nbytes) / stream.byte_budget) : 0}%`;
  setText(own.memory, `${number(stream.kept)} kept · ${stream.byte_budget ? `${bytes(stream.nbytes)} of ${bytes(stream.byte_budget)}` : "no memory yet"}${restarts(stream) ? ` · ${restarts(stream)}` : ""}`);
  const cause = stream.state === "running" ? "" : stream.cause ?? "";
  setText(own.cause, cause);
  own.none.textContent = stream.state === "failed" ? "No picture" : "No picture yet";
}

function large() {
  ui.big = { ...pictured(), version: 0 };
  ui.heading = el("h2", {});
  ui.about = el("p", { class: "about" });
  ui.numbers = el("dl", { class: "num" });
  ui.kept = el("ol", { class: "moments" });
  ui.dialog = el("dialog", { class: "large", onclose: () => { open = null; } },
    el("header", {}, ui.heading,
      el("button", { class: "plain danger push", onclick: remove }, "Remove"),
      el("button", { class: "plain", autofocus: true, onclick: () => ui.dialog.close() }, "Close")),
    el("div", { class: "picture" }, ui.big.image, ui.big.none),
    el("div", { class: "details" }, ui.about, ui.numbers, el("h3", {}, "Kept moments"), ui.kept));
  return ui.dialog;
}

function enlarge(name) {
  open = { name, kept: -1 };
  ui.big.version = 0;
  ui.big.image.hidden = true;
  ui.big.none.hidden = false;
  setText(ui.heading, name);
  ui.kept.replaceChildren();
  ui.dialog.setAttribute("aria-label", name);
  ui.dialog.showModal();
  const own = ui.cards.get(name);
  if (own.last) showLarge(own.last);
}

function showLarge(stream) {
  picture(ui.big, stream);
  setText(ui.about, `${stream.source}${stream.cause && stream.state !== "running" ? ` · ${stream.cause}` : ""}`);
  const facts = [["State", WORDS[stream.state] ?? stream.state], ["Rate", stream.fps == null ? "–" : `${number(stream.fps, 1)} of ${stream.wanted_fps ? number(stream.wanted_fps, 1) : "all"} fps`],
    ["Age", age(stream)], ["Frames", number(stream.frames)], ["Dropped", drops(stream) || "0"],
    ["Reconnects", number(stream.reconnects ?? 0)], ["Memory", `${bytes(stream.nbytes)} of ${bytes(stream.byte_budget)}`]];
  ui.numbers.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  if (open.kept !== stream.kept_version) loadKept(stream);
}

async function loadKept(stream) {
  open.kept = stream.kept_version;
  const answer = await fetch(`/api/streams/${stream.name}/kept`).catch(() => null);
  if (!answer?.ok || open?.name !== stream.name) return;
  const { entries } = await answer.json();
  const shown = entries.slice().reverse().map((entry) => el("li", { class: entry.tier },
    el("span", { class: "thumb" }, entry.picture ? el("img", { src: `/api/streams/${stream.name}/kept/${entry.seq}.jpg`, alt: "", loading: "lazy" }) : el("span", { class: "gone" }, "kept before this page")),
    el("span", { class: "row" }, el("time", {}, clock(entry.seconds)), el("span", { class: `badge ${entry.tier}` }, mark(entry.tier), TIERS[entry.tier])),
    el("span", { class: "sub" }, reasons[entry.reason] ?? entry.reason)));
  ui.kept.replaceChildren(...(shown.length ? shown : [el("li", { class: "none" }, "Nothing kept yet.")]));
}

async function remove() {
  const { name } = open;
  if (!confirm(`Remove ${name}? Its memory stays on disk.`)) return;
  const { ok, text } = await post(`/api/streams/${name}/remove`);
  if (ok) ui.dialog.close();
  else setText(ui.about, text);
}
