// The page: unpacks the scene, moves the eye, draws when something changed.
import { Eye, between, norm } from "./viewer.eye.js";
import { Controls } from "./viewer.controls.js";
import { NEAR, Splats } from "./viewer.splats.js";

const $ = (id) => document.getElementById(id);
const scene = JSON.parse($("scene").textContent); // {count, cameras: [{pose, lens}], up}
const stage = $("stage"), canvas = $("canvas"), slider = $("slider");
const cameras = scene.cameras;
const SECONDS = Math.min(Math.max(cameras.length * 0.5, 4), 45); // of the whole path

function refuse(sentence) {
  $("message").textContent = sentence;
  $("message").hidden = false;
  $("bar").hidden = true;
  stage.removeAttribute("tabindex");
}

// Deflated bytes, column by column of the records (see viewer.py), back to records.
async function unpack(text, count) {
  const letters = atob(text), packed = new Uint8Array(letters.length);
  for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const columns = new Uint8Array(await new Response(stream).arrayBuffer());
  const records = new Uint8Array(32 * count);
  for (let k = 0, from = 0; k < 32; k++) {
    for (let to = k; to < records.length; to += 32) records[to] = columns[from++];
  }
  return records;
}

// A camera that sees all but the farthest twentieth of the scene, when there is none.
function overview(points) {
  const sides = [0, 1, 2].map((axis) => {
    const values = Float32Array.from({ length: points.length / 8 }, (_, i) => points[8 * i + axis]).sort();
    const at = (part) => values[Math.floor(part * (values.length - 1))] ?? 0;
    return [at(0.5), at(0.975) - at(0.025)];
  });
  const [x, y, z] = sides.map(([middle]) => middle);
  const back = 1.2 * Math.max(norm(sides.map(([, width]) => width)), 0.1);
  return { pose: [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z - back, 0, 0, 0, 1], lens: [600, 600, 400, 300, 800, 600] };
}

// Pairs of points: the path, and at most 60 of its cameras as pyramids of the given height.
function path(height) {
  const places = cameras.map(({ pose }) => [pose[3], pose[7], pose[11]]);
  const lines = places.slice(1).map((place, k) => [places[k], place]);
  const every = Math.ceil(cameras.length / 60);
  cameras.forEach(({ pose, lens: [fx, fy, cx, cy, width, tall] }, k) => {
    if (k % every) return;
    const corners = [[0, 0], [width, 0], [width, tall], [0, tall]].map(([u, v]) => {
      const ray = [(u - cx) / fx, (v - cy) / fy, 1].map((side) => side * height);
      return [0, 4, 8].map((row) => pose[row] * ray[0] + pose[row + 1] * ray[1] + pose[row + 2] * ray[2] + pose[row + 3]);
    });
    corners.forEach((corner, n) => lines.push([places[k], corner], [corner, corners[(n + 1) % 4]]));
  });
  return lines.flat(2);
}

class Viewer {
  constructor(splats, records) {
    this.splats = splats;
    this.points = new Float32Array(records.buffer);
    this.at = 0; // along the path: 2.5 is half way from the third camera to the fourth
    this.playing = false;
    this.drawn = -Infinity; // when the last picture was drawn, in milliseconds
    this.pace = 16; // between pictures while moving, smoothed
    this.fine = 1; // share of the screen's pixels a side that moving leaves time for
    this.home = cameras[0] ?? overview(this.points);
    this.lens = this.home.lens;
    this.eye = new Eye(this.home.pose, scene.up);
    this.eye.pivot = this.depth();
    const moved = () => { this.stop(); this.ask(); };
    this.controls = new Controls(stage, this.eye, () => $("fly").checked, moved);
    this.bind();
    new ResizeObserver(() => this.ask()).observe(stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.ask());
    this.tell();
    this.ask();
  }

  bind() {
    $("play").onclick = () => (this.playing ? this.stop() : this.play());
    $("back").onclick = () => this.go(Math.ceil(this.at) - 1);
    $("next").onclick = () => this.go(Math.floor(this.at) + 1);
    $("reset").onclick = () => (cameras.length ? this.go(0) : this.show(this.home));
    $("fly").onchange = $("path").onchange = () => this.ask();
    slider.oninput = () => { this.stop(); this.along(Number(slider.value)); };
    const keys = { Space: "play", BracketLeft: "back", BracketRight: "next", KeyR: "reset", KeyF: "fly", KeyP: "path" };
    document.addEventListener("keydown", (event) => {
      if (!this.controls.hears(event) || event.repeat || !(event.code in keys)) return;
      event.preventDefault();
      if (!$(keys[event.code]).closest("[hidden]")) $(keys[event.code]).click();
    });
    for (const id of ["tour", "pathlabel"]) $(id).hidden = cameras.length < 2;
    slider.max = String(Math.max(cameras.length - 1, 0));
    this.splats.setLines(Float32Array.from(path(0.05 * this.eye.pivot)));
  }

