/** Which sessions are shown, and in which order. Pure. */

import { ENDED, standing } from "../words.js";

/** The filters by standing, with the words for them and what they let through. */
export const FILTERS = Object.freeze([
  { name: "all", title: "All", takes: () => true },
  { name: "running", title: "Running", takes: (where) => where === "running" },
  { name: "stalled", title: "Stalled", takes: (where) => where === "stalled" },
  { name: "queued", title: "Queued", takes: (where) => where === "queued" },
  { name: "completed", title: "Completed", takes: (where) => where === "completed" },
  { name: "failed", title: "Failed", takes: (where) => where === "failed" || where === "timed_out" || where === "lost" },
  { name: "stopped", title: "Stopped", takes: (where) => where === "cancelled" || where === "interrupted" },
]);

/**
 * A search as it was typed, as a function that takes a session or not: all words must be found in its title, id,
 * pipeline, message or labels, whatever their case; `name=value` is a label, exactly. What has spaces in it stands in
 * quotation marks: `team="Data Science"`; a quotation mark within them is written twice.
 */
export function searching(typed) {
  const words = wordsOf(typed);
  const labels = words.filter(isLabel);
  const plain = words.filter((word) => !isLabel(word)).map((word) => word.toLowerCase());
  return (state) => {
    // Both may have an equals sign in them, so it is the two together that are compared.
    const has = labels.length ? Object.entries(state.labels).map(([name, value]) => `${name}=${value}`) : [];
    return (
      labels.every((label) => has.includes(label)) &&
      plain.every((word) => haystack(state).some((straw) => straw.toLowerCase().includes(word)))
    );
  };
}

function isLabel(word) {
  return word.indexOf("=") > 0;
}

/** The words of a search, without the quotation marks that keep some together. */
export function wordsOf(typed) {
  const quoted = /"((?:[^"]|"")*)(?:"|$)/g;
  return (typed.match(/(?:[^\s"]|"[^"]*(?:"|$))+/g) ?? [])
    .map((word) => word.replace(quoted, (_, inner) => inner.replaceAll('""', '"')))
    .filter(Boolean);
}

/** The words as they are typed. */
export function typedAs(words) {
  return words.map((word) => (/[\s"]/.test(word) ? `"${word.replaceAll('"', '""')}"` : word)).join(" ");
}

function haystack(state) {
  return [state.title, state.id, state.pipeline ?? "", state.message ?? "", ...Object.values(state.labels)];
}

/** The sessions in two groups: what goes on, the last begun first; and what has ended, the last ended first. */
export function grouped(sessions) {
  const active = [];
  const ended = [];
  for (const state of sessions) (ENDED.includes(state.status) ? ended : active).push(state);
  return { active: active.sort(later), ended: ended.sort(later) };
}

function later(a, b) {
  return place(b) - place(a) || (a.id < b.id ? -1 : 1);
}

const places = new WeakMap();

/** When it began, or ended: read out of its text once for each state. */
function place(state) {
  let at = places.get(state);
  if (at === undefined) {
    const begun = state.started_at ?? state.queued_at;
    at = Date.parse(ENDED.includes(state.status) ? (state.ended_at ?? begun) : begun) || 0;
    places.set(state, at);
  }
  return at;
}

/** How many sessions each filter lets through. */
export function tally(sessions) {
  const counts = Object.fromEntries(FILTERS.map(({ name }) => [name, 0]));
  for (const state of sessions) {
    const where = standing(state);
    for (const filter of FILTERS) if (filter.takes(where)) counts[filter.name] += 1;
  }
  return counts;
}
