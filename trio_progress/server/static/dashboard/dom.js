/**
 * Elements by hand: small enough to read, and text is always text.
 *
 * Nothing here or anywhere else in this page parses HTML, so what sessions say cannot become markup.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children.
 *
 * `class`, `data-*`, `aria-*` and all else are attributes; false and null leave one out, true sets it empty.
 * What starts with `on` is a listener. Strings among the children become text.
 */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else {
      attribute(element, name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets an attribute where it is another than it was; null and false take it off. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

const said = new WeakMap();

/** Sets an element's text where it is another than what was set before: an unchanged one costs no layout. */
export function text(element, value) {
  const string = value ?? "";
  if (said.get(element) !== string) {
    said.set(element, string);
    element.textContent = string;
  }
}

/** How far a bar is: 0 to 1, or null for one that nobody knows the end of. */
export function fillBar(bar, fraction) {
  attribute(bar, "data-indeterminate", fraction === null);
  attribute(bar, "data-empty", fraction === 0);
  const scale = fraction === null ? "1" : String(Math.round(fraction * 10000) / 10000);
  if (said.get(bar) !== scale) {
    said.set(bar, scale);
    bar.style.setProperty("--fraction", scale);
  }
}

/**
 * Makes the children of `parent` be those for `items`, in their order; what stays keeps its element, its focus and
 * its scroll position.
 *
 * @param known A Map from key to row, kept by the caller.
 * @param make Makes a row, an object with an `element`, for an item.
 * @returns The rows, in order.
 */
export function arrange(parent, items, known, key, make) {
  const wanted = new Set();
  const rows = items.map((item) => {
    const id = key(item);
    wanted.add(id);
    let row = known.get(id);
    if (row === undefined) {
      row = make(item);
      known.set(id, row);
    }
    return row;
  });
  for (const [id, row] of known) {
    if (!wanted.has(id)) {
      // It may have moved to another list in the meantime.
      if (row.element.parentElement === parent) row.element.remove();
      known.delete(id);
    }
  }
  let after = parent.firstElementChild;
  for (const row of rows) {
    if (row.element === after) {
      after = after.nextElementSibling;
    } else {
      parent.insertBefore(row.element, after);
    }
  }
  return rows;
}

/**
 * A button that shows and hides `panel`, which is hidden at first; `turned` is called with whether it is shown.
 *
 * @returns The `button`, whether it `isOpen()`, and `open()`, which shows the panel.
 */
export function disclosure(words, panel, turned) {
  const turn = (open) => {
    panel.hidden = !open;
    attribute(button, "aria-expanded", String(open));
    turned(open);
  };
  const button = h("button", { class: "fold", type: "button", "aria-expanded": "false", onclick: () => turn(panel.hidden) }, words);
  panel.hidden = true;
  return { button, isOpen: () => !panel.hidden, open: () => turn(true) };
}

const GLYPHS = {
  queued: ["M8 4.5v3.7l2.4 1.5"],
  running: ["M8 2.2a5.8 5.8 0 0 1 5.8 5.8"],
  completed: ["M4.9 8.3l2.2 2.2 4.2-4.7"],
  failed: ["M5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6"],
  timed_out: ["M8 4.5v3.7l2.4 1.5"],
  cancelled: ["M5.2 8h5.6"],
  interrupted: ["M6.5 5.7v4.6M9.5 5.7v4.6"],
  skipped: ["M5.4 5.6L8 8l-2.6 2.4M8.6 5.6L11.2 8l-2.6 2.4"],
  stalled: ["M8 4.7v4M8 10.9v.2"],
  lost: ["M6.4 6.4a1.6 1.6 0 1 1 2.3 1.5c-.5.2-.7.5-.7 1M8 11v.2"],
  pending: [],
};

/** A round sign for a status; it says by its form what it says by its colour. */
export function glyph(status) {
  const sign = s("svg", { class: "glyph", viewBox: "0 0 16 16", "aria-hidden": "true", "data-status": status });
  setGlyph(sign, status, true);
  return sign;
}

/** Makes the sign another. */
export function setGlyph(sign, status, anew = false) {
  if (!anew && sign.getAttribute("data-status") === status) return;
  sign.setAttribute("data-status", status);
  sign.replaceChildren(
    s("circle", { cx: 8, cy: 8, r: 5.8, class: "glyph-ring" }),
    ...(GLYPHS[status] ?? []).map((d) => s("path", { d, class: "glyph-mark" })),
  );
}

/** Whatever is asked for within one frame is done once, in the next. */
export function framed(draw) {
  let asked = 0;
  return () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      draw();
    });
  };
}

/** Draws, and leaves the focus where it was: what is moved within the page loses it. */
export function keepingFocus(root, draw) {
  const held = root.contains(document.activeElement) ? document.activeElement : null;
  draw();
  if (held?.isConnected && held !== document.activeElement) held.focus({ preventScroll: true });
}
