/** Chips by which sessions are filtered: for each label that tells them apart, its values, each with how many have it. */

import { number } from "../words.js";
import { arrange, attribute, h, text } from "./dom.js";
import { facets } from "./search.js";

export class Facets {
  #label;
  #rows = new Map();

  /** @param label Called with a label's name and value when its chip is clicked. */
  constructor(label) {
    this.#label = label;
    this.element = h("div", { class: "facets", hidden: true });
  }

  draw(sessions, query) {
    const found = facets(sessions, query);
    this.element.hidden = found.length === 0;
    const rows = arrange(this.element, found, this.#rows, ({ name }) => name, ({ name }) => {
      const chips = h("div", { class: "chips", role: "group", "aria-label": `Filter by ${name}` }, h("span", { class: "facet-name", "aria-hidden": "true" }, name));
      return { element: chips, chips: new Map(), list: chips };
    });
    rows.forEach((row, index) => this.#drawValues(row, found[index]));
  }

  #drawValues({ list, chips }, { name, values }) {
    // The label's name is no chip, and stays the first.
    for (const [value, { chip }] of chips) {
      if (values.some((one) => one.value === value)) continue;
      chip.remove();
      chips.delete(value);
    }
    values.forEach(({ value, count, on }, index) => {
      const made = chips.get(value) ?? this.#chip(name, value);
      chips.set(value, made);
      if (list.children[index + 1] !== made.chip) list.insertBefore(made.chip, list.children[index + 1] ?? null);
      attribute(made.chip, "aria-pressed", String(on));
      text(made.count, number(count));
    });
  }

  #chip(name, value) {
    const count = h("b");
    const chip = h("button", { class: "chip", type: "button", title: `Only ${name}=${value}`, onclick: () => this.#label(name, value) },
      h("span", {}, value || "(empty)"), count);
    return { chip, count };
  }
}
