// Mouse, touch and keyboard on the picture. All of it ends in the eye's few movements.
const SPEED = 0.8; // of the pivot's distance, a second
const TURN = 1.1; // radians a second
const KEYS = {
  KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, 1, 0], KeyE: [0, -1, 0],
};
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Controls {
  // eye: an Eye; fly: () => whether dragging looks around; onmove: called after each movement.
  constructor(stage, eye, fly, onmove) {
    Object.assign(this, { stage, eye, fly, onmove, fingers: new Map(), pressed: new Set() });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => this.fingers.delete(event.pointerId));
    }
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keyup", (event) => this.pressed.delete(event.code));
    window.addEventListener("blur", () => this.pressed.clear());
  }

  #down(event) {
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
  }

  #drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    const other = [...this.fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    this.fingers.set(event.pointerId, event);
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    const pixel = 1 / this.stage.clientHeight;
    if (other) { // two fingers: pinch, and half of the shift from each
      const far = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
      this.eye.zoom(far(before) / far(event));
      this.#pan(dx * pixel / 2, dy * pixel / 2);
    } else if (event.buttons & 6 || event.shiftKey) this.#pan(dx * pixel, dy * pixel);
    else if (this.fly()) this.eye.look(dx * pixel * 1.6, dy * pixel * 1.6);
    else this.eye.orbit(-dx * pixel * 4, -dy * pixel * 4);
    this.onmove();
  }

  #pan(x, y) {
    this.eye.move(-x * this.eye.pivot, -y * this.eye.pivot, 0);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
    if (this.fly()) this.eye.move(0, 0, -lines * 0.001 * this.eye.pivot);
    else this.eye.zoom(Math.exp(Math.max(-300, Math.min(300, lines)) * 0.0015));
    this.onmove();
  }

  // Whether a key is for the picture: not typed into a control, not the browser's own.
  hears({ target, ctrlKey, metaKey, altKey }) {
    return (target === document.body || this.stage.contains(target)) && !(ctrlKey || metaKey || altKey);
  }

  #key(event) {
    if (!this.hears(event) || (!(event.code in KEYS) && !(event.code in ARROWS))) return;
    event.preventDefault();
    if (this.pressed.size === 0) this.last = 0;
    this.pressed.add(event.code);
    this.onmove();
  }

  // Keys held down; now in milliseconds. Whether the eye moved.
  step(now) {
    if (!this.pressed.size) return false;
    const seconds = this.last ? Math.min((now - this.last) / 1000, 0.1) : 0.016;
    this.last = now;
    for (const code of this.pressed) {
      if (code in KEYS) this.eye.move(...KEYS[code].map((v) => v * SPEED * seconds * this.eye.pivot));
      else {
        const [yaw, pitch] = ARROWS[code].map((v) => v * TURN * seconds);
        if (this.fly()) this.eye.look(yaw, pitch);
        else this.eye.orbit(yaw, pitch);
      }
    }
    return true;
  }
}
