// The list of sessions, and what a session's store does with errors and ends, in virtual time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, RequestError } from "../../trio_progress/server/static/trio-progress.js";
import { Environment, settle } from "./environment.mjs";

const head = (id, seq = 1) => ({ id, epoch: 1, seq, status: "running", labels: {} });
const listed = (id, seq) => ({ type: "listed", session: id, head: head(id, seq), verbs: ["read"] });
const listing = (changes = {}) => ({ type: "listing", session: "*", complete: true, cursor: null, ...changes });
const begun = { type: "subscribed", session: "*", recovered: false, reason: "new", server_time: "2026-01-01T00:00:00Z", verbs: [] };
const ids = (list) => list.getSnapshot().sessions.map(({ id }) => id).sort();

async function listening(options = {}) {
  const environment = new Environment();
  const client = new Client({ url: "http://host/" }, environment);
  const list = client.sessions(options);
  let told = 0;
  const stop = list.subscribe(() => (told += 1));
  await settle();
  environment.socket.open();
  return { environment, client, list, stop, told: () => told };
}

test("the list is what has been listed, told once for all that comes together", async () => {
  const { environment, list, told } = await listening({ labels: { user: "ada" } });
  assert.deepEqual(environment.socket.asked, [{ type: "subscribe", session: "*", labels: { user: "ada" } }]);
  const before = told();
  environment.socket.say(begun, ...Array.from({ length: 500 }, (_, number) => listed(`s${number}`)), listing());
  await environment.pass(20);
  assert.ok(told() - before <= 2);
  assert.deepEqual([list.getSnapshot().sessions.length, list.getSnapshot().loaded, list.getSnapshot().complete], [500, true, true]);
  environment.socket.say(listed("s0", 2), { type: "unlisted", session: "s1" });
  await environment.pass(20);
  assert.equal(list.getSnapshot().sessions.find(({ id }) => id === "s0").seq, 2);
  assert.equal(ids(list).includes("s1"), false);
});

test("a page that stays open for weeks forgets what ended longest ago, and nothing that runs", async () => {
  const { environment, list } = await listening();
  environment.socket.say(begun, listed("runs"), listing());
  for (let n = 0; n < 5000; n++) {
    const ended = { ...head(`e${n}`), status: "completed", ended_at: new Date(n * 1000).toISOString() };
    environment.socket.say({ type: "listed", session: ended.id, head: ended, verbs: [] });
    if (n % 50 === 0) await environment.pass(20);
  }
  await environment.pass(20);
  const kept = ids(list);
  assert.ok(kept.length <= 2000 && kept.length > 1500, String(kept.length));
  assert.ok(kept.includes("runs") && kept.includes("e4999") && !kept.includes("e100"));
});

test("after a break what was shown stays until the new list is whole, and what is gone then goes", async () => {
  const { environment, list } = await listening();
  environment.socket.say(begun, listed("a"), listed("b"), listing());
  environment.socket.fail(1006);
  await environment.pass(500);
  environment.socket.open();
  environment.socket.say(begun, listed("b", 5));
  await environment.pass(20);
  assert.deepEqual(ids(list), ["a", "b"]);
  environment.socket.say(listed("c"), listing());
  await environment.pass(20);
  assert.deepEqual(ids(list), ["b", "c"]);
});

test("older sessions are asked for page by page, and never replace newer news", async () => {
  const { environment, list } = await listening();
  environment.socket.say(begun, listed("a", 9), listing({ complete: false, cursor: "x y" }));
  await environment.pass(20);
  assert.equal(list.getSnapshot().complete, false);
  const asked = list.more();
  await settle();
  assert.equal(environment.requests[0].url, "http://host/sessions?cursor=x+y");
  environment.requests[0].answer(Response.json({ sessions: [head("a", 3), head("old")], cursor: null }));
  await asked;
  await environment.pass(20);
  assert.deepEqual(ids(list), ["a", "old"]);
  assert.equal(list.getSnapshot().sessions.find(({ id }) => id === "a").seq, 9);
  assert.equal(list.getSnapshot().complete, true);
});

test("what a request is refused for is said", async () => {
  const { environment, client } = await listening();
  const asked = client.cancel("r", "no more");
  await settle();
  const [request] = environment.requests;
  assert.deepEqual([request.method, request.url, request.body], ["POST", "http://host/sessions/r/cancel", '{"reason":"no more"}']);
  request.answer(Response.json({ type: "error", code: "ended", message: "it has ended" }, { status: 409 }));
  await assert.rejects(asked, (error) => error instanceof RequestError && error.code === "ended" && error.message === "it has ended");
});

