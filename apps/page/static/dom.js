// Elements and words. Everything from the stream goes in as text, never as markup.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const TIERS = { clear: "Clear", blurred: "Blurred", discard: "Discard" };

export function mark(tier) {
  return el("i", { class: `mark ${tier}`, "aria-hidden": "true" });
}

export function badge(tier) {
  return el("span", { class: `badge ${tier}` }, mark(tier), TIERS[tier] ?? tier);
}

export function clock(seconds, digits = 1) {
  if (seconds == null) return "–";
  const unit = 10 ** digits;
  const all = Math.round(Math.abs(seconds) * unit);
  const rest = ((all % (60 * unit)) / unit).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  const minutes = Math.floor(all / unit / 60);
  const hours = Math.floor(minutes / 60);
  const sign = seconds < 0 ? "−" : "";
  return hours
    ? `${sign}${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}`
    : `${sign}${minutes}:${rest}`;
}

export function number(value, digits = 0) {
  if (value == null) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// Sizes of a heart: in centimetres where the size of a pixel is known, else in pixels.
export function area(value, unit) {
  if (value == null) return "–";
  return unit === "mm" ? `${number(value / 100, 1)} cm²` : `${number(value)} px²`;
}

export function volume(value, unit) {
  if (value == null) return "–";
  return unit === "mm" ? `${number(value)} ml` : "–";
}

// Scores span decades from stream to stream: about three digits that matter.
export function score(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  return number(value, size >= 1 ? 2 : size >= 0.1 ? 3 : size >= 0.01 ? 4 : 5);
}

export function milliseconds(value) {
  if (value == null) return "–";
  if (value >= 10000) return `${number(value / 1000, 1)} s`;
  return `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

export function bytes(value) {
  if (!value) return "0 B";
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < 3) { value /= 1024; unit += 1; }
  return `${number(value, unit && value < 100 ? 1 : 0)} ${units[unit]}`;
}
