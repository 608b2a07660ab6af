// Ejection fraction, beat by beat, with its method and every doubt about the picture.
import { area, clock, el, number, setText, volume } from "../dom.js";

export const title = "Ejection fraction";
export const classes = "beats";

const SHOWN = 12;
const ui = {};

export function mount(root) {
  ui.count = el("span", { class: "hint push num" });
  ui.ef = el("p", { class: "ef num" }, "–");
  ui.method = el("p", { class: "method" }, "No whole beat yet.");
  ui.doubts = el("ul", { class: "doubts", role: "status", hidden: true });
  ui.body = el("tbody");
  const head = [["beat at", ""], ["ED area", "n"], ["ES area", "n"], ["EDV", "n"], ["ESV", "n"], ["EF", "n"]];
  ui.table = el("table", { hidden: true },
    el("thead", {}, el("tr", {}, ...head.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))), ui.body);
  root.append(
    el("header", {}, el("h2", {}, title), ui.count),
    el("div", { class: "result" }, ui.ef, ui.method), ui.doubts,
    el("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": "Beats, newest first" }, ui.table),
  );
}

export function update(patch) {
  const measured = patch.beats;
  if (!measured) return;
  const { beats, unit } = measured;
  setText(ui.ef, measured.ef == null ? "–" : `${number(measured.ef)} %`);
  setText(ui.count, beats.length ? `${number(beats.length)} ${beats.length === 1 ? "beat" : "beats"}` : "");
  setText(ui.method, beats.length ? `median of the beats; ${measured.method}${unit === "px" ? "; pixel size unknown, so no millilitres" : ""}` : "No whole beat yet.");
  const doubts = measured.doubts ?? [];
  ui.doubts.hidden = !doubts.length;
  ui.doubts.replaceChildren(...doubts.map((text) => el("li", {}, text)));
  ui.table.hidden = !beats.length;
  ui.body.replaceChildren(...beats.slice(0, SHOWN).map((beat) => el("tr", {},
    el("td", {}, clock(beat.ed_seconds)),
    ...[area(beat.ed_area, unit), area(beat.es_area, unit), volume(beat.edv, unit), volume(beat.esv, unit), `${number(beat.ef)} %`]
      .map((text) => el("td", { class: "n" }, text)))));
}
