// The map in 3D: a page of the viewer's own server on this machine, inside this one.
import { el, setText } from "../dom.js";

export const title = "The map in 3D";
export const classes = "view3d tall";

const ui = {};
let shown = "";

export function mount(root) {
  ui.none = el("p", { class: "none" }, "Connecting…");
  ui.alone = el("a", { class: "push", target: "_blank", rel: "noopener", hidden: true }, "Open alone");
  ui.area = el("div", { class: "area" }, ui.none);
  root.append(
    el("header", {}, el("h2", {}, title), el("span", { class: "hint wide" }, "drag to look around; the camera is then no longer followed"), ui.alone),
    ui.area,
  );
}

export function update(patch) {
  const { about } = patch;
  if (!about) return;
  if (!about.beside) return setText(ui.none, about.without ?? "There is no 3D view of this run.");
  if (about.beside === shown) return;
  // Another run: what may be embedded is said with the page itself.
  if (shown) return location.reload();
  shown = about.beside;
  ui.alone.href = shown;
  ui.alone.hidden = false;
  ui.none.hidden = true;
  ui.area.append(el("iframe", { src: `${shown}?darkMode`, title, sandbox: "allow-scripts allow-same-origin" }));
}
