// Merging: run by `node --test`, from tests/integration/test_browser_modules.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyView, merge, OutOfStep } from "../../trio_progress/server/static/merge.js";

const NOW = Date.parse("2026-01-01T00:00:00Z");

function phase(name, changes = {}) {
  return {
    name, title: name, status: "running", attempt: 1, done: 0, total: 10, unit: null, weight: 0.5, fraction: 0,
    rate: null, eta: null, message: null, fields: {}, started_at: null, ended_at: null, skipped: 0, folded: 0,
    folded_weight: 0, phases: [], ...changes,
  };
}

function head(seq, changes = {}) {
  return { id: "r", epoch: 7, seq, status: "running", liveness: "ok", progress: 0.1, counters: {}, ...changes };
}

const snapshot = (seq, phases, changes = {}) => ({
  type: "snapshot", session: "r", seq, resume: `7.${seq}.0`, state: { ...head(seq, changes), phases },
});

const update = (from, seq, phases = [], changes = {}) => ({
  type: "update", session: "r", from, seq, resume: `7.${seq}.0`, head: head(seq, changes.head), phases,
  folded: changes.folded ?? [],
});

const at = (path, changes) => {
  const { phases: _, ...values } = phase(path.at(-1), changes);
  return { ...values, path };
};

const event = (n) => ({ type: "event", session: "r", n, seq: 1, resume: `7.1.${n}`, name: "found", data: { n }, at: "2026-01-01T00:00:00Z" });

const after = (view, ...messages) => messages.reduce((before, message) => merge(before, message, 3, NOW), view);

const begun = () =>
  after(emptyView("r"), snapshot(5, [phase("a", { phases: [phase("x"), phase("y")] }), phase("b")]));

test("an update changes what it names and shares the rest", () => {
  const before = begun();
  const now = after(before, update(5, 6, [at(["a", "y"], { done: 4 })]));
  assert.equal(now.state.seq, 6);
  assert.equal(now.resume, "7.6.0");
  assert.equal(now.state.phases[0].phases[1].done, 4);
  assert.equal(now.state.phases[1], before.state.phases[1]);
  assert.equal(now.state.phases[0].phases[0], before.state.phases[0].phases[0]);
  assert.notEqual(now.state.phases[0], before.state.phases[0]);
  assert.equal(before.state.phases[0].phases[1].done, 0, "the view before is frozen");
});

test("a changed phase keeps its children and its place; a new one comes last", () => {
  const now = after(begun(), update(5, 9, [at(["a"], { status: "completed" }), at(["c"]), at(["c", "z"], { done: 1 })]));
  assert.deepEqual(now.state.phases.map(({ name }) => name), ["a", "b", "c"]);
  assert.deepEqual(now.state.phases[0].phases.map(({ name }) => name), ["x", "y"]);
  assert.equal(now.state.phases[2].phases[0].done, 1);
  assert.equal("path" in now.state.phases[2], false);
});

test("folded phases leave the tree, and those that never came are no matter", () => {
  const folded = [["a", "x"], ["a", "never"], ["gone", "below"]];
  const now = after(begun(), update(5, 6, [at(["a"], { folded: 1 })], { folded }));
  assert.deepEqual(now.state.phases[0].phases.map(({ name }) => name), ["y"]);
  assert.equal(now.state.phases[0].folded, 1);
});

test("what is not newer is ignored, and leaves the very same view", () => {
  const view = after(begun(), update(5, 8));
  assert.equal(after(view, update(5, 8)), view);
  assert.equal(after(view, update(3, 7)), view);
});

test("an update from another state, another epoch or nothing does not fit", () => {
  for (const wrong of [update(6, 7), update(5, 6, [], { head: { epoch: 8 } }), update(5, 6, [at(["none", "below"])])]) {
    assert.throws(() => after(begun(), wrong), OutOfStep);
  }
  assert.throws(() => after(emptyView("r"), update(5, 6)), OutOfStep);
});

test("a snapshot replaces whatever there was", () => {
  const now = after(begun(), snapshot(2, [phase("other")], { epoch: 9 }));
  assert.equal(now.state.epoch, 9);
  assert.deepEqual(now.state.phases.map(({ name }) => name), ["other"]);
});

test("events come each once, in order, and the newest are kept", () => {
  const now = after(begun(), event(1), event(2), event(2), event(1), event(3), event(4));
  assert.deepEqual(now.events.map(({ n }) => n), [2, 3, 4]);
  assert.equal(now.resume, "7.1.4");
});

test("a new beginning gives the events anew; one that is too old goes on behind the last", () => {
  const subscribed = (reason) => ({ type: "subscribed", session: "r", recovered: reason === null, reason, server_time: "2026-01-01T00:00:05Z" });
  const view = after(begun(), event(1), event(2), { type: "gap", session: "r", dropped: 4, resume: "7.1.6" });
  assert.deepEqual([view.dropped, view.resume], [4, "7.1.6"]);
  for (const reason of ["epoch", "new", "bad_token"]) {
    const anew = after(view, subscribed(reason));
    assert.deepEqual([anew.events.length, anew.dropped, anew.recovered], [0, 0, false]);
  }
  for (const reason of [null, "too_old"]) assert.equal(after(view, subscribed(reason)).events.length, 2);
  assert.equal(after(view, subscribed(null)).clockOffset, 5000);
});

test("a bookmark moves the clocks of the state that it is about, and of no other", () => {
  const bookmark = (seq) => ({
    type: "bookmark", session: "r", seq, resume: `7.${seq}.9`, liveness: "stalled", heartbeat_at: "h", progressed_at: "p",
    server_time: "2026-01-01T00:00:02Z",
  });
  const now = after(begun(), bookmark(5));
  assert.deepEqual([now.state.liveness, now.state.heartbeat_at, now.state.seq], ["stalled", "h", 5]);
  assert.equal(now.clockOffset, 2000);
  assert.equal(after(begun(), bookmark(4)).state.liveness, "ok");
});

test("the end is kept beside the state, until it goes on under another epoch", () => {
  const end = { type: "end", session: "r", seq: 6, status: "completed", resumable: false, persisted_seq: 6, resume: "7.6.0" };
  const now = after(begun(), end);
  assert.equal(now.end.status, "completed");
  const again = after(now, { type: "subscribed", session: "r", recovered: true, reason: null }, { ...end });
  assert.equal(again.end, now.end, "told again it is the same");
  assert.equal(after(now, { type: "subscribed", session: "r", recovered: false, reason: "epoch" }).end, null);
});

test("messages of a kind that is not known change nothing", () => {
  const view = begun();
  assert.equal(after(view, { type: "weather", session: "r" }), view);
});

test("a phase may have any name, those of an object's own included", () => {
  const names = ["__proto__", "constructor", "toString", "", "a/b", "<img src=x onerror=alert(1)>"];
  let view = after(emptyView("r"), snapshot(1, []));
  names.forEach((name, index) => {
    view = after(view, update(index + 1, index + 2, [at([name], { done: index })]));
  });
  assert.deepEqual(view.state.phases.map(({ name, done }) => [name, done]), names.map((name, index) => [name, index]));
});
