/** One session, merged from its messages. */

import { emptyView, merge, OutOfStep } from "./merge.js";
import { Store } from "./store.js";

/** Milliseconds until a session that could not be had is asked for again, give or take half; */
const LATER = 4000;
/** and one that has ended. Nobody tells that it was gone on with, or run anew: its subscription is over. */
const FOLLOWING = 8000;
const RUN_ANEW = 30_000;

/** What the protocol allows. */
const MOST_EVENTS = 10_000;
const MOST_HZ = 1000;

export class SessionStore extends Store {
  #link;
  #env;
  #id;
  #events;
  #maxHz;
  #wait;
  #leave = null;
  #again = null;
  #fits = true;
  /** Whether the server has said that what is shown is not there, or not to be seen: it is waited for again. */
  #gone = false;

  constructor(link, env, { id, events, maxHz, wait }) {
    check(id, events, maxHz);
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
    check(this.#id, events, maxHz);
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
      over: () => this.latest.end !== null || this.latest.error !== null,
    });
    this.#connected();
    this.#follow();
  }

  finish() {
    this.#leave();
    this.#env.clearTimeout(this.#again);
    this.#link.drop(this.#id);
  }

  #request() {
    const since = this.#since();
    return {
      type: "subscribe",
      session: this.#id,
      events: this.#events,
      wait: this.#waits,
      ...(since === null ? null : { since }),
      ...(this.#maxHz === null ? null : { max_hz: this.#maxHz }),
    };
  }

  #stream() {
    const query = new URLSearchParams({ events: String(this.#events), wait: this.#waits ? "1" : "0", sparse: "1" });
    if (this.#maxHz !== null) query.set("max_hz", String(this.#maxHz));
    return { path: `sessions/${encodeURIComponent(this.#id)}/events?${query}`, since: this.#since() };
  }

  #since() {
    return this.#fits ? this.latest.resume : null;
  }

  /** What is shown may be deleted by now, or have expired, or been of a server that kept nothing: that is asked first. */
  get #waits() {
    return this.latest.state === null ? this.#wait : this.#gone;
  }

  /** Asks again after a while, for as long as somebody listens. */
  #later(delay) {
    this.#env.clearTimeout(this.#again);
    this.#again = this.#env.setTimeout(() => {
      this.#link.again(this.#id);
      this.#follow(); // The answer to that may be silence.
    }, delay * (0.5 + this.#env.random()));
  }

  /** Asks now and then whether what has ended goes on, or was run anew. */
  #follow() {
    const { end } = this.latest;
    if (end !== null) this.#later(end.resumable ? FOLLOWING : RUN_ANEW);
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
    if (message.type === "error" && ["unavailable", "too_many"].includes(message.code)) this.#later(LATER);
    if (message.type === "subscribed" || message.type === "snapshot") this.#gone = false;
    // What is known of it stays, and another run is waited for.
    const lost = message.type === "error" && message.code === "not_found" && this.latest.state !== null && !this.#gone;
    if (lost) {
      this.#gone = true;
      this.#fits = false;
    }
    const known = this.latest.end;
    this.put(view, message.type === "end");
    if (lost && this.#wait) this.#link.again(this.#id);
    if (view.end !== known) {
      this.#env.clearTimeout(this.#again);
      this.#follow();
    }
  }
}

function check(id, events, maxHz) {
  if (typeof id !== "string" || !/^[A-Za-z0-9._:-]{1,128}$/.test(id)) {
    throw new TypeError(`a session's id is 1 to 128 of A-Z a-z 0-9 . _ : -, not ${JSON.stringify(id)}`);
  }
  if (!Number.isInteger(events) || events < 0 || events > MOST_EVENTS) {
    throw new TypeError(`events must be a whole number from 0 to ${MOST_EVENTS}, not ${JSON.stringify(events)}`);
  }
  if (maxHz !== null && !(maxHz > 0 && maxHz <= MOST_HZ)) {
    throw new TypeError(`maxHz must be above 0 and at most ${MOST_HZ}, not ${JSON.stringify(maxHz)}`);
  }
}
