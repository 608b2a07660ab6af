// Every stage's numbers.
import { bytes, el, milliseconds, number } from "../dom.js";

export const title = "Stages";
export const classes = "stages wide";

const COLUMNS = [
  ["Stage", "", ""], ["Rate", "n", "Frames per second, over the last seconds"],
  ["Frames", "n", "Frames worked on so far"],
  ["Age p95", "n", "How old frames are when the stage is done with them: 95 % are younger"],
  ["Service", "n", "Work on one frame: median / 95th percentile"],
  ["Queue", "n", "Frames waiting before the stage"], ["Dropped", "n", "Frames lost before the stage, by cause"],
  ["CPU", "n", "Of one core"], ["Held", "n", "Bytes the stage's memories hold, and may hold where stages share a budget"],
  ["Process", "n", "Resident memory of the stage's process"],
];
const ui = {};

export function mount(root) {
  ui.body = el("tbody");
  const head = COLUMNS.map(([name, kind, help]) => el("th", { scope: "col", class: kind, title: help }, name));
  ui.table = el("table", { hidden: true }, el("thead", {}, el("tr", {}, ...head)), ui.body);
  ui.none = el("p", { class: "none" }, "Numbers appear once the run has started.");
  root.append(
    el("header", {}, el("h2", {}, title)),
    el("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": title }, ui.table, ui.none),
  );
}

export function update(patch) {
  const rows = patch.run?.stages;
  if (!rows?.length) return;
  ui.table.hidden = false;
  ui.none.hidden = true;
  ui.body.replaceChildren(...rows.map(row));
}

function row(stage) {
  const dropped = Object.entries(stage.dropped);
  const total = dropped.reduce((sum, [, count]) => sum + count, 0);
  const name = el("td", {}, el("b", {}, stage.name), el("span", { class: "role" }, stage.role));
  if (stage.state === "failed") name.append(" ", el("span", { class: "bad" }, "failed"));
  if (stage.restarts) name.append(" ", el("span", { class: "bad" }, `restarted ${stage.restarts}×`));
  return el("tr", {}, name,
    cell(`${number(stage.rate, 1)}/s`), cell(number(stage.done)),
    cell(milliseconds(stage.age_ms)),
    cell(milliseconds(stage.service_ms), ` / ${milliseconds(stage.service_p95_ms)}`),
    cell(stage.role === "source" ? "" : number(stage.queue)),
    total ? el("td", { class: "n" }, el("span", { class: "some" }, number(total)), el("span", { class: "sub" }, ` ${dropped.map(([cause, count]) => `${cause} ${number(count)}`).join(", ")}`)) : cell(stage.role === "source" ? "" : "0"),
    cell(`${number(100 * stage.cpu)} %`),
    cell(stage.memory_bytes ? bytes(stage.memory_bytes) : "", stage.limit_bytes ? ` of ${bytes(stage.limit_bytes)}` : ""),
    cell(stage.rss_bytes ? bytes(stage.rss_bytes) : ""));
}

function cell(text, sub = "") {
  return el("td", { class: "n" }, text, ...(sub ? [el("span", { class: "sub" }, sub)] : []));
}
