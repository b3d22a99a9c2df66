/**
 * `<trio-progress session="r-42" url="https://host/">`: one session's progress in any page.
 *
 *     <script type="module" src="https://host/static/trio-progress-element.js"></script>
 *     <trio-progress session="r-42" url="https://host/"></trio-progress>
 *
 * 1. Attributes are strings, and all of it can be said by them: `session`, `url`, `token`, `heading` (in place of the
 *    session's title), `phases` (shows them), `compact` (the bar and its figure alone), `max-hz`, `words` (JSON, any
 *    part of `WORDS`). A token that must be renewed is given as a property: `element.token = () => fetchToken()`.
 * 2. Nothing of the page reaches into it but the inherited font and colour, the custom properties
 *    `--trio-progress-accent`, `-done`, `-warn`, `-bad`, `-track`, `-muted`, `-height`, `-radius`, and the parts
 *    `heading`, `figure`, `bar`, `said`, `left`, `phases`, `phase`.
 * 3. Its style is a constructed sheet and its figures are set by the object model, so a Content-Security-Policy
 *    without any `unsafe-*` holds. What a session says is text.
 * 4. A screen reader hears each standing and each phase once; the bar is a `progressbar` that can be asked.
 * 5. It tells the page: `change` and `end` (events that do not bubble), each with the merged view as `detail`.
 */

import { Client } from "./trio-progress.js";
import { count, ENDED, fill, percent, percentText, sessionLeft, standing, timeOf, WORDS } from "./words.js";

const CSS = `
:host { display: block; min-width: 0; font-size: 14px; line-height: 1.45; text-align: start;
  --accent: var(--trio-progress-accent, light-dark(#3355d1, #86a1ff));
  --done: var(--trio-progress-done, light-dark(#2b7a4b, #62c08a));
  --warn: var(--trio-progress-warn, light-dark(#9a6206, #e3b25a));
  --bad: var(--trio-progress-bad, light-dark(#bd2f2b, #f4827b));
  --track: var(--trio-progress-track, color-mix(in srgb, currentColor 13%, transparent));
  --muted: var(--trio-progress-muted, color-mix(in srgb, currentColor 72%, transparent));
  --height: var(--trio-progress-height, 6px);
  --radius: var(--trio-progress-radius, 3px);
  --now: var(--accent); }
:host([hidden]) { display: none; }
.all[data-standing="completed"] { --now: var(--done); }
.all:is([data-standing="failed"], [data-standing="timed_out"], [data-standing="lost"]) { --now: var(--bad); }
.all:is([data-standing="stalled"], [data-standing="interrupted"], [data-standing="cancelled"]) { --now: var(--warn); }
.line { display: flex; align-items: baseline; gap: 12px; min-width: 0; }
.heading { flex: 1; min-width: 0; overflow: hidden; font-weight: 500; text-overflow: ellipsis; white-space: nowrap; }
.heading, .figure, .said, .left, .phase > span { unicode-bidi: plaintext; text-align: -webkit-match-parent; text-align: match-parent; }
.figure { font-variant-numeric: tabular-nums; font-weight: 500; }
.bar { position: relative; height: var(--height); margin: 6px 0; overflow: hidden; border-radius: var(--radius); background: var(--track); }
.bar > i { position: absolute; inset: 0; border-radius: inherit; background: var(--now);
  transform: translateX(calc((var(--fraction, 0) - 1) * 100%)); transition: transform 240ms linear; }
.bar:dir(rtl) > i { transform: translateX(calc((1 - var(--fraction, 0)) * 100%)); }
.all[data-compact][data-broken] .bar { opacity: 0.45; }
.small { color: var(--muted); font-size: 0.9em; }
.small .said { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.left { font-variant-numeric: tabular-nums; white-space: nowrap; }
.all[data-broken] .said { color: var(--warn); }
.phases { display: grid; grid-template-columns: minmax(0, 1fr) 72px auto; column-gap: 12px; margin: 8px 0 0; padding: 0; list-style: none; font-size: 0.9em; }
.phases:empty { display: none; }
.phase { display: grid; grid-column: 1 / -1; grid-template-columns: subgrid; align-items: center; padding: 3px 0; }
.phase > span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.phase > span:last-child { color: var(--muted); font-variant-numeric: tabular-nums; text-align: end; white-space: nowrap; }
.phase .bar { --height: 3px; margin: 0; }
.phase .bar > i { background: var(--accent); }
.phase[data-status="completed"] .bar > i { background: var(--done); }
.phase:is([data-status="failed"]) .bar > i { background: var(--bad); }
.phase:is([data-status="pending"], [data-status="skipped"]) { color: var(--muted); }
.all[data-compact] { display: flex; align-items: center; gap: 12px; }
.all[data-compact] .bar { flex: 1; margin: 0; }
.all[data-compact] :is(.heading, .small, .phases) { display: none; }
.all[data-compact] .line { order: 1; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) { .bar > i { transition: none; } }
@media (forced-colors: active) { .bar { border: 1px solid CanvasText; } .bar > i { background: Highlight; forced-color-adjust: none; } }
`;

