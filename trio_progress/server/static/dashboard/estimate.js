/** How the estimate came about: of each phase what was expected and from what, behind a click. */

import { duration, expected, phaseElapsed, took } from "../words.js";
import { arrange, attribute, disclosure, h, text } from "./dom.js";

/** A button and the table that it shows; hidden where nothing is expected. */
export class Estimate {
  #body = h("tbody");
  #rows = new Map();
  #drawn = null;
  #fold;

  constructor() {
    const heads = ["Phase", "Expected", "So far"].map((name) => h("th", { scope: "col" }, name));
    const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads)), this.#body);
    this.#fold = disclosure("How this is estimated", table, () => this.#draw());
    this.element = h("div", { class: "estimate", hidden: true }, this.#fold.button, table);
  }

  /** @param times `now`, in milliseconds, and the seconds that the session `ran`. */
  draw(phases, times) {
    this.#drawn = { phases: phases.filter((phase) => phase.expected), times };
    this.element.hidden = this.#drawn.phases.length === 0;
    if (this.#fold.isOpen()) this.#draw();
  }

  #draw() {
    const { phases, times } = this.#drawn;
    const rows = arrange(this.#body, phases, this.#rows, (phase) => phase.name, () => new Row());
    rows.forEach((row, index) => row.draw(phases[index], times));
  }
}

class Row {
  #name = h("th", { scope: "row" });
  #expected = h("td");
  #spent = h("td", { class: "num" });

  constructor() {
    this.element = h("tr", {}, this.#name, this.#expected, this.#spent);
  }

  draw(phase, times) {
    const seconds = phaseElapsed(phase, times);
    attribute(this.element, "data-standing", phase.status);
    text(this.#name, phase.title);
    text(this.#expected, expected(phase));
    text(this.#spent, phase.status === "skipped" ? "skipped" : seconds === null ? "" : (phase.ended_at ? took : duration)(seconds));
  }
}
