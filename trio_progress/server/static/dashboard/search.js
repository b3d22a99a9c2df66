/** What is searched for, and by which labels and standings sessions are found. Pure. */

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
 * pipeline, message, labels or the id of the session that it is a part of, whatever their case; `name=value` is a label, exactly, and of several with one name any will
 * do. What has spaces in it stands in quotation marks: `team="Data Science"`; a quotation mark within them is written twice.
 */
export function searching(typed) {
  const words = wordsOf(typed);
  const byName = new Map();
  for (const word of words.filter(isLabel)) byName.set(nameOf(word), [...(byName.get(nameOf(word)) ?? []), word]);
  const labels = [...byName.values()];
  const plain = words.filter((word) => !isLabel(word)).map((word) => word.toLowerCase());
  return (state) => {
    // Both may have an equals sign in them, so it is the two together that are compared.
    const has = labels.length ? Object.entries(state.labels).map(labelWord) : [];
    return (
      labels.every((any) => any.some((label) => has.includes(label))) &&
      plain.every((word) => haystack(state).some((straw) => straw.toLowerCase().includes(word)))
    );
  };
}

function isLabel(word) {
  return word.indexOf("=") > 0;
}

/** What stands before the first equals sign. */
function nameOf(word) {
  return word.slice(0, word.indexOf("="));
}

function labelWord([name, value]) {
  return `${name}=${value}`;
}

/** Labels by which sessions can be filtered, at most; and values of each. */
const FACETS = 4;
const VALUES = 12;

/**
 * The labels that tell sessions apart, of many those that most have, each with its `values`: how many sessions that match
 * the rest of the search have it (`count`), and whether it is searched for (`on`). A label with more values than can be
 * looked through is none of them.
 */
export function facets(sessions, typed) {
  const words = wordsOf(typed);
  const known = new Map();
  for (const { labels } of sessions) {
    for (const [name, value] of Object.entries(labels)) {
      const label = known.get(name) ?? { name, values: new Set(), had: 0 };
      known.set(name, label);
      label.had += 1;
      if (label.values.size <= VALUES) label.values.add(value);
    }
  }
  const telling = [...known.values()].filter(({ values }) => values.size > 1 && values.size <= VALUES);
  const most = telling.sort((a, b) => b.had - a.had).slice(0, FACETS).sort((a, b) => (a.name < b.name ? -1 : 1));
  return most.map(({ name, values }) => {
    const counts = new Map([...values].sort().map((value) => [value, 0]));
    const others = words.filter((word) => !isLabel(word) || ![...values].some((value) => word === labelWord([name, value])));
    for (const { labels } of sessions.filter(searching(typedAs(others)))) {
      if (counts.has(labels[name])) counts.set(labels[name], counts.get(labels[name]) + 1);
    }
    return { name, values: [...counts].map(([value, count]) => ({ value, count, on: words.includes(labelWord([name, value])) })) };
  });
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
  return [state.title, state.id, state.pipeline ?? "", state.message ?? "", state.parent ?? "", ...Object.values(state.labels)];
}