  show({ pose, lens }) {
    this.eye.pose = pose;
    this.lens = lens;
    this.eye.pivot = this.depth();
    this.tell();
    this.ask();
  }

  go(number) {
    this.stop();
    this.along(Math.min(Math.max(number, 0), cameras.length - 1));
  }

  along(at) {
    this.at = at;
    const from = cameras[Math.floor(at)], to = cameras[Math.ceil(at)];
    this.show({ pose: between(from.pose, to.pose, at % 1), lens: from.lens });
  }

  play() {
    if (this.at >= cameras.length - 1) this.at = 0;
    this.playing = true;
    this.last = 0;
    this.tell();
    this.ask();
  }

  stop() {
    if (!this.playing) return;
    this.playing = false;
    this.tell();
  }

  tell() {
    slider.value = String(this.at);
    const words = `View ${Math.round(this.at) + 1} of ${cameras.length}`;
    $("reading").textContent = words;
    slider.setAttribute("aria-valuetext", words);
    $("play").setAttribute("aria-label", this.playing ? "Pause" : "Play the path");
    $("play").classList.toggle("playing", this.playing);
  }

  // How far away what is in the middle of the view is: the median over a sample.
  depth() {
    const { turn, shift } = this.eye, [fx, fy, , , width, height] = this.lens;
    const depths = [], count = this.points.length / 8, step = Math.max(1, Math.floor(count / 20000));
    for (let i = 0; i < count; i += step) {
      const [x, y, z] = [0, 1, 2].map((k) => turn[k] * this.points[8 * i] + turn[3 + k] * this.points[8 * i + 1]
        + turn[6 + k] * this.points[8 * i + 2] + shift[k]);
      if (z > NEAR && Math.abs(x / z) < (0.25 * width) / fx && Math.abs(y / z) < (0.25 * height) / fy) depths.push(z);
    }
    return depths.sort((a, b) => a - b)[depths.length >> 1] ?? this.eye.pivot;
  }

  // Of the picture in the stage: whole where the shapes are alike, else cut at its longer sides.
  get view() {
    const [fx, fy, cx, cy, width, height] = this.lens, W = canvas.width, H = canvas.height;
    const whole = Math.min(W / width, H / height), full = Math.max(W / width, H / height);
    const scale = Math.max(whole, 0.6 * full);
    return {
      turn: this.eye.turn, shift: this.eye.shift, focal: [fx * scale, fy * scale],
      centre: [W / 2 + (cx - width / 2) * scale, H / 2 + (cy - height / 2) * scale],
    };
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame((now) => { this.asked = false; this.frame(now); });
  }

  frame(now) {
    if (this.playing) {
      const step = this.last ? ((now - this.last) / 1000) * ((cameras.length - 1) / SECONDS) : 0;
      this.last = now;
      const at = Math.min(this.at + Math.min(step, 1), cameras.length - 1);
      if (at === cameras.length - 1) this.stop();
      this.along(at);
    }
    if (this.controls.step(now)) this.ask();
    const dense = Math.min(devicePixelRatio, 2) * this.fineness(now);
    const width = Math.max(1, Math.round(stage.clientWidth * dense));
    const height = Math.max(1, Math.round(stage.clientHeight * dense));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.splats.draw(this.view, colour("--stage"), $("path").checked ? colour("--line") : null);
  }

  // Where drawing is slow, moving is drawn coarser, and what is at rest again as fine as it can be.
  fineness(now) {
    const gap = now - this.drawn, moving = gap < 400;
    this.drawn = now;
    clearTimeout(this.rest);
    if (!moving) return 1;
    this.pace += 0.2 * (gap - this.pace);
    if (this.pace > 45 && this.fine > 0.5) [this.fine, this.pace] = [Math.max(0.5, this.fine * 0.8), 30];
    if (this.fine < 1) this.rest = setTimeout(() => { this.drawn = -Infinity; this.ask(); }, 250);
    return this.fine;
  }
}

// A colour of the style sheet, six digits, as three numbers 0..1.
function colour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16) / 255);
}

async function start() {
  $("help").onclick = () => $("keys").showModal();
  let viewer;
  const splats = new Splats(canvas, () => viewer?.ask());
  if (!splats.gl) {
    refuse("This scene is drawn with WebGL 2, which this browser does not have or has switched off.");
    return;
  }
  if (!("DecompressionStream" in window)) {
    refuse("This scene is packed in a way that this browser cannot read: it is from before 2023.");
    return;
  }
  const records = await unpack($("records").textContent.trim(), scene.count);
  splats.set(records);
  viewer = new Viewer(splats, records);
  stage.dataset.ready = "";
  if (!scene.count) refuse("This scene is empty: there are no Gaussians in it.");
}

start().catch((error) => refuse(`This scene cannot be shown. ${error.message}`));
