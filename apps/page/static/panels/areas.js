// How much of the frame each object covers, over the last seconds.
import { axes, cleared, cursorLine, follow, grid, line, nearest, niceStep, placeTip, readable } from "../chart.js";
import { clock, el, number } from "../dom.js";

export const title = "Size of the objects";
export const classes = "plot curve";

const RECENT_S = 12;
const [SECONDS, SEQ, SHARES] = [0, 1, 2];

const ui = {};
let recent = [];
let cursor = null;
let colours = {};
let palette = [];
let names = "";
let session = "";
let due = false;
let a = null;

export function mount(root) {
  ui.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Share of the frame over time; arrow keys read values" });
  ui.tip = el("div", { class: "tip", hidden: true, role: "status" });
  ui.none = el("p", { class: "none" }, "No frame yet.");
  ui.area = el("div", { class: "area" }, ui.canvas, ui.none, ui.tip);
  ui.legend = el("div", { class: "legend" });
  root.append(el("header", {}, el("h2", {}, title), el("span", { class: "hint" }, `last ${RECENT_S} s`)), ui.area, ui.legend);
  readable(ui.canvas, () => ({ points: visible(), a }), (seconds) => { cursor = seconds; draw(); });
  colours = follow(ui.area, ["ink", "soft", "rule", "panel"], draw);
}

export function update(patch, state) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    palette = patch.about.colours ?? [];
    recent = [];
    cursor = null;
  }
  const objects = state.latest?.objects;
  if (objects && objects.map((one) => one.label).join() !== names) {
    names = objects.map((one) => one.label).join();
    ui.legend.replaceChildren(...objects.map((one, k) => {
      const swatch = el("i", { class: "swatch" });
      swatch.style.borderTopColor = colour(k);
      return el("span", {}, swatch, one.label);
    }));
  }
  if (!patch.areas) return;
  recent = patch.areas.fresh ? patch.areas.points : recent.concat(patch.areas.points).slice(-600);
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

const colour = (k) => palette[k % palette.length] ?? "#62abff";

function visible() {
  const end = recent.at(-1)?.[SECONDS] ?? 0;
  return recent.filter((p) => p[SECONDS] > end - RECENT_S);
}

function draw() {
  const points = visible();
  const context = cleared(ui.canvas, ui.area);
  ui.tip.hidden = true;
  ui.none.hidden = points.length > 0;
  if (!points.length || !context) return;
  const top = Math.max(0.1, ...points.flatMap((p) => p[SHARES].map((share) => 100 * share)));
  const step = niceStep(1.1 * top, Math.max(2, Math.floor(ui.area.clientHeight / 60)));
  const end = points.at(-1)[SECONDS];
  a = axes(ui.area, Math.max(points[0][SECONDS], end - RECENT_S), end, Math.ceil(1.1 * top / step) * step, step, 0);
  grid(context, a, colours, "% of the frame");
  for (let k = 0; k < points[0][SHARES].length; k++) line(context, a, points.map((p) => [p[SECONDS], 100 * p[SHARES][k]]), 1, colour(k), 2);
  if (cursor != null) readOut(context, points);
}

function readOut(context, points) {
  const p = points[nearest(points, cursor)];
  const x = a.x(p[SECONDS]);
  cursorLine(context, a, x, colours);
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  const labels = names.split(",");
  ui.tip.replaceChildren(
    el("div", { class: "badge" }, clock(p[SECONDS])),
    el("dl", {}, ...p[SHARES].flatMap((share, k) => row(names.split(",")[k] ?? "", `${number(100 * share, 2)} %`)), ...row("frame", `#${p[SEQ]}`)));
  placeTip(ui.tip, a, x);
}
