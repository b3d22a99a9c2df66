/** The list of sessions, kept from the messages of a subscription to "*". */

import { Store } from "./store.js";

/** Sessions that are kept: a page that stays open for weeks lets go of those that ended longest ago. */
const MOST = 2000;
/** Milliseconds until a list that could not be had is asked for again, give or take half. */
const LATER = 4000;

const NOTHING = Object.freeze({ sessions: Object.freeze([]), loaded: false, complete: true, clockOffset: 0, error: null });

export class ListStore extends Store {
  /** The connection by which it is told. */
  link;
  #env;
  #labels;
  #request;
  #leave = null;
  #heads = new Map();
  /** The sessions that the list which is coming has named so far; null while none is coming. */
  #named = null;
  #cursor = null;
  #changes = {};
  #again = null;

  /** @param request Asks the server for JSON: `(method, path)`. */
  constructor(link, env, labels, request) {
    super(Object.freeze({ ...NOTHING, connection: link.getSnapshot() }), env);
    this.link = link;
    this.#env = env;
    this.#labels = labels;
    this.#request = request;
  }

  begin() {
    this.#leave = this.link.subscribe(() => this.#connected());
    this.link.want("*", {
      request: () => ({ type: "subscribe", session: "*", labels: this.#labels }),
      stream: () => ({ path: `events?${this.#query()}`, since: null }),
      take: (message) => this.#take(message),
    });
    this.#connected();
  }

  finish() {
    this.#leave();
    this.#env.clearTimeout(this.#again);
    this.link.drop("*");
  }

  /** Asks for a further page of older sessions. */
  async more() {
    const query = this.#query();
    query.set("cursor", this.#cursor);
    const page = await this.#request("GET", `sessions?${query}`);
    for (const state of page.sessions) {
      // What has been listed is live, and newer.
      if (!this.#heads.has(state.id)) this.#heads.set(state.id, Object.freeze(state));
    }
    this.#cursor = page.cursor;
    this.#changed({ complete: page.cursor === null });
  }

  #query() {
    return new URLSearchParams(Object.entries(this.#labels).map(([name, value]) => ["label", `${name}:${value}`]));
  }

  #connected() {
    const connection = this.link.getSnapshot();
    if (connection !== this.latest.connection) this.put(Object.freeze({ ...this.latest, connection }), true);
  }

  #take(message) {
    switch (message.type) {
      case "subscribed":
        // What is shown stays until the new list is whole.
        this.#named = new Set();
        this.#changed({ clockOffset: Date.parse(message.server_time) - this.#env.now(), error: null });
        break;
      case "listed":
        this.#named?.add(message.session);
        this.#heads.set(message.session, Object.freeze({ ...message.head, verbs: message.verbs }));
        this.#changed({});
        break;
      case "listing":
        for (const id of this.#heads.keys()) if (this.#named !== null && !this.#named.has(id)) this.#heads.delete(id);
        this.#named = null;
        this.#cursor = message.cursor;
        this.#changed({ loaded: true, complete: message.complete });
        break;
      case "unlisted":
        this.#heads.delete(message.session);
        this.#changed({});
        break;
      case "error":
        this.#changed({ error: Object.freeze({ code: message.code, message: message.message }) });
        if (message.code === "unavailable") this.#later();
    }
  }

  /** Asks again after a while. */
  #later() {
    this.#env.clearTimeout(this.#again);
    this.#again = this.#env.setTimeout(() => this.link.again("*"), LATER * (0.5 + this.#env.random()));
  }

  #bound() {
    const over = this.#heads.size - MOST;
    if (over <= 0) return;
    const ended = [...this.#heads.values()].filter((head) => head.ended_at);
    ended.sort((a, b) => Date.parse(a.ended_at) - Date.parse(b.ended_at));
    // Some more than must be, so that this is not done at each change.
    for (const head of ended.slice(0, over + MOST / 10)) this.#heads.delete(head.id);
  }

  #changed(changes) {
    Object.assign(this.#changes, changes);
    this.change((before) => {
      this.#bound();
      const view = { ...before, ...this.#changes, sessions: Object.freeze([...this.#heads.values()]) };
      this.#changes = {};
      return Object.freeze(view);
    });
  }
}
