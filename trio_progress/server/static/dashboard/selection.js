/**
 * Several sessions chosen in the list, and what is done with all of them: cancelled those that go on, deleted those that
 * have ended. It is asked once more; what the server did not do is told, session by session, and can be tried again.
 */

import { ENDED, number } from "../words.js";
import { copyButton } from "./clipboard.js";
import { attribute, h, text } from "./dom.js";

/** Requests at once. */
const TOGETHER = 6;
/** Sessions that are named in the question, and failures that are told; of more there is the number. */
const NAMED = 8;

const ACTS = {
  cancel: {
    takes: (state) => !ENDED.includes(state.status),
    title: (count) => `Cancel ${count}?`,
    what: "They will be asked to stop. Their progress so far is kept.",
    button: (count) => `Cancel ${count}`,
    failed: "could not be cancelled",
  },
  delete: {
    takes: (state) => ENDED.includes(state.status),
    title: (count) => `Delete ${count}?`,
    what: "All that is stored of them is removed, for everybody. This cannot be undone.",
    button: (count) => `Delete ${count}`,
    failed: "could not be deleted",
  },
};

function counted(count) {
  return `${number(count)} ${count === 1 ? "session" : "sessions"}`;
}

/** The sessions of these with which that may be done; the server has the last word. */
export function allowed(act, states, verbs) {
  return states.filter((state) => ACTS[act].takes(state) && (state.verbs ?? verbs).includes(act));
}

/**
 * Does `act` with each of the ids, a few at once; `told` is called with how many are over.
 *
 * @returns What failed: `[{id, error}]`, in the order of the ids.
 */
export async function doEach(ids, act, told = () => {}) {
  const failed = new Map();
  const waiting = ids.values();
  let over = 0;
  const work = async () => {
    for (const id of waiting) {
      await act(id).catch((error) => failed.set(id, error));
      told((over += 1));
    }
  };
  await Promise.all(Array.from({ length: Math.min(TOGETHER, ids.length) }, work));
  return ids.filter((id) => failed.has(id)).map((id) => ({ id, error: failed.get(id) }));
}

export class Selection {
  #client;
  #verbs;
  #words;
  #changed;
  #shown = [];
  #ids = new Set();
  #last = null;
  #on = false;
  #count = h("strong", { role: "status" });
  #all = h("button", { class: "quiet", type: "button", onclick: () => this.#pickShown() });
  #acts = {};

