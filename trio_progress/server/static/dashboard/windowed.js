/**
 * A long list of which only the rows in sight, and a few more, are in the document.
 *
 * 1. All rows are of one height, which is measured.
 * 2. What is left out is a gap as high as its rows would be, so the scroll bar is true.
 * 3. The first row and the last are always there, and so is the one that is held, by the focus, with its neighbours:
 *    Tab and Shift+Tab go on from it, however far it was scrolled away.
 * 4. Each row says which one of how many it is (aria-posinset, aria-setsize), and how deep it lies where that is below
 *    another (aria-level); gaps are not read aloud.
 *
 * The browser's own search finds what is in the document, so not the rows that are left out: the page's search does.
 */

import { arrange, attribute, h } from "./dom.js";

/** Rows above and below those in sight. */
const MORE = 8;
/** The height of a row, in pixels, until one was measured. */
const GUESS = 68;

const GAP = { class: "gap", role: "presentation", "aria-hidden": "true" };

export class Windowed {
  element = h("ul", { role: "list" });
  #make;
  #fill;
  #items = [];
  #held = null;
  /** Rows and gaps that are there, by their id. */
  #rows = new Map();
  /** The positions between which rows are shown: those in sight, and a few more. */
  #from = 0;
  #to = 0;
  #height = GUESS;

  /**
   * @param make Makes the row of an item, an object with an `element`, a `li`.
   * @param fill Draws a row that is shown: `(row, item)`.
   */
  constructor(make, fill) {
    this.#make = make;
    this.#fill = fill;
  }

  /** What it is a list of, each with an `id`, its `place` among so many `places`, and its `depth`. */
  get items() {
    return this.#items;
  }

  /**
   * Draws the rows that are shown of these items.
   *
   * @param held The id of the item whose row has the focus, or null.
   */
  draw(items, held) {
    if (items.length !== this.#items.length) this.#follow(items);
    this.#items = items;
    this.#held = held;
    this.#draw();
  }

  /**
   * Looks which rows are in sight now; `draw()` draws those. It reads the layout, and so does it before anything is
   * written: whoever reads it afterwards makes the browser compute it twice in a frame.
   *
   * @returns Whether these are others than were drawn.
   */
  look() {
    const { top } = this.element.getBoundingClientRect();
    this.#measure();
    const first = Math.floor(-top / this.#height);
    const last = Math.ceil((window.innerHeight - top) / this.#height);
    const kept = this.#from <= this.#within(first - MORE / 2) && this.#to >= this.#within(last + MORE / 2);
    if (kept && this.#to - this.#from <= last - first + 4 * MORE) return false;
    this.#from = this.#within(first - MORE);
    this.#to = this.#within(last + MORE);
    return true;
  }

  /** Draws the rows that were looked for. */
  place() {
    this.#draw();
  }

  /** Draws all rows, as paper wants them, until the next `look()`. */
  spread() {
    this.#from = 0;
    this.#to = this.#items.length;
    this.#draw();
  }

  /** The row of an item, which is drawn now if it was not; undefined where there is no such item. */
  reveal(id) {
    this.#held = id;
    this.#draw();
    return this.#rows.get(id);
  }

  /** Where rows come or go above those that are shown, they stay shown. */
  #follow(items) {
    const middle = this.#items[Math.floor((this.#from + this.#to) / 2)];
    const now = middle ? items.findIndex(({ id }) => id === middle.id) : -1;
    if (now < 0) return;
    const moved = now - this.#items.indexOf(middle);
    this.#from += moved;
    this.#to += moved;
  }

  #within(position) {
    return Math.min(Math.max(position, 0), this.#items.length);
  }

  #measure() {
    const { height } = this.element.querySelector(":scope > :not(.gap)")?.getBoundingClientRect() ?? { height: 0 };
    if (height === 0 || Math.abs(height - this.#height) < 0.1) return;
    this.#height = height;
    this.#from = this.#to = -1; // None of the gaps is right any more.
  }

  #draw() {
    const slots = [];
    let next = 0;
    let gaps = 0;
    // A session's id has no space in it.
    const gap = (rows) => rows > 0 && slots.push({ id: `gap ${(gaps += 1)}`, rows });
    for (const position of this.#shown()) {
      gap(position - next);
      slots.push({ id: this.#items[position].id, item: this.#items[position] });
      next = position + 1;
    }
    gap(this.#items.length - next);
    const rows = arrange(this.element, slots, this.#rows, ({ id }) => id, ({ item }) => (item ? this.#make(item) : { element: h("li", GAP) }));
    rows.forEach((row, index) => this.#drawSlot(row, slots[index]));
  }

  #drawSlot({ element }, { id, item, rows }) {
    if (item) {
      attribute(element, "aria-posinset", item.place);
      attribute(element, "aria-setsize", item.places);
      attribute(element, "aria-level", item.depth ? item.depth + 1 : null);
      this.#fill(this.#rows.get(id), item);
    } else {
      element.style.setProperty("--row", `${this.#height}px`);
      element.style.setProperty("height", `${rows * this.#height}px`);
    }
  }

  /** The positions that are shown, in order. */
  #shown() {
    const last = this.#items.length - 1;
    const held = this.#held === null ? -1 : this.#items.findIndex(({ id }) => id === this.#held);
    const positions = new Set([0, last]);
    for (let position = Math.max(this.#from, 0); position < this.#to; position++) positions.add(position);
    if (held >= 0) for (const near of [held - 1, held, held + 1]) positions.add(near);
    return [...positions].filter((position) => position >= 0 && position <= last).sort((a, b) => a - b);
  }
}
