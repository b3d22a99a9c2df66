/**
 * A session as a timeline: when each phase ran, beside one another where they ran together. Pure; shared by whatever
 * draws it. The terminal has the same by `cli/timeline.py`.
 *
 * 1. Times are seconds after the session's attempt began, by its owner's clock. Phases of an earlier attempt lie before
 *    that, by the stamps of the wall clock.
 * 2. A row is a phase: from its beginning to its end, or until now, over the time that is usual for it. What waits has
 *    only the latter, behind what comes before it.
 */

import { duration, elapsed, ENDED, lastHeard, phaseElapsed } from "./words.js";

/** Rows that are made at most. */
export const ROWS = 500;

/**
 * The rows of a session, parents before their children: `key`, `phase`, `depth`, `begin` and `end` (null: not begun),
 * and `usual`, a beginning and an end (null: not known).
 *
 * @param state The newest state.
 * @param now Milliseconds, by the server's clock.
 */
export function timeline(state, now) {
  const until = lastHeard(state, now);
  const times = { now: until, ran: elapsed(state, until) ?? 0 };
  const began = state.started_at ? Date.parse(state.started_at) : null;
  const rows = [];
  let follows = times.ran;
  for (const phase of state.phases) {
    const row = rowOf(phase, phase.name, 0, times, began);
    if (row.begin === null && phase.status === "pending" && phase.expected && !ENDED.includes(state.status)) {
      row.usual = [follows, follows + phase.expected.seconds];
    }
    if (row.usual !== null && (phase.status === "pending" || phase.status === "running")) follows = Math.max(follows, row.usual[1]);
    rows.push(row);
    below(rows, phase, phase.name, 1, times, began);
    if (rows.length > ROWS) break;
  }
  return rows.slice(0, ROWS);
}

function below(rows, phase, above, depth, times, began) {
  for (const child of phase.phases) {
    const key = `${above}/${child.name}`;
    rows.push(rowOf(child, key, depth, times, began));
    below(rows, child, key, depth + 1, times, began);
  }
}

function rowOf(phase, key, depth, times, began) {
  if (!phase.started_at || phase.status === "skipped") return { key, phase, depth, begin: null, end: null, usual: null };
  const begin = phase.started_after ?? (began === null ? 0 : (Date.parse(phase.started_at) - began) / 1000);
  const usual = phase.expected ? [begin, begin + phase.expected.seconds] : null;
  return { key, phase, depth, begin, end: begin + phaseElapsed(phase, times), usual };
}

/** From the first beginning to the last end, of what ran and of what is usual; never empty. */
export function extent(rows) {
  let [first, last] = [0, 0];
  for (const { begin, end, usual } of rows) {
    for (const edge of [begin, end, ...(usual ?? [])]) {
      if (edge !== null) [first, last] = [Math.min(first, edge), Math.max(last, edge)];
    }
  }
  return [first, Math.max(last, first + 0.001)];
}

/** Steps of the clock that a scale may have, in seconds. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** Round moments on a scale, `most` at most, each with its words. */
export function ticks([first, last], most) {
  const wanted = (last - first) / Math.max(most, 1);
  const step = STEPS.find((one) => one >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
  const found = [];
  for (let number = Math.ceil(first / step - 1e-9); number * step <= last + 1e-9; number += 1) {
    const at = number * step;
    found.push({ at, said: at < 0 ? `−${duration(-at)}` : step < 1 && at % 1 ? `${at.toFixed(1)}s` : duration(at) });
  }
  return found;
}
