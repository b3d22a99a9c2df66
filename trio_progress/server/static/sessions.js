/** The list of sessions, merged from the messages of a subscription to "*". */

import { merge, emptyView, OutOfStep } from "./merge.js";
import { Store } from "./store.js";

export class ListStore extends Store {
  #link;
  #env;
  #labels;
  #leave = null;
  #views = new Map();

  constructor(link, env, labels) {
    super(Object.freeze({ sessions: [], loaded: false, complete: true, clockOffset: 0, error: null, connection: link.getSnapshot() }), env);
    this.#link = link;
    this.#env = env;
    this.#labels = labels;
  }

  begin() {
    this.#leave = this.#link.subscribe(() => this.#changed({ connection: this.#link.getSnapshot() }, true));
    this.#link.want("*", {
      request: () => ({ type: "subscribe", session: "*", labels: this.#labels }),
      stream: () => ({ path: "sessions/events", since: null }),
      take: (message) => this.#take(message),
    });
    this.#changed({ connection: this.#link.getSnapshot() }, true);
  }

  finish() {
    this.#leave();
    this.#link.drop("*");
  }

  more() {}

  #take(message) {
    if (message.session === "*") {
      this.#changed({ loaded: true });
      return;
    }
    const view = this.#views.get(message.session) ?? emptyView(message.session);
    try {
      this.#views.set(message.session, merge(view, message, 0, this.#env.now()));
    } catch (error) {
      if (!(error instanceof OutOfStep)) throw error;
    }
    this.#changed({ loaded: true });
  }

  #changed(changes, now = false) {
    const sessions = [...this.#views.values()].map((view) => view.state).filter(Boolean);
    this.put(Object.freeze({ ...this.latest, sessions, ...changes }), now);
  }
}
