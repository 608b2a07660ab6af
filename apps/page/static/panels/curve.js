// The cavity's area over time, with the ends of diastole and systole of every beat.
import { axes, cleared, cursorLine, follow, grid, line, nearest, niceStep, placeTip, readable } from "../chart.js";
import { area, clock, el, volume } from "../dom.js";

export const title = "Area of the left ventricle";
export const classes = "plot curve";

const RECENT_S = 8;
const [SECONDS, SEQ, AREA, VOLUME, DOUBTFUL] = [0, 1, 2, 3, 4];

const ui = {};
let recent = [];
let beats = { beats: [] };
let cursor = null;
let colours = {};
let due = false;
let scale = null;    // [low, top], kept while the curve stays inside, so that it does not breathe
let session = "";
let a = null;

export function mount(root) {
  ui.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Area over time; arrow keys read values" });
  ui.tip = el("div", { class: "tip", hidden: true, role: "status" });
  ui.none = el("p", { class: "none" }, "No area yet.");
  ui.area = el("div", { class: "area" }, ui.canvas, ui.none, ui.tip);
  const key = (name, text) => el("span", {}, el("i", { class: name }), text);
  root.append(
    el("header", {}, el("h2", {}, title), el("span", { class: "hint" }, `last ${RECENT_S} s`)), ui.area,
    el("div", { class: "legend" }, key("swatch cavity", "area"), key("mark ed", "end of diastole (ED)"), key("mark es", "end of systole (ES)"), key("swatch lost", "doubtful frame")),
  );
  readable(ui.canvas, () => ({ points: visible(), a }), (seconds) => { cursor = seconds; draw(); });
  colours = follow(ui.area, ["ink", "soft", "rule", "panel", "cavity", "band", "lost"], draw);
}

export function update(patch) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    recent = [];
    beats = { beats: [] };
    scale = cursor = null;
  }
  if (patch.curve) recent = patch.curve.fresh ? patch.curve.points : recent.concat(patch.curve.points).slice(-600);
  if (patch.beats) ({ beats } = patch);
  if ((patch.curve || patch.beats) && !due) {
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  }
}

function visible() {
  const end = recent.at(-1)?.[SECONDS] ?? 0;
  return recent.filter((p) => p[SECONDS] > end - RECENT_S);
}

function shown(value) {
  return beats.unit === "mm" ? value / 100 : value;
}

function layout(points) {
  const values = points.filter((p) => p[AREA] != null).map((p) => shown(p[AREA]));
  const least = Math.min(...values);
  const most = Math.max(...values);
  if (!scale || least < scale.low || most > scale.top || most - least < (scale.top - scale.low) / 3) {
    const step = niceStep(Math.max(most - least, most * 0.05, 1e-6) * 1.2, Math.max(2, Math.floor(ui.area.clientHeight / 60)));
    scale = { step, low: Math.max(0, Math.floor(least / step - 0.1) * step), top: Math.ceil(most / step + 0.1) * step };
  }
  const end = points.at(-1)[SECONDS];
  a = axes(ui.area, Math.max(points[0][SECONDS], end - RECENT_S), end, scale.top, scale.step, scale.low);
}

function draw() {
  const points = visible();
  const context = cleared(ui.canvas, ui.area);
  ui.tip.hidden = true;
  ui.none.hidden = points.some((p) => p[AREA] != null);
  if (!ui.none.hidden || !context) return;
  layout(points);
  shade(context);
  grid(context, a, colours, beats.unit === "mm" ? "cm²" : "square pixels");
  line(context, a, points.map((p) => [p[SECONDS], p[AREA] == null ? null : shown(p[AREA])]), 1, colours.cavity, 2);
  context.fillStyle = colours.lost;
  for (const p of points) if (p[DOUBTFUL]) context.fillRect(a.x(p[SECONDS]) - 1, a.floor - 6, 2, 6);
  for (const beat of beats.beats) {
    dot(context, beat.ed_seconds, beat.ed_area, true);
    dot(context, beat.es_seconds, beat.es_area, false);
  }
  if (cursor != null) readOut(context, points);
}

// The time from ED to ES of each beat.
function shade(context) {
  context.fillStyle = colours.band;
  for (const beat of beats.beats) {
    const left = Math.max(a.x(beat.ed_seconds), a.x(a.start));
    const right = a.x(beat.es_seconds);
    if (right > left) context.fillRect(left, a.y(a.top), right - left, a.floor - a.y(a.top));
  }
}

function dot(context, seconds, value, ed) {
  if (seconds < a.start || seconds > a.end || value == null) return;
  const x = a.x(seconds);
  const y = a.y(shown(value));
  context.beginPath();
  context.arc(x, y, 4.5, 0, 2 * Math.PI);
  context.fillStyle = ed ? colours.cavity : colours.panel;
  context.strokeStyle = ed ? colours.panel : colours.cavity;
  context.lineWidth = 2;
  context.fill();
  context.stroke();
  context.font = colours.font;
  context.fillStyle = colours.soft;
  context.textAlign = "center";
  context.textBaseline = ed ? "bottom" : "top";
  context.fillText(ed ? "ED" : "ES", x, y + (ed ? -7 : 7));
}

function readOut(context, points) {
  const p = points[nearest(points, cursor)];
  const x = a.x(p[SECONDS]);
  cursorLine(context, a, x, colours);
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  ui.tip.replaceChildren(
    el("div", { class: "badge" }, clock(p[SECONDS])),
    el("dl", {}, ...row("area", area(p[AREA], beats.unit)), ...row("volume", volume(p[VOLUME], beats.unit)),
      ...row("frame", `#${p[SEQ]}`), ...(p[DOUBTFUL] ? row("", "doubtful") : [])));
  placeTip(ui.tip, a, x);
}
