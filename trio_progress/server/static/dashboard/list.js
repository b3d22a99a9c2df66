/** The list of sessions: what goes on above, what has ended below, found by words, labels and standing. */

import { number, standing, timeOf } from "../words.js";
import { attribute, framed, h, keepingFocus, s, text } from "./dom.js";
import { Facets } from "./facets.js";
import { showIcon } from "./favicon.js";
import { Listing } from "./listing.js";
import { Row } from "./row.js";
import { FILTERS, typedAs, wordsOf } from "./search.js";
import { Selection } from "./selection.js";
import { Windowed } from "./windowed.js";

/** Pixels at the top of the window that the page's header covers. */
const HEADER = 52;
/** With more running sessions than this none of their rows moves by itself: their bars move by what is done. */
const MANY = 12;
/** Rows without a session that are kept for the next: to make one costs more than to show it. */
const SPARE = 40;
/** Milliseconds until the labels' chips are counted again. */
const COUNTED = 900;

export class ListPage {
  #store;
  #leave;
  #timer;
  #go;
  #filter;
  #query;
  /** The rows that are in the document. */
  #rows = new Map();
  #spare = [];
  #now = 0;
  #listing;
  /** What the next frame is for: sessions have changed, or the reader scrolls. */
  #changed = false;
  #scrolled = false;
  #frame = framed(() => this.#drawFrame());
  #draw = () => {
    this.#changed = true;
    this.#frame();
  };
  #placed = () => {
    this.#scrolled = true;
    this.#frame();
  };
  #spread = () => this.#groups.forEach((group) => group.list.spread());
  #from;

  #search;
  #chips = new Map();
  #groups;
  #empty = h("div", { class: "empty", hidden: true });
  #older = h("button", { class: "quiet more", type: "button", hidden: true, onclick: () => this.#more() });
  #failed = false;
  #selection;
  #facets = new Facets((name, value) => this.#label(name, value));
  /** When, and for which search, the labels' chips were counted. */
  #faceted = { at: 0, query: null };
  #count = h("p", { class: "sr", role: "status" });

  /**
   * @param app Of the page: its `client`, the ids of the sessions whose parts are shown (`opened`), and what Selection needs.
   * @param query What is filtered by, as URLSearchParams: `status` and `q`.
   * @param go Called with the changed query, which becomes the page's address.
   * @param from The session from whose page the reader comes back, or null: its row has the focus, and is in sight.
   */
  constructor(app, query, go, from = null) {
    this.#from = from;
    this.#store = app.client.sessions();
    this.#listing = new Listing(app.opened);
    this.#selection = new Selection(app, this.#draw);
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
    const list = () => new Windowed(({ id }) => this.#row(id), (row, item) => this.#drawRow(row, item));
    this.#groups = [new Group("In progress", list()), new Group("Ended", list())];
    this.element = h(
      "div",
      { class: "sessions", onkeydown: (event) => this.#key(event) },
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
        h("div", { class: "filters" }, h("div", { class: "chips", role: "group", "aria-label": "Filter by status" }, ...chips), this.#selection.start),
        this.#facets.element,
      ),
      this.#count,
      this.#empty,
      ...this.#groups.map(({ element }) => element),
      this.#older,
      this.#selection.element,
    );
  }

  show() {
    this.#leave = this.#store.subscribe(this.#draw);
    this.#timer = setInterval(() => this.#tick(), 1000);
    this.#listen("addEventListener");
    this.#placed();
    this.#draw();
    this.#drawFrame();
    this.#tick();
  }

  hide() {
    this.#leave();
    clearInterval(this.#timer);
    this.#listen("removeEventListener");
    showIcon(null);
  }

  #listen(change) {
    window[change]("scroll", this.#placed, { passive: true });
    window[change]("resize", this.#placed);
    window[change]("beforeprint", this.#spread);
    window[change]("afterprint", this.#placed);
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

  /** All that a frame is for, with what is read of the layout first. */
  #drawFrame() {
    if (!this.element.isConnected) return; // It was asked for before the page was left.
    const moved = this.#scrolled && this.#look();
    if (this.#changed) this.#drawNow();
    else if (moved) this.#place();
    this.#changed = this.#scrolled = false;
  }

  #drawNow() {
    const view = this.#store.getSnapshot();
    this.#listing.update(view.sessions, this.#query, this.#filter);
    const { active, ended, counts } = this.#listing;
    for (const { name } of FILTERS) {
      const { chip, count } = this.#chips.get(name);
      text(count, number(counts[name]));
      attribute(chip, "aria-pressed", String(name === this.#filter.name));
      chip.hidden = counts[name] === 0 && name !== "all" && name !== this.#filter.name;
    }
    this.#selection.draw([...active, ...ended].map(({ state }) => state));
    this.#now = timeOf(view);
    keepingFocus(this.element, () => {
      const held = this.#heldId();
      attribute(this.element, "data-many", counts.running > MANY);
      const others = [active, ended].some((rows, index) => rows.length !== this.#groups[index].list.items.length);
      const stay = others ? this.#anchor() : () => {};
      this.#groups[0].draw(active, held);
      this.#groups[1].draw(ended, held);
      stay();
      if (others && this.#look()) this.#place();
      this.#forgetRows();
    });
    if (view.loaded) this.#comeBack();
    this.#drawFacets(view.sessions);
    this.#older.hidden = view.complete;
    text(this.#older, this.#failed ? "Older sessions could not be loaded; try again" : "Show older sessions");
    const shown = counts[this.#filter.name];
    this.#drawEmpty(view, shown);
    text(this.#count, `${shown} ${shown === 1 ? "session" : "sessions"}`);
  }

  async #more() {
    const last = this.#groups[1].list.items.at(-1);
    try {
      const held = document.activeElement === this.#older;
      await this.#store.more();
      this.#failed = false;
      if (held && last) this.#goTo(last.id, null);
    } catch {
      this.#failed = true;
    }
    this.#draw();
  }

  /** Once: from then on it is the reader who says where they are. */
  #comeBack() {
    const from = this.#from;
    this.#from = null;
    if (from !== null && document.activeElement?.matches("body, main")) this.#goTo(this.#listing.shownFor(from), "center");
  }

  #row(id) {
    // One that ends moves down to the other group, as the same row.
    const row = this.#rows.get(id) ?? this.#spare.pop() ?? this.#newRow();
    this.#rows.set(id, row);
    return row;
  }

  #newRow() {
    const label = (...labelled) => this.#label(...labelled);
    const pick = (...picked) => this.#selection.toggle(...picked);
    return new Row(label, pick, (id) => this.#turn(id));
  }

  /**
   * Where rows are above what is read: what keeps that in its place, called when others have come or gone above it. A
   * browser's own scroll anchoring would look for a row too late, when others are shown.
   */
  #anchor() {
    const top = (element) => element.getBoundingClientRect().top;
    if (this.#groups.every(({ list }) => list.items.length === 0 || top(list.element) >= 0)) return () => {};
    const read = [...this.#rows.values()]
      .map(({ element }) => ({ element, list: element.parentElement, before: top(element) }))
      .filter(({ before }) => before >= HEADER)
      .sort((one, other) => one.before - other.before);
    return () => {
      const same = read.find(({ element, list }) => element.parentElement === list);
      if (same) window.scrollBy(0, top(same.element) - same.before);
    };
  }

  #drawRow(row, item) {
    row.draw(item, this.#now, this.#query);
    row.choose(this.#selection.on ? this.#selection.has(item.id) : null);
  }

  #turn(id, open) {
    this.#listing.turn(id, open);
    this.#draw();
  }

  /** Shows the parts of the session whose row has the focus, or no longer; from one without it goes to whose part it is. */
  turn(open) {
    this.#drawFrame(); // A key may come before the frame that shows what the one before has done.
    const held = this.#heldId();
    const row = this.#groups.flatMap(({ list }) => list.items).find(({ id }) => id === held);
    if (row?.parts && row.open !== open) this.#turn(held, open);
    else if (row?.depth && !open) this.#goTo(row.parent, "nearest");
  }

  /** Counts anew after a while: labels seldom change, and sessions do at each message. */
  #drawFacets(sessions) {
    const { at, query } = this.#faceted;
    if (query === this.#query && Math.abs(this.#now - at) < COUNTED) return;
    if (sessions.length) this.#faceted = { at: this.#now, query: this.#query };
    this.#facets.draw(sessions, this.#query);
  }

  #forgetRows() {
    for (const [id, row] of this.#rows) {
      if (row.element.isConnected) continue;
      this.#rows.delete(id);
      if (this.#spare.length < SPARE) this.#spare.push(row);
    }
  }

  /** The session whose row has the focus, or null. */
  #heldId() {
    if (document.activeElement === document.body) return null;
    for (const [id, row] of this.#rows) if (row.element.contains(document.activeElement)) return id;
    return null;
  }

  /** Whether other rows are in sight than were drawn. Reads the layout. */
  #look() {
    return this.#groups.map(({ list }) => list.look()).some(Boolean);
  }

  /** Draws those that are. */
  #place() {
    for (const { list } of this.#groups) list.place();
    this.#forgetRows();
  }

  /** Gives the focus to a session's row and, unless `block` is null, brings it into sight. */
  #goTo(id, block) {
    const row = this.#groups.map(({ list }) => list.reveal(id)).find(Boolean);
    row?.link.focus({ preventScroll: true });
    if (block !== null) row?.element.scrollIntoView({ block });
  }

  #tick() {
    const view = this.#store.getSnapshot();
    this.#now = timeOf(view);
    for (const row of this.#rows.values()) row.tick(this.#now);
    this.#drawFacets(view.sessions);
    this.#drawTitle(view.sessions);
  }

  /** The tab says how many run, and how far they are all in all. */
  #drawTitle(sessions) {
    const running = sessions.filter(({ status }) => status === "running");
    document.title = `${running.length ? `${number(running.length)} running · ` : ""}Sessions · trio-progress`;
    const stalls = running.length > 0 && running.every((state) => standing(state) !== "running");
    const whole = running.reduce((sum, { progress }) => sum + progress, 0);
    showIcon(running.length ? whole / running.length : null, stalls ? "stalled" : "running");
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

  /** Chooses the session whose row has the focus; without one it begins to choose. */
  pick() {
    const held = this.#heldId();
    if (held === null) this.#selection.turn(true);
    else this.#selection.toggle(held);
  }

  /** Chooses none any more; returns whether it did. */
  leave() {
    const { on } = this.#selection;
    this.#selection.turn(false);
    return on;
  }

  /** Moves from row to row: by 1 or -1, or to the first and the last by a larger number. */
  move(by) {
    this.#drawFrame(); // As in turn().
    const ids = this.#groups.flatMap(({ list }) => list.items.map(({ id }) => id));
    if (ids.length === 0) return;
    const at = ids.indexOf(this.#heldId());
    this.#goTo(ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : Math.min(Math.max(at + by, 0), ids.length - 1)], "nearest");
  }
}

class Group {
  #count = h("b");

  constructor(name, list) {
    this.list = list;
    this.element = h(
      "section",
      { class: "group", "aria-label": name, hidden: true },
      h("h2", { class: "group-name" }, name, this.#count),
      list.element,
    );
  }

  draw(rows, held) {
    this.element.hidden = rows.length === 0;
    // Whether parts are shown is no matter to how many there are.
    text(this.#count, number(rows.filter(({ depth }) => depth === 0).length));
    this.list.draw(rows, held);
  }
}
