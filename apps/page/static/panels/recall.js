// How full a detector's memory is, what it adds to the detector, when it began anew, what it takes.
import { bytes, clock, el, milliseconds, number, setText } from "../dom.js";
import { meter } from "./budget.js";

export const title = "Memory";
export const classes = "recall budget";

const ui = {};

export function mount(root) {
  ui.facts = el("span", { class: "hint push num" });
  ui.rows = meter("Rows", ["clear"]);
  ui.bytes = meter("Bytes", [""]);
  ui.share = meter("Boxes from memory", ["mark"]);
  ui.time = meter("Time of a frame", ["clear", "mark"]);
  ui.anew = el("p", { class: "anew num" });
  root.append(
    el("header", {}, el("h2", {}, title), ui.facts),
    el("div", { class: "rows" }, ui.rows.node, ui.bytes.node, ui.share.node, ui.time.node, ui.anew),
  );
}

export function update(patch) {
  const { recall } = patch;
  if (!recall?.byte_budget) return;
  ui.rows.node.hidden = !recall.room;
  ui.rows.set(number(recall.rows), `of ${number(recall.room)}`, recall.rows / Math.max(recall.room, 1));
  ui.bytes.set(bytes(recall.nbytes), `of ${bytes(recall.byte_budget)}`, recall.nbytes / recall.byte_budget);
  const share = recall.recalled / Math.max(recall.boxes, 1);
  ui.share.set(`${number(100 * share, 1)} %`, `· ${number(recall.recalled)} of ${number(recall.boxes)}`, share);
  const each = (count) => number(count / Math.max(recall.frames, 1), 1);
  setText(ui.facts, recall.alone ? `${each(recall.boxes)} boxes a frame, ${each(recall.alone)} by the detector alone` : `${each(recall.boxes)} boxes a frame`);
  const { detector = 0, memory = 0 } = recall.parts_ms;
  const all = Math.max(detector + memory, 1e-9);
  ui.time.set(milliseconds(detector + memory), `· detector ${milliseconds(detector)}, memory ${milliseconds(memory)}`, detector / all, memory / all);
  const last = recall.newest.at(-1);
  setText(ui.anew, last ? `Began anew ${number(recall.resets)}×, last at ${clock(last[0])}: ${last[1]}.` : "It has never begun anew.");
}
