// The pieces of a browser, with a clock that only moves when it is told to.

export class Environment {
  time = 1_000_000;
  sockets = [];
  requests = [];
  #timers = new Map();
  #number = 0;

  constructor() {
    const environment = this;
    this.document = new EventTarget();
    this.document.visibilityState = "visible";
    this.window = new EventTarget();
    this.WebSocket = class extends Socket {
      constructor(url, protocols) {
        super(url, protocols);
        environment.sockets.push(this);
      }
    };
  }

  now = () => this.time;
  random = () => 1;

  setTimeout = (what, delay) => {
    this.#timers.set(++this.#number, { at: this.time + delay, what });
    return this.#number;
  };

  clearTimeout = (timer) => {
    this.#timers.delete(timer);
  };

  fetch = (url, options) => {
    const request = { url: String(url), ...options };
    this.requests.push(request);
    return new Promise((resolve, reject) => {
      request.answer = resolve;
      options?.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    });
  };

  get timers() {
    return this.#timers.size;
  }

  /** Lets so many milliseconds pass, timer by timer, with all promises settled in between. */
  async pass(milliseconds) {
    const until = this.time + milliseconds;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].what();
      await settle();
    }
    this.time = until;
  }

  get socket() {
    return this.sockets.at(-1);
  }
}

export async function settle() {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
}

class Socket {
  readyState = 0;
  sent = [];
  closed = null;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  send(data) {
    this.sent.push(JSON.parse(data));
  }

  /** What was sent, but for asking whether the server is there. */
  get asked() {
    return this.sent.filter(({ type }) => type !== "ping");
  }

  close(code) {
    this.closed = code;
    this.readyState = 3;
  }

  // What the server does.

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  /** From now on it answers each ping. */
  answers() {
    const { send } = this;
    this.send = (data) => {
      send.call(this, data);
      if (JSON.parse(data).type === "ping") queueMicrotask(() => this.say({ type: "pong" }));
    };
  }

  say(...messages) {
    for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) });
  }

  fail(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}
