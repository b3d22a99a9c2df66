/** The page of one session. */

import {
  duration, elapsed, ENDED, lastHeard, moment, number, percent, percentText, said, segments, sessionLeft, sinceTold, spaced,
  standing, timeOf, took, valueText, WORDS,
} from "../words.js";
import { copyButton } from "./clipboard.js";
import { arrange, attribute, fillBar, framed, glyph, h, s, setGlyph, text } from "./dom.js";
import { Estimate } from "./estimate.js";
import { Events } from "./events.js";
import { pair, Pairs, resultOf } from "./facts.js";
import { showIcon } from "./favicon.js";
import { Parts } from "./parts.js";
import { Phases } from "./phases.js";
import { typedAs } from "./search.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";
import { Throughput } from "./throughput.js";

/** How many custom events the page keeps. */
const EVENTS = 1000;

/** With more phases than this the bar is one piece: their segments would be too narrow to tell anything. */
const SEGMENTS = 48;

/** Milliseconds in which the server would have answered, if there was anything to tell. */
const ANSWERED = 1500;

/** Whether it goes on: what it measured of its speed is true only then. */
function moves(state) {
  return !ENDED.includes(state.status) && state.liveness === "ok";
}

export class SessionPage {
  #store;
  #leave;
  #timer;
  #draw = framed(() => this.#drawNow());
  #state = null;
  #etaAt = 0;
  #announced = "";
  #shownAt = 0;

  #title = h("h1");
  #under = h("div", { class: "under" });
  #stop;
  #callout = h("div", { class: "callout", hidden: true });
  #hero;
  #figure = h("span");
  #glyph = glyph("pending");
  #standing = h("span");
  #message = h("p", { class: "hero-message" });
  #eta = pair("Left");
  #ran = pair("Running for");
  #began = pair("Started");
  #segments = h("div", { class: "segments" });
  #segmentRows = new Map();
  #progress;
  #estimate = new Estimate();
  #phases = new Phases();
  #phaseCount = h("b");
  #parts;
  #counters = new Pairs("Counters", "big");
  #fields = new Pairs("Fields", "");
  #throughput = new Throughput();
  #timeline = new Timeline();
  #events = new Events();
  #result = h("section", { class: "block", hidden: true, "aria-label": "Result" });
  #shownResult = undefined;
  #live = h("p", { class: "sr", role: "status" });
  #missing = h("div", { class: "empty", hidden: true });
  #body;
  #tools;

  /**
   * @param app Of the page: its `client`, and what Tools need.
   * @param id The session.
   * @param ask Called with the session when the reader wants it cancelled.
   * @param list The address of the list to go back to.
   */
  constructor(app, id, ask, list) {
    this.session = id;
    this.#tools = new Tools(id, app);
    this.#parts = new Parts(app.client, id);
    this.#store = app.client.session(id, { events: EVENTS, wait: true });
    this.#stop = h("button", { class: "stop", type: "button", hidden: true, onclick: () => ask(this.#state) }, "Cancel…");
    this.#progress = h(
      "div",
      { role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 },
      this.#segments,
    );
    this.#hero = h(
      "section",
      { class: "hero", "aria-label": "Progress" },
      h(
        "div",
        { class: "hero-line" },
        h("div", { class: "hero-figure", "aria-hidden": "true" }, this.#figure, h("small", {}, "%")),
        h("div", { class: "hero-said" }, h("div", { class: "hero-standing" }, this.#glyph, this.#standing), this.#message),
        h("dl", { class: "figures" }, this.#eta.element, this.#ran.element, this.#began.element),
      ),
      this.#progress,
      this.#estimate.element,
    );
    this.#body = h(
      "div",
      { hidden: true },
      h("div", { class: "head" }, h("div", { class: "head-name" }, this.#title, this.#under, this.#tools.element), this.#stop),
      this.#hero,
      this.#callout,
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          {},
          h(
            "section",
            { class: "block", "aria-labelledby": "phases-name" },
            h("h2", {}, h("span", { id: "phases-name" }, "Phases"), this.#phaseCount),
            this.#phases.element,
          ),
          this.#parts.element,
          this.#timeline.element,
          this.#result,
          this.#events.element,
        ),
        h("div", {}, this.#throughput.element, this.#counters.element, this.#fields.element),
      ),
    );
    this.element = h(
      "div",
      {},
      h(
        "a",
        { class: "crumb", href: list },
        s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: "M9.5 3.5L5 8l4.5 4.5" })),
        "Sessions",
      ),
      this.#missing,
      this.#body,
      this.#live,
    );
  }

  show() {
    this.#shownAt = Date.now();
    this.#leave = this.#store.subscribe(() => this.#took());
    this.#timer = setInterval(() => this.#tick(), 1000);
    this.#parts.show();
    document.title = `${this.session} · trio-progress`;
    this.#took();
  }