test("a session that the store cannot give now is asked for again; one that is not there is not", async () => {
  const { environment, client } = await listening();
  const session = client.session("r");
  session.subscribe(() => {});
  const subscriptions = () => environment.socket.sent.filter(({ type, session: id }) => type === "subscribe" && id === "r").length;
  environment.socket.say({ type: "error", session: "r", code: "unavailable", message: "later" });
  await environment.pass(20);
  assert.equal(session.getSnapshot().error.code, "unavailable");
  await environment.pass(10_000);
  assert.equal(subscriptions(), 2);
  environment.socket.say({ type: "error", session: "r", code: "not_found", message: "none" });
  await environment.pass(10_000);
  assert.equal(subscriptions(), 2);
});

test("what has ended is asked for now and then, more often where it can be gone on with, until nobody listens", async () => {
  for (const [resumable, often] of [[true, 12_000], [false, 45_000]]) {
    const { environment, client } = await listening();
    const session = client.session("r");
    const stop = session.subscribe(() => {});
    const { socket } = environment;
    socket.answers();
    const asked = () => socket.sent.filter(({ type, session: id }) => type === "subscribe" && id === "r");
    environment.socket.say({ type: "end", session: "r", seq: 1, status: "failed", resumable, persisted_seq: 1, resume: "e" });
    await environment.pass(often - 1);
    assert.equal(asked().length, 1);
    await environment.pass(2 * often + 1);
    assert.deepEqual(asked().map(({ since }) => since), [undefined, "e", "e", "e"]);
    stop();
    await environment.pass(3 * often);
    assert.equal(asked().length, 4);
  }
});

test("a run that begins anew is followed, and one that is not there any more leaves what was known of it", async () => {
  const { environment, client } = await listening();
  const session = client.session("r", { wait: false });
  session.subscribe(() => {});
  const { socket } = environment;
  socket.answers();
  const asked = () => socket.sent.filter(({ type, session: id }) => type === "subscribe" && id === "r");
  const told = (epoch, recovered) => [
    { type: "subscribed", session: "r", recovered, reason: recovered ? null : "epoch" },
    { type: "snapshot", session: "r", seq: 1, resume: `${epoch}.1.0`, state: { ...head("r"), epoch, phases: [] } },
  ];
  socket.say(...told(1, false), { type: "end", session: "r", seq: 1, status: "completed", resumable: false, persisted_seq: 1, resume: "1.1.0" });
  await environment.pass(45_000);
  assert.deepEqual(asked().map(({ wait }) => wait), [false, false]);
  socket.say({ type: "error", session: "r", code: "not_found", message: "none" });
  await environment.pass(45_000);
  // Once it is known to have gone, another run is waited for.
  assert.deepEqual(asked().map(({ wait }) => wait), [false, false, true]);
  assert.deepEqual([session.getSnapshot().end.status, session.getSnapshot().error.code], ["completed", "not_found"]);
  socket.say(...told(2, false));
  await environment.pass(100_000);
  assert.deepEqual([session.getSnapshot().end, session.getSnapshot().state.epoch, asked().length], [null, 2, 3]);
  assert.equal(session.getSnapshot().error, null);
});

test("what is shown and not there any more is said, and waited for", async () => {
  const { environment, client } = await listening();
  const session = client.session("r");
  session.subscribe(() => {});
  const asked = () => environment.socket.sent.filter(({ type, session: id }) => type === "subscribe" && id === "r");
  const first = { type: "snapshot", session: "r", seq: 7, resume: "1.7.0", state: { ...head("r"), phases: [] } };
  environment.socket.say({ type: "subscribed", session: "r", recovered: false, reason: "new" }, first);
  environment.socket.fail(1006);
  await environment.pass(1000);
  environment.socket.open();
  assert.deepEqual(asked().map(({ wait, since }) => [wait, since]), [[false, "1.7.0"]], "a server that kept nothing would be silent");
  environment.socket.say({ type: "error", session: "r", code: "not_found", message: "none" });
  await environment.pass(20);
  assert.deepEqual([session.getSnapshot().error.code, session.getSnapshot().state.id], ["not_found", "r"]);
  assert.deepEqual(asked().map(({ wait, since }) => [wait, since]), [[false, "1.7.0"], [true, undefined]]);
  environment.socket.say({ type: "subscribed", session: "r", recovered: false, reason: "new" }, { ...first, seq: 1, resume: "2.1.0" });
  await environment.pass(20);
  assert.deepEqual([session.getSnapshot().error, session.getSnapshot().resume], [null, "2.1.0"]);
});

