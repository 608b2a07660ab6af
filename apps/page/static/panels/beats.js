// Ejection fraction, beat by beat, with its method and every doubt about the picture.
import { area, clock, el, number, setText, volume } from "../dom.js";

export const title = "Ejection fraction";
export const classes = "beats";

const SHOWN = 12;
// Name, text of a beat, and the unit without which there is no such column.
const COLUMNS = [
  ["beat at", (beat) => clock(beat.ed_seconds)],
  ["EF", (beat) => `${number(beat.ef)} %`],
  ["EDV", (beat, unit) => volume(beat.edv, unit), "mm"],
  ["ESV", (beat, unit) => volume(beat.esv, unit), "mm"],
  ["ED area", (beat, unit) => area(beat.ed_area, unit)],
  ["ES area", (beat, unit) => area(beat.es_area, unit)],
];
const ui = {};

export function mount(root) {
  ui.count = el("span", { class: "hint push num" });
  ui.ef = el("p", { class: "ef num" }, "–");
  ui.method = el("p", { class: "method" }, "No whole beat yet.");
  ui.doubts = el("ul", { class: "doubts", role: "status", hidden: true });
  ui.body = el("tbody");
  ui.head = el("tr");
  ui.table = el("table", { hidden: true }, el("thead", {}, ui.head), ui.body);
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
  const columns = COLUMNS.filter(([, , known]) => !known || known === unit);
  ui.head.replaceChildren(...columns.map(([name], i) => el("th", { scope: "col", class: i ? "n" : "" }, name)));
  ui.body.replaceChildren(...beats.slice(0, SHOWN).map((beat) => el("tr", {},
    ...columns.map(([, text], i) => el("td", { class: i ? "n" : "" }, text(beat, unit))))));
}
