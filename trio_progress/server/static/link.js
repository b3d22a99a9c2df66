/**
 * One connection to the server that any number of subscriptions share, and that comes back by itself.
 *
 * 1. It is open as long as somebody wants something through it, and no longer.
 * 2. When it breaks, it waits (longer each time, with jitter: thousands of pages do not come back in one instant) and
 *    asks again for all that is wanted, each from where it stood. A page that comes to the front, and a network that is
 *    back, cut the wait short.
 * 3. Close codes from 4500 on, and HTTP's 401 and 403, mean that asking again changes nothing: it stops, and says why. 4005
 *    means that the token has expired: a callable is asked for a new one.
 * 4. Where no WebSocket comes through (some proxies), it reads server-sent events instead, and tries the WebSocket
 *    again when that breaks. Where one had come through before, it may be that the server was away: then one is tried
 *    beside the events at once.
 * 5. A connection over which nothing comes is asked for a sign of life, and dropped when there is none: a laptop that
 *    has slept does not find out by itself.
 */

import { backoff, SPARSE, SUBPROTOCOL, TIMES, verdict, WHY } from "./policy.js";
import { readEvents } from "./sse.js";
import { safely } from "./store.js";

/** The messages that are about the list, whichever session they name. */
const LISTING = ["listed", "listing", "unlisted"];

/** After so many WebSockets in a row that did not even open, server-sent events are tried; more where one had before. */
const FAILURES = 2;
const FAILURES_ONCE_OPEN = 5;

/**
 * @typedef {object} Want What one subscription asks for.
 * @property {() => object} request The subscribe message, as of now.
 * @property {() => {path: string, since: string | null}} stream The same as server-sent events.
 * @property {(message: object) => void} take Called with each message for it.
 * @property {() => boolean} [over] Whether nothing more comes of it.
 */

export class Link {
  #base;
  #token;
  #cached = null;
  /** Whether the token at hand was good once. */
  #proven = false;
  #env;
  #wants = new Map();
  #listeners = new Set();
  #status;
  #socket = null;
  #streams = new Map();
  #round = 0;
  #attempt = 0;
  #failures = 0;
  #everOpen = false;
  #openedAt = 0;
  #heardAt = 0;
  #timers = new Map();
  #transport = "websocket";
  /** Whether what is wanted has been asked for, and what comes to it is asked for at once. */
  #asking = false;
  #forced;
  #watching = false;

