// The frames the memory holds, oldest to newest; those that leave fade out.
import { badge, bytes, clock, el, number, score, setText } from "../dom.js";
import { canAsk, like } from "./ask.js";

export const title = "Kept moments";
export const classes = "strip wide";

const ui = {};
const cards = new Map();  // seq -> { node, entry, ... }
let session = "";
let reasons = {};
let open = null;          // seq in the dialog
let following = true;     // the newest stays in view until somebody scrolls away
let touched = -Infinity;  // when somebody last scrolled, by whatever means

export function mount(root) {
  ui.hint = el("span", { class: "hint num" });
  ui.newest = el("button", { class: "newest push", type: "button", hidden: true, onclick: () => { following = true; toEnd("smooth"); offerNewest(); } }, "Newest →");
  ui.list = el("ol");
  ui.none = el("p", { class: "none" }, "Nothing kept yet.");
  ui.scroller = el("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": "Kept moments, oldest first", onscroll: scrolled }, ui.list, ui.none);
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    ui.scroller.addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
  }
  mountDialog();
  root.append(el("header", {}, el("h2", {}, title), ui.hint, ui.newest), ui.scroller, ui.dialog);
}

export function update(patch) {
  if (patch.about) {
    reasons = patch.about.reasons;
    if (patch.about.session !== session) {
      session = patch.about.session;
      for (const seq of [...cards.keys()]) drop(seq, true);
    }
  }
  if (patch.held) show(patch.held.entries);
}

function show(entries) {
  const first = cards.size === 0;
  const held = new Set(entries.map((entry) => entry.seq));
  for (const seq of [...cards.keys()]) if (!held.has(seq)) drop(seq, false);
  entries.forEach((entry, i) => {
    const card = cards.get(entry.seq) ?? add(entry, entries[i - 1], !first);
    refresh(card, entry);
  });
  ui.none.hidden = entries.length > 0;
  setText(ui.hint, entries.length ? `${clock(entries[0].seconds, 0)} – ${clock(entries.at(-1).seconds, 0)}` : "");
  if (following) toEnd(first ? "instant" : "smooth");
  if (open != null) turn(0);
  offerNewest();
}

function add(entry, before, animate) {
  const card = { time: el("time"), badge: el("span"), score: el("span", { class: "num" }), why: el("span", { class: "tag" }), thumb: el("span", { class: "thumb" }) };
  card.button = el("button", { type: "button", onclick: () => openDialog(entry.seq) }, card.thumb,
    el("span", { class: "meta" }, card.time, card.badge), el("span", { class: "why" }, card.why, card.score));
  card.node = el("li", { class: animate ? "arriving" : "" }, card.button);
  const gone = () => card.thumb.replaceChildren(el("span", { class: "gone" }, "kept before this page was opened"));
  if (entry.picture) card.thumb.append(el("img", { src: address(entry.seq), alt: "", decoding: "async", onerror: gone }));
  else gone();
  const left = before && cards.get(before.seq)?.node;
  if (left) left.after(card.node);
  else ui.list.prepend(card.node);
  cards.set(entry.seq, card);
  return card;
}

function refresh(card, entry) {
  if (card.entry?.tier !== entry.tier) {
    card.node.classList.remove("clear", "blurred");
    card.node.classList.add(entry.tier);
    card.badge.replaceChildren(badge(entry.tier));
  }
  card.entry = entry;
  setText(card.time, clock(entry.seconds));
  setText(card.why, entry.reason);
  card.why.title = reasons[entry.reason] ?? "";
  setText(card.score, score(entry.score));
  card.button.setAttribute("aria-label", `${clock(entry.seconds)}, ${entry.tier}, ${reasons[entry.reason] ?? entry.reason}`);
}

function drop(seq, now) {
  const { node } = cards.get(seq);
  cards.delete(seq);
  node.classList.add("leaving");
  setTimeout(() => node.remove(), now ? 0 : 400);
}

function address(seq) {
  return `/api/frame/${seq}.jpg?s=${session}`;  // numbers start again with another run
}

function atEnd() {
  const { scrollLeft, clientWidth, scrollWidth } = ui.scroller;
  return scrollLeft + clientWidth > scrollWidth - 200;
}

function toEnd(behavior) {
  ui.scroller.scrollTo({ left: ui.scroller.scrollWidth, behavior });
}

function scrolled() {
  if (performance.now() - touched < 1000) following = atEnd();
  offerNewest();
}

function offerNewest() {
  ui.newest.hidden = following;
}

// The dialog: one moment, large. Arrow keys go to its neighbours.

function mountDialog() {
  ui.picture = el("img", { alt: "" });
  ui.when = el("time");
  ui.tier = el("span");
  ui.facts = el("dl");
  ui.previous = el("button", { type: "button", "aria-label": "Earlier", onclick: () => turn(-1) }, "←");
  ui.next = el("button", { type: "button", "aria-label": "Later", onclick: () => turn(+1) }, "→");
  ui.like = el("button", { type: "button", class: "like", onclick: () => { const { entry } = cards.get(open); ui.dialog.close(); like(entry.seq, address(entry.seq), `the moment at ${clock(entry.seconds)}`); } }, "Find moments like this");
  const close = el("button", { type: "button", onclick: () => ui.dialog.close() }, "Close");
  ui.dialog = el("dialog", { "aria-label": "A kept moment", onclose: () => { open = null; } }, ui.picture,
    el("div", { class: "details" },
      el("div", { class: "top" }, ui.when, ui.tier, el("div", { class: "buttons" }, ui.like, ui.previous, ui.next, close)), ui.facts));
  ui.dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(+1);
  });
  ui.dialog.addEventListener("click", (event) => { if (event.target === ui.dialog) ui.dialog.close(); });
}

function openDialog(seq) {
  open = seq;
  turn(0);
  ui.dialog.showModal();
}

function turn(step) {
  const order = [...cards.keys()].sort((a, b) => a - b);
  const here = order.findIndex((seq) => seq >= open);
  const at = (here < 0 ? order.length : here) + (step > 0 && order[here] !== open ? 0 : step);
  if (at < 0 || at >= order.length || (step === 0 && order[at] !== open)) return;
  open = order[at];
  ui.previous.disabled = at === 0;
  ui.next.disabled = at === order.length - 1;
  const { entry } = cards.get(open);
  if (ui.picture.dataset.seq !== `${open}`) {
    ui.picture.dataset.seq = open;
    ui.picture.src = address(open);
  }
  ui.picture.className = entry.tier;
  ui.like.hidden = !canAsk() || !entry.picture;
  setText(ui.when, clock(entry.seconds));
  ui.tier.replaceChildren(badge(entry.tier));
  const facts = [
    ["Kept because", reasons[entry.reason] ?? entry.reason], ["Score", score(entry.score)], ["Frame", `#${entry.seq}`],
    ["Tokens", number(entry.tokens)], ["Stored", `${entry.width}×${entry.height}, ${bytes(entry.nbytes)}`],
  ];
  ui.facts.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { class: "num" }, value))));
}
