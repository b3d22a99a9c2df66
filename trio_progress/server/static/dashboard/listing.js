/**
 * What the list shows of the sessions, and in which order. Pure.
 *
 * 1. What goes on stands above, the last begun first; what has ended below, the last ended first.
 * 2. The parts of a session (`parent`) stand below it where it is shown itself, in the order in which they were declared or begun;
 *    else they stand alone.
 *    A session goes on as long as a part of it does.
 * 3. Parts are shown where somebody opened the session that they are of; what is searched for is not hidden.
 * 4. Most changes move a bar and nothing else: those are looked at once, and order, groups and counts stay as they are.
 */

import { ENDED, standing } from "../words.js";
import { FILTERS, searching } from "./search.js";

/** What lies deeper than this is shown as if it lay here. */
const DEEPEST = 4;

export class Listing {
  /** How many sessions each filter lets through, by its name. */
  counts = {};
  /** The rows of what goes on, and of what has ended: `{id, state, depth, parent, parts, open, place, places}`. */
  active = [];
  ended = [];
  #entries = new Map();
  #query = null;
  #matches = null;
  #filter = null;
  /** Sessions whose parts are shown, and those whose parts are not although they were searched for. */
  #opened;
  #closed = new Set();
  #stale = true;

  /** @param opened The ids of the sessions whose parts are shown, a Set that is kept. */
  constructor(opened = new Set()) {
    this.#opened = opened;
  }

  /** Shows the parts of a session, or no longer; `open` says which, and without it the other than now. */
  turn(id, open = !this.#isOpen(id)) {
    if (open === this.#isOpen(id)) return;
    this.#stale = true;
    const set = this.#query ? this.#closed : this.#opened;
    if (set === this.#opened ? open : !open) set.add(id);
    else set.delete(id);
  }

  /** The id of the row in which a session is shown: its own, or that of a session that it is a part of; null: in none. */
  shownFor(id) {
    const rows = new Set([...this.active, ...this.ended].map((row) => row.id));
    const seen = new Set();
    while (id && !rows.has(id) && !seen.has(id)) {
      seen.add(id);
      id = this.#entries.get(id)?.state.parent;
    }
    return rows.has(id) ? id : null;
  }

  /**
   * @param sessions The heads of all sessions: those that have not changed are the same objects as before.
   * @param query What is searched for, as it was typed.
   * @param filter One of FILTERS.
   */
  update(sessions, query, filter) {
    if (query !== this.#query) {
      this.#query = query;
      this.#matches = searching(query);
      this.#closed.clear();
      this.#entries.clear();
      this.#stale = true;
    }
    if (filter !== this.#filter) this.#stale = true;
    this.#filter = filter;
    for (const state of sessions) this.#take(state);
    if (this.#entries.size > sessions.length) this.#forget(sessions);
    if (this.#stale) this.#arrange();
    this.#stale = false;
  }

  #take(state) {
    const known = this.#entries.get(state.id);
    if (known?.state === state) return;
    const now = { state, found: this.#matches(state), where: standing(state), at: begunOrEnded(state), made: made(state), row: known?.row ?? null };
    const moved = known === undefined || known.found !== now.found || known.where !== now.where || known.at !== now.at || known.made !== now.made || known.state.parent !== state.parent;
    if (moved) this.#stale = true;
    else if (known.row) known.row.state = state;
    this.#entries.set(state.id, now);
  }

  #forget(sessions) {
    const there = new Set(sessions.map(({ id }) => id));
    for (const id of this.#entries.keys()) if (!there.has(id)) this.#entries.delete(id);
    this.#stale = true;
  }

  #isOpen(id) {
    return this.#query ? !this.#closed.has(id) : this.#opened.has(id);
  }

  #arrange() {
    const found = [...this.#entries.values()].filter((entry) => entry.found);
    this.counts = Object.fromEntries(FILTERS.map(({ name, takes }) => [name, found.filter(({ where }) => takes(where)).length]));
    const shown = found.filter(({ where }) => this.#filter.takes(where));
    const { roots, partsOf, goesOn } = trees(shown);
    roots.sort(latestFirst);
    for (const parts of partsOf.values()) parts.sort(firstMade);
    this.active = this.#rows(roots.filter((root) => goesOn.has(root)), partsOf);
    this.ended = this.#rows(roots.filter((root) => !goesOn.has(root)), partsOf);
  }

  /** The rows of some sessions, each with its parts below it where those are shown. */
  #rows(roots, partsOf) {
    const rows = [];
    // The last of these is looked at next.
    const waiting = [];
    const wait = (siblings, depth) => {
      for (let place = siblings.length; place > 0; place--) waiting.push({ entry: siblings[place - 1], depth, place, places: siblings.length });
    };
    wait(roots, 0);
    while (waiting.length) {
      const { entry, depth, place, places } = waiting.pop();
      const { id, parent } = entry.state;
      const parts = partsOf.get(id) ?? [];
      const open = parts.length > 0 && this.#isOpen(id);
      const failed = parts.filter(({ where }) => FAILED.takes(where)).length;
      entry.row = { id, state: entry.state, depth, parent: parent ?? null, parts: parts.length, failed, open, place, places };
      rows.push(entry.row);
      if (open) wait(parts, Math.min(depth + 1, DEEPEST));
    }
    return rows;
  }
}

const FAILED = FILTERS.find(({ name }) => name === "failed");

/** Which entries stand by themselves, which are `partsOf` an id, and the roots below which something `goesOn`. */
function trees(shown) {
  const byId = new Map(shown.map((entry) => [entry.state.id, entry]));
  const above = (entry) => byId.get(entry.state.parent);
  const rootOf = new Map();
  for (const entry of shown) {
    const path = new Set();
    let at = entry;
    while (!rootOf.has(at) && !path.has(at) && above(at)) {
      path.add(at);
      at = above(at);
    }
    const root = rootOf.get(at) ?? (path.has(at) ? firstOf(at, above) : at);
    for (const one of [...path, at]) rootOf.set(one, root);
  }
  const partsOf = new Map();
  const goesOn = new Set();
  for (const [entry, root] of rootOf) {
    if (!ENDED.includes(entry.state.status)) goesOn.add(root);
    if (entry === root) continue;
    const siblings = partsOf.get(entry.state.parent);
    if (siblings) siblings.push(entry);
    else partsOf.set(entry.state.parent, [entry]);
  }
  return { roots: shown.filter((entry) => rootOf.get(entry) === entry), partsOf, goesOn };
}

/** Of sessions that are parts of each other one stands by itself: that whose id comes first. */
function firstOf(entry, above) {
  let first = entry;
  for (let at = above(entry); at !== entry; at = above(at)) if (at.state.id < first.state.id) first = at;
  return first;
}

function latestFirst(a, b) {
  return b.at - a.at || (a.state.id < b.state.id ? -1 : 1);
}

function firstMade(a, b) {
  return a.made - b.made || (a.state.id < b.state.id ? -1 : 1);
}

/** When it was declared, else begun, in milliseconds. */
function made(state) {
  return Date.parse(state.queued_at ?? state.started_at) || 0;
}

/** When it began, or has ended, in milliseconds. */
function begunOrEnded(state) {
  const begun = state.started_at ?? state.queued_at;
  return Date.parse(ENDED.includes(state.status) ? (state.ended_at ?? begun) : begun) || 0;
}
