// What the list shows and in which order: parts below the session that they are of, and only what has changed looked at anew.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Listing } from "../../trio_progress/server/static/dashboard/listing.js";
import { FILTERS } from "../../trio_progress/server/static/dashboard/search.js";

const at = (second) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString();
const session = (id, second, changes = {}) => ({
  id, title: id, pipeline: null, message: null, labels: {}, status: "running", liveness: "ok", started_at: at(second),
  queued_at: null, ended_at: null, ...changes,
});
const ended = (id, second, changes = {}) => session(id, second, { status: "completed", ended_at: at(second), ...changes });
const [ALL] = FILTERS;
const filter = (name) => FILTERS.find((one) => one.name === name);
const said = (rows) => rows.map(({ id, depth, place, places }) => `${"-".repeat(depth)}${id} ${place}/${places}`);

const JOB = [
  session("job", 1), session("b", 3, { parent: "job" }), session("a", 2, { parent: "job" }), ended("deep", 4, { parent: "a" }),
  session("other", 5), ended("old", 0), ended("alone", 1, { parent: "of-nobody" }),
];

test("parts stand below the session that they are of, the oldest first, where somebody opened it", () => {
  const listing = new Listing();
  listing.update(JOB, "", ALL);
  assert.deepEqual(said(listing.active), ["other 1/2", "job 2/2"]);
  assert.deepEqual(said(listing.ended), ["alone 1/2", "old 2/2"]);
  assert.deepEqual(listing.active.map(({ parts, open }) => [parts, open]), [[0, false], [2, false]]);
  listing.turn("job");
  listing.turn("a", true);
  listing.turn("a", true);
  listing.update(JOB, "", ALL);
  assert.deepEqual(said(listing.active), ["other 1/2", "job 2/2", "-a 1/2", "--deep 1/1", "-b 2/2"]);
  listing.turn("job", false);
  listing.update(JOB, "", ALL);
  assert.deepEqual(said(listing.active), ["other 1/2", "job 2/2"]);
  assert.deepEqual([listing.shownFor("deep"), listing.shownFor("old"), listing.shownFor("nobody")], ["job", "old", null]);
});

test("a part that begins or ends stays where it is among the parts", () => {
  const listing = new Listing(new Set(["job"]));
  const part = (id, second, changes) => session(id, second, { parent: "job", queued_at: at(second), started_at: null, status: "queued", ...changes });
  const jobs = [session("job", 0), part("a", 1), part("b", 2), part("c", 3)];
  for (const begun of [{}, { status: "running", started_at: at(9) }, { status: "completed", started_at: at(9), ended_at: at(10) }]) {
    listing.update([jobs[0], { ...jobs[1], ...begun }, ...jobs.slice(2)], "", ALL);
    assert.deepEqual(said(listing.active), ["job 1/1", "-a 1/3", "-b 2/3", "-c 3/3"]);
  }
});

test("what is opened is kept for the next list, and a part comes and goes with its session", () => {
  const opened = new Set();
  new Listing(opened).turn("job", true);
  const listing = new Listing(opened);
  listing.update(JOB, "", ALL);
  assert.deepEqual(said(listing.active), ["other 1/2", "job 2/2", "-a 1/2", "-b 2/2"]);
  listing.update(JOB.slice(1), "", ALL);
  assert.deepEqual(said(listing.active), ["other 1/3", "b 2/3", "a 3/3"]);
});

test("a session goes on as long as a part of it does", () => {
  const listing = new Listing();
  const jobs = [ended("job", 9), session("part", 1, { parent: "job" })];
  listing.update(jobs, "", ALL);
  assert.deepEqual([said(listing.active), said(listing.ended)], [["job 1/1"], []]);
  listing.update([jobs[0], ended("part", 10, { parent: "job" })], "", ALL);
  assert.deepEqual([said(listing.active), said(listing.ended)], [[], ["job 1/1"]]);
});

