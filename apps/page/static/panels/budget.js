// How full the memory is.
import { bytes, el, number, setText } from "../dom.js";

export const title = "Memory budget";
export const classes = "budget";

const ui = {};

export function meter(name, parts) {
  const value = el("b", { class: "num" }, "–");
  const limit = el("span", { class: "num" });
  const fills = parts.map((part) => el("i", { class: part }));
  const bar = el("div", { class: "bar", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 }, ...fills);
  const node = el("div", { class: "meter" },
    el("div", { class: "label" }, el("span", {}, name), el("span", {}, value, " ", limit)), bar);
  return { node, set(text, of, ...shares) {
    setText(value, text);
    setText(limit, of);
    fills.forEach((fill, i) => { fill.style.width = `${Math.min(100, 100 * shares[i])}%`; });
    bar.setAttribute("aria-valuenow", Math.round(100 * shares.reduce((a, b) => a + b, 0)));
    bar.setAttribute("aria-valuetext", `${text} ${of}`);
  } };
}

export function mount(root) {
  ui.kept = el("span", { class: "hint push num" });
  ui.entries = meter("Moments", ["clear", "blurred"]);
  ui.tokens = meter("Vision tokens", ["clear", "blurred"]);
  ui.bytes = meter("Bytes", [""]);
  root.append(
    el("header", {}, el("h2", {}, title), ui.kept),
    el("div", { class: "rows" }, ui.entries.node, ui.tokens.node, ui.bytes.node),
  );
}

export function update(patch, state) {
  if (patch.run?.seen) {
    setText(ui.kept, `${number(state.held?.entries.length ?? 0)} of ${number(patch.run.seen)} frames held`);
  }
  const held = patch.held;
  if (!held?.token_budget) return;
  const blurred = held.entries.filter((entry) => entry.tier === "blurred");
  const count = held.entries.length;
  const soft = blurred.reduce((sum, entry) => sum + entry.tokens, 0);
  ui.entries.set(number(count), `· ${count - blurred.length} clear, ${blurred.length} blurred`,
    (count - blurred.length) / Math.max(count, 1), blurred.length / Math.max(count, 1));
  ui.tokens.set(number(held.tokens), `of ${number(held.token_budget)}`,
    (held.tokens - soft) / held.token_budget, soft / held.token_budget);
  ui.bytes.set(bytes(held.nbytes), `of ${bytes(held.byte_budget)}`, held.nbytes / held.byte_budget);
}
