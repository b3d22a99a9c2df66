/** What can be done with a session beside looking at it: copying its address, and being told when it ends. */

import { ENDED } from "../words.js";
import { copyButton, curlLine } from "./clipboard.js";
import { attribute, h, text } from "./dom.js";
import { Endings } from "./endings.js";

export class Tools {
  #id;
  #endings;
  #notify = h("button", { class: "quiet", type: "button", hidden: true, onclick: () => this.#turn() });
  #refused = h("span", { class: "hint", role: "status" });

  /**
   * @param id The session.
   * @param app Of the page: the server's `address`, its kind of `auth`, and `endings`.
   */
  constructor(id, app) {
    this.#id = id;
    this.#endings = app.endings;
    const path = encodeURIComponent(id);
    this.element = h(
      "div",
      { class: "tools", role: "group", "aria-label": "Share and notify" },
      copyButton("Copy link", () => `${app.address}#/${path}`),
      copyButton("Copy curl", () => curlLine(`${app.address}sessions/${path}`, app.auth)),
      this.#notify,
      this.#refused,
    );
  }

  draw(state) {
    this.#notify.hidden = !Endings.possible || ENDED.includes(state.status);
    const waits = this.#endings.waitsFor(this.#id);
    attribute(this.#notify, "aria-pressed", String(waits));
    text(this.#notify, waits ? "You are notified when it ends" : "Notify me when it ends");
    if (this.#notify.hidden) text(this.#refused, "");
  }

  async #turn() {
    if (this.#endings.waitsFor(this.#id)) this.#endings.leave(this.#id);
    else {
      const may = await this.#endings.wait(this.#id);
      text(this.#refused, may ? "" : "This browser does not let the page notify you: see its settings for this site.");
    }
    this.draw({ status: this.#notify.hidden ? ENDED[0] : "running" });
  }
}
