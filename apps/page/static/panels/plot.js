// Score and thresholds over time: what the router saw, and what it decided.
import { badge, clock, el, mark, number, score } from "../dom.js";

export const title = "Score";
export const classes = "plot";

const RECENT_S = 60;
const PAD = { left: 46, right: 14, top: 12, bottom: 26 };
const TIME_STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];
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
  listen();
}

function choice(value, text) {
  const input = el("input", { type: "radio", name: "plot-span", value, checked: value === mode, onchange: () => { mode = value; scaleTop = 0; draw(); } });
  return el("label", {}, input, el("span", {}, text));
}

function listen() {
  ui.canvas.addEventListener("pointermove", (event) => { cursor = timeAt(event.offsetX); draw(); });
  ui.canvas.addEventListener("pointerleave", () => { cursor = null; draw(); });
  ui.canvas.addEventListener("blur", () => { cursor = null; draw(); });
  ui.canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const points = visible();
    if (event.key === "Escape") cursor = null;
    else if (step && points.length) {
      const at = cursor == null ? points.length : nearest(points, cursor);
      cursor = points[Math.min(Math.max(at + step, 0), points.length - 1)][SECONDS];
      event.preventDefault();
    } else return;
    draw();
  });
  new ResizeObserver(draw).observe(ui.area);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => { readColours(); draw(); });
  readColours();
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "rule", "panel", "clear", "blurred", "band", "lost"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
  colours.font = `11.5px ${style.getPropertyValue("--sans")}`;
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

let axes = null;

function layout(points) {
  const width = ui.area.clientWidth;
  const height = ui.area.clientHeight;
  const end = points.at(-1)[SECONDS];
  const start = mode === "recent" ? Math.max(Math.min(points[0][SECONDS], end - 10), end - RECENT_S) : points[0][SECONDS];
  let top = 0;
  for (const p of points) top = Math.max(top, p[SCORE] ?? 0, p[HIGH] ?? 0);
  scaleTop = top > scaleTop ? top : Math.max(top, scaleTop * 0.97);
  const step = niceStep((scaleTop || 1) * 1.06, Math.max(2, Math.floor(height / 60)));
  const most = Math.max(Math.ceil((scaleTop * 1.06) / step), 1) * step;
  const span = Math.max(end - start, 1e-3);
  const inner = width - PAD.left - PAD.right;
  axes = { width, height, start, end, step, top: most, span, inner, floor: height - PAD.bottom,
    x: (t) => PAD.left + ((t - start) / span) * inner,
    y: (v) => PAD.top + (1 - Math.min(Math.max(v / most, 0), 1)) * (height - PAD.top - PAD.bottom) };
}

function draw() {
  const points = visible();
  ui.none.hidden = points.length > 0;
  const context = ui.canvas.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(ui.area.clientWidth * ratio);
  const height = Math.round(ui.area.clientHeight * ratio);
  if (ui.canvas.width !== width) ui.canvas.width = width;
  if (ui.canvas.height !== height) ui.canvas.height = height;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  ui.tip.hidden = true;
  if (!points.length || !width || !height) return;
  layout(points);
  grid(context);
  band(context, points);
  line(context, points, HIGH, colours.clear, 1.25, [6, 4]);
  line(context, points, LOW, colours.blurred, 1.25, [1.5, 3.5]);
  line(context, points, SCORE, colours.ink, 1.5, []);
  losses(context, points);
  marks(context, points);
  if (cursor != null) readOut(context, points);
}

function grid(context) {
  const { width, step, top, floor, start, end, span, inner } = axes;
  context.font = colours.font;
  context.lineWidth = 1;
  context.strokeStyle = colours.rule;
  context.fillStyle = colours.soft;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  for (let i = 0; i * step <= top + 1e-9; i += 1) {
    const y = Math.round(axes.y(i * step)) + 0.5;
    context.beginPath();
    context.moveTo(PAD.left, y);
    context.lineTo(width - PAD.right, y);
    context.stroke();
    context.fillText((i * step).toFixed(digits), PAD.left - 8, y);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const every = TIME_STEPS.find((s) => (span / s) * 64 <= inner) ?? 86400 * Math.ceil(span / 86400 / (inner / 64));
  for (let t = Math.ceil(start / every) * every; t <= end; t += every) {
    const x = axes.x(t);
    if (x < PAD.left + 6 || x > width - PAD.right - 92) continue;
    context.fillText(clock(t, every < 1 ? 1 : 0), x, floor + 8);
  }
  context.textAlign = "right";
  context.fillText("stream time", width - PAD.right, floor + 8);
  context.textAlign = "left";
  context.fillText("score", PAD.left + 4, PAD.top + 4);
}

// Stretches of points where all of `columns` are known and time does not run backwards.
function* runs(points, ...columns) {
  let run = [];
  for (const p of points) {
    const good = columns.every((column) => p[column] != null);
    if (run.length && (!good || p[SECONDS] < run.at(-1)[SECONDS])) { yield run; run = []; }
    if (good) run.push(p);
  }
  if (run.length) yield run;
}

function line(context, points, column, colour, width, dash) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  for (const run of runs(points, column)) {
    context.beginPath();
    for (const p of run) context.lineTo(axes.x(p[SECONDS]), axes.y(p[column]));
    context.stroke();
  }
  context.setLineDash([]);
}

function band(context, points) {
  context.fillStyle = colours.band;
  for (const run of runs(points, LOW, HIGH)) {
    context.beginPath();
    for (const p of run) context.lineTo(axes.x(p[SECONDS]), axes.y(p[HIGH]));
    for (const p of run.toReversed()) context.lineTo(axes.x(p[SECONDS]), axes.y(p[LOW]));
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
    context.fillRect(axes.x(p[SECONDS]) - 1, axes.floor - tall, 2, tall);
  }
}

function marks(context, points) {
  context.lineWidth = 1.75;
  for (const p of points) {
    if (p[STATE] === "discard" || p[SCORE] == null) continue;
    const x = axes.x(p[SECONDS]);
    const y = axes.y(p[SCORE]);
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

function timeAt(x) {
  return axes && axes.start + ((x - PAD.left) / axes.inner) * axes.span;
}

function nearest(points, seconds) {
  let best = 0;
  points.forEach((p, i) => { if (Math.abs(p[SECONDS] - seconds) < Math.abs(points[best][SECONDS] - seconds)) best = i; });
  return best;
}

function readOut(context, points) {
  const p = points[nearest(points, cursor)];
  const x = axes.x(p[SECONDS]);
  context.strokeStyle = colours.soft;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(Math.round(x) + 0.5, PAD.top);
  context.lineTo(Math.round(x) + 0.5, axes.floor);
  context.stroke();
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  const merged = mode === "whole" && stride > 1 ? row("strongest of", number(stride)) : [];
  const lost = p[LOST] ? row("lost before", number(p[LOST])) : [];
  ui.tip.replaceChildren(
    el("div", { class: `badge ${p[STATE]}` }, badge(p[STATE]), clock(p[SECONDS])),
    el("dl", {}, ...row("score", score(p[SCORE])), ...row("Clear from", score(p[HIGH])),
      ...row("Blurred from", score(p[LOW])), ...row("frame", `#${p[SEQ]}`), ...merged, ...lost));
  ui.tip.hidden = false;
  const left = x > axes.width / 2 ? x - ui.tip.offsetWidth - 12 : x + 12;
  ui.tip.style.left = `${Math.max(4, left)}px`;
}

function niceStep(span, ticks) {
  const raw = span / ticks;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((m) => m * power >= raw * 0.999)) * power;
}
