/** Notifications of sessions that end: asked for by a click, for one session and until it has ended, never by itself. */

import { ENDED, elapsed, standing, timeOf, took, WORDS } from "../words.js";

export class Endings {
  #client;
  #open;
  #watched = new Map();

  /** @param open Called with the id of the session whose notification was clicked. */
  constructor(client, open) {
    this.#client = client;
    this.#open = open;
  }

  /** Whether this browser could notify at all: over plain HTTP from another machine none does. */
  static get possible() {
    return window.isSecureContext && "Notification" in window;
  }

  /** Whether a session's end is waited for. */
  waitsFor(id) {
    return this.#watched.has(id);
  }

  /** Waits for a session's end, on whichever page the reader is; returns whether the browser lets it notify. */
  async wait(id) {
    const permission = await Notification.requestPermission();
    if (permission !== "granted") return false;
    if (this.#watched.has(id)) return true;
    const store = this.#client.session(id);
    this.#watched.set(id, () => {});
    this.#watched.set(id, store.subscribe(() => this.#took(id, store)));
    this.#took(id, store);
    return true;
  }

  /** Waits no longer. */
  leave(id) {
    this.#watched.get(id)?.();
    this.#watched.delete(id);
  }

  #took(id, store) {
    const view = store.getSnapshot();
    const { state, error } = view;
    if (!this.#watched.has(id)) return;
    if (error !== null && error.code === "not_found") this.leave(id);
    if (state === null || !ENDED.includes(state.status)) return;
    this.leave(id);
    const seconds = elapsed(state, timeOf(view));
    const body = [WORDS[standing(state)], seconds === null ? "" : `after ${took(seconds)}`].filter(Boolean).join(" ");
    try {
      const notification = new Notification(state.title, { body, tag: id });
      notification.onclick = () => {
        window.focus();
        this.#open(id);
      };
    } catch {
      // Browsers of phones have the name, and throw: what has ended is seen on the page.
    }
  }
}
