// A moment that answers: its card, and the dialog that plays the footage around it.
import { badge, clock, el, number, setText } from "../dom.js";

const ui = {};
let shown = null;
let more = () => {};

export function card(moment, session, open) {
  const picture = moment.picture
    ? el("img", { src: `${moment.picture}?s=${session}`, alt: "", decoding: "async" })
    : el("span", { class: "gone" }, "no picture kept");
  const play = moment.clip ? [el("i", { class: "play", "aria-hidden": "true" })] : [];
  const near = moment.score == null ? "" : number(moment.score, 3);
  const label = `${clock(moment.seconds)}, ${moment.tier}${near && `, score ${near}`}${moment.clip ? ", plays" : ""}`;
  return el("li", { class: moment.tier }, el("button", { type: "button", "aria-label": label, onclick: () => open(moment) },
    el("span", { class: "thumb" }, picture, ...play),
    el("span", { class: "meta" }, el("time", {}, clock(moment.seconds)), badge(moment.tier)),
    el("span", { class: "why" }, el("span", { class: "tag" }, moment.reason), el("span", { class: "num", title: "Cosine with the question" }, near))));
}

export function mountMoment(like) {
  more = like;
  ui.video = el("video", { controls: true, muted: true, playsinline: true, "aria-label": "The footage around the moment", onerror: still });
  ui.picture = el("img", { alt: "" });
  ui.when = el("time");
  ui.tier = el("span");
  ui.facts = el("dl");
  ui.said = el("p", { class: "help", role: "status" });
  ui.like = el("button", { type: "button", onclick: () => { ui.dialog.close(); more(shown.seq, shown.address, `the moment at ${clock(shown.seconds)}`); } }, "More like this");
  const close = el("button", { type: "button", onclick: () => ui.dialog.close() }, "Close");
  ui.dialog = el("dialog", { class: "moment", "aria-label": "A moment that answers", onclose: stop }, ui.video, ui.picture,
    el("div", { class: "details" },
      el("div", { class: "top" }, ui.when, ui.tier, el("div", { class: "buttons" }, ui.like, close)), ui.facts, ui.said));
  ui.dialog.addEventListener("click", (event) => { if (event.target === ui.dialog) ui.dialog.close(); });
  return ui.dialog;
}

export function openMoment(moment, session, facts) {
  shown = { ...moment, address: `${moment.picture}?s=${session}` };
  ui.like.hidden = !moment.picture;
  ui.picture.src = moment.picture ? shown.address : "";
  ui.picture.className = moment.tier;
  ui.picture.hidden = Boolean(moment.clip) || !moment.picture;
  ui.video.hidden = !moment.clip;
  setText(ui.said, moment.clip ? "" : "The source is no video file on this machine, so there is only what was kept.");
  if (moment.clip) {
    ui.video.poster = moment.picture ? shown.address : "";
    ui.video.src = moment.clip;
    ui.video.play().catch(() => {});
  }
  setText(ui.when, clock(moment.seconds));
  ui.tier.replaceChildren(badge(moment.tier));
  ui.facts.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { class: "num" }, value))));
  ui.dialog.showModal();
}

// The footage cannot be had: the kept picture stands in.
function still() {
  if (!ui.video.getAttribute("src")) return;
  ui.video.hidden = true;
  ui.picture.hidden = !shown.picture;
  setText(ui.said, "The footage around this moment cannot be played; this is what was kept of it.");
}

function stop() {
  ui.video.pause();
  ui.video.removeAttribute("src");
  ui.video.load();
}