test("what is searched for is never hidden in a session, and one that is filtered out leaves its parts alone", () => {
  const listing = new Listing();
  listing.update(JOB, "job", ALL);
  assert.deepEqual(said(listing.active), ["job 1/1", "-a 1/2", "-b 2/2"], "parts are found by the id of their session");
  listing.turn("job");
  listing.update(JOB, "job", ALL);
  assert.deepEqual(said(listing.active), ["job 1/1"]);
  listing.update(JOB, "deep", ALL);
  assert.deepEqual(said(listing.ended), ["deep 1/1"]);
  listing.update(JOB, "", filter("completed"));
  assert.deepEqual(said(listing.ended), ["deep 1/3", "alone 2/3", "old 3/3"]);
  listing.update(JOB, "shoes", ALL);
  listing.update(JOB.map((state) => (state.id === "other" ? { ...state, message: "Shoes" } : state)), "shoes", ALL);
  assert.deepEqual(said(listing.active), ["other 1/1"], "what says now what is searched for is found");
  listing.update([], "x", ALL);
  assert.deepEqual([listing.active, listing.ended, listing.counts.all], [[], [], 0]);
});

test("sessions that are parts of each other are shown, once each, and deep ones no deeper than can be read", () => {
  const listing = new Listing();
  const circle = [session("a", 1, { parent: "c" }), session("b", 2, { parent: "a" }), session("c", 3, { parent: "b" }), session("d", 4, { parent: "d" })];
  const deep = Array.from({ length: 3000 }, (_, n) => session(`n${n}`, n, { parent: n ? `n${n - 1}` : null }));
  for (const { id } of [...circle, ...deep]) listing.turn(id, true);
  listing.update(circle, "", ALL);
  assert.deepEqual(said(listing.active), ["d 1/2", "a 2/2", "-b 1/1", "--c 1/1"]);
  listing.update(deep, "", ALL);
  assert.equal(listing.active.length, 3000);
  assert.deepEqual(listing.active.slice(0, 7).map(({ depth }) => depth), [0, 1, 2, 3, 4, 4, 4]);
});

test("a bar that moves changes its row alone, and any other change shows what a new list would", () => {
  const opened = new Set();
  const kept = new Listing(opened);
  let sessions = JOB;
  kept.turn("job", true);
  kept.update(sessions, "", ALL);
  const rows = kept.active;
  sessions = sessions.map((state) => (state.id === "a" ? { ...state, progress: 0.5, message: "page 7" } : state));
  kept.update(sessions, "", ALL);
  assert.equal(kept.active, rows);
  assert.equal(kept.active.find(({ id }) => id === "a").state.progress, 0.5);
  let [query, by] = ["", ALL];
  let seed = 1;
  const below = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const any = (of) => of[below(of.length)];
  for (let step = 0; step < 2000; step++) {
    const id = `s${below(12)}`;
    const whole = () => session(id, below(30), { parent: below(2) ? `s${below(12)}` : null, message: `m${below(3)}` });
    const one = any([() => ({ status: any(["running", "failed", "completed", "queued"]) }), () => ({ started_at: at(below(30)) }), () => ({ liveness: any(["ok", "stalled"]) }),
      () => ({ parent: any([null, `s${below(12)}`]) }), () => ({ message: `m${below(3)}` }), whole]);
    // What has changed stands where it stood, what is new behind; and some go.
    const before = sessions.find((state) => state.id === id);
    const state = { ...(before ?? whole()), ...one(), id };
    sessions = before ? sessions.map((other) => (other === before ? state : other)) : [...sessions, state];
    if (!below(9)) sessions = sessions.filter(() => below(8));
    if (!below(4)) [query, by] = below(4) ? ["", ALL] : [any(["", "m1", "s3"]), any(FILTERS)];
    if (!query && !below(6)) kept.turn(`s${below(12)}`);
    kept.update(sessions, query, by);
    const fresh = new Listing(new Set(opened));
    fresh.update(sessions, query, by);
    for (const name of ["counts", "active", "ended"]) assert.deepEqual(kept[name], fresh[name], `${step}: ${name}`);
  }
});
