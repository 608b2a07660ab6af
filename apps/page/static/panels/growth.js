// How large the map is against its budget, and where the time of a frame goes.
import { bytes, el, milliseconds, number, setText } from "../dom.js";
import { meter } from "./budget.js";

export const title = "Map";
export const classes = "growth budget";

const PARTS = { track: "track", observe: "check the map", build: "build", fuse: "fuse", refine: "refine", loop: "close loops", depth: "find depth" };
const ui = {};
const rows = new Map();

export function mount(root) {
  ui.facts = el("span", { class: "hint push num" });
  ui.gaussians = meter("Gaussians", ["clear", "blurred"]);
  ui.bytes = meter("Memory", [""]);
  ui.parts = el("dl", { class: "parts num" });
  ui.total = el("span", { class: "num" });
  root.append(
    el("header", {}, el("h2", {}, title), ui.facts),
    el("div", { class: "rows" }, ui.gaussians.node, ui.bytes.node,
      el("div", { class: "label" }, el("span", {}, "Time of a frame"), ui.total), ui.parts),
  );
}

export function update(patch) {
  const { map } = patch;
  if (!map?.byte_budget) return;
  const all = map.active + map.stable;
  const some = (count, one, more) => `${number(count)} ${count === 1 ? one : more}`;
  setText(ui.facts, [some(map.keyframes, "keyframe", "keyframes"),
    ...(map.loops ? [some(map.loops, "loop closed", "loops closed")] : []),
    ...(map.lost ? [`${some(map.lost, "frame", "frames")} lost`] : [])].join(", "));
  ui.gaussians.set(number(all), `· ${number(map.stable)} stable, ${number(map.active)} active`,
    map.stable / Math.max(all, 1), map.active / Math.max(all, 1));
  ui.bytes.set(bytes(map.nbytes), `of ${bytes(map.byte_budget)}`, map.nbytes / map.byte_budget);
  const total = map.parts_ms.reduce((sum, [, ms]) => sum + ms, 0);
  setText(ui.total, milliseconds(total));
  for (const [name, ms] of map.parts_ms) part(name, ms, ms / Math.max(total, 1e-9));
}

// Parts keep their places: a list that sorts itself anew cannot be read.
function part(name, ms, share) {
  if (!rows.has(name)) {
    const row = { value: el("dd"), fill: el("i") };
    ui.parts.append(el("div", {}, el("dt", {}, PARTS[name] ?? name), el("span", { class: "bar", "aria-hidden": "true" }, row.fill), row.value));
    rows.set(name, row);
  }
  const row = rows.get(name);
  setText(row.value, milliseconds(ms));
  row.fill.style.width = `${100 * share}%`;
}
