/** What a session has to show beside its phases: figures, names with their values, and its result. */

import { spaced, valueText } from "../words.js";
import { arrange, h, text } from "./dom.js";

/** Text is for reading, and so are the values of an object's names; what is deeper is JSON. */
export function resultOf(result) {
  if (typeof result === "string") return [h("p", {}, result)];
  if (typeof result !== "object" || Array.isArray(result)) return [h("pre", {}, JSON.stringify(result, null, 2))];
  return Object.entries(result).flatMap(([name, value]) => [
    h("h3", {}, spaced(name)),
    typeof value === "object" && value !== null ? h("pre", {}, JSON.stringify(value, null, 2)) : h("p", {}, valueText(value)),
  ]);
}

/** A figure with the name above it, hidden where there is none. */
export function pair(name) {
  const term = h("dt", {}, name);
  const value = h("dd");
  const element = h("div", { hidden: true }, term, value);
  return {
    element,
    name: (words) => text(term, words),
    set: (words) => {
      element.hidden = words === null;
      text(value, words ?? "");
    },
  };
}

/** A block of names with their values. */
export class Pairs {
  #list;
  #rows = new Map();

  constructor(name, kind) {
    this.#list = h("dl", { class: `pairs ${kind}` });
    this.element = h("section", { class: "block", "aria-label": name, hidden: true }, h("h2", {}, name), this.#list);
  }

  draw(pairs) {
    this.element.hidden = pairs.length === 0;
    const rows = arrange(this.#list, pairs, this.#rows, ([name]) => name, ([name]) => {
      const value = h("dd");
      return { value, element: h("div", {}, h("dt", {}, name), value) };
    });
    rows.forEach((row, index) => text(row.value, pairs[index][1]));
  }
}
