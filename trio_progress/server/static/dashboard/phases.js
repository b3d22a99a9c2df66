/** The tree of phases: what runs is open, what has ended is one line, and long lists of what has ended fold. */

import {
  ENDED, count, duration, longerThanUsual, percent, percentText, phaseElapsed, phaseLeft, rate, spaced, took, valueText,
} from "../words.js";
import { arrange, attribute, fillBar, glyph, h, s, setGlyph, text } from "./dom.js";

/** Of finished siblings the last few are shown; those before fold into one line, until somebody asks for them. */
const SHOWN = 8;
/** The same of the session's own phases, which are fewer and tell more. */
const SHOWN_ABOVE = 24;

/** The phases of a session, or of a phase. */
export class Phases {
  #rows = new Map();
  #all = false;
  #rest = h("button", { class: "quiet", type: "button", onclick: () => this.#showAll() });
  #folded = h("div", { class: "rest", hidden: true }, this.#rest);
  #list = h("ul", { role: "list" });
  #drawn = null;
  #depth;

  constructor(depth = 0) {
    this.#depth = depth;
    this.#folded.style.setProperty("--depth", String(depth));
    this.element = h("div", {}, this.#folded, this.#list);
  }

  #showAll() {
    this.#all = true;
    const drawn = this.#drawn;
    this.#drawn = null;
    this.draw(drawn.phases, drawn.times, drawn.live);
    this.#list.tabIndex = -1;
    this.#list.focus({ preventScroll: true });
  }