  /**
   * @param app Of the page: its `client`, the server's `address`, what this reader may do at all (`verbs`), and `words`, by
   *   which an error is told.
   * @param changed Called when others are chosen.
   */
  constructor(app, changed) {
    this.#client = app.client;
    this.#verbs = app.verbs;
    this.#words = app.words;
    this.#changed = changed;
    for (const act of Object.keys(ACTS)) {
      this.#acts[act] = h("button", { class: "stop", type: "button", "data-act": act, onclick: () => this.#ask(act, this.#those(act)) });
    }
    this.start = h("button", { class: "quiet", type: "button", "aria-pressed": "false", hidden: !this.possible, onclick: () => this.turn(!this.#on) }, "Select");
    const links = copyButton("Copy links", () => this.#chosen().map(({ id }) => `${app.address}#/${encodeURIComponent(id)}`).join("\n"));
    const done = h("button", { class: "quiet", type: "button", onclick: () => this.turn(false) }, "Done");
    this.element = h("section", { class: "picked", "aria-label": "Selected sessions", hidden: true },
      this.#count, this.#all, links, h("span", { class: "picked-acts" }, this.#acts.delete, this.#acts.cancel, done));
  }

  /** Whether this reader may do anything with sessions. */
  get possible() {
    return this.#verbs.some((verb) => verb in ACTS);
  }

  /** Whether rows can be chosen now. */
  get on() {
    return this.#on;
  }

  has(id) {
    return this.#ids.has(id);
  }

  /** Begins to choose, or ends that. */
  turn(on) {
    if (!this.possible) return;
    this.#on = on;
    if (!on) this.#ids.clear();
    if (!on && this.element.contains(document.activeElement)) this.start.focus();
    this.#changed();
  }

  /** Chooses a session or no longer; with `range` all from the one before. */
  toggle(id, range = false) {
    if (!this.possible) return;
    this.#on = true;
    const picked = !this.#ids.has(id);
    const ids = this.#shown.map((state) => state.id);
    const [from, to] = [ids.indexOf(this.#last), ids.indexOf(id)].sort((a, b) => a - b);
    for (const one of range && from >= 0 ? ids.slice(from, to + 1) : [id]) {
      if (picked) this.#ids.add(one);
      else this.#ids.delete(one);
    }
    this.#last = id;
    this.#changed();
  }

  /** @param shown The sessions that the list shows, in their order. */
  draw(shown) {
    this.#shown = shown;
    this.element.hidden = !this.#on;
    attribute(this.start, "aria-pressed", String(this.#on));
    if (!this.#on) return;
    const chosen = this.#chosen();
    this.#ids = new Set(chosen.map(({ id }) => id)); // What is no longer shown is not chosen unseen.
    text(this.#count, chosen.length ? `${number(chosen.length)} selected` : "None selected");
    text(this.#all, `Select all ${number(shown.length)}`);
    this.#all.hidden = chosen.length === shown.length;
    for (const [act, button] of Object.entries(this.#acts)) {
      const count = allowed(act, chosen, this.#verbs).length;
      button.hidden = !this.#verbs.includes(act);
      button.disabled = count === 0;
      text(button, `${act === "cancel" ? "Cancel" : "Delete"} ${count ? number(count) : ""}…`);
    }
  }

  #chosen() {
    return this.#shown.filter(({ id }) => this.#ids.has(id));
  }

  #those(act) {
    return allowed(act, this.#chosen(), this.#verbs);
  }

  #pickShown() {
    for (const { id } of this.#shown) this.#ids.add(id);
    this.#changed();
  }

  /** Asks once more; the dialog is made anew each time, and is gone when it is closed. */
  #ask(act, states, failures = []) {
    const words = ACTS[act];
    const titles = new Map(states.map(({ id, title }) => [id, title]));
    const count = counted(states.length);
    const reason = act === "cancel" ? h("input", { id: "several-reason", maxlength: 500, autocomplete: "off" }) : null;
    const told = h("div", { class: "wrong", role: "alert" }, ...this.#failures(failures, words, titles));
    const go = h("button", { class: "danger", type: "submit" }, failures.length ? "Try again" : words.button(count));
    const close = h("button", { class: "quiet", type: "button" }, failures.length ? "Close" : "Not now");
    const form = h("form", { method: "dialog" },
      h("h2", { id: "several-title" }, failures.length ? `${count} ${words.failed}` : words.title(count)),
      failures.length ? null : h("p", {}, words.what),
      failures.length ? null : list(states.map(({ title }) => title)),
      told,
      ...(reason ? [h("label", { for: "several-reason" }, "Reason ", h("span", { class: "hint" }, "optional, shown to everybody")), reason] : []),
      h("div", { class: "buttons" }, close, go));
    const dialog = h("dialog", { class: "several", "aria-labelledby": "several-title" }, form);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      const why = reason?.value.trim() || null;
      const one = (id) => (act === "cancel" ? this.#client.cancel(id, why) : this.#client.delete(id));
      const failed = await doEach([...titles.keys()], one, (over) => text(go, `${number(over)} of ${number(titles.size)}`));
      dialog.close();
      for (const id of titles.keys()) if (!failed.some((other) => other.id === id)) this.#ids.delete(id);
      if (failed.length) this.#ask(act, states.filter(({ id }) => failed.some((other) => other.id === id)), failed);
      this.#changed();
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  #failures(failures, words, titles) {
    return failures.length ? [list(failures.map(({ id, error }) => `“${titles.get(id)}”: ${this.#words(error)}`))] : [];
  }
}

function list(lines) {
  const shown = lines.length > NAMED + 1 ? [...lines.slice(0, NAMED), `and ${number(lines.length - NAMED)} more`] : lines;
  return h("ul", { class: "named" }, ...shown.map((line) => h("li", {}, line)));
}