/** The connections of this page, one for each server and token: elements share them. */
const clients = new Map();
/** Those whose token is asked for, by the function that is asked. */
const renewing = new WeakMap();

function clientFor(url, token) {
  let known = clients;
  let key = JSON.stringify([url, token]);
  if (typeof token === "function") {
    if (!renewing.has(token)) renewing.set(token, new Map());
    known = renewing.get(token);
    key = url;
  }
  if (!known.has(key)) known.set(key, new Client({ url, token }));
  return known.get(key);
}

let sheet = null;

// Where there is no DOM (a server that renders), the module can be imported and defines nothing.
const Base = globalThis.HTMLElement ?? class {};

export class TrioProgressElement extends Base {
  static observedAttributes = ["session", "url", "token", "heading", "phases", "compact", "max-hz", "words"];

  #parts = null;
  #store = null;
  #leave = null;
  #asked = false;
  #token = null;
  #words = WORDS;
  #timer = null;
  #state = null;
  #stateAt = 0;
  #announced = "";
  #ended = false;
  /** Whether the attributes are ones that nothing can be asked for with. */
  #wrong = false;

  /** A token, or a function that gives one; it goes before the attribute. */
  get token() {
    return this.#token ?? this.getAttribute("token");
  }

  set token(token) {
    this.#token = token;
    this.#renew();
  }

  /** The merged view of the session; null before there is a session to show. */
  get view() {
    return this.#store?.getSnapshot() ?? null;
  }

  connectedCallback() {
    this.#takeEarlier();
    this.#build();
    this.#renew();
    this.#timer = setInterval(() => this.#drawTime(), 1000);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
    this.#leave?.();
    this.#leave = this.#store = null;
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || this.#parts === null) return;
    if (name === "words") this.#readWords();
    if (["session", "url", "token", "max-hz"].includes(name)) this.#renew();
    else this.#draw();
  }

