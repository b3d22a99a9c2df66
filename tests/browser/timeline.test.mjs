// A session as a timeline: when each phase ran, and what is usual.

import assert from "node:assert/strict";
import { test } from "node:test";
import { extent, ROWS, ticks, timeline } from "../../trio_progress/server/static/timeline.js";

const NOW = 1.8e12;
const BEGAN = NOW - 100e3;
const at = (seconds) => new Date(BEGAN + seconds * 1000).toISOString();

const phase = (name, begin, lasted = null, changes = {}) => ({
  name, title: name, status: begin === null ? "pending" : lasted === null ? "running" : "completed", eta: null, fraction: null,
  started_after: begin, started_at: begin === null ? null : at(begin), elapsed: lasted,
  ended_at: begin === null || lasted === null ? null : at(begin + lasted), phases: [], ...changes,
});
const session = (phases, changes = {}) => ({
  status: "running", liveness: "ok", started_at: at(0), progressed_at: at(100), heartbeat_at: at(100), ended_at: null, elapsed: 100, phases, ...changes,
});
const usual = (seconds) => ({ expected: { seconds, source: "usual" } });
const spans = (state) => timeline(state, NOW).map(({ key, begin, end, usual }) => [key, begin, end, usual]);

test("each phase lies where it ran, and what waits behind what is before it", () => {
  assert.deepEqual(spans(session([
    phase("search", 0, 40, { phases: [phase("a", 0, 30), phase("b", 10, 30)] }),
    phase("check", 20, 30, usual(25)),
    phase("read", 50, null, usual(80)),
    phase("skip", null, null, { status: "skipped", ...usual(5) }),
    phase("report", null, null, usual(10)),
    phase("mail", null, null, usual(20)),
    phase("other", null),
  ])), [
    ["search", 0, 40, null], ["search/a", 0, 30, null], ["search/b", 10, 40, null], ["check", 20, 50, [20, 45]], ["read", 50, 100, [50, 130]],
    ["skip", null, null, null], ["report", null, null, [130, 140]], ["mail", null, null, [140, 160]], ["other", null, null, null],
  ]);
});

test("what waits behind what is overdue begins now at the earliest, and what has ended has no future", () => {
  assert.deepEqual(spans(session([phase("a", 50, null, usual(10)), phase("b", null, null, usual(10))]))[1], ["b", null, null, [100, 110]]);
  assert.deepEqual(spans(session([phase("b", null, null, usual(10))], { status: "cancelled" })), [["b", null, null, null]]);
});

test("phases of an earlier attempt lie before this one, and a lost session ran until it was last heard of", () => {
  const before = phase("a", 0, 40, { started_after: null, started_at: at(-300) });
  assert.deepEqual(spans(session([before])), [["a", -300, -260, null]]);
  const lost = session([phase("a", 50)], { status: "lost", elapsed: null, heartbeat_at: at(70) });
  assert.deepEqual(spans(lost), [["a", 50, 70, null]]);
});

test("rows are bounded, and there is a scale for any of them", () => {
  const many = Array.from({ length: 2 * ROWS }, (_, number) => phase(`p${number}`, number));
  assert.equal(timeline(session(many), NOW).length, ROWS);
  assert.deepEqual(extent([]), [0, 0.001]);
  assert.deepEqual(ticks([0, 100], 5).map(({ said }) => said), ["0s", "30s", "1m 00s", "1m 30s"]);
  assert.deepEqual(ticks([0, 0.7], 4).map(({ said }) => said), ["0s", "0.2s", "0.4s", "0.6s"]);
  assert.deepEqual(ticks([-300, 100], 2).map(({ said }) => said), ["−5m 00s", "0s"]);
  for (const last of [0.001, 1, 77, 1e4, 1e7, 1e9]) assert.ok(ticks([0, last], 6).length <= 7, String(last));
});
