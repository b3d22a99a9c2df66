/** One session, merged from its messages. */

import { emptyView, merge, OutOfStep } from "./merge.js";
import { Store } from "./store.js";

export class SessionStore extends Store {
  #link;
  #env;
  #id;
  #events;
  #maxHz;
  #wait;
  #leave = null;
  #fits = true;

  constructor(link, env, { id, events, maxHz, wait }) {
    super(Object.freeze({ ...emptyView(id), connection: link.getSnapshot() }), env);
    this.#link = link;
    this.#env = env;
    this.#id = id;
    this.#events = events;
    this.#maxHz = maxHz;
    this.#wait = wait;
  }

  /** Somebody else wants it as well, and more of it. */
  widen({ events, maxHz }) {
    const faster = this.#maxHz !== null && (maxHz === null || maxHz > this.#maxHz);
    const more = events > this.#events;
    if (faster) this.#maxHz = maxHz;
    if (more) {
      this.#events = events;
      this.#fits = false; // Older events come with a new beginning only.
    }
    if ((faster || more) && this.heard) this.#link.again(this.#id);
  }

  begin() {
    this.#leave = this.#link.subscribe(() => this.#connected());
    this.#link.want(this.#id, {
      request: () => this.#request(),
      stream: () => this.#stream(),
      take: (message) => this.#take(message),
    });
    this.#connected();
  }

  finish() {
    this.#leave();
    this.#link.drop(this.#id);
  }

  #request() {
    const since = this.#since();
    return {
      type: "subscribe",
      session: this.#id,
      events: this.#events,
      wait: this.#wait,
      ...(since === null ? null : { since }),
      ...(this.#maxHz === null ? null : { max_hz: this.#maxHz }),
    };
  }

  #stream() {
    const query = new URLSearchParams({ events: String(this.#events) });
    if (this.#maxHz !== null) query.set("max_hz", String(this.#maxHz));
    return { path: `sessions/${encodeURIComponent(this.#id)}/events?${query}`, since: this.#since() };
  }

  #since() {
    return this.#fits ? this.latest.resume : null;
  }

  #connected() {
    const connection = this.#link.getSnapshot();
    if (connection !== this.latest.connection) this.put(Object.freeze({ ...this.latest, connection }), true);
  }

  #take(message) {
    let view;
    try {
      view = merge(this.latest, message, this.#events, this.#env.now());
    } catch (error) {
      if (!(error instanceof OutOfStep)) throw error;
      // Once, and until a snapshot has come: what else is under way does not fit either.
      if (this.#fits) {
        this.#fits = false;
        this.#link.again(this.#id);
      }
      return;
    }
    if (message.type === "snapshot") this.#fits = true;
    this.put(view, message.type === "end");
  }
}