  /**
   * @param options.url The server's address, with its base path: "https://host/progress/".
   * @param options.token A token, or a function that gives one (or a promise of one) whenever a new one is needed.
   * @param options.transport "websocket" or "sse" for one of them only.
   * @param env See `browser()` in policy.js.
   */
  constructor({ url, token = null, transport = null }, env) {
    this.#base = new URL(url);
    this.#token = token;
    this.#forced = transport;
    this.#env = env;
    this.#status = Object.freeze({
      status: "idle", since: env.now(), lostAt: null, retryAt: null, transport: null, code: null, reason: null,
    });
  }

  // A store of its own, in the shape of useSyncExternalStore.

  getSnapshot = () => this.#status;

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #say(changes) {
    const since = changes.status !== undefined && changes.status !== this.#status.status ? this.#env.now() : this.#status.since;
    this.#status = Object.freeze({ ...this.#status, since, ...changes });
    for (const listener of [...this.#listeners]) safely(listener);
  }

  // What is wanted.

  /** Asks for something, now and after every break, until `drop(key)`. */
  want(key, want) {
    this.#wants.set(key, want);
    this.#cancel("idle");
    this.#watch(true);
    if (this.#status.status === "idle") this.#open();
    else if (this.#asking) this.#ask(key, want);
  }

  /** Asks anew for something that is wanted: what was sent does not fit, and a snapshot is needed. */
  again(key) {
    const want = this.#wants.get(key);
    if (want !== undefined && this.#asking) {
      this.#unask(key);
      this.#ask(key, want);
    }
  }

  /** Wants it no more. */
  drop(key) {
    if (!this.#wants.delete(key)) return;
    this.#unask(key);
    if (this.#wants.size === 0) this.#after("idle", TIMES.idle, () => this.#rest());
  }

  /** Tries again at once, also after a stop; `anew`: also where it is open. */
  retry(anew = false) {
    if (this.#wants.size === 0 || (this.#status.status === "open" && !anew)) return;
    this.#attempt = 0;
    this.#drop();
    this.#open();
  }

  /** Takes another token from now on, and tries again. */
  useToken(token) {
    this.#token = token;
    this.#cached = null;
    this.#attempt = 0;
    this.#drop();
    if (this.#wants.size > 0) this.#open();
    else this.#rest();
  }

  /** The header that says who asks; empty where there is no token. */
  async headers() {
    const token = await this.#tokenNow();
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  /** Has the next token asked for anew: the one at hand was not taken. False where there is only that one. */
  renew() {
    this.#cached = null;
    this.#proven = false;
    return typeof this.#token === "function";
  }

  /** An address on the server. */
  address(path) {
    const url = new URL(path, this.#base);
    url.protocol = url.protocol.replace(/^ws/, "http");
    return url;
  }

  async #tokenNow() {
    if (typeof this.#token !== "function") return this.#token;
    this.#cached ??= Promise.resolve(this.#token());
    try {
      return await this.#cached;
    } catch (error) {
      this.#cached = null;
      throw error;
    }
  }

  // Opening.

  async #open() {
    const round = ++this.#round;
    this.#cancel("retry");
    this.#say({ status: "connecting", retryAt: null });
    let token;
    this.#after("opening", TIMES.opening, () => {
      if (token === undefined) this.renew(); // Who was asked for one may never answer.
      this.#broke(round, 0, token === undefined ? "there is no token yet" : "the server does not answer");
    });
    try {
      token = (await this.#tokenNow()) ?? null;
    } catch (error) {
      this.#broke(round, 0, `there is no token: ${error.message}`);
      return;
    }
    if (round !== this.#round) return;
    const limit = this.#everOpen ? FAILURES_ONCE_OPEN : FAILURES;
    const sse = this.#failures >= limit || this.#env.WebSocket === undefined;
    this.#transport = this.#forced ?? (sse ? "sse" : "websocket");
    if (this.#transport === "sse") {
      this.#failures = 0;
      this.#asking = true;
      for (const [key, want] of this.#wants) this.#stream(round, key, want);
    } else {
      this.#connect(round, token);
    }
  }

  #socketAddress() {
    const url = this.address("ws");
    url.protocol = url.protocol.replace(/^http/, "ws");
    return url.href;
  }

  #connect(round, token) {
    let socket;
    try {
      socket = new this.#env.WebSocket(this.#socketAddress(), [SUBPROTOCOL, SPARSE]);
    } catch (error) {
      this.#failures += 1;
      this.#broke(round, 0, error.message);
      return;
    }
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      if (round !== this.#round) return;
      opened = this.#asking = true;
      this.#everOpen = true;
      this.#failures = 0;
      if (token) this.#send({ type: "auth", token });
      // Of a session that is yet to come there is nothing to hear, but the server is there all the same.
      this.#send({ type: "ping" });
      for (const want of this.#wants.values()) this.#send(want.request());
    };
    socket.onmessage = ({ data }) => {
      if (round === this.#round) this.#took(round, data);
    };
    socket.onclose = ({ code, reason }) => {
      if (round !== this.#round) return;
      if (!opened) this.#failures += 1;
      this.#broke(round, code, reason);
    };
  }

  async #stream(round, key, want) {
    const { path, since } = want.stream();
    const stop = new AbortController();
    this.#streams.get(key)?.abort();
    this.#streams.set(key, stop);
    const mine = () => round === this.#round && this.#streams.get(key) === stop;
    try {
      const headers = { Accept: "text/event-stream", ...(await this.headers()) };
      if (since) headers["Last-Event-ID"] = since;
      const response = await this.#env.fetch(this.address(path), { headers, signal: stop.signal, cache: "no-store" });
      if (!mine()) return;
      if (response.status === 204) {
        this.#streams.delete(key); // The end was taken before.
        this.#heard(round);
        return;
      }
      if (!response.ok || response.body === null) {
        await this.#refused(round, key, want, response);
        return;
      }
      await readEvents(
        response,
        (event) => mine() && this.#took(round, event.data),
        () => mine() && this.#heard(round),
      );
      if (!mine()) return;
      if (want.over?.()) this.#streams.delete(key);
      else this.#broke(round, 1006, "the stream has ended");
    } catch (error) {
      if (mine()) this.#broke(round, 0, error.message);
    }
  }

  async #refused(round, key, want, response) {
    const body = await response.json().catch(() => ({}));
    if (response.status === 404) {
      this.#streams.delete(key);
      this.#heard(round);
      want.take({ type: "error", code: "not_found", message: body.message ?? "there is no such session" });
      return;
    }
    this.#broke(round, response.status, body.message ?? `the server answers ${response.status}`);
  }

  // What comes.

  #took(round, data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.#broke(round, 0, "the server sends what is not JSON");
      return;
    }
    this.#heard(round);
    if (round !== this.#round || message.type === "pong") return;
    // An error that is about no subscription says why the connection is about to be closed.
    if (message.type === "error" && !message.session) this.#say({ reason: message.message });
    else this.#wants.get(LISTING.includes(message.type) ? "*" : message.session)?.take(message);
  }

  #heard(round) {
    this.#heardAt = this.#env.now();
    if (this.#status.status === "open" || round !== this.#round) return;
    this.#cancel("opening");
    this.#openedAt = this.#heardAt;
    this.#proven = true;
    this.#say({ status: "open", lostAt: null, retryAt: null, transport: this.#transport, code: null, reason: null });
    this.#listen(round);
    if (this.#transport === "sse" && this.#forced === null && this.#everOpen) this.#tryBeside(round);
  }

  /** Tries whether a WebSocket opens, and goes over to that. */
  #tryBeside(round) {
    let socket;
    try {
      socket = new this.#env.WebSocket(this.#socketAddress(), [SUBPROTOCOL]);
    } catch {
      return;
    }
    socket.onopen = () => {
      socket.onopen = null;
      socket.close(1000);
      if (round === this.#round) this.retry(true);
    };
  }

  /** Sees to it that something comes: asks for a sign of life after a long silence, and gives up without one. */
  #listen(round) {
    const wait = this.#heardAt + TIMES.silence - this.#env.now();
    this.#after("silence", Math.max(wait, 1), () => {
      if (this.#env.now() - this.#heardAt < TIMES.silence) this.#listen(round);
      else this.#prove(round, TIMES.sign);
    });
  }

  #prove(round, patience) {
    const asked = this.#env.now();
    if (this.#transport === "sse" && this.#streams.size === 0) this.#heard(round);
    // A stream cannot be asked; its server sends comments more often than this.
    if (this.#transport === "websocket") this.#send({ type: "ping" });
    this.#after("silence", patience, () => {
      if (this.#heardAt >= asked) this.#listen(round);
      else this.#broke(round, 0, "the server has fallen silent");
    });
  }

  // Asking.

  #ask(key, want) {
    if (this.#transport === "sse") this.#stream(this.#round, key, want);
    else this.#send(want.request());
  }

  #unask(key) {
    this.#streams.get(key)?.abort();
    this.#streams.delete(key);
    if (this.#transport === "websocket" && this.#asking) this.#send({ type: "unsubscribe", session: key });
  }

  #send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  // Breaking.

  #broke(round, code, reason) {
    if (round !== this.#round) return;
    const held = this.#status.status === "open" ? this.#env.now() - this.#openedAt : 0;
    const wasOpen = this.#status.status === "open";
    this.#drop();
    const lostAt = wasOpen ? this.#env.now() : this.#status.lostAt;
    const what = verdict(code);
    const fresh = typeof this.#token === "function" && (what === "token" || (code === 401 && this.#proven));
    if (!fresh && what !== "retry") {
      this.#say({ status: "stopped", lostAt, retryAt: null, code, reason: reason || WHY[code] || null });
      return;
    }
    if (fresh) this.renew();
    if (held >= TIMES.settled) this.#attempt = 0;
    const wait = backoff(this.#attempt++, this.#env.random);
    this.#say({ status: "waiting", lostAt, retryAt: this.#env.now() + wait, code, reason: reason || null });
    this.#after("retry", wait, () => this.#open());
  }

  /** Lets go of what is open, and of all timers. */
  #drop() {
    this.#round += 1;
    this.#asking = false;
    for (const name of ["opening", "silence", "retry"]) this.#cancel(name);
    for (const stop of this.#streams.values()) stop.abort();
    this.#streams.clear();
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
  }

  #rest() {
    if (this.#wants.size > 0) return;
    this.#drop();
    this.#watch(false);
    this.#say({ status: "idle", lostAt: null, retryAt: null, transport: null, code: null, reason: null });
  }

  // The page and its network.

  #watch(on) {
    if (on === this.#watching) return;
    this.#watching = on;
    const { document, window } = this.#env;
    const change = on ? "addEventListener" : "removeEventListener";
    document?.[change]("visibilitychange", this.#woke);
    window?.[change]?.("online", this.#woke);
    window?.[change]?.("pageshow", this.#woke);
  }

  #woke = () => {
    if (this.#env.document?.visibilityState === "hidden") return;
    const { status, since } = this.#status;
    // What began before the network was back may be on its way to nowhere, and takes long to find out.
    const tries = status === "connecting" && this.#env.now() - since <= TIMES.firstWait;
    if (tries) this.#attempt = 0;
    else if (status === "waiting" || status === "connecting") this.retry();
    else if (status === "open") this.#prove(this.#round, TIMES.sign / 2);
  };

  #after(name, delay, what) {
    this.#cancel(name);
    this.#timers.set(name, this.#env.setTimeout(() => {
      this.#timers.delete(name);
      what();
    }, delay));
  }

  #cancel(name) {
    this.#env.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
