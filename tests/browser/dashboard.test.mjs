// What the page's own modules decide without a browser: chips by labels, what is done with several, icons and lines to copy.

import assert from "node:assert/strict";
import { test } from "node:test";
import { curlLine } from "../../trio_progress/server/static/dashboard/clipboard.js";
import { ring } from "../../trio_progress/server/static/dashboard/favicon.js";
import { facets, searching } from "../../trio_progress/server/static/dashboard/search.js";
import { allowed, doEach } from "../../trio_progress/server/static/dashboard/selection.js";
import { Client } from "../../trio_progress/server/static/trio-progress.js";
import { Environment, settle } from "./environment.mjs";

const state = (labels, changes = {}) => ({ id: "r", title: "R", pipeline: null, message: null, labels, status: "running", ...changes });

test("chips are of the labels that tell sessions apart, and count what matches the rest of the search", () => {
  const sessions = [0, 1, 2, 3, 4, 5].map((n) => state({ user: ["ada", "grace"][n % 2], team: n < 4 ? "search" : "ads", all: "same", n: `${n}` }));
  const many = Array.from({ length: 20 }, (_, n) => state({ request: `${n}` }));
  const counted = (typed) => Object.fromEntries(facets([...sessions, ...many], typed).map(({ name, values }) => [
    name, values.map(({ value, count, on }) => `${value} ${count}${on ? " on" : ""}`).join(", "),
  ]));
  assert.deepEqual(counted(""), { n: "0 1, 1 1, 2 1, 3 1, 4 1, 5 1", team: "ads 2, search 4", user: "ada 3, grace 3" });
  assert.equal(counted("user=ada").team, "ads 1, search 2");
  assert.equal(counted("user=ada").user, "ada 3 on, grace 3");
  assert.equal(counted("team=ads 5").user, "ada 0, grace 1");
  assert.deepEqual(facets([state({ a: "x" }), state({ __proto__: null, a: "x" })], ""), []);
});

test("of several values of one label any will do, and of several labels all must", () => {
  const ada = state({ user: "ada", team: "search" });
  for (const typed of ["user=ada user=grace", "user=grace user=ada team=search"]) assert.ok(searching(typed)(ada), typed);
  for (const typed of ["user=grace user=mary", "user=ada user=grace team=ads"]) assert.ok(!searching(typed)(ada), typed);
});

test("what may be done with a session is what its verbs, else the reader's, and its status let", () => {
  const one = (id, changes) => ({ ...state({}), id, ...changes });
  const states = [one("runs", {}), one("waits", { status: "queued" }), one("over", { status: "failed" }), one("read only", { verbs: ["read"] }), one("gone", { status: "lost", verbs: ["read", "delete"] })];
  const ids = (act, verbs) => allowed(act, states, verbs).map(({ id }) => id);
  assert.deepEqual(ids("cancel", ["read", "cancel"]), ["runs", "waits"]);
  assert.deepEqual(ids("delete", ["read", "delete"]), ["over", "gone"]);
  assert.deepEqual(ids("delete", ["read"]), ["gone"]);
});

test("of many requests a few go at once, all are made, and those that fail are told in order", async () => {
  const ids = Array.from({ length: 40 }, (_, n) => n);
  let now = 0;
  let most = 0;
  const told = [];
  const failed = await doEach(ids, async (id) => {
    most = Math.max(most, (now += 1));
    await new Promise((resolve) => setTimeout(resolve, id % 3));
    now -= 1;
    if (id % 15 === 3) throw new Error(`no ${id}`);
  }, (over) => told.push(over));
  assert.deepEqual([most, told.at(-1), told.length], [6, 40, 40]);
  assert.deepEqual(failed.map(({ id, error }) => [id, error.message]), [[3, "no 3"], [18, "no 18"], [33, "no 33"]]);
  assert.deepEqual(await doEach([], async () => {}), []);
});

test("a session is deleted by its path, and what the server says against it is an error", async () => {
  const environment = new Environment();
  const client = new Client({ url: "http://host/base" }, environment);
  const done = client.delete("a:b");
  await settle();
  assert.deepEqual([environment.requests[0].method, environment.requests[0].url], ["DELETE", "http://host/base/sessions/a%3Ab"]);
  environment.requests[0].answer(new Response(null, { status: 204 }));
  assert.equal(await done, undefined);
  const refused = client.delete("r");
  await settle();
  environment.requests[1].answer(Response.json({ code: "active", message: "the session is open: cancel it first" }, { status: 409 }));
  await assert.rejects(refused, { name: "RequestError", status: 409, code: "active" });
});

test("the parts of a session are asked for by its id, and come the oldest first", async () => {
  const environment = new Environment();
  const client = new Client({ url: "http://host/base" }, environment);
  const parts = client.parts("job:1", { limit: 2 });
  await settle();
  const { method, url } = environment.requests[0];
  assert.deepEqual([method, url], ["GET", "http://host/base/sessions?parent=job%3A1&limit=2"]);
  environment.requests[0].answer(Response.json({ sessions: [{ id: "new" }, { id: "old" }], cursor: "next" }));
  assert.deepEqual(await parts, [{ id: "old" }, { id: "new" }]);
});

test("the icon is data that changes in steps, and no token stands in a line to copy", () => {
  assert.equal(ring(0.401, "running"), ring(0.399, "running"));
  assert.notEqual(ring(0.4, "running"), ring(0.44, "running"));
  assert.notEqual(ring(0.4, "running"), ring(0.4, "failed"));
  for (const fraction of [-1, 0, 2, 0.5]) assert.match(ring(fraction, "constructor"), /^data:image\/svg\+xml,%3Csvg[^"<>]*$/);
  assert.equal(curlLine("https://h/sessions/r", "none"), "curl 'https://h/sessions/r'");
  assert.equal(curlLine("https://h/a'b", "token"), `curl -H "Authorization: Bearer $TRIO_PROGRESS_TOKEN" 'https://h/a%27b'`);
});
