/**
 * The block "Timeline": a row for each phase, with a bar over time; what is usual is a faint band behind it. It is shown
 * by a click, and then on every session's page until it is hidden: what nobody looks at costs nothing.
 *
 * It is a list that is read aloud as one: each row says its phase, its status, when it began and how long it took. The
 * arrows, Home and End go from row to row. The bars are SVG, drawn by attributes alone, which any policy allows.
 */

import { duration, expected, took, WORDS } from "../words.js";
import { extent, ROWS, ticks, timeline } from "../timeline.js";
import { arrange, attribute, disclosure, glyph, h, s, setGlyph, text } from "./dom.js";

/** Units of the drawing's own scale, from its left to its right edge. */
const WIDTH = 1000;
/** Pixels between two marks of the scale at least. */
const APART = 90;
/** Rows that are shown before somebody asks for all. */
const SHOWN = 40;

const KEPT = "trio-progress timeline";

// A browser that keeps nothing for pages throws at the mere name of a storage.

function isShown() {
  try {
    return window.localStorage.getItem(KEPT) === "shown";
  } catch {
    return false;
  }
}

function keepShown(open) {
  try {
    if (open) window.localStorage.setItem(KEPT, "shown");
    else window.localStorage.removeItem(KEPT);
  } catch {
    // It is forgotten with the page.
  }
}

export class Timeline {
  #rows = new Map();
  #list = h("ol", { class: "tl-rows", role: "list", onkeydown: (event) => this.#move(event), onfocusin: (event) => this.#enter(event) });
  #scale = h("div", { class: "tl-scale", "aria-hidden": "true" });
  #late = h("span", { "data-kind": "late" }, h("i"), "longer than usual");
  #legend = h("p", { class: "tl-legend", "aria-hidden": "true" }, this.#late, h("span", {}, h("i"), "usual"));
  #more = h("button", { class: "quiet", type: "button", hidden: true, onclick: () => this.#showAll() });
  #all = false;
  #drawn = null;
  #fold;

  constructor() {
    const body = h("div", { class: "tl-body" }, this.#scale, this.#list, this.#more, this.#legend);
    this.#fold = disclosure("Timeline", body, (open) => {
      keepShown(open);
      this.#drawNow();
    });
    this.element = h("section", { class: "block tl", "aria-label": "Timeline", hidden: true }, h("h2", {}, this.#fold.button), body);
    if (isShown()) this.#fold.open();
  }

  /** @param now Milliseconds, by the server's clock. */
  draw(state, now) {
    this.#drawn = { state, now };
    this.element.hidden = state.phases.every((phase) => !phase.started_at);
    if (!this.element.hidden) this.#drawNow();
  }

  #drawNow() {
    if (!this.#fold.isOpen() || this.#drawn === null) return;
    const { state, now } = this.#drawn;
    const every = timeline(state, now);
    const rows = this.#all ? every : every.slice(0, SHOWN);
    const [first, last] = extent(rows);
    const part = (at) => ((at - first) / (last - first)) * WIDTH;
    const shown = arrange(this.#list, rows, this.#rows, (row) => row.key, () => new Row());
    shown.forEach((row, index) => row.draw(rows[index], part));
    if (shown.length && !shown.some(({ element }) => element.tabIndex === 0)) shown[0].element.tabIndex = 0;
    this.#more.hidden = every.length === rows.length;
    text(this.#more, `Show all ${every.length === ROWS ? "" : `${every.length} `}rows`);
    this.#legend.hidden = rows.every(({ usual }) => usual === null);
    this.#late.hidden = !rows.some(isLate);
    this.#drawScale([first, last]);
  }

  #drawScale([first, last]) {
    const room = this.#scale.clientWidth || 600;
    const marks = ticks([first, last], Math.max(Math.floor(room / APART), 1));
    const key = marks.map(({ said }) => said).join(" ") + `${first} ${last}`;
    if (this.#scale.dataset.key === key) return;
    this.#scale.dataset.key = key;
    this.#scale.replaceChildren(
      ...marks.map(({ at, said }) => {
        const share = (at - first) / (last - first);
        const mark = h("span", { "data-edge": share > 0.94 ? "end" : null }, said);
        mark.style.setProperty("--at", `${share * 100}%`);
        return mark;
      }),
    );
  }

  #showAll() {
    this.#all = true;
    this.#drawNow();
    this.#list.children[SHOWN]?.focus();
  }

  // One row of the list can be reached by Tab; from there the arrows go on.

  #enter({ target }) {
    const row = target.closest("li");
    for (const other of this.#list.children) other.tabIndex = other === row ? 0 : -1;
  }

  #move(event) {
    const rows = [...this.#list.children];
    const at = rows.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at < 0 || rows[to] === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    rows[to].focus();
  }
}

/** Whether it went beyond what is usual; what is expected by its weight alone is no measure. */
function isLate({ phase, begin, end, usual }) {
  return begin !== null && usual !== null && phase.expected.source !== "weight" && end > usual[1];
}

class Row {
  #glyph = glyph("pending");
  #name = h("span", { class: "tl-title", "aria-hidden": "true" });
  #words = h("span", { class: "sr" });
  #usual = s("rect", { class: "tl-usual", y: 0, height: 20 });
  #bar = s("rect", { class: "tl-bar", y: 5, height: 10 });
  #late = s("rect", { class: "tl-late", y: 5, height: 10 });
  #said = h("span", { class: "tl-said num", "aria-hidden": "true" });

  constructor() {
    const drawing = s("svg", { viewBox: `0 0 ${WIDTH} 20`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#usual, this.#bar, this.#late);
    this.element = h("li", { class: "tl-row", tabindex: -1 }, h("span", { class: "tl-name" }, this.#glyph, this.#name, this.#words), drawing, this.#said);
  }

  draw(row, part) {
    const { phase, depth, begin, end, usual } = row;
    const { status } = phase;
    const over = begin !== null && status !== "running";
    const lasted = begin === null ? null : end - begin;
    setGlyph(this.#glyph, status);
    attribute(this.element, "data-standing", status);
    this.element.style.setProperty("--depth", String(depth));
    text(this.#name, phase.title);
    span(this.#usual, usual, part, 0);
    span(this.#bar, begin === null ? null : [begin, end], part, 2);
    // What went beyond the usual.
    const beyond = isLate(row);
    span(this.#late, beyond ? [usual[1], end] : null, part, 0);
    const figure = lasted === null ? "" : (over ? took : duration)(lasted);
    text(this.#said, figure || (status === "pending" ? "" : WORDS[status]));
    const words = [
      phase.title,
      WORDS[status],
      begin === null ? "" : `from ${begin < 0 ? `${duration(-begin)} before this attempt` : duration(begin)}`,
      figure && `${over ? "took" : "for"} ${figure}`,
      phase.expected ? `expected: ${expected(phase)}` : "",
      beyond ? "longer than usual" : "",
      phase.folded ? `${phase.folded} parts folded` : "",
    ];
    const said = words.filter(Boolean).join(", ");
    text(this.#words, said);
    attribute(this.element, "title", said);
  }
}

/** A bar of the drawing, `least` wide at least; hidden where there is none. */
function span(bar, edges, part, least) {
  attribute(bar, "visibility", edges === null ? "hidden" : null);
  if (edges === null) return;
  const [begin, end] = edges.map(part);
  const width = Math.max(end - begin, least);
  attribute(bar, "x", round(Math.min(begin, WIDTH - width)));
  attribute(bar, "width", round(width));
}

function round(value) {
  return Math.round(value * 10) / 10;
}
