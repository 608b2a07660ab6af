// Where the viewer looks from: a place and three directions (right, down, forward), world axes.

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const plus = (a, b, scale = 1) => [a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]];
const minus = (a, b) => plus(a, b, -1);
export const norm = (a) => Math.hypot(...a);
const unit = (a) => a.map((value) => value / (norm(a) || 1));

// v turned about the unit vector k (Rodrigues).
function about(v, k, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return plus(plus(v.map((value) => value * c), cross(k, v), s), k, dot(k, v) * (1 - c));
}

export class Eye {
  // c2w: 16 numbers by rows; up: unit vector, kept upright while turning.
  constructor(c2w, up) {
    this.up = up;
    this.pivot = 1; // distance of what turning goes around
    this.pose = c2w;
  }

  get pose() {
    const { right: r, down: d, forward: f, place: p } = this;
    return [r[0], d[0], f[0], p[0], r[1], d[1], f[1], p[1], r[2], d[2], f[2], p[2], 0, 0, 0, 1];
  }

  set pose(c2w) {
    const column = (k) => [c2w[k], c2w[4 + k], c2w[8 + k]];
    [this.right, this.down, this.forward, this.place] = [0, 1, 2, 3].map(column);
  }

  // World to camera, for the shaders: the rotation by columns, the translation.
  get turn() { return [0, 1, 2].flatMap((k) => [this.right[k], this.down[k], this.forward[k]]); }
  get shift() { return [this.right, this.down, this.forward].map((axis) => -dot(axis, this.place)); }

  #turn(yaw, pitch) {
    // Not over the poles: there left and right would change places.
    const height = Math.asin(Math.max(-1, Math.min(1, dot(this.forward, this.up))));
    const most = Math.PI / 2 - 0.02;
    const allowed = Math.max(-most - height, Math.min(most - height, pitch));
    const side = unit(cross(this.forward, this.up));
    const axes = ["right", "down", "forward"];
    for (const axis of axes) this[axis] = about(about(this[axis], side, allowed), this.up, yaw);
    this.forward = unit(this.forward);
    this.right = unit(minus(this.right, this.forward.map((v) => v * dot(this.right, this.forward))));
    this.down = cross(this.forward, this.right);
  }

  look(yaw, pitch) { this.#turn(yaw, pitch); }

  orbit(yaw, pitch) {
    const centre = plus(this.place, this.forward, this.pivot);
    this.#turn(yaw, pitch);
    this.place = plus(centre, this.forward, -this.pivot);
  }

  // In metres along right, down, forward.
  move(x, y, z) {
    this.place = plus(plus(plus(this.place, this.right, x), this.down, y), this.forward, z);
  }

  // Towards the pivot (factor < 1) or away from it.
  zoom(factor) {
    const pivot = Math.min(Math.max(this.pivot * factor, 0.02), 1e4);
    this.move(0, 0, this.pivot - pivot);
    this.pivot = pivot;
  }
}

// Quaternion xyzw of a pose, and back; enough to go from one camera to the next.
function quaternion([a, b, c, , d, e, f, , g, h, i]) {
  const ways = [
    [1 + a - e - i, b + d, c + g, h - f], [b + d, 1 - a + e - i, f + h, c - g],
    [c + g, f + h, 1 - a - e + i, d - b], [h - f, c - g, d - b, 1 + a + e + i]];
  const best = ways.reduce((most, way, k) => (way[k] > ways[most][most] ? k : most), 0);
  return unit(ways[best]);
}

// The pose a part (0..1) of the way from one to another.
export function between(from, to, part) {
  const a = quaternion(from);
  let b = quaternion(to);
  let cosine = a.reduce((sum, value, k) => sum + value * b[k], 0);
  if (cosine < 0) [b, cosine] = [b.map((value) => -value), -cosine];
  const angle = Math.acos(Math.min(1, cosine));
  const weigh = angle < 1e-3 ? (t) => t : (t) => Math.sin(t * angle) / Math.sin(angle);
  const [x, y, z, w] = unit(a.map((value, k) => weigh(1 - part) * value + weigh(part) * b[k]));
  const place = [3, 7, 11].map((k) => from[k] + part * (to[k] - from[k]));
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), place[0],
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), place[1],
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), place[2], 0, 0, 0, 1];
}
