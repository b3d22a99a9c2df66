/** Figures and statuses as people read them. Pure; shared by the page and the element. */

/** The words for what a program calls otherwise. The element lets a page replace each of them. */
export const WORDS = Object.freeze({
  queued: "Queued",
  pending: "Pending",
  running: "Running",
  completed: "Completed",
  skipped: "Skipped",
  failed: "Failed",
  cancelled: "Cancelled",
  timed_out: "Timed out",
  interrupted: "Interrupted",
  lost: "Lost",
  stalled: "Stalled",
  connecting: "Connecting",
  awaited: "Not started yet",
  reconnecting: "Connection lost, trying again",
  unreachable: "Server unreachable, trying again",
  refused: "Not available",
  remaining: "{time} left",
  about: "about {low} to {high} {unit}",
  up_to: "up to {high} {unit}",
  moment: "a moment",
  longer: "longer than usual ({spent} {unit} so far, usually {usual})",
  attempt: "attempt {n}",
});

/** The statuses after which nothing comes within an attempt. */
export const ENDED = Object.freeze(["completed", "failed", "cancelled", "timed_out", "interrupted", "lost"]);

/** One word for where a session stands: its status, or how little it lives. */
export function standing(state) {
  if (state.status === "running" && state.liveness !== "ok") {
    return state.liveness;
  }
  return state.status;
}

/** The server's time, in milliseconds, at which what a view shows was true: it stands still while the connection is lost. */
export function timeOf(view) {
  return (view.connection.lostAt ?? Date.now()) + view.clockOffset;
}

/** 0 to 100, rounded down: 100 is said of nothing that has not ended. */
export function percent(fraction) {
  return Math.floor(Math.min(Math.max(fraction, 0), 1) * 100 + 1e-9);
}

/** The same with its sign, set apart as print does. */
export function percentText(whole) {
  return `${whole}\u202f%`;
}

/** How long something took that is over: as `duration`, but to a tenth below ten seconds. */
export function took(seconds) {
  return seconds < 9.95 ? `${Math.max(seconds, 0).toFixed(1)}s` : duration(seconds);
}

