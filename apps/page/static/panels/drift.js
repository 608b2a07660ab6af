// How well the camera is tracked: its distance to the given path, else the points that agree.
import { axes, cleared, cursorLine, follow, grid, line, nearest, niceStep, placeTip, readable } from "../chart.js";
import { clock, el, number, setText } from "../dom.js";

export const title = "Tracking";
export const classes = "plot drift";

const ROOM = 600;
const [SECONDS, SEQ, DRIFT, INLIERS, KEYFRAME, LOST] = [0, 1, 2, 3, 4, 5];
const ui = {};
let points = [];
let scaled = false;
let cursor = null;
let colours = {};
let due = false;
let session = "";
let a = null;

export function mount(root) {
  ui.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Tracking over time; arrow keys read values" });
  ui.tip = el("div", { class: "tip", hidden: true, role: "status" });
  ui.none = el("p", { class: "none" }, "No frame tracked yet.");
  ui.area = el("div", { class: "area" }, ui.canvas, ui.none, ui.tip);
  ui.hint = el("span", { class: "hint" });
  ui.key = el("span");
  const key = (name, text) => el("span", {}, el("i", { class: name }), text);
  root.append(
    el("header", {}, el("h2", {}, title), ui.hint), ui.area,
    el("div", { class: "legend" }, el("span", {}, el("i", { class: "swatch cavity" }), ui.key), key("swatch key", "keyframe"), key("swatch lost", "not tracked")),
  );
  readable(ui.canvas, () => ({ points, a }), (seconds) => { cursor = seconds; draw(); });
  colours = follow(ui.area, ["ink", "soft", "rule", "cavity", "lost", "good"], draw);
}

export function update(patch) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    points = [];
    cursor = null;
  }
  if (patch.above) scaled = patch.above.scaled ?? false;
  const news = patch.tracking;
  if (!news) return;
  points = news.fresh ? news.points : points.concat(news.points).slice(-ROOM);
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

function draw() {
  const context = cleared(ui.canvas, ui.area);
  ui.tip.hidden = true;
  ui.none.hidden = points.length > 0;
  if (!points.length || !context) return;
  const measured = points.some((p) => p[DRIFT] != null);
  const shown = points.map((p) => [p[SECONDS], measured ? distance(p[DRIFT]) : p[INLIERS]]);
  setText(ui.hint, measured ? "distance to the given path" : "points that agree with the map");
  setText(ui.key, measured ? "distance" : "points");
  const most = Math.max(...shown.map((p) => p[1] ?? 0), measured && !scaled ? 1 : 1e-3);
  const step = niceStep(most * 1.1, Math.max(2, Math.floor(ui.area.clientHeight / 60)));
  a = axes(ui.area, points[0][SECONDS], Math.max(points.at(-1)[SECONDS], points[0][SECONDS] + 1), Math.ceil(most * 1.1 / step) * step, step);
  grid(context, a, colours, measured ? (scaled ? "map units" : "cm") : "points");
  ticks(context);
  line(context, a, shown, 1, colours.cavity, 2);
  if (cursor != null) readOut(context, measured);
}

// Centimetres, where the map has metres.
function distance(value) {
  return value == null ? null : scaled ? value : 100 * value;
}

function ticks(context) {
  for (const p of points) {
    if (!p[LOST] && !p[KEYFRAME]) continue;
    context.fillStyle = p[LOST] ? colours.lost : colours.good;
    context.fillRect(a.x(p[SECONDS]) - 1, a.floor - (p[LOST] ? 12 : 6), 2, p[LOST] ? 12 : 6);
  }
}

function readOut(context, measured) {
  const p = points[nearest(points, cursor)];
  const x = a.x(p[SECONDS]);
  cursorLine(context, a, x, colours);
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  const away = p[DRIFT] == null ? "–" : scaled ? number(p[DRIFT], 3) : `${number(100 * p[DRIFT], 1)} cm`;
  ui.tip.replaceChildren(
    el("div", { class: "badge" }, clock(p[SECONDS])),
    el("dl", {}, ...(measured ? row("distance", away) : []), ...row("points", number(p[INLIERS])),
      ...row("frame", `#${p[SEQ]}`), ...(p[LOST] ? row("", "not tracked") : p[KEYFRAME] ? row("", "keyframe") : [])));
  placeTip(ui.tip, a, x);
}
