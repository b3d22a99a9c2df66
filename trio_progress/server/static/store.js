/**
 * A value that changes, in the shape that `useSyncExternalStore` wants.
 *
 * `subscribe` and `getSnapshot` are bound and stay the same functions; what `getSnapshot` returns is frozen and is the
 * same object until something has changed. Listeners are told once for all that comes within a moment: a thousand
 * retained events are one change, not a thousand.
 */

/** Calls a listener; what it throws is reported, and is no matter to the others or to the connection. */
export function safely(listener) {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Milliseconds in which changes are gathered: one frame. */
const MOMENT = 16;

export class Store {
  #env;
  #view;
  #next;
  #build = null;
  #timer = null;
  #listeners = new Set();

  constructor(view, env) {
    this.#view = this.#next = view;
    this.#env = env;
  }

  /** The newest view that listeners have been told of. */
  getSnapshot = () => this.#view;

  /** Calls `listener` after each change; returns what ends that. The first one starts the subscription. */
  subscribe = (listener) => {
    // The same function given twice is two listeners, each ended by its own.
    const entry = () => listener();
    this.#listeners.add(entry);
    if (this.#listeners.size === 1) this.begin();
    return () => {
      if (this.#listeners.delete(entry) && this.#listeners.size === 0) this.finish();
    };
  };

  /** Whether anybody listens. */
  get heard() {
    return this.#listeners.size > 0;
  }

  /** The view with all that has come, told or not. */
  get latest() {
    if (this.#build !== null) {
      this.#next = this.#build(this.#next);
      this.#build = null;
    }
    return this.#next;
  }

  /** Takes a new view; listeners are told within a moment, or now. */
  put(view, now = false) {
    if (view === this.latest) return;
    this.#next = view;
    this.#soon(now);
  }

  /** The same with a view that `build` makes of the one before, when it is told; until then it may be given again. */
  change(build) {
    this.#build = build;
    this.#soon(false);
  }

  #soon(now) {
    if (now) this.#flush();
    else this.#timer ??= this.#env.setTimeout(() => this.#flush(), MOMENT);
  }

  #flush() {
    this.#env.clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#view === this.latest) return;
    this.#view = this.#next;
    for (const listener of [...this.#listeners]) safely(listener);
  }

  /** Called when the first listener comes. */
  begin() {}

  /** Called when the last one has gone. */
  finish() {}
}