  /** What the page gave as a property before this module had come lies on the element itself, in front of the class's. */
  #takeEarlier() {
    if (!Object.hasOwn(this, "token")) return;
    const { token } = this;
    delete this.token;
    this.token = token;
  }

  #build() {
    if (this.#parts !== null) return;
    const root = this.attachShadow({ mode: "open" });
    if (sheet === null) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(CSS);
    }
    root.adoptedStyleSheets = [sheet];
    const make = (tag, name, ...children) => {
      const element = document.createElement(tag);
      element.className = name;
      if (name && name !== "line" && name !== "all") element.part = name;
      element.append(...children);
      return element;
    };
    const parts = {
      heading: make("span", "heading"),
      figure: make("span", "figure"),
      fraction: make("i", ""),
      said: make("span", "said"),
      left: make("span", "left"),
      phases: make("ul", "phases"),
      live: make("span", "sr"),
    };
    parts.bar = make("div", "bar", parts.fraction);
    parts.bar.setAttribute("role", "progressbar");
    parts.bar.setAttribute("aria-valuemin", "0");
    parts.bar.setAttribute("aria-valuemax", "100");
    parts.live.setAttribute("role", "status");
    parts.figure.setAttribute("aria-hidden", "true");
    const small = make("div", "line small", parts.said, parts.left);
    parts.all = make("div", "all", make("div", "line", parts.heading, parts.figure), parts.bar, small, parts.phases, parts.live);
    root.append(parts.all);
    this.#parts = parts;
    this.#readWords();
  }

  #readWords() {
    const given = this.getAttribute("words");
    this.#words = WORDS;
    if (!given) return;
    try {
      const words = Object.entries(JSON.parse(given)).filter(([name, word]) => name in WORDS && typeof word === "string");
      this.#words = { ...WORDS, ...Object.fromEntries(words) };
    } catch {
      console.error(`<trio-progress>: words must be JSON like {"completed": "fertig"}, not ${JSON.stringify(given)}`);
    }
  }

  /** Begins to watch what the attributes say, once for all that change in one turn. */
  #renew() {
    if (this.#asked || !this.isConnected) return;
    this.#asked = true;
    queueMicrotask(() => {
      this.#asked = false;
      if (!this.isConnected) return;
      this.#leave?.();
      this.#leave = this.#store = this.#state = null;
      this.#ended = this.#wrong = false;
      const session = this.getAttribute("session");
      if (session) {
        try {
          this.#store = this.#storeFor(session);
          this.#leave = this.#store.subscribe(() => this.#draw());
        } catch (error) {
          this.#wrong = true;
          console.error(`<trio-progress>: ${error.message}`);
        }
      }
      this.#draw();
    });
  }

  #storeFor(session) {
    const client = clientFor(this.getAttribute("url") ?? undefined, this.token);
    return client.session(session, { events: 0, maxHz: Number(this.getAttribute("max-hz")) || null });
  }

  #draw() {
    const view = this.view;
    const { all, heading, figure, fraction, bar, said } = this.#parts;
    const words = this.#words;
    const state = view?.state ?? null;
    if (state !== null && state !== this.#state) this.#stateAt = timeOf(view);
    this.#state = state;
    const where = state === null ? nothingYet(view) : standing(state);
    const value = state === null ? null : percent(state.progress);
    all.dataset.standing = where;
    all.toggleAttribute("data-compact", this.hasAttribute("compact"));
    write(heading, this.getAttribute("heading") ?? state?.title ?? this.getAttribute("session") ?? "");
    write(figure, value === null ? "" : percentText(value));
    fraction.style.setProperty("--fraction", String(state?.progress ?? 0));
    bar.setAttribute("aria-label", heading.textContent);
    const trouble = this.#wrong ? words.refused : troubleOf(view, words);
    all.toggleAttribute("data-broken", trouble !== null);
    write(said, trouble ?? doing(state, where, words));
    if (value === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(value));
    const text = [value === null ? null : percentText(value), trouble ?? words[where]].filter(Boolean).join(", ");
    if (text === "") bar.removeAttribute("aria-valuetext");
    else bar.setAttribute("aria-valuetext", text);
    this.#drawPhases(state);
    this.#drawTime();
    this.#tell(view, where, trouble);
  }

  #drawTime() {
    const state = this.#state;
    const words = this.#words;
    write(this.#parts.left, state === null ? "" : sessionLeft(state, timeOf(this.view), this.#stateAt, { words }));
  }

  #drawPhases(state) {
    const phases = this.hasAttribute("phases") ? (state?.phases ?? []) : [];
    const list = this.#parts.phases;
    while (list.children.length > phases.length) list.lastChild.remove();
    phases.forEach((phase, index) => {
      const item = list.children[index] ?? list.appendChild(phaseItem());
      const [title, bar, figure] = item.children;
      item.dataset.status = phase.status;
      write(title, phase.title);
      bar.firstChild.style.setProperty("--fraction", String(phase.status === "completed" ? 1 : (phase.fraction ?? 0)));
      write(figure, ["pending", "skipped"].includes(phase.status) ? this.#words[phase.status] : count(phase) || this.#words[phase.status]);
    });
  }

  #tell(view, where, trouble) {
    if (view === null) {
      write(this.#parts.live, (this.#announced = trouble ?? ""));
      return;
    }
    const running = view.state?.phases.find((phase) => phase.status === "running");
    const words = trouble ?? [this.#words[where], where === "running" ? running?.title : null].filter(Boolean).join(": ");
    if (words !== this.#announced) write(this.#parts.live, (this.#announced = words));
    this.dispatchEvent(new CustomEvent("change", { detail: view }));
    if (view.end !== null && !this.#ended) this.dispatchEvent(new CustomEvent("end", { detail: view }));
    this.#ended = view.end !== null;
  }
}

function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function troubleOf(view, words) {
  if (view === null || (view.state !== null && ENDED.includes(view.state.status))) return null;
  if (view.error !== null) return words.refused;
  if (view.connection.status === "stopped") return words.refused;
  if (view.connection.lostAt !== null) return words.reconnecting;
  return view.connection.status === "waiting" ? words.unreachable : null;
}

/** How it stands with a session of which nothing has come; "" where none is asked for. */
function nothingYet(view) {
  if (view === null) return "";
  return view.connection.status === "open" ? "awaited" : "connecting";
}

/** One line on what it is at. */
function doing(state, where, words) {
  if (state === null) return words[where] ?? "";
  if (where !== "running") return [words[where] ?? where, state.error?.message].filter(Boolean).join(" · ");
  const running = state.phases.find((phase) => phase.status === "running");
  const attempt = state.attempt > 1 ? fill(words.attempt, { n: state.attempt }) : null;
  const shown = running ? [running.title, count(running)] : [words.running, state.message];
  return [...shown, attempt].filter(Boolean).join(" · ");
}

function phaseItem() {
  const item = document.createElement("li");
  const bar = document.createElement("div");
  item.className = item.part = "phase";
  bar.className = "bar";
  bar.append(document.createElement("i"));
  item.append(document.createElement("span"), bar, document.createElement("span"));
  return item;
}

if (globalThis.customElements !== undefined && !customElements.get("trio-progress")) {
  customElements.define("trio-progress", TrioProgressElement);
}
