/** The list of sessions: what goes on above, what has ended below, found by words, labels and standing. */

import { number, standing, timeOf } from "../words.js";
import { arrange, attribute, framed, h, keepingFocus, s, text } from "./dom.js";
import { Row } from "./row.js";
import { FILTERS, grouped, searching, tally, typedAs, wordsOf } from "./search.js";

export class ListPage {
  #store;
  #leave;
  #timer;
  #go;
  #filter;
  #query;
  #rows = new Map();
  #draw = framed(() => this.#drawNow());
  #seen = new IntersectionObserver((entries) => this.#scrolled(entries), { rootMargin: "300px" });
  #byElement = new WeakMap();
  #from;

  #search;
  #chips = new Map();
  #active;
  #ended;
  #empty = h("div", { class: "empty", hidden: true });
  #older = h("button", { class: "quiet more", type: "button", hidden: true, onclick: () => this.#more() });
  #failed = false;
  #count = h("p", { class: "sr", role: "status" });

  /**
   * @param client The connection to the server.
   * @param query What is filtered by, as URLSearchParams: `status` and `q`.
   * @param go Called with the changed query, which becomes the page's address.
   * @param from The session from whose page the reader comes back, or null: its row has the focus, and is in sight.
   */
  constructor(client, query, go, from = null) {
    this.#from = from;
    this.#store = client.sessions();
    this.#go = go;
    this.#filter = FILTERS.find(({ name }) => name === query.get("status")) ?? FILTERS[0];
    this.#query = query.get("q") ?? "";
    this.#search = h("input", {
      type: "search",
      placeholder: "Search, or label=value",
      "aria-label": "Search the sessions",
      autocomplete: "off",
      spellcheck: "false",
      value: this.#query,
      oninput: () => this.#asked(this.#filter, this.#search.value),
    });
    const chips = FILTERS.map((filter) => {
      const count = h("b");
      const chip = h(
        "button",
        { class: "chip", type: "button", onclick: () => this.#asked(filter, this.#search.value) },
        filter.title,
        count,
      );
      this.#chips.set(filter.name, { chip, count });
      return chip;
    });
    this.#active = new Group("In progress");
    this.#ended = new Group("Ended");
    this.element = h(
      "div",
      { onkeydown: (event) => this.#key(event) },
      h(
        "div",
        { class: "list-head" },
        h("h1", {}, "Sessions"),
        h(
          "div",
          { class: "search", role: "search" },
          this.#search,
          s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("circle", { cx: 7, cy: 7, r: 4.6 }), s("path", { d: "M10.6 10.6L14 14" })),
          h("kbd", { "aria-hidden": "true" }, "/"),
        ),
        h("div", { class: "filters" }, h("div", { class: "chips", role: "group", "aria-label": "Filter by status" }, ...chips)),
      ),
      this.#count,
      this.#empty,
      this.#active.element,
      this.#ended.element,
      this.#older,
    );
  }

  show() {
    this.#leave = this.#store.subscribe(this.#draw);
    this.#timer = setInterval(() => this.#tick(), 1000);
    document.title = "Sessions · trio-progress";
    this.#drawNow();
  }

  hide() {
    this.#leave();
    clearInterval(this.#timer);
    this.#seen.disconnect();
  }

  /** Puts the cursor into the search. */
  search() {
    this.#search.focus();
    this.#search.select();
  }

  #asked(filter, query) {
    this.#filter = filter;
    this.#query = query;
    if (this.#search.value !== query) this.#search.value = query;
    const asked = new URLSearchParams();
    if (filter.name !== "all") asked.set("status", filter.name);
    if (query) asked.set("q", query);
    this.#go(asked);
    this.#draw();
  }

  #label(name, value) {
    const word = `${name}=${value}`;
    const words = wordsOf(this.#query);
    const without = words.filter((other) => other !== word);
    this.#asked(this.#filter, typedAs(without.length === words.length ? [...words, word] : without));
  }

  #drawNow() {
    if (!this.element.isConnected) return; // A frame that was asked for before the page was left.
    const view = this.#store.getSnapshot();
    const found = view.sessions.filter(searching(this.#query));
    const counts = tally(found);
    for (const { name } of FILTERS) {
      const { chip, count } = this.#chips.get(name);
      text(count, number(counts[name]));
      attribute(chip, "aria-pressed", String(name === this.#filter.name));
      chip.hidden = counts[name] === 0 && name !== "all" && name !== this.#filter.name;
    }
    const shown = found.filter((state) => this.#filter.takes(standing(state)));
    const { active, ended } = grouped(shown);
    keepingFocus(this.element, () => {
      this.#active.draw(active, this.#rows, (state) => this.#row(state));
      this.#ended.draw(ended, this.#rows, (state) => this.#row(state));
    });
    for (const [id, row] of this.#rows) {
      if (!row.element.isConnected) this.#rows.delete(id);
    }
    const now = timeOf(view);
    for (const state of shown) {
      const row = this.#rows.get(state.id);
      row.take(state, now);
      if (row.visible) row.draw(now, this.#query);
    }
    if (view.loaded) this.#comeBack();
    this.#older.hidden = view.complete;
    text(this.#older, this.#failed ? "Older sessions could not be loaded; try again" : "Show older sessions");
    this.#drawEmpty(view, shown.length);
    text(this.#count, `${shown.length} ${shown.length === 1 ? "session" : "sessions"}`);
  }

  async #more() {
    try {
      const held = document.activeElement === this.#older;
      await this.#store.more();
      this.#failed = false;
      if (held) this.#ended.element.querySelector("li:last-child a")?.focus({ preventScroll: true });
    } catch {
      this.#failed = true;
    }
    this.#draw();
  }

  /** Once: from then on it is the reader who says where they are. */
  #comeBack() {
    const row = this.#rows.get(this.#from);
    this.#from = null;
    if (row === undefined || !document.activeElement?.matches("body, main")) return;
    row.link.focus({ preventScroll: true });
    row.element.scrollIntoView({ block: "center" });
  }

  #row(state) {
    const row = new Row(state.id, (name, value) => this.#label(name, value));
    this.#byElement.set(row.element, row);
    this.#seen.observe(row.element);
    return row;
  }

  #scrolled(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#byElement.get(target);
      row.visible = isIntersecting;
    }
    this.#tick();
  }

  #tick() {
    const now = timeOf(this.#store.getSnapshot());
    for (const row of this.#rows.values()) if (row.visible) row.draw(now, this.#query);
  }

  #drawEmpty(view, shown) {
    this.#empty.hidden = shown > 0;
    if (shown > 0) return;
    const [title, why] =
      view.sessions.length > 0
        ? ["No matches", "No session matches all of this. Press Esc in the search to clear it."]
        : !view.loaded
          ? ["", view.error?.message ?? (view.connection.status === "stopped" ? (view.connection.reason ?? "") : "Loading.")]
          : ["No sessions yet", "They appear here as soon as one starts or is declared."];
    this.#empty.replaceChildren(h("strong", {}, title), why);
  }

  #key(event) {
    if (event.key === "Escape" && event.target === this.#search) {
      event.preventDefault();
      this.#asked(FILTERS[0], "");
    }
  }

  /** Moves from row to row: by 1 or -1, or to the first and the last by a larger number. */
  move(by) {
    const links = [...this.element.querySelectorAll(".row-title")];
    if (links.length === 0) return;
    const at = links.indexOf(document.activeElement);
    const to = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
    links[to].focus();
    links[to].scrollIntoView({ block: "nearest" });
  }
}

class Group {
  #list = h("ul", { role: "list" });
  #count = h("b");
  #own = new Map();

  constructor(name) {
    this.element = h(
      "section",
      { class: "group", "aria-label": name, hidden: true },
      h("h2", { class: "group-name" }, name, this.#count),
      this.#list,
    );
  }

  draw(states, rows, make) {
    this.element.hidden = states.length === 0;
    text(this.#count, number(states.length));
    arrange(this.#list, states, this.#own, (state) => state.id, (state) => {
      // One that ends moves down to the other group, as the same row.
      const row = rows.get(state.id) ?? make(state);
      rows.set(state.id, row);
      return row;
    });
  }
}
