// Which memory decided: the box that owes most to it just now, and what was remembered.
import { clock, el, number, setText } from "../dom.js";

export const title = "Which memory decided";
export const classes = "decided wide";

const ui = {};

export function mount(root) {
  ui.hint = el("span", { class: "hint num" });
  ui.list = el("ol");
  ui.none = el("p", { class: "none" }, "No box owes its score to memory yet.");
  root.append(el("header", {}, el("h2", {}, title), ui.hint), el("div", { class: "area" }, ui.list, ui.none));
}

export function update(patch, state) {
  const { decided } = patch;
  if (!decided?.name) return;
  const who = decided.track >= 0 ? `${decided.track} ${decided.name}` : decided.name;
  setText(ui.hint, `${clock(decided.seconds)} · ${who} ${number(decided.score, 2)} · ${number(100 * decided.memory)} % from memory`);
  ui.none.hidden = decided.crops.length > 0;
  setText(ui.none, "Pictures of what was remembered are no longer kept.");
  const session = state.about?.session ?? "";
  ui.list.replaceChildren(...decided.crops.map(([seq, seconds, share]) => el("li", {},
    el("img", { src: `/api/frame/${seq}.jpg?s=${session}`, alt: `Remembered from ${clock(seconds)}`, decoding: "async" }),
    el("span", { class: "num" }, `${clock(seconds)} · ${number(100 * share)} %`))));
}
