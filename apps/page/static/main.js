// Follows the run: one connection, one state, panels that draw what changed.
import { el } from "./dom.js";
import { views } from "./panels.js";

const RETRY_MS = 1000;
const state = { link: "connecting" };
let source = null;
let retry = 0;
const root = document.getElementById("panels");
const panels = views[root.dataset.view];

function tell(patch) {
  // Another kind of run may have taken the port.
  if (patch.about && patch.about.view !== root.dataset.view) return location.reload();
  Object.assign(state, patch);
  for (const panel of panels) panel.update(patch, state);
}

function disconnect() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

function connect() {
  disconnect();
  source = new EventSource("/api/events");
  source.onmessage = (event) => tell({ ...JSON.parse(event.data), link: "open" });
  source.onerror = () => {
    disconnect();
    tell({ link: "lost" });
    retry = setTimeout(connect, RETRY_MS);
    // A program that was started again may want its token.
    fetch("/api/held").then((answer) => answer.status === 401 && location.reload(), () => {});
  };
}

for (const panel of panels) {
  const section = el("section", { class: `panel ${panel.classes}`, "aria-label": panel.title });
  root.append(section);
  panel.mount(section);
}
tell({});

// A hidden tab costs nothing; when it is shown again it gets the whole state at once.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
if (!document.hidden) connect();
