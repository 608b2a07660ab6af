// How new each clip is, from where on that is unusual, and what it was compared with.
import { axes, cleared, cursorLine, follow, grid, line, nearest, niceStep, placeTip, readable } from "../chart.js";
import { bytes, clock, el, number, score, setText } from "../dom.js";

export const title = "Novelty";
export const classes = "plot news";

const RECENT_S = 60;
const [SECONDS, SEQ, SCORE, LEVEL, NEW, GUIDED, ALONE] = [0, 1, 2, 3, 4, 5, 6];

const ui = {};
let recent = [];
let cursor = null;
let colours = {};
let due = false;
let session = "";
let a = null;

export function mount(root) {
  ui.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Novelty over time; arrow keys read values" });
  ui.tip = el("div", { class: "tip", hidden: true, role: "status" });
  ui.none = el("p", { class: "none" }, "No clip with references yet.");
  ui.area = el("div", { class: "area" }, ui.canvas, ui.none, ui.tip);
  ui.facts = el("span", { class: "hint push num" });
  ui.like = el("p", { class: "like num" });
  const key = (name, text) => el("span", {}, el("i", { class: name }), text);
  root.append(
    el("header", {}, el("h2", {}, title), ui.facts), ui.area,
    el("div", { class: "legend" }, key("swatch score", "novelty"), key("swatch level", "unusual from here on"), key("mark new", "new")),
    ui.like,
  );
  readable(ui.canvas, () => ({ points: visible(), a }), (seconds) => { cursor = seconds; draw(); });
  colours = follow(ui.area, ["ink", "soft", "rule", "panel", "clear", "made"], draw);
}

export function update(patch) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    recent = [];
    cursor = null;
  }
  if (patch.novelty) {
    recent = patch.novelty.fresh ? patch.novelty.points : recent.concat(patch.novelty.points).slice(-600);
    if (!due) {
      due = true;
      requestAnimationFrame(() => { due = false; draw(); });
    }
  }
  const { recalled } = patch;
  if (!recalled?.byte_budget) return;
  const last = recalled.newest.at(-1);
  setText(ui.facts, `${number(recalled.clips)} clips held, ${bytes(recalled.nbytes)} of ${bytes(recalled.byte_budget)}` +
    (recalled.new ? ` · ${number(recalled.new)} new, last at ${clock(last)}` : ""));
  setText(ui.like, recalled.references.length ? `Compared with ${recalled.references.map(([, start, end]) => `${clock(start)}–${clock(end)}`).join(", ")}.` : "No references yet.");
}

function visible() {
  const known = recent.filter((p) => p[SCORE] != null);
  const end = known.at(-1)?.[SECONDS] ?? 0;
  return known.filter((p) => p[SECONDS] > end - RECENT_S);
}

function draw() {
  const points = visible();
  const context = cleared(ui.canvas, ui.area);
  ui.tip.hidden = true;
  ui.none.hidden = points.length > 1;
  if (!ui.none.hidden || !context) return;
  const values = points.flatMap((p) => [p[SCORE], p[LEVEL] ?? p[SCORE]]);
  const least = Math.min(0, ...values);
  const most = Math.max(0, ...values);
  const step = niceStep(Math.max(most - least, 1e-6) * 1.1, Math.max(2, Math.floor(ui.area.clientHeight / 60)));
  a = axes(ui.area, points[0][SECONDS], points.at(-1)[SECONDS], Math.ceil(most / step + 0.1) * step, step, Math.floor(least / step) * step);
  grid(context, a, colours, "error with references less error without");
  line(context, a, points, LEVEL, colours.soft, 1.5, [5, 4]);
  line(context, a, points, SCORE, colours.clear, 2);
  context.fillStyle = colours.made;
  for (const p of points) {
    if (!p[NEW]) continue;
    context.beginPath();
    context.arc(a.x(p[SECONDS]), a.y(p[SCORE]), 5, 0, 2 * Math.PI);
    context.fill();
  }
  if (cursor != null) readOut(context, points);
}

function readOut(context, points) {
  const p = points[nearest(points, cursor)];
  const x = a.x(p[SECONDS]);
  cursorLine(context, a, x, colours);
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  ui.tip.replaceChildren(
    el("div", { class: "badge" }, clock(p[SECONDS]), p[NEW] ? " · new" : ""),
    el("dl", {}, ...row("novelty", score(p[SCORE])), ...row("unusual from", score(p[LEVEL])), ...row("with references", score(p[GUIDED])),
      ...row("without", score(p[ALONE])), ...row("frame", `#${p[SEQ]}`)));
  placeTip(ui.tip, a, x);
}
