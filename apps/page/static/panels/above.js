// The camera's path from above, beside the given one where that is known.
import { cleared, follow, niceStep } from "../chart.js";
import { el, number, setText } from "../dom.js";

export const title = "Path from above";
export const classes = "plot above";

const MARGIN = 26;
const ui = {};
let way = null;
let colours = {};
let session = "";

export function mount(root) {
  ui.canvas = el("canvas", { role: "img", "aria-label": title });
  ui.none = el("p", { class: "none" }, "No path yet.");
  ui.area = el("div", { class: "area" }, ui.canvas, ui.none);
  ui.given = el("span", { hidden: true }, el("i", { class: "swatch given" }), "given path");
  const key = (name, text) => el("span", {}, el("i", { class: name }), text);
  root.append(
    el("header", {}, el("h2", {}, title)), ui.area,
    el("div", { class: "legend" }, key("swatch cavity", "camera"), ui.given, key("mark es", "keyframe")),
  );
  colours = follow(ui.area, ["ink", "soft", "rule", "panel", "cavity", "myocardium"], draw);
}

export function update(patch) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    way = null;
  }
  if (!patch.above) return;
  way = patch.above;
  draw();
}

function draw() {
  const context = cleared(ui.canvas, ui.area);
  ui.none.hidden = Boolean(way?.path.length);
  if (!context || !way?.path.length) return;
  ui.given.hidden = !way.given.length;
  const place = fitted(ui.area.clientWidth, ui.area.clientHeight);
  scale(context, place);
  trace(context, way.given.map(place.at), colours.myocardium, 1.5, [6, 4]);
  trace(context, way.path.map(place.at), colours.cavity, 2, []);
  context.lineWidth = 1.5;
  context.strokeStyle = colours.cavity;
  context.fillStyle = colours.panel;
  for (const [x, y] of way.keyframes.map(place.at)) disc(context, x, y, 2.5);
  here(context, place);
  const length = way.path.slice(1).reduce((sum, [x, y], i) => sum + Math.hypot(x - way.path[i][0], y - way.path[i][1]), 0);
  setText(ui.none, "");
  ui.canvas.setAttribute("aria-label", `${title}: ${number(length, 1)} ${way.scaled ? "map units" : "metres"} so far`);
}

// All of both paths in the area, at least a metre across, the same scale both ways.
function fitted(width, height) {
  const all = [...way.path, ...way.given];
  const [xs, ys] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const least = way.scaled ? 1e-3 : 1;
  const unit = Math.min((width - 2 * MARGIN) / Math.max(right - left, least), (height - 2 * MARGIN) / Math.max(high - low, least));
  return { unit, width, height,
    at: ([x, y]) => [width / 2 + (x - (left + right) / 2) * unit, height / 2 - (y - (low + high) / 2) * unit] };
}

function scale(context, { unit, width, height }) {
  const step = niceStep(width / 5 / unit, 1);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const [x, y] = [width - 14 - step * unit, height - 8];
  context.strokeStyle = colours.soft;
  context.fillStyle = colours.soft;
  context.lineWidth = 1;
  context.font = colours.font;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.beginPath();
  for (const [px, py] of [[x, y - 5], [x, y], [x + step * unit, y], [x + step * unit, y - 5]]) context.lineTo(px, py);
  context.stroke();
  context.fillText(`${step.toFixed(digits)}${way.scaled ? "" : " m"}`, x + (step * unit) / 2, y - 4);
}

function trace(context, points, colour, width, dash) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
  context.setLineDash([]);
}

function disc(context, x, y, size) {
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

// The camera now: a wedge that opens to where it looks.
function here(context, place) {
  const [x, y] = place.at(way.here);
  const angle = Math.atan2(-way.heading[1], way.heading[0]);
  context.fillStyle = colours.cavity;
  context.globalAlpha = 0.28;
  context.beginPath();
  context.moveTo(x, y);
  context.arc(x, y, 30, angle - 0.55, angle + 0.55);
  context.fill();
  context.globalAlpha = 1;
  disc(context, x, y, 4);
}