  /**
   * @param phases The phases, in order.
   * @param times `now`, in milliseconds, the seconds that the session `ran`, and those `since` its state was true.
   * @param live Whether the session goes on: it has not ended, and does not stall.
   */
  draw(phases, times, live) {
    this.#drawn = { phases, times, live };
    const shown = this.#all ? phases : pruned(phases, this.#depth === 0 ? SHOWN_ABOVE : SHOWN);
    const rows = arrange(this.#list, shown, this.#rows, (phase) => phase.name, () => new Row(this.#depth));
    rows.forEach((row, index) => row.draw(shown[index], times, live));
    const left = phases.length - shown.length;
    this.#folded.hidden = left === 0;
    text(this.#rest, `Show ${left} earlier phases`);
  }

  /** Draws again those that count seconds. */
  tick(times, live) {
    if (this.#drawn !== null) this.draw(this.#drawn.phases, times, live);
  }
}

/** All that is not over, and of the rest the last few. */
function pruned(phases, shown) {
  let left = phases.filter(over).length - shown;
  // One line in place of one or two others would save nothing.
  return left < 3 ? phases : phases.filter((phase) => !over(phase) || left-- <= 0);
}

function over(phase) {
  return phase.status === "completed" || phase.status === "skipped";
}

class Row {
  #depth;
  #glyph = glyph("pending");
  #title = h("span");
  #attempt = h("em");
  #session = h("a", { class: "other", hidden: true }, "session");
  #note = h("div", { class: "phase-note" });
  #bar = h("div", { class: "bar" });
  #count = h("span");
  #rate = h("small");
  #time = h("div", { class: "phase-time" });
  #fields = null;
  #below = null;
  #open = null;
  #twist = null;
  #line;
  #phase = null;
  #live = true;
  #times = null;

  constructor(depth) {
    this.#depth = depth;
    this.#line = h(
      "div",
      { class: "phase-line" },
      h(
        "div",
        { class: "phase-name" },
        this.#glyph,
        h("div", {}, h("div", { class: "phase-title" }, this.#title, this.#attempt, this.#session), this.#note),
      ),
      this.#bar,
      h("div", { class: "phase-count" }, this.#count, this.#rate),
      this.#time,
    );
    this.#line.style.setProperty("--depth", String(depth));
    this.element = h("li", { class: "phase" }, this.#line);
  }

  draw(phase, times, live) {
    const runs = phase.status === "running";
    this.#times = times;
    if (phase !== this.#phase || live !== this.#live) {
      this.#phase = phase;
      this.#live = live;
      this.#values(phase, runs);
    }
    const seconds = phaseElapsed(phase, times);
    const told = seconds === null || phase.status === "skipped" ? "" : (phase.ended_at ? took : duration)(seconds);
    text(this.#time, told);
    this.#pace(phase, times, runs && live);
    if (this.#below !== null && this.#isOpen()) this.#below.draw(phase.phases, times, live);
  }

  #values(phase, runs) {
    setGlyph(this.#glyph, phase.status);
    attribute(this.#line, "data-standing", phase.status);
    attribute(this.#bar, "data-standing", phase.status);
    text(this.#title, phase.title);
    attribute(this.#title, "title", phase.title === phase.name ? null : phase.name);
    text(this.#attempt, phase.attempt > 1 ? `attempt ${phase.attempt}` : "");
    this.#drawSession(phase);
    fillBar(this.#bar, phase.status === "completed" ? 1 : phase.status === "pending" ? 0 : phase.fraction);
    attribute(this.#bar, "role", runs ? "progressbar" : null);
    attribute(this.#bar, "aria-label", runs ? phase.title : null);
    attribute(this.#bar, "aria-valuenow", runs && phase.fraction !== null ? percent(phase.fraction) : null);
    const counted = count(phase);
    text(this.#count, counted || (runs && phase.fraction !== null ? percentText(percent(phase.fraction)) : ""));
    this.#drawFields(phase);
    this.#children(phase);
  }

  /** The session that it follows, which has its own page. */
  #drawSession({ title, follows }) {
    this.#session.hidden = !follows;
    if (!follows) return;
    attribute(this.#session, "href", `#/${encodeURIComponent(follows.id)}`);
    attribute(this.#session, "aria-label", `Session of ${title}`);
  }

  #pace(phase, times, goes) {
    const speed = goes && phase.rate ? `${rate(phase.rate, phase.unit)}/s` : "";
    const left = goes ? phaseLeft(phase, times) : "";
    const late = left !== "" && longerThanUsual(phase, times) !== null;
    text(this.#rate, [speed, late ? "" : left].filter(Boolean).join(" · "));
    // It has no room beside the bar.
    this.#say(late ? left : "");
  }

  #say(late) {
    const { message, folded } = this.#phase;
    const words = [message, late, folded ? `${folded} parts folded` : ""].filter(Boolean).join(" · ");
    text(this.#note, words);
    this.#note.hidden = words === "";
  }

  #drawFields(phase) {
    const fields = Object.entries(phase.fields ?? {});
    if (fields.length === 0) {
      this.#fields?.remove();
      this.#fields = null;
      return;
    }
    if (this.#fields === null) {
      this.#fields = h("div", { class: "phase-fields" });
      this.#line.append(this.#fields);
    }
    this.#fields.replaceChildren(
      ...fields.map(([name, value]) => h("span", {}, h("i", {}, spaced(name)), ` ${valueText(value)}`)),
    );
  }

  #isOpen() {
    // What runs is open and what has ended is closed, until somebody says otherwise.
    return this.#open ?? (this.#phase.status === "running" || ENDED.includes(this.#phase.status) && !over(this.#phase));
  }

  #children(phase) {
    if (phase.phases.length === 0) {
      this.#twist?.remove();
      this.#below?.element.remove();
      this.#twist = this.#below = null;
      return;
    }
    if (this.#twist === null) {
      this.#twist = h(
        "button",
        { class: "twist", type: "button", onclick: () => this.#toggle() },
        s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, s("path", { d: "M3.5 1.5L7 5L3.5 8.5" })),
      );
      this.#attempt.after(this.#twist);
      this.#below = new Phases(this.#depth + 1);
      this.element.append(this.#below.element);
    }
    const open = this.#isOpen();
    attribute(this.#twist, "aria-expanded", String(open));
    attribute(this.#twist, "aria-label", `${phase.phases.length} parts of ${phase.title}`);
    this.#below.element.hidden = !open;
  }

  #toggle() {
    this.#open = !this.#isOpen();
    this.#children(this.#phase);
    if (this.#open) this.#below.draw(this.#phase.phases, this.#times, this.#live);
  }
}
