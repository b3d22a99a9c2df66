/**
 * Merging, and nothing else: no clock of its own, no socket, no DOM.
 *
 * 1. States and views are frozen. `mergeState()` and `merge()` make the next one and share with it every part that did
 *    not change, so that `===` tells whether a phase, the events or the whole are the same as before.
 * 2. `mergeState()` is the twin of `protocol/merge.py`, and both run over `tests/streams`: a snapshot replaces what there
 *    is, an update fits onto the state at exactly its `from` and in its epoch (else `OutOfStep` says that a snapshot is
 *    needed) and takes from it what it has left out (its `kept`), a bookmark moves the clocks of the state at exactly its `seq`, and all else leaves the state.
 * 3. A view is the state with what a page shows beside it. An update that is older than the state is ignored there: it
 *    was on its way when the page asked anew.
 * 4. Custom events are kept in their order, each once, the newest `limit` of them. Those which the server had to
 *    drop are counted in `dropped`.
 */

/** The message does not fit onto the state: ask for a new snapshot. */
export class OutOfStep extends Error {
  constructor(message) {
    super(message);
    this.name = "OutOfStep";
  }
}

const NO_EVENTS = Object.freeze([]);
const NO_PHASES = Object.freeze([]);
const NO_VERBS = Object.freeze([]);

/** A view of a session of which nothing is known yet. */
export function emptyView(session) {
  return Object.freeze({
    session,
    state: null,
    events: NO_EVENTS,
    dropped: 0,
    end: null,
    verbs: NO_VERBS,
    recovered: null,
    reason: null,
    resume: null,
    clockOffset: 0,
    error: null,
  });
}

/**
 * The state after a message; null as long as there was no snapshot.
 *
 * @throws {OutOfStep} An update does not start from `state`.
 */
export function mergeState(state, message) {
  switch (message.type) {
    case "snapshot":
      return stateOf(message.state);
    case "update":
      return updated(state, message);
    case "bookmark":
      return state === null ? null : bookmarked(state, message);
    default:
      return state;
  }
}

/**
 * The view after a message.
 *
 * @param view What was known before.
 * @param message One message of the protocol, decoded.
 * @param limit How many custom events are kept.
 * @param now This machine's clock, in milliseconds since 1970, as it is when the message arrives.
 * @throws {OutOfStep} The message goes on from a state that is not this one.
 */
export function merge(view, message, limit, now) {
  const offset = message.server_time === undefined ? undefined : Date.parse(message.server_time) - now;
  switch (message.type) {
    case "subscribed": {
      // All that is retained comes again, except after "too_old", where the events go on behind the last one.
      const anew = !message.recovered && message.reason !== "too_old";
      return next(view, {
        recovered: message.recovered,
        reason: message.reason ?? null,
        // What has ended goes on under another epoch only, and that recovers nothing.
        end: message.recovered ? view.end : null,
        error: null,
        verbs: Object.freeze(message.verbs ?? []),
        clockOffset: offset ?? view.clockOffset,
        ...(anew ? { events: NO_EVENTS, dropped: 0 } : null),
      });
    }
    case "snapshot":
      return next(view, { state: mergeState(null, message), resume: message.resume ?? null, error: null });
    case "update":
      if (isOld(view.state, message)) return view;
      return next(view, { state: mergeState(view.state, message), resume: message.resume ?? view.resume });
    case "event":
      return next(view, { events: withEvent(view.events, message, limit), resume: message.resume ?? view.resume });
    case "bookmark": {
      const state = mergeState(view.state, message);
      return next(view, {
        state,
        clockOffset: offset ?? view.clockOffset,
        resume: (state === view.state ? null : message.resume) ?? view.resume,
      });
    }
    case "gap":
      return next(view, { dropped: view.dropped + message.dropped, resume: message.resume ?? view.resume });
    case "end":
      return next(view, {
        end: view.end?.resume === message.resume ? view.end : Object.freeze({ ...message }),
        resume: message.resume ?? view.resume,
      });
    case "error":
      return next(view, { error: Object.freeze({ code: message.code, message: message.message }) });
    default:
      return view; // What a newer server adds is no reason to stop.
  }
}

function next(view, changes) {
  return Object.freeze({ ...view, ...changes });
}

