// Draws Gaussians in WebGL 2: one quad each, farthest first, blended with premultiplied alpha.
import { sorter } from "./viewer.sort.js";

const WIDTH = 2048; // texels of a row: 1024 records of two texels
export const NEAR = 0.01;

// A record is 32 bytes, as in a .splat file, and is two texels as it stands: (x, y, z, scale x) and
// (scale y, scale z, RGBA, quaternion). The covariance is made of them here: no second copy.
// Projection as in Zwicker et al. (EWA splatting) with gsplat's conventions: 0.3 px blur, the
// Jacobian held inside 1.3 times the field of view, nothing under 1/255.
const VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D records;
uniform mat3 turn;
uniform vec3 shift;
uniform vec2 focal, centre, size;
in vec2 corner;
in uint index;
out vec2 place;
out vec4 colour;
void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
  ivec2 at = ivec2(int(index % 1024u) * 2, int(index / 1024u));
  uvec4 a = texelFetch(records, at, 0), b = texelFetch(records, at + ivec2(1, 0), 0);
  vec3 c = turn * uintBitsToFloat(a.xyz) + shift;
  if (c.z < ${NEAR}) return;
  colour = vec4((uvec4(b.z) >> uvec4(0u, 8u, 16u, 24u)) & 255u) / 255.0;
  if (colour.a < 1.0 / 255.0) return;

  vec4 q = normalize(vec4((uvec4(b.w) >> uvec4(0u, 8u, 16u, 24u)) & 255u) - 128.0);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  mat3 axes = mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
  vec3 scale = uintBitsToFloat(uvec3(a.w, b.x, b.y));
  mat3 m = turn * mat3(axes[0] * scale.x, axes[1] * scale.y, axes[2] * scale.z);

  vec2 spare = 0.3 * 0.5 * size / focal;
  vec2 slope = clamp(c.xy / c.z, -centre / focal - spare, (size - centre) / focal + spare);
  vec3 jx = vec3(focal.x / c.z, 0.0, -focal.x * slope.x / c.z);
  vec3 jy = vec3(0.0, focal.y / c.z, -focal.y * slope.y / c.z);
  vec3 u = jx * m, v = jy * m;
  float xx = dot(u, u) + 0.3, xy = dot(u, v), yy = dot(v, v) + 0.3;

  float middle = 0.5 * (xx + yy), spread = length(vec2(0.5 * (xx - yy), xy));
  float large = middle + spread, small = max(middle - spread, 0.1);
  vec2 along = spread < 1e-6 * middle ? vec2(1.0, 0.0)
    : normalize(xx > yy ? vec2(large - yy, xy) : vec2(xy, large - xx));
  place = corner * sqrt(2.0 * log(255.0 * colour.a));
  vec2 offset = along * (place.x * sqrt(large)) + vec2(-along.y, along.x) * (place.y * sqrt(small));
  vec2 pixel = focal * c.xy / c.z + centre + offset;
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec2 place;
in vec4 colour;
out vec4 result;
void main() {
  float alpha = min(0.999, colour.a * exp(-0.5 * dot(place, place)));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(colour.rgb * alpha, alpha);
}`;

const LINE_VERTEX = `#version 300 es
precision highp float;
uniform mat3 turn;
uniform vec3 shift;
uniform vec2 focal, centre, size;
in vec3 point;
void main() {
  vec3 c = turn * point + shift;
  vec2 pixel = focal * c.xy + centre * c.z;
  gl_Position = vec4(2.0 * pixel / size - c.z, c.z - 0.02, c.z) * vec4(1.0, -1.0, 1.0, 1.0);
}`;

const LINE_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec3 ink;
out vec4 result;
void main() { result = vec4(ink, 1.0); }`;