  hide() {
    this.#leave();
    clearInterval(this.#timer);
    this.#parts.hide();
    showIcon(null);
  }

  #took() {
    const view = this.#store.getSnapshot();
    if (view.state !== null && view.state !== this.#state) {
      this.#etaAt = timeOf(view);
      this.#throughput.meter.take(view.state, Date.now());
    }
    this.#state = view.state;
    if (view.state !== null) {
      const done = ENDED.includes(view.state.status) ? "" : `${percentText(percent(view.state.progress))} · `;
      document.title = `${done}${view.state.title}`;
      showIcon(view.state.status === "completed" ? 1 : view.state.progress, standing(view.state));
    }
    this.#draw();
  }

  #drawNow() {
    const view = this.#store.getSnapshot();
    const { state } = view;
    this.#body.hidden = state === null;
    this.#missing.hidden = state !== null;
    if (state === null) {
      this.#drawMissing(view);
      return;
    }
    const now = timeOf(view);
    const where = standing(state);
    const ended = ENDED.includes(state.status);
    text(this.#title, state.title);
    this.#drawUnder(state);
    this.#tools.draw(state);
    this.#stop.hidden = ended || view.error !== null || !view.verbs.includes("cancel");
    attribute(this.#hero, "data-standing", where);
    text(this.#figure, String(percent(state.progress)));
    setGlyph(this.#glyph, where);
    text(this.#message, state.message ?? "");
    this.#drawSegments(state);
    this.#phases.draw(state.phases, this.#times(state, now), moves(state));
    attribute(this.#phases.element, "data-still", !moves(state));
    const over = state.phases.filter((phase) => phase.status === "completed" || phase.status === "skipped").length;
    text(this.#phaseCount, state.phases.length ? `${over} of ${state.phases.length}` : "");
    this.#counters.draw(Object.entries(state.counters).map(([name, value]) => [spaced(name), number(value)]));
    this.#fields.draw(Object.entries(state.fields).map(([name, value]) => [spaced(name), valueText(value)]));
    this.#throughput.draw();
    this.#events.draw(view.events, view.dropped, ended);
    this.#drawResult(state.result);
    this.#announce(state, where);
    this.#tick();
  }

  /** What changes with the time alone. */
  #tick() {
    const view = this.#store.getSnapshot();
    const { state } = view;
    if (state === null) {
      this.#drawMissing(view);
      return;
    }
    const now = timeOf(view);
    const ended = ENDED.includes(state.status);
    if (view.error !== null) {
      // Nothing is known of it any more: no clock goes on.
      if (!ended) text(this.#standing, "Unknown");
      this.#eta.set(null);
      this.#drawCallout(state, view, now);
      return;
    }
    text(this.#standing, said(state, now));
    this.#eta.set(sessionLeft(state, now, this.#etaAt, { label: false }) || null);
    const times = this.#times(state, now);
    const seconds = times.ran;
    this.#ran.name(ended ? "Took" : standing(state) === "lost" ? "Ran for" : "Running for");
    this.#ran.set(seconds === null ? null : (ended ? took : duration)(seconds));
    const began = state.started_at ?? state.queued_at;
    this.#began.name(state.started_at ? "Started" : "Queued");
    this.#began.set(began ? moment(began, now) : null);
    this.#phases.tick(times, moves(state));
    this.#parts.draw(state, times);
    this.#estimate.draw(state.phases, times);
    this.#timeline.draw(state, now);
    this.#drawCallout(state, view, now);
  }

  #times(state, now) {
    return { now: lastHeard(state, now), ran: elapsed(state, now), since: sinceTold(state, now, this.#etaAt) };
  }

  #drawUnder(state) {
    const parts = [
      state.parent ? h("a", { class: "other", href: `#/${encodeURIComponent(state.parent)}` }, `Part of ${state.parent}`) : null,
      state.id === state.title ? null : h("span", { class: "mono" }, state.id),
      state.pipeline && state.pipeline !== state.title ? h("span", {}, state.pipeline) : null,
      state.attempt > 1 ? h("span", {}, `attempt ${state.attempt}`) : null,
      ...Object.entries(state.labels).map(([name, value]) =>
        h("a", { class: "tag", href: `#/?${new URLSearchParams({ q: typedAs([`${name}=${value}`]) })}` }, h("span", {}, `${name}=${value}`)),
      ),
    ];
    const key = JSON.stringify([state.id, state.title, state.parent, state.pipeline, state.attempt, state.labels]);
    if (this.#under.dataset.key === key) return;
    this.#under.dataset.key = key;
    this.#under.replaceChildren(...parts.filter(Boolean));
  }

  #drawSegments(state) {
    const parts = state.phases.length > 0 && state.phases.length <= SEGMENTS
      ? segments(state.phases)
      : [{ name: "", title: state.title, status: state.status, share: 1, fraction: state.progress }];
    const rows = arrange(this.#segments, parts, this.#segmentRows, (part) => part.name, () => ({
      element: h("div", { class: "bar" }),
    }));
    rows.forEach(({ element }, index) => {
      const part = parts[index];
      element.style.setProperty("--share", String(part.share));
      attribute(element, "data-standing", part.status);
      attribute(element, "title", part.fraction === null ? part.title : `${part.title}: ${percentText(percent(part.fraction))}`);
      fillBar(element, part.status === "running" ? part.fraction : (part.fraction ?? 0));
    });
    const value = percent(state.progress);
    attribute(this.#progress, "aria-valuenow", value);
    attribute(this.#progress, "aria-valuetext", `${percentText(value)}, ${WORDS[standing(state)]}`);
  }

  #drawCallout(state, view, now) {
    const parts = [];
    let kind = "bad";
    let since = "";
    if (view.error !== null) {
      const gone = view.error.code === "not_found";
      kind = "warn";
      parts.push(
        h("strong", {}, gone ? "This session no longer exists on the server" : "This session cannot be followed"),
        h("p", {}, gone ? "It was deleted, has expired, or you may not see it." : view.error.message),
        h("p", {}, "This page shows its last known state."),
      );
    } else if (state.error !== null && state.error !== undefined) {
      const { type, message, details } = state.error;
      kind = ["cancelled", "interrupted"].includes(state.status) ? "warn" : "bad";
      parts.push(h("strong", {}, type), message ? h("p", {}, message) : null);
      if (details && Object.keys(details).length) parts.push(h("pre", {}, JSON.stringify(details, null, 2)));
    } else if (state.status === "lost" || state.liveness === "lost") {
      since = state.heartbeat_at ? ` Its last heartbeat was ${duration((now - Date.parse(state.heartbeat_at)) / 1000)} ago.` : "";
      parts.push(h("strong", {}, "Its process is lost"), h("p", {}, `How it ended is unknown.${since}`));
    }
    const { end } = view;
    if (end !== null && end.persisted_seq !== null && end.persisted_seq < end.seq) {
      kind = "warn";
      parts.push(h("p", {}, "The final state is shown here but was not stored."));
    }
    if (end?.resumable) parts.push(h("p", {}, "It can be resumed from where it stopped."));
    const key = JSON.stringify([parts.length, state.error, state.status, state.liveness, end, since, view.error]);
    this.#callout.hidden = parts.length === 0 || (parts.length === 1 && Boolean(end?.resumable) && !state.error);
    attribute(this.#callout, "data-kind", kind);
    if (this.#callout.dataset.key === key) return;
    this.#callout.dataset.key = key;
    this.#callout.replaceChildren(...parts.filter(Boolean));
  }

  #drawResult(result) {
    const key = JSON.stringify(result ?? null);
    if (key === this.#shownResult) return;
    this.#shownResult = key;
    this.#result.hidden = result === null || result === undefined;
    if (this.#result.hidden) return;
    const written = typeof result === "string" ? result : JSON.stringify(result, null, 2);
    const copy = copyButton("Copy", () => written);
    const head = h("h2", {}, "Result", h("span", { class: "aside" }, copy));
    this.#result.replaceChildren(head, h("div", { class: "result", tabindex: 0 }, ...resultOf(result)));
  }

  #drawMissing(view) {
    const { error, connection } = view;
    // The server is silent about a session that it waits for.
    const waits = connection.status === "open" && Date.now() - Math.max(this.#shownAt, connection.since) > ANSWERED;
    let [what, why] = ["Loading this session", "Waiting for the server."];
    if (connection.status === "stopped" || error !== null) {
      [what, why] = ["This session cannot be shown", error?.message ?? connection.reason ?? "The server gave no reason."];
    } else if (waits) {
      [what, why] = [`No session ${view.session} yet`, "It appears here as soon as it starts, if you may see it."];
    }
    const key = `${what} ${why}`;
    if (this.#missing.dataset.key === key) return;
    this.#missing.dataset.key = key;
    this.#missing.replaceChildren(h("strong", {}, what), h("span", {}, why));
  }

  #announce(state, where) {
    // Each standing and each phase once, not each percent: this is read aloud.
    const running = state.phases.find((phase) => phase.status === "running");
    const words = [WORDS[where], where === "running" && running ? running.title : null].filter(Boolean).join(": ");
    if (words === this.#announced) return;
    this.#announced = words;
    text(this.#live, words);
  }
}
