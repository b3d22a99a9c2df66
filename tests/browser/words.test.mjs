// Figures as people read them, which sessions are shown, how fast the work goes, and events however they are cut.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as words from "../../trio_progress/server/static/words.js";
import { Listing } from "../../trio_progress/server/static/dashboard/listing.js";
import { FILTERS, searching, typedAs, wordsOf } from "../../trio_progress/server/static/dashboard/search.js";
import { lately, Meter, outline } from "../../trio_progress/server/static/dashboard/throughput.js";
import { SseParser } from "../../trio_progress/server/static/sse.js";

test("100 % is said of nothing that has not ended", () => {
  assert.deepEqual([0, 0.29, 0.5, 0.999, 0.9999999, 1, 1.2, -1].map(words.percent), [0, 29, 50, 99, 99, 100, 100, 0]);
});

test("durations have two units at most", () => {
  const said = [0, 59.9, 60, 3599, 3600, 86399, 86400 * 4 + 3600 * 3, -5].map(words.duration);
  assert.deepEqual(said, ["0s", "59s", "1m 00s", "59m 59s", "1h 00m", "23h 59m", "4d 3h", "0s"]);
  assert.deepEqual([0.04, 3.25, 9.96, 75].map(words.took), ["0.0s", "3.3s", "9s", "1m 15s"]);
});

const cases = JSON.parse(readFileSync(new URL("time_left.json", import.meta.url), "utf8"));

test("what is left and what was expected is said in the words of the terminal", () => {
  for (const { eta, range, longer, said } of cases.left) assert.equal(words.left(eta, range, longer), said);
  for (const { unit, expected, said } of cases.expected) assert.equal(words.expected({ unit, expected }), said);
});

test("what is left counts down from when it was true, as in the terminal", () => {
  for (const { eta, range, passed, liveness, shown } of cases.counted) {
    const state = { status: "running", liveness, eta, eta_range: range, published_at: new Date(1.7e12).toISOString() };
    const now = words.leftAt(state, 1.7e12 + passed * 1000);
    const near = (value, wanted) => (wanted === null ? value === null : Math.abs(value - wanted) < 1e-9);
    const said = [now.eta, ...(now.range ?? [null, null])];
    assert.ok(said.every((value, index) => near(value, shown[index])), `${passed}: ${said}`);
  }
});

test("what takes longer than usual is said to, where nothing tells when it will be done", () => {
  const times = { now: 1.7e12, ran: 190, since: 2 };
  const phase = {
    status: "running", started_at: "2023-01-01T00:00:00Z", ended_at: null, started_after: 5, fraction: null, eta: null, expected: { seconds: 60, source: "usual", runs: 3 },
  };
  const longer = "longer than usual (3 min so far, usually 1)";
  assert.equal(words.phaseLeft(phase, times), longer);
  assert.equal(words.phaseLeft({ ...phase, eta: 12, fraction: 0.5 }, times), "10s left");
  assert.equal(words.phaseLeft({ ...phase, status: "completed" }, times), "");
  for (const expected of [undefined, null, { seconds: 60, source: "weight" }, { seconds: 185, source: "usual" }]) {
    assert.equal(words.phaseLeft({ ...phase, expected }, times), "");
  }
  const state = {
    status: "running", liveness: "ok", progress: 0.9, eta: 3, eta_range: [1, 90], phases: [phase], published_at: null,
    started_at: new Date(1.7e12 - 190e3).toISOString(), ended_at: null, elapsed: null,
  };
  assert.equal(words.sessionLeft(state, 1.7e12, 1.7e12), longer);
  assert.equal(words.sessionLeft(state, 1.7e12, 1.7e12, { words: { ...words.WORDS, longer: "{spent} {unit}!" } }), "3 min!");
  assert.equal(words.sessionLeft({ ...state, liveness: "stalled" }, 1.7e12, 1.7e12), "");
  const both = { ...state, phases: [phase, { ...phase, status: "pending" }] };
  assert.equal(words.sessionLeft(both, 1.7e12, 1.7e12), longer);
  const more = { ...both, eta: 200, eta_range: [100, 400] };
  assert.equal(words.sessionLeft(more, 1.7e12, 1.7e12), "about 1 to 7 min left");
  assert.equal(words.sessionLeft(more, 1.7e12, 1.7e12, { label: false }), "about 1 to 7 min");
  assert.equal(words.sessionLeft({ ...more, eta_range: null, eta: 310 }, 1.7e12 + 10e3, 1.7e12), "5m 00s left");
});

test("the bar's segments are as wide as the time that their phases are expected to take", () => {
  const phase = (weight, seconds) => ({ name: "a", title: "A", status: "pending", fraction: 0, weight, expected: seconds && { seconds } });
  assert.deepEqual(words.segments([phase(0.5, 30), phase(0.5, 10)]).map(({ share }) => share), [0.75, 0.25]);
  assert.deepEqual(words.segments([phase(0.5, 30), phase(0.5, null)]).map(({ share }) => share), [0.5, 0.5]);
});

