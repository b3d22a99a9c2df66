/**
 * trio-progress in the browser: live sessions as values that React, or anything else, can show.
 *
 *     import { Client } from "https://host/static/trio-progress.js";
 *     const client = new Client({ url: "https://host/" });
 *     const session = client.session("r-42");
 *     const stop = session.subscribe(() => console.log(session.getSnapshot().state?.progress));
 *
 * In React: `useSyncExternalStore(session.subscribe, session.getSnapshot)`. No dependencies, no build step. What the
 * messages are is written down in PROTOCOL.md beside the server; the types are in `trio-progress.d.ts`.
 */

import { Kept } from "./kept.js";
import { Link } from "./link.js";
import { browser } from "./policy.js";
import { ListStore } from "./sessions.js";
import { SessionStore } from "./session.js";

export { merge, emptyView, OutOfStep } from "./merge.js";

/** What the server answered to a request that it did not take. */
export class RequestError extends Error {
  constructor(status, code, message) {
    super(message);
    this.name = "RequestError";
    this.status = status;
    this.code = code;
  }
}

/**
 * The connection to one server, shared by all that is watched through it. It opens when the first subscriber comes and
 * closes when the last one has gone.
 */
export class Client {
  #link;
  /** Connections beside it: the server tells one list on each. */
  #others = [];
  #options;
  #env;
  #sessions;
  #lists;

  /**
   * @param options.url The server's address with its base path; the one that this module came from, unless given.
   * @param options.token A token, or a function that returns one or a promise of one. It is called once at first, and
   *   again whenever the server says that the token has expired.
   * @param options.transport "websocket" or "sse", to use only that; both, as it can be had, unless given.
   * @param env For tests: the pieces of the browser, see policy.js.
   */
  constructor(options = {}, env = browser()) {
    const url = new URL(options.url ?? new URL("..", import.meta.url).href, globalThis.location?.href);
    if (!/^(https?|wss?):$/.test(url.protocol)) {
      throw new TypeError(`url must begin with http, https, ws or wss, not ${JSON.stringify(url.href)}`);
    }
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    this.#env = env;
    this.#options = { ...options, url: url.href };
    this.#link = new Link(this.#options, env);
    this.#sessions = new Kept(() => env.now());
    this.#lists = new Kept(() => env.now());
  }

  /** How the connection stands, with `subscribe` and `getSnapshot`. */
  get connection() {
    return this.#link;
  }

  /**
   * One session: the same store for the same id, so it may be asked for in a render. Asking for more events or a
   * faster pace than others did widens what all of them get.
   *
   * @param id The session.
   * @param options.events How many custom events are kept, the newest; 100 unless given.
   * @param options.maxHz At most so many updates a second.
   * @param options.wait Whether to wait for one that is not there yet; true unless given.
   */
  session(id, { events = 100, maxHz = null, wait = true } = {}) {
    const store = this.#sessions.get(id, () => new SessionStore(this.#link, this.#env, { id, events, maxHz, wait }));
    store.widen({ events, maxHz });
    return store;
  }

  /** All sessions that there are, or those with these labels: the same store for the same labels. */
  sessions({ labels = {} } = {}) {
    const key = JSON.stringify(Object.entries(labels).sort());
    return this.#lists.get(key, () => {
      const link = this.#linkForList();
      return new ListStore(link, this.#env, labels, (method, path) => this.#request(method, path));
    });
  }

  /** A connection on which no list is told: a second one would take the first one's place. */
  #linkForList() {
    const taken = new Set(this.#lists.all().map(({ link }) => link));
    this.#others = this.#others.filter((other) => taken.has(other));
    if (!taken.has(this.#link)) return this.#link;
    const link = new Link(this.#options, this.#env);
    this.#others.push(link);
    return link;
  }

  /** A session as it is now, asked for once. */
  async fetch(id) {
    return this.#request("GET", `sessions/${encodeURIComponent(id)}`);
  }

  /** The sessions that were declared as parts of this one, as they are now, the oldest first: at most `limit`, the newest. */
  async parts(id, { limit = 100 } = {}) {
    const { sessions } = await this.#request("GET", `sessions?${new URLSearchParams({ parent: id, limit })}`);
    return sessions.reverse();
  }

  /** Asks for a session's end. Resolves when that has been said, not when it has ended. */
  async cancel(id, reason = null) {
    await this.#request("POST", `sessions/${encodeURIComponent(id)}/cancel`, reason === null ? {} : { reason });
  }

  /** Removes all that is stored of a session. One that runs must be cancelled first. */
  async delete(id) {
    await this.#request("DELETE", `sessions/${encodeURIComponent(id)}`);
  }

  /** What a page needs to know of the server: whether it wants a token, and what this client may do. */
  async config() {
    return this.#request("GET", "config");
  }

  /** Takes another token from now on. */
  useToken(token) {
    this.#options = { ...this.#options, token };
    for (const link of [this.#link, ...this.#others]) link.useToken(token);
  }

  /** Tries to connect at once, also where it has stopped. */
  retry() {
    for (const link of [this.#link, ...this.#others]) link.retry();
  }

  async #request(method, path, body, again = true) {
    const headers = { Accept: "application/json", ...(await this.#link.headers()) };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await this.#env.fetch(this.#link.address(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
    if (response.status === 401 && again && this.#link.renew()) return this.#request(method, path, body, false);
    const answer = await response.json().catch(() => null);
    if (!response.ok) {
      throw new RequestError(response.status, answer?.code ?? null, answer?.message ?? `the server answers ${response.status}`);
    }
    return answer;
  }
}
