/** The page's icon: a ring that fills, in the colour of how it stands. An image of data, which the policy allows. */

const COLOURS = {
  running: "#4c6ef0", completed: "#2f9a5c", failed: "#d6403b", timed_out: "#d6403b", lost: "#d6403b", stalled: "#c98714",
  interrupted: "#c98714",
};
const OTHER = "#85807a";
const AROUND = 2 * Math.PI * 9;

let shown = "";
let still = null;

/** The icon's address: so much of the ring, 0 to 1, in steps of a fiftieth. */
export function ring(fraction, standing) {
  const part = Math.round(Math.min(Math.max(fraction, 0), 1) * 50) / 50;
  const circle = (colour, dash) =>
    `<circle cx="12" cy="12" r="9" fill="none" stroke="${colour}" stroke-width="5" ${dash} transform="rotate(-90 12 12)"/>`;
  const filled = part > 0 ? circle(Object.hasOwn(COLOURS, standing) ? COLOURS[standing] : OTHER, `stroke-dasharray="${(part * AROUND).toFixed(2)} 99"`) : "";
  const image = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">${circle("#8884", "")}${filled}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(image)}`;
}

/** Shows it; null for the icon of a page on which nothing runs. */
export function showIcon(fraction, standing = "running") {
  const link = document.querySelector("link[rel=icon]");
  still ??= link.href;
  const address = fraction === null ? still : ring(fraction, standing);
  if (address === shown) return;
  shown = address;
  link.href = address;
}
