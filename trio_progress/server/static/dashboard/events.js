/** The log of a session's custom events, newest first. */

import { clock, number, spaced, valueText } from "../words.js";
import { arrange, h, text } from "./dom.js";

const PAGE = 100;

/** The block "Events". */
export class Events {
  #rows = new Map();
  #list = h("ol", { class: "events", reversed: true, tabindex: -1 });
  #count = h("b");
  #gone = h("p", { class: "gone", hidden: true });
  #none = h("p", { class: "none" });
  #shown = PAGE;
  #drawn = null;
  #more = h("button", {
    class: "quiet more",
    type: "button",
    onclick: () => {
      this.#shown += PAGE;
      this.draw(this.#drawn.events, this.#drawn.dropped, this.#drawn.ended);
      if (this.#more.hidden) this.#list.focus({ preventScroll: true });
    },
  });

  constructor() {
    this.element = h(
      "section",
      { class: "block", "aria-labelledby": "events-name" },
      h("h2", {}, h("span", { id: "events-name" }, "Events"), this.#count),
      this.#gone,
      this.#none,
      this.#list,
      this.#more,
    );
  }

  draw(events, dropped, ended) {
    this.#drawn = { events, dropped, ended };
    const shown = events.slice(-this.#shown).reverse();
    // By the event and not by its number: a run that begins anew numbers its own from 1 again.
    arrange(this.#list, shown, this.#rows, (event) => event, (event) => ({ element: item(event) }));
    text(this.#count, events.length ? number(events.at(-1).n) : "");
    this.#none.hidden = events.length > 0;
    text(this.#none, ended ? "No events." : "No events yet.");
    this.#gone.hidden = dropped === 0;
    text(this.#gone, `${number(dropped)} ${dropped === 1 ? "event was" : "events were"} dropped before this page could receive them.`);
    this.#more.hidden = events.length <= shown.length;
    text(this.#more, `Show older events (${number(events.length - shown.length)})`);
  }
}

function item(event) {
  return h(
    "li",
    {},
    h("time", { datetime: event.at, title: new Date(event.at).toLocaleString() }, clock(event.at)),
    h("div", { class: "what" }, h("b", {}, event.name), h("span", { class: "data" }, ...dataOf(event.data))),
  );
}

function dataOf(data) {
  if (data === null || data === undefined) return [];
  if (typeof data !== "object" || Array.isArray(data)) return [valueText(data)];
  return Object.entries(data).map(([name, value]) =>
    h("span", {}, h("i", {}, spaced(name)), ` ${valueText(value)}`),
  );
}