test("durations are those that the owner has measured, whatever its wall clock was set to", () => {
  const at = (seconds) => new Date(1.7e12 + 1000 * seconds).toISOString();
  const now = 1.7e12 + 1000 * 3610;
  // The wall clock was set ahead by an hour after 5 s.
  const state = { started_at: at(0), progressed_at: at(3608), ended_at: null, elapsed: 8 };
  const ran = words.elapsed(state, now);
  assert.equal(ran, 10);
  assert.equal(words.elapsed({ ...state, ended_at: at(3612), elapsed: 12 }, now), 12);
  assert.equal(words.elapsed({ ...state, elapsed: null }, now), 3610);
  assert.equal(words.elapsed({ ...state, elapsed: undefined, ended_at: at(3612) }, now), 3612);
  assert.equal(words.elapsed({ ...state, started_at: null }, now), null);
  const phase = { started_at: at(4), ended_at: null, elapsed: null, started_after: 4 };
  assert.equal(words.phaseElapsed(phase, { now, ran }), 6);
  assert.equal(words.phaseElapsed({ ...phase, ended_at: at(3608), elapsed: 4 }, { now, ran }), 4);
  assert.equal(words.phaseElapsed({ ...phase, started_after: undefined }, { now, ran }), 3606);
  assert.equal(words.phaseElapsed({ ...phase, started_at: null }, { now, ran }), null);
});

test("what is lost has run until it was last heard of, whether that is stored or not", () => {
  const at = (seconds) => new Date(1.7e12 + 1000 * seconds).toISOString();
  const now = 1.7e12 + 1000 * 500;
  const state = { status: "running", liveness: "lost", started_at: at(0), progressed_at: at(20), heartbeat_at: at(30), ended_at: null, elapsed: 20 };
  assert.equal(words.elapsed(state, now), 30);
  assert.equal(words.elapsed({ ...state, status: "lost" }, now), 30);
  assert.equal(words.elapsed({ ...state, elapsed: null }, now), 30);
  assert.equal(words.elapsed({ ...state, progressed_at: at(35) }, now), 20, "a heartbeat from before takes nothing away");
  assert.equal(words.elapsed({ ...state, liveness: "stalled" }, now), 500);
  assert.equal(words.elapsed({ ...state, heartbeat_at: null }, now), 500);
  assert.equal(words.lastHeard({ ...state, heartbeat_at: at(900) }, now), now, "the clock of its owner may be ahead");
});

test("counts, rates and values are short", () => {
  assert.equal(words.count({ done: 12, total: 1200, unit: "pages" }), "12 / 1,200 pages");
  assert.equal(words.count({ done: 0, total: null, unit: "pages" }), "");
  assert.equal(words.count({ done: 1.239, total: null, unit: null }), "1.24");
  assert.deepEqual([0.01234, 12.345, 99999.5].map(words.rate), ["0.0123", "12.3", "100,000"]);
  assert.equal(words.valueText(["a", 1]), "a, 1");
  assert.equal(words.valueText({ a: [null] }), '{"a":[null]}');
  assert.equal(words.fill("{time} left, {other}", { time: "3s" }), "3s left, {other}");
});

test("bytes are scaled, as in the terminal", () => {
  const said = [[1.25e9, 3.4e9, "B"], [512e6, 3.4e9, "B"], [0, 3.4e9, "B"], [999.6, null, "B"], [17, 999, "B"], [2 ** 20 * 1.5, 2 ** 30, "iB"], [123.46e12, null, "B"]];
  assert.deepEqual(said.map(([done, total, unit]) => words.count({ done, total, unit })), [
    "1.3 / 3.4 GB", "512 MB / 3.4 GB", "0 / 3.4 GB", "1 kB", "17 / 999 B", "1.5 MiB / 1 GiB", "123 TB",
  ]);
  assert.deepEqual([words.rate(12e6, "B"), words.rate(12.345, "pages"), words.rateWithUnit(12e6, "B"), words.rateWithUnit(12.345, "pages"), words.rateWithUnit(2, null)], ["12 MB", "12.3", "12 MB", "12.3 pages", "2"]);
});

const session = (id, changes = {}) => ({
  id, title: id, pipeline: null, message: null, labels: {}, status: "running", liveness: "ok", started_at: null,
  queued_at: null, ended_at: null, ...changes,
});