test("a list that the store cannot give now is asked for again", async () => {
  const { environment, list, stop } = await listening();
  const asked = () => environment.socket.sent.filter(({ type, session: id }) => type === "subscribe" && id === "*").length;
  environment.socket.say({ type: "error", session: "*", code: "unavailable", message: "later" });
  await environment.pass(20);
  assert.equal(list.getSnapshot().error.code, "unavailable");
  await environment.pass(10_000);
  assert.equal(asked(), 2);
  environment.socket.say(begun, listed("a"), listing());
  await environment.pass(20);
  assert.deepEqual([ids(list), list.getSnapshot().error], [["a"], null]);
  environment.socket.say({ type: "error", session: "*", code: "unavailable", message: "later" });
  stop();
  await environment.pass(60_000);
  assert.equal(environment.timers, 0);
});

test("two lists of one client have a connection each, and the same labels are the same list", async () => {
  const { environment, client, list } = await listening();
  assert.equal(client.sessions(), list);
  const mine = client.sessions({ labels: { user: "ada", team: "x" } });
  assert.equal(client.sessions({ labels: { team: "x", user: "ada" } }), mine);
  const stop = mine.subscribe(() => {});
  await settle();
  assert.equal(environment.sockets.length, 2);
  const [first, second] = environment.sockets;
  second.open();
  assert.deepEqual(second.asked, [{ type: "subscribe", session: "*", labels: { user: "ada", team: "x" } }]);
  first.say(begun, listed("a"), listed("b"), listing());
  second.say(begun, listed("b"), listing());
  await environment.pass(20);
  assert.deepEqual([ids(list), ids(mine)], [["a", "b"], ["b"]]);
  stop();
  await environment.pass(1000);
  assert.deepEqual([first.closed, second.closed], [null, 1000]);
  first.say(listed("c"));
  await environment.pass(20);
  assert.deepEqual(ids(list), ["a", "b", "c"]);
});

test("messages for one session and for the list do not meet", async () => {
  const { environment, client, list } = await listening();
  const session = client.session("a");
  session.subscribe(() => {});
  environment.socket.say(begun, listed("a"), listing(), { type: "subscribed", session: "a", recovered: false, reason: "new", verbs: ["read", "cancel"] });
  environment.socket.say({ type: "snapshot", session: "a", seq: 1, resume: "r", state: { ...head("a"), phases: [] } });
  environment.socket.say({ type: "snapshot", session: "nobody asked", seq: 1, resume: "r", state: { ...head("nobody asked"), phases: [] } });
  await environment.pass(20);
  assert.deepEqual(ids(list), ["a"]);
  assert.equal("phases" in list.getSnapshot().sessions[0], false);
  assert.deepEqual([session.getSnapshot().state.phases, session.getSnapshot().verbs], [[], ["read", "cancel"]]);
});

test("ids, events and paces that the protocol does not allow are refused at the call", () => {
  const client = new Client({ url: "http://host/" }, new Environment());
  for (const id of ["", "a b", "é", "x".repeat(129), "../x", null]) assert.throws(() => client.session(id), TypeError);
  for (const options of [{ events: -1 }, { events: 1.5 }, { events: 10_001 }, { maxHz: 0 }, { maxHz: NaN }, { maxHz: 1e9 }]) {
    assert.throws(() => client.session("r", options), TypeError, JSON.stringify(options));
  }
});

test("over server-sent events an end is no break, and 204 says that it was taken before; it is asked for now and then", async () => {
  const environment = new Environment();
  const client = new Client({ url: "http://host/", transport: "sse" }, environment);
  const session = client.session("r");
  const stop = session.subscribe(() => {});
  await settle();
  const end = { type: "end", session: "r", seq: 1, status: "completed", resumable: false, persisted_seq: 1, resume: "e" };
  const data = [{ type: "subscribed", session: "r", recovered: false, reason: "new" }, end].map((one) => `data: ${JSON.stringify(one)}\n\n`);
  environment.requests[0].answer(new Response(data.join("")));
  await environment.pass(44_000);
  assert.deepEqual([environment.requests.length, session.getSnapshot().end.status], [1, "completed"]);
  assert.equal(client.connection.getSnapshot().status, "open");
  stop();
  await environment.pass(1000);
  session.subscribe(() => {});
  await settle();
  assert.equal(environment.requests[1].headers["Last-Event-ID"], "e");
  for (const position of [1, 2, 3]) {
    environment.requests[position].answer(new Response(null, { status: 204 }));
    await environment.pass(44_000);
    assert.deepEqual([environment.requests.length, client.connection.getSnapshot().status], [position + 1, "open"]);
    await environment.pass(1000);
    assert.equal(environment.requests.length, position + 2);
  }
});
