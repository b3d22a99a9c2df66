/** The sessions that were declared as parts of this one, and that none of its phases shows. */

import { ENDED, standing } from "../words.js";
import { h, text } from "./dom.js";
import { Phases } from "./phases.js";

/** Parts that are asked for, the newest. */
const MOST = 100;
/** Milliseconds between two looks, as long as the session or a part of it goes on. */
const AGAIN = 5000;

/** The block "Parts", which is not there where there are none. */
export class Parts {
  #client;
  #id;
  #parts = [];
  #going = true;
  #timer = null;
  #rows = new Phases();
  #count = h("b");

  /**
   * @param client By which the server is asked.
   * @param id The session.
   */
  constructor(client, id) {
    this.#client = client;
    this.#id = id;
    this.element = h(
      "section",
      { class: "block", hidden: true, "aria-labelledby": "parts-name" },
      h("h2", {}, h("span", { id: "parts-name" }, "Parts"), this.#count),
      this.#rows.element,
    );
  }

  /** Asks for the parts, again and again until `hide()`. */
  show() {
    this.#timer = setTimeout(() => this.show(), AGAIN);
    if (!document.hidden && (this.#going || this.#parts.some(goesOn))) this.#ask();
  }

  hide() {
    clearTimeout(this.#timer);
  }

  async #ask() {
    try {
      this.#parts = await this.#client.parts(this.#id, { limit: MOST });
    } catch {
      // What is shown stays; the page says that the server cannot be reached.
    }
  }

  /** Draws those that no phase of the session follows; with its times, as phases are drawn. */
  draw(state, times) {
    this.#going = goesOn(state);
    const followed = new Set(followedBy(state.phases));
    const shown = this.#parts.filter(({ id }) => !followed.has(id));
    this.element.hidden = shown.length === 0;
    text(this.#count, `${shown.filter(({ status }) => status === "completed").length} of ${shown.length}`);
    this.#rows.draw(shown.map(asPhase), times, false);
  }
}

function goesOn(state) {
  return !ENDED.includes(state.status);
}

function* followedBy(phases) {
  for (const { follows, phases: below } of phases) {
    if (follows) yield follows.id;
    yield* followedBy(below);
  }
}

/** A part, as a phase that follows it would show it. */
function asPhase(state) {
  return {
    name: state.id, title: state.title, status: standing(state), fraction: state.progress, message: state.message, done: 0, total: null,
    unit: null, rate: null, eta: null, attempt: state.attempt, folded: 0, fields: {}, phases: [], started_after: null, elapsed: null,
    ended_at: state.ended_at, follows: { id: state.id },
  };
}
