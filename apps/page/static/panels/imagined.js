// What a model made beside what came: a row of frames for each, the newest ones.
import { clock, el, number, setText } from "../dom.js";

export const title = "Imagined";
export const classes = "imagined wide";

const ui = {};

export function mount(root) {
  ui.hint = el("span", { class: "hint num" });
  ui.body = el("tbody");
  ui.none = el("p", { class: "none" }, "Nothing made yet. Ask for it with --continue or --fill.");
  ui.table = el("table", { hidden: true }, ui.body);
  ui.guided = el("p", { class: "like num" });
  root.append(el("header", {}, el("h2", {}, title), ui.hint),
    el("div", { class: "area", tabindex: 0, role: "group", "aria-label": "What was made beside what came" }, ui.table, ui.none, ui.guided));
}

export function update(patch, state) {
  if (patch.about) {
    ui.table.hidden = true;
    ui.none.hidden = false;
  }
  const { made } = patch;
  if (!made?.rows.length) return;
  const session = state.about?.session ?? "";
  ui.table.hidden = false;
  ui.none.hidden = true;
  const what = made.purpose === "fill" ? "filled in" : "foreseen";
  setText(ui.hint, `${what} for ${clock(made.seconds[0])} to ${clock(made.seconds[1])} · magenta: made by a model`);
  while (ui.body.rows.length > made.rows.length) ui.body.deleteRow(-1);
  made.rows.forEach(([name, picture], i) => {
    const row = ui.body.rows[i] ?? ui.body.appendChild(el("tr", {}, el("th", { scope: "row" }), el("td", {}, el("img", { decoding: "sync" })), el("td", { class: "n num" })));
    setText(row.cells[0], name);
    const image = row.querySelector("img");
    image.alt = `${name}, ${what}`;
    image.src = `/api/frame/${picture}.jpg?s=${session}`;
    const error = made.errors[name];
    setText(row.cells[2], error == null ? "" : `error ${number(error, 1)}`);
  });
  setText(ui.guided, made.references.length
    ? `Guided by ${made.references.map(([stream, start, end]) => `${stream} ${clock(start)}–${clock(end)}`).join(", ")}. Errors in grey levels of 255.`
    : "Guided by nothing: no references yet.");
}
