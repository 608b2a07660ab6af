// Boxes on the picture, and the list of tracks: who is there, for how long, and by whose word.
import { clock, el, number, setText } from "../dom.js";

export const title = "Tracks";
export const classes = "tracks";

const MARK = "#ff3dc8";
const RECALLED = 0.5;
const ui = {};
let colours = [];

export function colour({ track, label }) {
  return colours.length ? colours[(track >= 0 ? track : label) % colours.length] : "#62abff";
}

// Draws `boxes` (in pixels of the canvas); what memory gave is dashed.
export function drawBoxes(context, boxes) {
  const { width, height } = context.canvas;
  const line = Math.max(1.5, width / 320);
  context.font = `600 ${Math.max(9, Math.round(width / 56))}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const one of [...boxes].reverse()) {
    const [x0, y0, x1, y1] = one.box;
    const recalled = one.memory > RECALLED;
    context.lineWidth = line;
    context.strokeStyle = recalled ? MARK : colour(one);
    context.setLineDash(recalled ? [4 * line, 3 * line] : []);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    const text = one.track >= 0 ? `${one.track} ${one.name}` : one.name;
    const size = parseInt(context.font.match(/(\d+)px/)[1], 10);
    const wide = context.measureText(text).width + 6;
    const left = Math.min(Math.max(x0 - line / 2, 0), Math.max(width - wide, 0));
    const bottom = y0 > size + 5 ? y0 : Math.min(Math.max(y0, 0) + size + 5, height);
    context.fillStyle = "rgb(7 9 12 / 72%)";
    context.fillRect(left, bottom - size - 4, wide, size + 4);
    context.fillStyle = context.strokeStyle;
    context.fillText(text, left + 3, bottom - 1);
  }
  context.setLineDash([]);
}

export function mount(root) {
  ui.count = el("span", { class: "hint push num" });
  ui.body = el("tbody");
  ui.none = el("p", { class: "none" }, "Nothing tracked yet.");
  const heads = ["", "track", "for", "score", "memory"].map((name, i) => el("th", { scope: "col", class: i > 1 ? "n" : "" }, name));
  ui.table = el("table", { hidden: true }, el("thead", {}, el("tr", {}, ...heads)), ui.body);
  root.append(
    el("header", {}, el("h2", {}, title), ui.count),
    el("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": "Tracks" }, ui.table, ui.none),
  );
}

export function update(patch, state) {
  if (patch.about) colours = patch.about.colours ?? [];
  if (!patch.tracks) return;
  const { tracks, given } = patch.tracks;
  const now = Math.max(0, ...tracks.map((one) => one.last_s));
  setText(ui.count, given ? `${number(tracks.filter((one) => one.last_s === now).length)} seen now, ${number(given)} ids so far` : "");
  ui.table.hidden = !tracks.length;
  ui.none.hidden = tracks.length > 0;
  setText(ui.none, state.latest?.version && given ? "No track just now." : "Nothing tracked yet.");
  const order = [...tracks].sort((a, b) => (b.last_s === now) - (a.last_s === now) || a.track - b.track);
  ui.body.replaceChildren(...order.map((one) => row(one, one.last_s === now)));
}

function row(one, seen) {
  const swatch = el("i", { class: "swatch", "aria-hidden": "true" });
  swatch.style.background = colour(one);
  const recalled = seen && one.memory > RECALLED;
  const said = !seen ? "not seen" : one.memory > 0.005 ? `${number(100 * one.memory)} %` : "–";
  return el("tr", { class: seen ? "" : "away" },
    el("td", { class: "n" }, swatch, ` ${one.track}`), el("td", {}, one.name),
    el("td", { class: "n" }, clock(one.last_s - one.first_s)), el("td", { class: "n" }, number(one.score, 2)),
    el("td", { class: recalled ? "n recalled" : "n" }, said));
}
