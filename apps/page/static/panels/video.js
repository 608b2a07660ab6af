// The picture with its decision, its outlines or its tracking; a coloured frame whenever one is kept.
import { TIERS, area, badge, clock, el, mark, number, score, setText, volume } from "../dom.js";
import { drawBoxes } from "./boxes.js";

export const title = "Stream";
export const classes = "video tall";

const ui = {};
let shown = 0;      // version of the picture on the canvas
let loading = false;
let known = null;   // frames the memory held last time
let session = "";
let outlined = true;
let alone = false;  // what the detector alone says, in place of what memory makes of it
let last = null;    // what is on the canvas: { picture, view }

let palette = [];    // colours of objects by number
const COLOURS = { cavity: "#62abff", myocardium: "#f2ab4b", atrium: "#c79bff" };

export function mount(root) {
  ui.canvas = el("canvas", { role: "img", "aria-label": "The newest picture of the stream", width: 16, height: 9 });
  ui.waiting = el("p", { class: "waiting" }, "Connecting…");
  ui.frame = el("div", { class: "frame" });
  ui.kept = el("div", { class: "kept", "aria-hidden": "true" });
  ui.time = el("time", {}, "–");
  ui.badge = el("span");
  ui.score = el("span", { class: "score num" });
  ui.reason = el("span", { class: "reason" });
  ui.size = el("span", { class: "size num" });
  const outlines = el("input", { type: "checkbox", checked: true, onchange: (event) => { outlined = event.target.checked; if (last) paint(); } });
  ui.over = el("p", { class: "over", hidden: true });
  ui.word = el("span", {}, "Outlines");
  ui.outlines = el("label", { class: "outlines", hidden: true }, outlines, ui.word);
  const plain = el("input", { type: "checkbox", onchange: (event) => { alone = event.target.checked; if (last) paint(); } });
  ui.alone = el("label", { class: "outlines alone", hidden: true }, plain, "Detector alone");
  root.append(
    el("figure", { class: "stage" }, ui.canvas, ui.waiting, ui.frame, ui.kept, ui.over, ui.outlines, ui.alone),
    el("div", { class: "caption" }, ui.time, ui.badge, ui.score, ui.reason, ui.size),
  );
}

export function update(patch, state) {
  if (patch.about && patch.about.session !== session) {
    session = patch.about.session;
    palette = patch.about.colours ?? [];
    shown = 0;
    known = null;
  }
  if (patch.held) flashNew(patch.held.entries);
  const version = state.latest?.version;
  if (version && version !== shown && state.link === "open") load(state);
  if (!version) setText(ui.waiting, state.link === "open" ? "Waiting for the first frame…" : "Connecting…");
}

async function load(state) {
  if (loading) return;
  loading = true;
  try {
    const answer = await fetch("/api/preview.jpg", { cache: "no-store" });
    if (answer.status !== 200) return;  // 204: no frame yet
    const view = JSON.parse(answer.headers.get("X-Frame"));
    const picture = await createImageBitmap(await answer.blob());
    draw(picture, view, state.about?.reasons ?? {});
    shown = view.version;
  } catch {
    // The connection went away; main.js says so and comes back.
  } finally {
    loading = false;
  }
}

function draw(picture, view, reasons) {
  if (ui.canvas.width !== picture.width) ui.canvas.width = picture.width;
  if (ui.canvas.height !== picture.height) ui.canvas.height = picture.height;
  last?.picture.close();
  last = { picture, view };
  paint();
  ui.waiting.hidden = true;
  setText(ui.time, clock(view.seconds));
  setText(ui.size, `#${view.seq} · ${view.width}×${view.height}`);
  if (view.objects) return followed(view);
  if (view.outlines && !view.state) return measured(view);
  if (view.tracking) return placed(view);
  if (view.boxes && !view.state) return found(view);
  if (!view.state) return;
  ui.badge.replaceChildren(badge(view.state));
  setText(ui.score, `score ${score(view.score)}`);
  setText(ui.reason, reasons[view.reason] ?? view.reason);
  ui.reason.title = ui.reason.textContent;
}

function paint() {
  const context = ui.canvas.getContext("2d");
  context.drawImage(last.picture, 0, 0);
  const { outlines, boxes } = last.view;
  ui.outlines.hidden = !outlines && !boxes;
  setText(ui.word, boxes ? "Boxes" : "Outlines");
  ui.alone.hidden = !last.view.alone || !outlined;
  if (!outlined) return;
  if (boxes) drawBoxes(context, alone && last.view.alone ? last.view.alone : boxes);
  context.lineWidth = Math.max(1.5, ui.canvas.width / 320);
  context.lineJoin = "round";
  for (const { label, number: k, points } of outlines ?? []) {
    const colour = COLOURS[label] ?? palette[k % palette.length] ?? "#ffffff";
    const path = new Path2D();
    for (const [x, y] of points) path.lineTo(x + 0.5, y + 0.5);
    path.closePath();
    context.strokeStyle = colour;
    context.fillStyle = `${colour}2e`;
    context.fill(path);
    context.stroke(path);
  }
}

function measured(view) {
  ui.badge.replaceChildren(view.doubts?.length ? el("span", { class: "doubtful" }, "Doubtful") : "");
  setText(ui.score, area(view.area, view.unit));
  setText(ui.reason, view.doubts?.length ? view.doubts.join(" ") : volume(view.volume, view.unit).replace("–", ""));
  ui.reason.title = ui.reason.textContent;
}

function followed(view) {
  const seen = view.objects.filter((one) => one.share > 0);
  setText(ui.score, seen.map((one) => `${one.label} ${number(100 * one.share, 1)} %`).join(" · ") || "Not seen");
  setText(ui.reason, "");
}

function found(view) {
  const recalled = view.boxes.filter((one) => one.memory > 0.5).length;
  setText(ui.score, `${number(view.boxes.length)} ${view.boxes.length === 1 ? "box" : "boxes"}`);
  setText(ui.reason, recalled ? `${number(recalled)} from memory` : "");
}

const TRACKING = { starting: "Starting", tracked: "Tracked", lost: "Lost", recovered: "Found again" };

function placed(view) {
  const word = TRACKING[view.tracking] ?? view.tracking;
  ui.badge.replaceChildren(el("span", { class: `tracking ${view.tracking}` }, el("i"), word));
  setText(ui.score, view.inliers ? `${number(view.inliers)} points` : "");
  setText(ui.reason, view.reason || (view.keyframe ? "keyframe" : ""));
  ui.reason.title = ui.reason.textContent;
  const away = view.tracking === "lost" || view.tracking === "starting";
  ui.over.hidden = !away;
  setText(ui.over, view.reason ? `${word}: ${view.reason}` : word);
}

function flashNew(entries) {
  const before = known;
  known = new Set(entries.map((entry) => entry.seq));
  const fresh = before && entries.findLast((entry) => !before.has(entry.seq));
  if (!fresh) return;
  ui.kept.replaceChildren(mark(fresh.tier), `Kept · ${TIERS[fresh.tier]}`);
  for (const [node, base] of [[ui.frame, "frame"], [ui.kept, "kept"]]) {
    node.className = `${base} ${fresh.tier}`;
    void node.offsetWidth;  // restart the animation
    node.classList.add("flash");
  }
}
