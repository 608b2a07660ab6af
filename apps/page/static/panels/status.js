// The head of the page: whose stream, how the run goes, in a word and a sentence.
import { clock, el, number, setText } from "../dom.js";

export const title = "Run";
export const classes = "status wide";

const WORDS = {
  connecting: "Connecting…", running: "Running", finishing: "Finishing…",
  finished: "Finished", failed: "Failed", lost: "Reconnecting…", ended: "Page closed",
};
const ui = {};

export function mount(root) {
  ui.title = el("h1", {}, "retain");
  ui.source = el("p", { class: "source" }, "\u00a0");
  ui.notice = el("strong", { class: "notice", hidden: true });
  ui.word = el("span", {}, WORDS.connecting);
  ui.pill = el("span", { class: "pill connecting", role: "status" }, el("i"), ui.word);
  const facts = el("dl", { class: "facts num" });
  for (const [key, name] of [["time", "stream time"], ["frames", "frames"], ["speed", "speed"]]) {
    ui[key] = el("dd", {}, "–");
    facts.append(el("div", {}, el("dt", {}, name), ui[key]));
  }
  ui.text = el("p");
  ui.link = el("a", { class: "button", href: "/report.html", hidden: true }, "Open the report");
  ui.sentence = el("div", { class: "sentence", role: "status" }, ui.text, ui.link);
  root.append(
    el("div", { class: "line" },
      el("img", { class: "logo", src: "/static/icon.svg", alt: "", width: 28, height: 28 }),
      el("div", { class: "names" }, ui.title, ui.source), ui.notice, facts, ui.pill),
    ui.sentence,
  );
}

export function update(patch, state) {
  if (patch.about) {
    setText(ui.title, patch.about.title);
    setText(ui.source, patch.about.source);
    setText(ui.notice, patch.about.notice ?? "");
    ui.notice.hidden = !patch.about.notice;
    document.title = `${patch.about.title} · retain`;
  }
  if (!patch.run && !patch.link) return;
  const run = state.run ?? { state: "connecting" };
  const over = run.state === "finished" || run.state === "failed";
  const word = state.link !== "lost" ? run.state : over ? run.state : "lost";
  ui.pill.className = `pill ${word}`;
  setText(ui.word, WORDS[word] ?? word);
  setText(ui.time, clock(run.seconds));
  setText(ui.frames, number(run.frames ?? null));
  setText(ui.speed, run.speed == null ? "–" : `${number(run.speed, run.speed < 0.1 ? 2 : run.speed < 10 ? 1 : 0)}×`);
  ui.speed.title = "Seconds of stream per second of work";
  ui.sentence.className = `sentence ${word}`;
  ui.link.hidden = !run.report || state.link === "lost";
  setText(ui.text, sentence(run, state.link, state.about?.doing));
}

function sentence(run, link, doing) {
  if (link === "lost") {
    return run.message
      ? `${run.message} This page's program has ended; what you see is its last state.`
      : "The connection to the program is gone; trying again every second.";
  }
  if (run.message) return run.message;
  return {
    connecting: "Waiting for the first frame.",
    running: doing,
    finishing: "The stream has ended; the last frames are being worked off.",
    finished: "The stream has ended.",
    failed: "The run failed. The terminal says why.",
  }[run.state] ?? "";
}