export class Splats {
  // onorder: called when a new order has come and the picture should be drawn again.
  constructor(canvas, onorder) {
    this.canvas = canvas;
    this.onorder = onorder;
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
    if (!this.gl) return;
    this.records = new Uint8Array(0);
    this.lines = new Float32Array(0);
    this.order = new Uint32Array(0);
    this.sorting = false;
    this.axis = null; // of the newest order asked for
    const source = new Blob([`(${sorter})(self)`], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(source));
    this.worker.onmessage = ({ data }) => this.#ordered(data.order);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.#start(); onorder(); });
    this.#start();
  }

  get count() { return this.records.length / 32; }

  // All of the scene: Uint8Array of N times 32 bytes.
  set(records) {
    this.records = records;
    this.order = new Uint32Array(0);
    this.axis = null;
    this.worker.postMessage({ records });
    this.#upload();
  }

  // Pairs of points, Float32Array of N times 3, drawn over the picture.
  setLines(points) {
    this.lines = points;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.lineBuffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, points, this.gl.STATIC_DRAW);
  }

  // view: {turn (9, by columns), shift, focal, centre}, world to pixels of the canvas.
  draw(view, ground, ink) {
    const gl = this.gl;
    this.#sort(view);
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(...ground, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (this.order.length) {
      this.#use(this.program, view);
      gl.bindVertexArray(this.quads);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.order.length);
    }
    if (ink && this.lines.length) {
      this.#use(this.lineProgram, view);
      gl.uniform3fv(gl.getUniformLocation(this.lineProgram, "ink"), ink);
      gl.bindVertexArray(this.lineArray);
      gl.drawArrays(gl.LINES, 0, this.lines.length / 3);
    }
    gl.bindVertexArray(null);
  }

  #use(program, view) {
    const gl = this.gl, place = (name) => gl.getUniformLocation(program, name);
    gl.useProgram(program);
    gl.uniformMatrix3fv(place("turn"), false, view.turn);
    gl.uniform3fv(place("shift"), view.shift);
    gl.uniform2fv(place("focal"), view.focal);
    gl.uniform2fv(place("centre"), view.centre);
    gl.uniform2f(place("size"), this.canvas.width, this.canvas.height);
  }

  #sort({ turn, shift }) {
    if (this.sorting || !this.count) return;
    const axis = [turn[2], turn[5], turn[8], shift[2]];
    if (this.axis && axis.every((value, i) => Math.abs(value - this.axis[i]) < 1e-4)) return;
    this.axis = axis;
    this.sorting = true;
    this.worker.postMessage({ axis, near: NEAR });
  }

  #ordered(order) {
    this.sorting = false;
    this.order = order;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.indexBuffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, order, this.gl.DYNAMIC_DRAW);
    this.onorder();
  }

  #start() {
    const gl = this.gl;
    this.program = compiled(gl, VERTEX, FRAGMENT);
    this.lineProgram = compiled(gl, LINE_VERTEX, LINE_FRAGMENT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.quads = gl.createVertexArray();
    gl.bindVertexArray(this.quads);
    const corner = gl.getAttribLocation(this.program, "corner");
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    const index = gl.getAttribLocation(this.program, "index");
    this.indexBuffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.indexBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.order, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(index, 1);
    this.lineArray = gl.createVertexArray();
    gl.bindVertexArray(this.lineArray);
    const point = gl.getAttribLocation(this.lineProgram, "point");
    this.lineBuffer = gl.createBuffer();
    this.setLines(this.lines);
    gl.enableVertexAttribArray(point);
    gl.vertexAttribPointer(point, 3, gl.FLOAT, false, 0, 0);
    gl.bindVertexArray(null);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    }
    this.#upload();
  }

  #upload() {
    const gl = this.gl, rows = Math.max(1, Math.ceil((2 * this.count) / WIDTH));
    const texels = new Uint32Array(rows * WIDTH * 4);
    new Uint8Array(texels.buffer).set(this.records);
    gl.texImage2D(
      gl.TEXTURE_2D, 0, gl.RGBA32UI, WIDTH, rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, texels);
  }
}

function compiled(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`The shaders did not compile. ${logs.join(" ")}`);
  }
  return program;
}