/** Two units at most: "45s", "3m 20s", "2h 05m", "4d 3h". */
export function duration(seconds) {
  const whole = Math.max(Math.floor(seconds), 0);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`;
}

function two(number) {
  return String(number).padStart(2, "0");
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

/** A count: thousands are set apart, and there are two decimals at most. */
export function number(value) {
  return Number.isInteger(value) ? WHOLE.format(value) : FINE.format(value);
}

/** Units that are shown scaled, each with its step: "B" by thousands, as disks, networks and tqdm count; "iB" by 1024. */
const BYTES = new Map([
  ["B", [1000, ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]]],
  ["iB", [1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]]],
]);

/** A number of bytes with one decimal at most, and its unit: ["1.2", "GB"]. The terminal says the same. */
export function scaled(value, unit) {
  const [step, names] = BYTES.get(unit);
  let size = 0;
  while (size < names.length - 1 && tenths(value) >= step) {
    value /= step;
    size += 1;
  }
  return [number(size ? tenths(value) : value), names[size]];
}

function tenths(value) {
  return Math.abs(value) < 99.95 ? Math.floor(value * 10 + 0.5) / 10 : Math.floor(value + 0.5);
}

/** Units a second, three digits; with the unit where it is one of bytes: "12.3", "12 MB". */
export function rate(value, unit = null) {
  if (BYTES.has(unit)) return scaled(value, unit).join(" ");
  if (value >= 1000) return WHOLE.format(value);
  return String(Number(value.toPrecision(3)));
}

/** The same with its unit, whichever that is: "12.3 pages", "12 MB". */
export function rateWithUnit(value, unit) {
  return unit && !BYTES.has(unit) ? `${rate(value)} ${unit}` : rate(value, unit);
}

/** How much is done, of how much: "12 / 40 pages", "1.2 / 3.4 GB"; empty for a phase that counts nothing. */
export function count(phase) {
  if (phase.total === null && !phase.done) return "";
  if (BYTES.has(phase.unit)) {
    const [done, small] = scaled(phase.done, phase.unit);
    if (phase.total === null) return `${done} ${small}`;
    const [total, large] = scaled(phase.total, phase.unit);
    return small === large || !phase.done ? `${done} / ${total} ${large}` : `${done} ${small} / ${total} ${large}`;
  }
  const of = phase.total === null ? "" : ` / ${number(phase.total)}`;
  return `${number(phase.done)}${of}${phase.unit ? ` ${phase.unit}` : ""}`;
}

/** Until when a session is known to have run, in milliseconds: a lost one until it was last heard of, others until `now`. */
export function lastHeard(state, now) {
  const lost = state.status === "lost" || state.liveness === "lost";
  return lost && state.heartbeat_at ? Math.min(Date.parse(state.heartbeat_at), now) : now;
}

/**
 * Seconds that a session has run, or ran; null for one that has not begun. `now` in milliseconds.
 *
 * What its owner has measured, and by the stamps only what has passed since: a wall clock may be set meanwhile.
 */
export function elapsed(state, now) {
  if (!state.started_at) return null;
  const until = lastHeard(state, now);
  const measured = state.elapsed ?? null;
  if (measured === null) return between(state.started_at, state.ended_at, until);
  return state.ended_at || !state.progressed_at ? measured : measured + between(state.progressed_at, null, until);
}

/** The same of a phase; `ran` is what `elapsed` says of its session. */
export function phaseElapsed(phase, { now, ran }) {
  if (!phase.started_at) return null;
  if ((phase.elapsed ?? null) !== null) return phase.elapsed;
  const after = phase.started_after ?? null;
  if (!phase.ended_at && after !== null && ran !== null) return Math.max(ran - after, 0);
  return between(phase.started_at, phase.ended_at, now);
}

function between(start, end, now) {
  return Math.max(((end ? Date.parse(end) : now) - Date.parse(start)) / 1000, 0);
}

/** Names that programs give, as words: "sources_found" -> "sources found". */
export function spaced(name) {
  return name.replaceAll("_", " ");
}

/** A field's value in one line: text as it is, plain lists and pairs by commas, all else as JSON. */
export function valueText(value) {
  if (typeof value === "string") return value;
  if (typeof value === "number") return number(value);
  if (typeof value === "object" && value !== null && Object.values(value).every(isPlain)) {
    if (Array.isArray(value)) return value.map(valueText).join(", ");
    return Object.entries(value).map(([name, one]) => `${spaced(name)} ${valueText(one)}`).join(", ");
  }
  return JSON.stringify(value);
}

function isPlain(value) {
  return typeof value === "string" || typeof value === "number";
}

/**
 * The parts of the whole that the phases are, for a bar in segments: by the time that they are expected to take where
 * that is known of all, else by weight.
 */
export function segments(phases) {
  const known = phases.every((phase) => phase.expected);
  const size = (phase) => (known ? phase.expected.seconds : phase.weight) ?? 0;
  const sum = phases.reduce((total, phase) => total + size(phase), 0);
  return phases.map((phase) => ({
    name: phase.name,
    title: phase.title,
    status: phase.status,
    share: sum > 0 ? size(phase) / sum : 1 / phases.length,
    fraction: phase.status === "completed" || phase.status === "skipped" ? 1 : phase.fraction,
  }));
}

// What is left. The terminal says the same by `terminal/words.py`, and both have the same tests.

/** A range is wide where its end is more than twice its beginning, and so many seconds. */
const WIDE = 10;
/** Units in which a time is said roughly; each from two of it on. */
const UNITS = [["s", 1], ["min", 60], ["h", 3600], ["days", 86400]];

/**
 * The time that is left, as exactly as it is known: "2m 10s", "a moment", "about 2 to 9 min", or of what is overdue
 * "longer than usual (3 min so far, usually 1)". Empty where nothing is known.
 *
 * @param eta Seconds; null: not known.
 * @param range Between how many seconds the end is; null: not known.
 * @param longer Of what is overdue: seconds so far, and seconds that are usual.
 * @param words Those of `WORDS`, or others in place of them.
 */
export function left(eta, range = null, longer = null, words = WORDS) {
  if (longer !== null) return fill(words.longer, compared(...longer));
  if (eta === null) return "";
  if (range !== null && range[1] > 2 * range[0] + WIDE) {
    const [unit, size] = UNITS[unitOf(range[1])];
    const step = unit === "s" ? 5 : 1;
    const low = Math.floor(range[0] / size / step) * step;
    const high = Math.ceil(range[1] / size / step) * step;
    return fill(low ? words.about : words.up_to, { low, high, unit });
  }
  return eta >= 1 ? duration(eta) : words.moment;
}

function unitOf(seconds) {
  return UNITS.findLastIndex(([, size], number) => number === 0 || seconds >= 2 * size);
}

/** Both in one unit that tells them apart. */
function compared(spent, usual) {
  let at = unitOf(spent);
  while (at && Math.floor(spent / UNITS[at][1]) <= halfUp(usual / UNITS[at][1])) at -= 1;
  const [unit, size] = UNITS[at];
  return { spent: Math.floor(spent / size), unit, usual: halfUp(usual / size) || "less than 1" };
}

/**
 * How long a phase has run, and usually takes, where that is longer than usual by a whole second; else null: also
 * where its own pace says when it will be done, and where only its weight says how long it should take.
 */
export function longerThanUsual(phase, times) {
  const expected = phase.expected ?? null;
  if (phase.status !== "running" || expected === null || expected.source === "weight") return null;
  if (phase.eta !== null && phase.fraction !== null) return null;
  const spent = phaseElapsed(phase, times);
  return Math.floor(spent) > halfUp(expected.seconds) ? [spent, expected.seconds] : null;
}

/**
 * The words for what is left of a phase, with "left" behind a time; empty where nothing is known.
 *
 * @param times `now`, in milliseconds, the seconds that the session `ran`, and those `since` its state was true.
 */
export function phaseLeft(phase, times) {
  if (phase.status !== "running") return "";
  return labelled(phase.eta === null ? null : phase.eta - (times.since ?? 0), null, longerThanUsual(phase, times), WORDS);
}

/**
 * The words for what is left of a session, as of now, with "left" behind a time unless `label` is false; empty where
 * nothing is known, or where it does not move.
 *
 * @param state The newest state.
 * @param now Milliseconds, by the server's clock.
 * @param toldAt The same, when the state came: what it says is as of then, where it does not say as of when.
 */
export function sessionLeft(state, now, toldAt, { words = WORDS, label = true } = {}) {
  if (state.status !== "running" || state.liveness !== "ok") return "";
  const { eta, range } = leftAt(state, now, toldAt);
  return (label ? labelled : left)(eta, range, sessionLonger(state, now, eta), words);
}

/**
 * The phase of a session that takes longer than usual, the one that is furthest over; null as well where it is over by
 * less than what is left of the session, and something else is left: then the estimate of the rest holds.
 */
function sessionLonger(state, now, eta) {
  const times = { now, ran: elapsed(state, now) };
  let worst = null;
  let others = false;
  for (const phase of state.phases ?? []) {
    const longer = longerThanUsual(phase, times);
    if (longer === null) others ||= phase.status === "pending" || phase.status === "running";
    else if (worst === null || longer[0] - longer[1] > worst[0] - worst[1]) worst = longer;
  }
  return worst === null || (others && eta !== null && worst[0] - worst[1] <= eta) ? null : worst;
}

/** The same as `left()` says, with "left" behind a time. */
function labelled(eta, range, longer, words) {
  const time = left(eta, range, longer, words);
  return time === "" || longer !== null ? time : fill(words.remaining, { time });
}

/** What is overdue is taken to need this part of the time since it should have been over, once more. */
const OVERDUE = 0.25;
/** The part of what is left that passes as it was told; what comes after is more and more overdue. */
const STEADY = 0.8;

/** Seconds since what a state says of the future was true. */
export function sinceTold(state, now, toldAt = now) {
  return Math.max((now - (state.published_at ? Date.parse(state.published_at) : toldAt)) / 1000, 0);
}

/** What is left as of now, seconds and a range; it counts down, and never to nothing. */
export function leftAt(state, now, toldAt = now) {
  const { eta } = state;
  const range = state.eta_range ?? null;
  const passed = sinceTold(state, now, toldAt);
  if (state.status !== "running" || state.liveness !== "ok" || eta === null || passed === 0) return { eta, range };
  const counted = (seconds) =>
    Math.max(seconds - passed, passed > STEADY * seconds ? OVERDUE * (passed - (1 - STEADY) * seconds) : 0);
  return {
    eta: counted(eta),
    range: range === null ? null : [Math.max(range[0] - passed, 0), counted(range[1])],
  };
}

/** How long a phase was expected to take and from what that is known: "1m 02s: 0.2 s a page x 312, over 5 runs". */
export function expected(phase) {
  const known = phase.expected ?? null;
  if (known === null) return "";
  const seconds = known.seconds < 10 ? `${number(tenths(Math.max(known.seconds, 0)))}s` : duration(known.seconds);
  const runs = known.runs > 1 ? `over ${known.runs} runs` : known.runs ? "in 1 run" : "";
  if (known.source === "unit" && known.unit_seconds && (known.count ?? null) !== null) {
    return [`${seconds}: ${byUnits(known.unit_seconds, known.count, phase.unit)}`, runs].filter(Boolean).join(", ");
  }
  if (known.source === "given") return `${seconds}, as the pipeline says`;
  if (known.source === "weight") return `${seconds}, by its weight`;
  return [`usually ${seconds}`, runs].filter(Boolean).join(" ");
}

function byUnits(seconds, many, unit) {
  if (BYTES.has(unit)) return `${scaled(many, unit).join(" ")} at ${scaled(1 / seconds, unit).join(" ")}/s`;
  const name = unit || "units";
  if (seconds < 0.1) return `${number(halfUp(many))} ${name} at ${number(halfUp(1 / seconds))}/s`;
  const one = name.endsWith("s") && !name.endsWith("ss") ? name.slice(0, -1) : name;
  return `${number(seconds < 1 ? halfUp(seconds * 100) / 100 : tenths(seconds))} s a ${one} x ${number(halfUp(many))}`;
}

function halfUp(value) {
  return Math.floor(value + 0.5);
}

/** `template` with `{name}` replaced by what `values` has for it. */
export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Where a session stands, and for one that stalls since when. */
export function said(state, now) {
  const where = standing(state);
  if (where === "stalled" && state.progressed_at) {
    return `${WORDS.stalled} for ${duration((now - Date.parse(state.progressed_at)) / 1000)}`;
  }
  return WORDS[where] ?? where;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const DAY_OF_A_YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** The time of the day, in the reader's time zone. */
export function clock(at) {
  return CLOCK.format(new Date(at));
}

/** A moment as people say it: the time alone where it was today, the year where it was another one. */
export function moment(at, now) {
  const date = new Date(at);
  const today = new Date(now).toDateString() === date.toDateString();
  const day = new Date(now).getFullYear() === date.getFullYear() ? DAY : DAY_OF_A_YEAR;
  return today ? clock(at) : `${day.format(date)}, ${clock(at).slice(0, 5)}`;
}
