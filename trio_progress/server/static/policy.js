/** How long things take, when to try again, when not, and the pieces of a browser that the client stands on. */

export const SUBPROTOCOL = "trio-progress.v1";

/** What is offered besides: updates may leave out what the state here has. */
export const SPARSE = `${SUBPROTOCOL}.sparse`;

/** Milliseconds. */
export const TIMES = Object.freeze({
  firstWait: 500,
  longestWait: 30_000,
  /** A connection that held so long was a good one: the next wait is a short one again. */
  settled: 5_000,
  /** How long opening may take. */
  opening: 10_000,
  /** So long without a word, and a sign of life is asked for; */
  silence: 30_000,
  /** and so long it may take. */
  sign: 8_000,
  /** How long nobody may want anything before it closes: components come and go. */
  idle: 300,
});

/** The pieces of the browser that it stands on; tests bring their own. */
export function browser() {
  return {
    WebSocket: globalThis.WebSocket,
    fetch: (...given) => globalThis.fetch(...given),
    setTimeout: (...given) => globalThis.setTimeout(...given),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    now: () => Date.now(),
    random: () => Math.random(),
    document: globalThis.document,
    window: globalThis.window ?? globalThis,
  };
}

/** How long to wait before the `attempt`-th try (from 0 on): doubling, capped, and half of it by lot. */
export function backoff(attempt, random) {
  const whole = Math.min(TIMES.firstWait * 2 ** attempt, TIMES.longestWait);
  return whole / 2 + (random() * whole) / 2;
}

/** What stops it beside the codes from 4500 on: what was sent was wrong, or HTTP says that it will not be otherwise. */
const STOPPING = [1003, 1007, 1009, 400, 401, 403, 421];

/** What a close code, or an HTTP status in its place, asks for: "retry", "token" (then retry) or "stop". */
export function verdict(code) {
  if (code === 4005) return "token";
  if ((code >= 4500 && code <= 4999) || STOPPING.includes(code)) return "stop";
  return "retry";
}

/** What the codes mean that stop it, where the server gives no text. */
export const WHY = {
  401: "the server requires a token",
  403: "the server does not allow this",
  4005: "the token has expired",
  4500: "the server does not accept this token",
  4501: "the server did not understand the request",
  4504: "too many subscriptions on one connection",
  4507: "the server does not allow this",
};