test("a search needs all its words, whatever their case, and labels exactly", () => {
  const ada = session("r-1", { title: "Crawl Shoes", labels: { user: "ada", team: "Search" } });
  for (const typed of ["", "crawl", "SHOES crawl", "user=ada", "user=ada r-1", "search", " ada  "]) assert.ok(searching(typed)(ada), typed);
  for (const typed of ["user=ad", "user=ada boots", "team=search", "constructor=x", "__proto__=x"]) assert.ok(!searching(typed)(ada), typed);
});

test("what has spaces in it is kept together by quotation marks, there and back", () => {
  const state = session("r-1", { labels: { team: "Data Science", "a b": "c" } });
  assert.ok(searching('team="Data Science"')(state));
  assert.ok(!searching("team=Data Science")(state));
  for (const words of [["team=Data Science", "x"], ["a b=c"], ["plain"], [], ['q=say "hi"', 'x"', '"', '""'], ["e="]]) assert.deepEqual(wordsOf(typedAs(words)), words);
  assert.deepEqual(wordsOf('half "open quote'), ["half", "open quote"]);
  assert.deepEqual(wordsOf('team="" x'), ["team=", "x"]);
});

function listed(sessions) {
  const listing = new Listing();
  listing.update(sessions, "", FILTERS[0]);
  return listing;
}

test("what goes on comes first, the last begun above; what has ended is ordered by its end", () => {
  const sessions = [
    session("old", { started_at: "2026-01-01T00:00:00.5Z" }),
    session("new", { started_at: "2026-01-01T00:00:00.52Z" }),
    session("queued", { status: "queued", queued_at: "2026-01-01T00:00:01Z" }),
    session("first", { status: "completed", ended_at: "2026-01-01T00:00:02Z" }),
    session("last", { status: "failed", ended_at: "2026-01-01T00:00:03Z" }),
  ];
  const { active, ended } = listed(sessions);
  assert.deepEqual(active.map(({ id }) => id), ["queued", "new", "old"]);
  assert.deepEqual(ended.map(({ id }) => id), ["last", "first"]);
});

test("every standing is found by exactly one filter beside the one for all", () => {
  const standings = [...words.ENDED.map((status) => session("x", { status })), session("x"), session("x", { status: "queued" }),
    session("x", { liveness: "stalled" }), session("x", { liveness: "lost" })];
  for (const state of standings) {
    const { counts } = listed([state]);
    assert.equal(counts.all, 1);
    assert.equal(FILTERS.reduce((sum, { name }) => sum + counts[name], 0), 2, JSON.stringify(state));
  }
});

const moving = (done, changes = {}) => ({ phases: [{ name: "a", title: "A", status: "running", attempt: 1, done, unit: "pages", phases: [], ...changes }] });

test("throughput is what was done in each half second, however often states come", () => {
  const meter = new Meter();
  for (let at = 0; at <= 5000; at += 100) meter.take(moving(at / 10), at);
  const { points } = meter.subject();
  assert.deepEqual(points.map(({ speed }) => speed), Array(10).fill(100));
  assert.equal(lately([9000, 0, 10, 20, 0, 10, 8].map((speed) => ({ speed }))), 8);
});

test("a count that falls and another attempt begin the line anew, and what never moved is not shown", () => {
  const meter = new Meter();
  for (const [done, at] of [[0, 0], [50, 1000], [0, 2000], [10, 3000]]) meter.take(moving(done), at);
  assert.deepEqual(meter.subject().points.map(({ speed }) => speed), [10]);
  const still = new Meter();
  for (let at = 0; at < 5000; at += 1000) still.take(moving(7), at);
  assert.equal(still.subject(), null);
});

test("phases that came and went are forgotten", () => {
  const meter = new Meter();
  for (let n = 0; n < 1000; n++) meter.take(moving(n, { name: `p${n}` }), n * 100);
  assert.ok(meter.size <= 100);
});

test("the line stays in its box and is bounded", () => {
  const meter = new Meter();
  let done = 0;
  for (let at = 0; at < 1_000_000; at += 1000) meter.take(moving((done += at % 7)), at);
  const { points } = meter.subject();
  assert.equal(points.length, 120);
  for (const [x, y] of outline(points, 300, 56)) assert.ok(x >= 0 && x <= 300 && y >= 0 && y <= 56);
});

test("events are the same however the stream is cut", () => {
  const stream = ': hi\r\nid: 7\r\nevent: update\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:x\n\nid\ndata\n\n\n: only\n\nevent: e\n\ndata: last';
  const whole = new SseParser().feed(stream);
  assert.deepEqual(whole, [
    { id: "7", event: "update", data: '{"a":\n1}' },
    { id: "7", event: "message", data: "x" },
    { id: "", event: "message", data: "" },
  ]);
  for (let size = 1; size < 12; size++) {
    const parser = new SseParser();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...parser.feed(stream.slice(at, at + size)));
    assert.deepEqual(found, whole, `pieces of ${size}`);
  }
});
