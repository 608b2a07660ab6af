// What the plots share: a canvas that fits its area, axes, a grid, colours of the scheme.
import { clock } from "./dom.js";

export const PAD = { left: 46, right: 14, top: 12, bottom: 26 };
const TIME_STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

// Calls `draw` whenever the area or the colour scheme changes; returns the colours.
export function follow(area, names, draw) {
  const colours = {};
  const read = () => {
    const style = getComputedStyle(document.documentElement);
    for (const name of names) colours[name] = style.getPropertyValue(`--${name}`).trim();
    colours.font = `11.5px ${style.getPropertyValue("--sans")}`;
  };
  new ResizeObserver(draw).observe(area);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { read(); draw(); });
  read();
  return colours;
}

// The canvas's context, cleared and in CSS pixels; null when nothing of it can be seen.
export function cleared(canvas, area) {
  const context = canvas.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(area.clientWidth * ratio);
  const height = Math.round(area.clientHeight * ratio);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return width && height ? context : null;
}

// Axes from `start` to `end` seconds and from `low` to `top` in steps of `step`.
export function axes(area, start, end, top, step, low = 0) {
  const width = area.clientWidth;
  const height = area.clientHeight;
  const span = Math.max(end - start, 1e-3);
  const inner = width - PAD.left - PAD.right;
  return { width, height, start, end, step, low, top, span, inner, floor: height - PAD.bottom,
    x: (t) => PAD.left + ((t - start) / span) * inner,
    y: (v) => PAD.top + (1 - Math.min(Math.max((v - low) / (top - low), 0), 1)) * (height - PAD.top - PAD.bottom),
    time: (x) => start + ((x - PAD.left) / inner) * span };
}

export function grid(context, a, colours, label) {
  context.font = colours.font;
  context.lineWidth = 1;
  context.strokeStyle = colours.rule;
  context.fillStyle = colours.soft;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const digits = Math.max(0, -Math.floor(Math.log10(a.step) + 1e-9));
  for (let v = a.low; v <= a.top + 1e-9; v += a.step) {
    const y = Math.round(a.y(v)) + 0.5;
    context.beginPath();
    context.moveTo(PAD.left, y);
    context.lineTo(a.width - PAD.right, y);
    context.stroke();
    context.fillText(v.toFixed(digits), PAD.left - 8, y);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const { span, inner } = a;
  const every = TIME_STEPS.find((s) => (span / s) * 64 <= inner) ?? 86400 * Math.ceil(span / 86400 / (inner / 64));
  for (let t = Math.ceil(a.start / every) * every; t <= a.end; t += every) {
    const x = a.x(t);
    if (x < PAD.left + 6 || x > a.width - PAD.right - 92) continue;
    context.fillText(clock(t, every < 1 ? 1 : 0), x, a.floor + 8);
  }
  context.textAlign = "right";
  context.fillText("stream time", a.width - PAD.right, a.floor + 8);
  context.textAlign = "left";
  context.fillText(label, PAD.left + 4, PAD.top + 4);
}

// Stretches of points where all of `columns` are known and time (column 0) does not run backwards.
export function* runs(points, ...columns) {
  let run = [];
  for (const p of points) {
    const good = columns.every((column) => p[column] != null);
    if (run.length && (!good || p[0] < run.at(-1)[0])) { yield run; run = []; }
    if (good) run.push(p);
  }
  if (run.length) yield run;
}

export function line(context, a, points, column, colour, width, dash = []) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  for (const run of runs(points, column)) {
    context.beginPath();
    for (const p of run) context.lineTo(a.x(p[0]), a.y(p[column]));
    context.stroke();
  }
  context.setLineDash([]);
}

export function cursorLine(context, a, x, colours) {
  context.strokeStyle = colours.soft;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(Math.round(x) + 0.5, PAD.top);
  context.lineTo(Math.round(x) + 0.5, a.floor);
  context.stroke();
}

// Puts a tip beside the cursor, on the side with more room.
export function placeTip(tip, a, x) {
  tip.hidden = false;
  const left = x > a.width / 2 ? x - tip.offsetWidth - 12 : x + 12;
  tip.style.left = `${Math.max(4, left)}px`;
}

export function nearest(points, seconds) {
  let best = 0;
  points.forEach((p, i) => { if (Math.abs(p[0] - seconds) < Math.abs(points[best][0] - seconds)) best = i; });
  return best;
}

// Pointer and arrow keys move a cursor over the points; `moved(seconds or null)` is told.
export function readable(canvas, current, moved) {
  let cursor = null;
  const set = (seconds) => { cursor = seconds; moved(seconds); };
  canvas.addEventListener("pointermove", (event) => { const { a } = current(); if (a) set(a.time(event.offsetX)); });
  canvas.addEventListener("pointerleave", () => set(null));
  canvas.addEventListener("blur", () => set(null));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const { points } = current();
    if (event.key === "Escape") set(null);
    else if (step && points.length) {
      const at = cursor == null ? points.length : nearest(points, cursor);
      set(points[Math.min(Math.max(at + step, 0), points.length - 1)][0]);
      event.preventDefault();
    }
  });
}

export function niceStep(span, ticks) {
  const raw = span / ticks;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((m) => m * power >= raw * 0.999)) * power;
}