function isOld(state, update) {
  return state !== null && state.epoch === update.head.epoch && update.seq <= state.seq;
}

function updated(state, update) {
  if (state === null || state.epoch !== update.head.epoch || state.seq !== update.from) {
    const onto = state === null ? "nothing" : `seq ${state.seq} of epoch ${state.epoch}`;
    throw new OutOfStep(`an update from seq ${update.from} of epoch ${update.head.epoch} does not fit onto ${onto}`);
  }
  let { phases } = state;
  for (const path of update.folded ?? []) {
    phases = without(phases, path, 0);
  }
  for (const phase of update.phases) {
    const { kept, ...values } = phase;
    phases = put(phases, update.kept && kept ? filled(values, phaseAt(state, phase.path), kept) : values, 0);
  }
  const head = update.kept ? filled(update.head, state, update.kept) : update.head;
  return Object.freeze({ ...head, phases });
}

/** What `kept` names is taken from the state before: the result, or `fields.NAME`. */
function filled(values, known, kept) {
  const fields = { ...values.fields };
  const found = { ...values, fields };
  for (const name of kept) {
    const field = name.startsWith("fields.") ? name.slice("fields.".length) : null;
    if (field !== null && known !== undefined && Object.hasOwn(known.fields, field)) {
      // `__proto__` is a name like any other.
      Object.defineProperty(fields, field, { value: known.fields[field], enumerable: true, configurable: true, writable: true });
    } else if (name === "result" && known !== undefined && "result" in known) {
      found.result = known.result;
    } else {
      throw new OutOfStep(`an update keeps ${JSON.stringify(name)}, which is not in the state before`);
    }
  }
  return found;
}

function phaseAt(state, path) {
  let found = state;
  for (const name of path) {
    found = found?.phases.find((phase) => phase.name === name);
  }
  return found;
}

function bookmarked(state, { seq, liveness, heartbeat_at, progressed_at }) {
  return state.seq === seq ? Object.freeze({ ...state, liveness, heartbeat_at, progressed_at }) : state;
}

function withEvent(events, message, limit) {
  const last = events.at(-1);
  if (last !== undefined && message.n <= last.n) {
    return events;
  }
  const { n, seq, name, data, at } = message;
  if (limit === 0) return events;
  const kept = events.length >= limit ? events.slice(events.length - limit + 1) : events.slice();
  kept.push(Object.freeze({ n, seq, name, data, at }));
  return Object.freeze(kept);
}

function stateOf(state) {
  return Object.freeze({ ...state, phases: Object.freeze((state.phases ?? []).map(phaseOf)) });
}

function phaseOf(phase) {
  return Object.freeze({ ...phase, phases: Object.freeze((phase.phases ?? []).map(phaseOf)) });
}

/** `phases` with the changed one at its path; it keeps its children, and its place among its siblings. */
function put(phases, changed, depth) {
  const name = changed.path[depth];
  const index = phases.findIndex((phase) => phase.name === name);
  const copy = phases.slice();
  if (depth < changed.path.length - 1) {
    if (index < 0) {
      throw new OutOfStep(`an update speaks of a phase below ${JSON.stringify(name)}, which is not known`);
    }
    copy[index] = Object.freeze({ ...phases[index], phases: put(phases[index].phases, changed, depth + 1) });
    return Object.freeze(copy);
  }
  const { path: _, ...values } = changed;
  const phase = Object.freeze({ ...values, phases: index < 0 ? NO_PHASES : phases[index].phases });
  if (index < 0) {
    copy.push(phase);
  } else {
    copy[index] = phase;
  }
  return Object.freeze(copy);
}

/** `phases` without the one that folded into its parent; one that never came is no matter. */
function without(phases, path, depth) {
  const index = phases.findIndex((phase) => phase.name === path[depth]);
  if (index < 0) {
    return phases;
  }
  const copy = phases.slice();
  if (depth === path.length - 1) {
    copy.splice(index, 1);
  } else {
    const below = without(phases[index].phases, path, depth + 1);
    if (below === phases[index].phases) {
      return phases;
    }
    copy[index] = Object.freeze({ ...phases[index], phases: below });
  }
  return Object.freeze(copy);
}
