// Score and thresholds over time: what the router saw, and what it decided.
import { axes, cleared, cursorLine, follow, grid, line, nearest, niceStep, placeTip, readable, runs } from "../chart.js";
import { badge, clock, el, mark, number, score } from "../dom.js";

export const title = "Score";
export const classes = "plot";

const RECENT_S = 60;
const [SECONDS, SEQ, SCORE, LOW, HIGH, STATE, LOST] = [0, 1, 2, 3, 4, 5, 6];

const ui = {};
let recent = [];
let whole = [];
let stride = 1;
let mode = "recent";
let cursor = null;   // seconds under the pointer
let colours = {};
let due = false;
let scaleTop = 0;    // eased, so that the axis does not jump
let session = "";
let a = null;        // the axes

export function mount(root) {
  ui.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Score and thresholds over time; arrow keys read values" });
  ui.tip = el("div", { class: "tip", hidden: true, role: "status" });
  ui.none = el("p", { class: "none" }, "No scores yet.");
  ui.area = el("div", { class: "area" }, ui.canvas, ui.none, ui.tip);
  const toggle = el("div", { class: "toggle push", role: "radiogroup", "aria-label": "Time shown" }, choice("recent", "Last minute"), choice("whole", "Whole run"));
  const key = (name, text) => el("span", {}, el("i", { class: `swatch ${name}` }), text);
  root.append(
    el("header", {}, el("h2", {}, title), el("span", { class: "hint" }, "against its two thresholds"), toggle), ui.area,
    el("div", { class: "legend" }, key("", "score"), key("high", "Clear from"), key("low", "Blurred from"),
      el("span", {}, mark("clear"), "Clear"), el("span", {}, mark("blurred"), "Blurred"), key("lost", "frames lost")),
  );
  readable(ui.canvas, () => ({ points: visible(), a }), (seconds) => { cursor = seconds; draw(); });
  colours = follow(ui.area, ["ink", "soft", "rule", "panel", "clear", "blurred", "band", "lost"], draw);
}

function choice(value, text) {
  const input = el("input", { type: "radio", name: "plot-span", value, checked: value === mode, onchange: () => { mode = value; scaleTop = 0; draw(); } });
  return el("label", {}, input, el("span", {}, text));
}

export function update(patch) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    recent = [];
    whole = [];
    cursor = null;
  }
  if (patch.points) {
    recent = patch.points.fresh ? patch.points.points : recent.concat(patch.points.points).slice(-600);
  }
  if (patch.history) ({ points: whole, stride } = patch.history);
  if ((patch.points || patch.history) && !due) {
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  }
}

function visible() {
  if (mode === "whole" && whole.length) {
    // The whole run is sent every other second; in between its end comes from the recent points.
    const newer = recent.filter((p) => p[SEQ] > whole.at(-1)[SEQ]);
    return whole.concat(newer);
  }
  const end = recent.at(-1)?.[SECONDS] ?? 0;
  return recent.filter((p) => p[SECONDS] > end - RECENT_S);
}

function layout(points) {
  const end = points.at(-1)[SECONDS];
  const start = mode === "recent" ? Math.max(Math.min(points[0][SECONDS], end - 10), end - RECENT_S) : points[0][SECONDS];
  let top = 0;
  for (const p of points) top = Math.max(top, p[SCORE] ?? 0, p[HIGH] ?? 0);
  scaleTop = top > scaleTop ? top : Math.max(top, scaleTop * 0.97);
  const step = niceStep((scaleTop || 1) * 1.06, Math.max(2, Math.floor(ui.area.clientHeight / 60)));
  const most = Math.max(Math.ceil((scaleTop * 1.06) / step), 1) * step;
  a = axes(ui.area, start, end, most, step);
}

function draw() {
  const points = visible();
  ui.none.hidden = points.length > 0;
  const context = cleared(ui.canvas, ui.area);
  ui.tip.hidden = true;
  if (!points.length || !context) return;
  layout(points);
  grid(context, a, colours, "score");
  band(context, points);
  line(context, a, points, HIGH, colours.clear, 1.25, [6, 4]);
  line(context, a, points, LOW, colours.blurred, 1.25, [1.5, 3.5]);
  line(context, a, points, SCORE, colours.ink, 1.5);
  losses(context, points);
  marks(context, points);
  if (cursor != null) readOut(context, points);
}

function band(context, points) {
  context.fillStyle = colours.band;
  for (const run of runs(points, LOW, HIGH)) {
    context.beginPath();
    for (const p of run) context.lineTo(a.x(p[SECONDS]), a.y(p[HIGH]));
    for (const p of run.toReversed()) context.lineTo(a.x(p[SECONDS]), a.y(p[LOW]));
    context.fill();
  }
}

function losses(context, points) {
  const most = Math.max(...points.map((p) => p[LOST]));
  if (!most) return;
  context.fillStyle = colours.lost;
  for (const p of points) {
    if (!p[LOST]) continue;
    const tall = 4 + 8 * (Math.log1p(p[LOST]) / Math.log1p(most));
    context.fillRect(a.x(p[SECONDS]) - 1, a.floor - tall, 2, tall);
  }
}

function marks(context, points) {
  context.lineWidth = 1.75;
  for (const p of points) {
    if (p[STATE] === "discard" || p[SCORE] == null) continue;
    const x = a.x(p[SECONDS]);
    const y = a.y(p[SCORE]);
    context.beginPath();
    if (p[STATE] === "clear") {
      context.arc(x, y, 4, 0, 2 * Math.PI);
      context.fillStyle = colours.clear;
    } else {
      context.moveTo(x, y - 4.5);
      context.lineTo(x + 4.5, y);
      context.lineTo(x, y + 4.5);
      context.lineTo(x - 4.5, y);
      context.closePath();
      context.fillStyle = colours.panel;
    }
    context.fill();
    context.strokeStyle = p[STATE] === "clear" ? colours.panel : colours.blurred;
    context.stroke();
  }
}

function readOut(context, points) {
  const p = points[nearest(points, cursor)];
  const x = a.x(p[SECONDS]);
  cursorLine(context, a, x, colours);
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  const merged = mode === "whole" && stride > 1 ? row("strongest of", number(stride)) : [];
  const lost = p[LOST] ? row("lost before", number(p[LOST])) : [];
  ui.tip.replaceChildren(
    el("div", { class: `badge ${p[STATE]}` }, badge(p[STATE]), clock(p[SECONDS])),
    el("dl", {}, ...row("score", score(p[SCORE])), ...row("Clear from", score(p[HIGH])),
      ...row("Blurred from", score(p[LOW])), ...row("frame", `#${p[SEQ]}`), ...merged, ...lost));
  placeTip(ui.tip, a, x);
}
