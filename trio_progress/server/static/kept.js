/**
 * The stores of one client, by what they are of: who asks for the same is given the same, so that it may be asked for in
 * a render. Those that nobody listens to are kept for a while: who comes back sees their last state at once.
 */

/** Stores that are kept, or more where more are listened to. */
const KEPT = 50;

/** Milliseconds between a render that asks for a store and the subscription to it, at most. */
const RENDERED = 10_000;

export class Kept {
  #stores = new Map();
  #now;

  /** @param now The time in milliseconds. */
  constructor(now) {
    this.#now = now;
  }

  /** The store of that key, which `make` makes where there is none. */
  get(key, make) {
    const store = this.#stores.get(key)?.store ?? make();
    this.#stores.delete(key); // What was asked for last comes last.
    this.#stores.set(key, { store, asked: this.#now() });
    for (const [other, { store: old, asked }] of this.#stores) {
      if (this.#stores.size <= KEPT) break;
      if (!old.heard && this.#now() - asked > RENDERED) this.#stores.delete(other);
    }
    return store;
  }

  /** All of them. */
  all() {
    return [...this.#stores.values()].map(({ store }) => store);
  }
}
