/** One session in the list. */

import {
  ENDED, duration, elapsed, moment, number, percent, percentText, said, sessionLeft, standing, took, WORDS,
} from "../words.js";
import { attribute, fillBar, glyph, h, s, setGlyph, text } from "./dom.js";
import { wordsOf } from "./search.js";

/** Labels shown in a row. */
const TAGS = 3;

export class Row {
  #label;
  #pick;
  #turn;
  #box = null;
  #parts = null;
  #depth = 0;
  #state = null;
  #etaAt = 0;
  #marked = null;
  #glyph = glyph("pending");
  #title;
  #of = h("span", { class: "of" });
  #said = h("span", { class: "said" });
  #tags = h("span", { class: "tags" });
  #bar = h("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 });
  #figure = h("div", { class: "row-figure" });
  #when = h("div", { class: "row-when" });

  /**
   * @param label Called with a label's name and value when it is clicked.
   * @param pick Called with the session, and whether a range is wanted, when its box is clicked.
   * @param turn Called with the session when its parts are to be shown, or no longer.
   */
  constructor(label, pick, turn) {
    this.#label = label;
    this.#turn = () => turn(this.#state.id);
    this.#pick = (event) => pick(this.#state.id, event.shiftKey);
    this.#title = h("a", { class: "row-title" });
    this.element = h(
      "li",
      { class: "row" },
      h(
        "div",
        { class: "row-in" },
        this.#glyph,
        h("div", { class: "row-name" }, this.#title, h("div", { class: "row-sub" }, this.#of, this.#said, this.#tags)),
        this.#bar,
        this.#figure,
        this.#when,
      ),
    );
  }

  /** What leads to the session. */
  get link() {
    return this.#title;
  }

  /**
   * @param item Of the Listing: the `state`, how `deep` it lies, and its `parts`.
   * @param now Milliseconds, by the server's clock.
   * @param query What is searched for.
   */
  draw(item, now, query) {
    const { state } = item;
    if (state.id !== this.#state?.id) {
      // It was another's, or nobody's.
      this.#state = null;
      attribute(this.#title, "href", `#/${encodeURIComponent(state.id)}`);
    }
    this.#drawPlace(item);
    const where = standing(state);
    const ended = ENDED.includes(state.status);
    if (state !== this.#state || query !== this.#marked) {
      if (state !== this.#state) this.#etaAt = now;
      this.#state = state;
      this.#marked = query;
      setGlyph(this.#glyph, where);
      attribute(this.element, "data-standing", where);
      attribute(this.element, "data-ended", ended);
      attribute(this.#bar, "data-standing", where);
      text(this.#title, state.title);
      this.#drawTags(state, query);
      text(this.#said, this.#subtitle(state));
      fillBar(this.#bar, state.progress);
      const value = percent(state.progress);
      attribute(this.#bar, "aria-valuenow", value);
      attribute(this.#bar, "aria-label", state.title);
      attribute(this.#bar, "aria-valuetext", `${percentText(value)}, ${WORDS[where]}`);
      text(this.#figure, state.status === "queued" ? "" : percentText(value));
    }
    this.tick(now);
  }

  /** Draws what changes with the time alone. */
  tick(now) {
    const state = this.#state;
    const where = standing(state);
    const ended = ENDED.includes(state.status);
    text(this.#when, this.#whenText(state, where, ended, now));
    attribute(this.#when, "title", ended ? `${said(state, now)}${state.ended_at ? `, ${moment(state.ended_at, now)}` : ""}` : null);
  }

  /** Where it stands among the others: below which, and whether its own parts are shown. */
  #drawPlace({ state, depth, parent, parts, failed, open }) {
    if (depth !== this.#depth) this.element.style.setProperty("--depth", String((this.#depth = depth)));
    // Below its job the place says it to who sees.
    text(this.#of, parent === null ? "" : `Part of ${parent}`);
    attribute(this.#of, "class", depth ? "of sr" : "of");
    if (parts === 0) {
      this.#parts?.remove();
      this.#parts = null;
      return;
    }
    if (this.#parts === null) {
      const sign = s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, s("path", { d: "M3.5 1.5L7 5L3.5 8.5" }));
      this.#parts = h("button", { class: "parts", type: "button", onclick: this.#turn }, sign, h("span"));
      this.#of.before(this.#parts);
    }
    const counted = `${number(parts)} ${parts === 1 ? "part" : "parts"}${failed ? `, ${number(failed)} failed` : ""}`;
    text(this.#parts.lastChild, counted);
    attribute(this.#parts, "aria-expanded", String(open));
    attribute(this.#parts, "aria-label", `${counted} of ${state.title}`);
  }

  /** Shows a box by which it is chosen: whether it is, or null for no box. */
  choose(chosen) {
    attribute(this.element, "data-chosen", chosen === true);
    attribute(this.element, "data-picked", chosen !== null);
    if (chosen === null) {
      this.#box?.remove();
      this.#box = null;
      return;
    }
    if (this.#box === null) {
      const input = h("input", { type: "checkbox", onclick: this.#pick });
      this.#box = h("label", { class: "pick" }, input);
      this.element.firstChild.prepend(this.#box);
    }
    const input = this.#box.firstChild;
    attribute(input, "aria-label", `Select ${this.#state.title}`);
    input.checked = chosen;
  }

  #subtitle(state) {
    if (ENDED.includes(state.status) && state.error) {
      return [state.error.type, state.error.message].filter(Boolean).join(": ");
    }
    const running = state.phases?.find((phase) => phase.status === "running");
    const doing = ENDED.includes(state.status) ? null : (running?.title ?? null);
    const shown = [state.id === state.title ? null : state.id, doing, state.message];
    return shown.filter(Boolean).join(" · ") || (state.pipeline ?? "");
  }

  #drawTags(state, query) {
    const labels = Object.entries(state.labels);
    const words = wordsOf(query);
    const key = JSON.stringify([labels, labels.map(([name, value]) => words.includes(`${name}=${value}`))]);
    if (this.#tags.dataset.key === key) return;
    this.#tags.dataset.key = key;
    this.#tags.hidden = labels.length === 0;
    this.#tags.replaceChildren(
      ...labels.slice(0, TAGS).map(([name, value]) =>
        h(
          "button",
          {
            type: "button",
            tabindex: -1,
            class: words.includes(`${name}=${value}`) ? "tag on" : "tag",
            title: `Only ${name}=${value}`,
            onclick: () => this.#label(name, value),
          },
          h("span", {}, `${name}=${value}`),
        ),
      ),
    );
  }

  #whenText(state, where, ended, now) {
    if (ended) {
      const seconds = elapsed(state, now);
      if (state.status === "completed") return seconds === null ? "" : `in ${took(seconds)}`;
      return WORDS[where];
    }
    if (where === "queued") return "Queued";
    if (where !== "running") return said(state, now).replace(" for ", " ");
    const left = sessionLeft(state, now, this.#etaAt);
    if (left) return left;
    const seconds = elapsed(state, now);
    return seconds === null ? "" : `for ${duration(seconds)}`;
  }
}
