// The connection, in virtual time: opening, breaking, waiting, giving up, asking for tokens.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../../trio_progress/server/static/trio-progress.js";
import { backoff, TIMES, verdict } from "../../trio_progress/server/static/policy.js";
import { Environment, settle } from "./environment.mjs";

const subscribed = (session, changes = {}) => ({ type: "subscribed", session, recovered: false, reason: "new", server_time: "2026-01-01T00:00:00Z", ...changes });
const snapshot = (session, seq, changes = {}) => ({
  type: "snapshot", session, seq, resume: `1.${seq}.0`,
  state: { id: session, epoch: 1, seq, status: "running", liveness: "ok", progress: 0, phases: [], ...changes },
});
const update = (session, from, seq, progress) => ({
  type: "update", session, from, seq, resume: `1.${seq}.0`, phases: [],
  head: { id: session, epoch: 1, seq, status: "running", liveness: "ok", progress },
});

function begin(options = {}) {
  const environment = new Environment();
  const client = new Client({ url: "http://host/base/", ...options }, environment);
  return { environment, client };
}

async function watching(options = {}) {
  const { environment, client } = begin(options);
  const session = client.session("r");
  let told = 0;
  const stop = session.subscribe(() => (told += 1));
  await settle();
  environment.socket.open();
  environment.socket.say(subscribed("r"), snapshot("r", 1));
  await environment.pass(20);
  return { environment, client, session, stop, told: () => told };
}

test("nothing is opened before somebody listens, and it closes a moment after the last one has gone", async () => {
  const { environment, client } = begin();
  const session = client.session("r");
  await environment.pass(60_000);
  assert.equal(environment.sockets.length, 0);
  const stop = session.subscribe(() => {});
  await settle();
  assert.equal(environment.socket.url, "ws://host/base/ws");
  assert.deepEqual(environment.socket.protocols, ["trio-progress.v1", "trio-progress.v1.sparse"]);
  stop();
  const again = session.subscribe(() => {}); // As React's strict mode does.
  await environment.pass(TIMES.idle);
  assert.equal(environment.socket.closed, null);
  again();
  await environment.pass(TIMES.idle);
  assert.equal(environment.socket.closed, 1000);
  assert.equal(environment.sockets.length, 1);
  assert.equal(environment.timers, 0);
  assert.equal(client.connection.getSnapshot().status, "idle");
});

test("what is wanted while it connects is asked for, once", async () => {
  const { environment, client } = begin();
  client.session("a").subscribe(() => {});
  await settle();
  client.session("b").subscribe(() => {});
  environment.socket.open();
  client.session("c").subscribe(() => {});
  assert.deepEqual(environment.socket.asked.map(({ session }) => session), ["a", "b", "c"]);
});

test("snapshots keep their identity until something changes, and a burst is told once", async () => {
  const { environment, session, told } = await watching();
  const first = session.getSnapshot();
  assert.equal(first, session.getSnapshot());
  assert.equal(first.state.seq, 1);
  const before = told();
  for (let seq = 1; seq < 200; seq++) environment.socket.say(update("r", seq, seq + 1, seq / 1000));
  assert.equal(session.getSnapshot(), first);
  await environment.pass(20);
  assert.equal(told(), before + 1);
  assert.equal(session.getSnapshot().state.seq, 200);
});

test("after a break it asks again from where it stood, waiting longer each time and never in step with others", async () => {
  const { environment, client, session } = await watching();
  environment.socket.fail(1006);
  const lost = environment.time;
  const waits = [];
  for (let attempt = 0; attempt < 4; attempt++) {
    const { status, retryAt, lostAt } = client.connection.getSnapshot();
    assert.deepEqual([status, lostAt], ["waiting", lost]);
    waits.push(retryAt - environment.time);
    await environment.pass(retryAt - environment.time);
    environment.socket.fail(1006);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000]);
  await environment.pass(8000);
  assert.equal(session.getSnapshot().state.seq, 1, "what was known stays");
  environment.socket.open();
  assert.deepEqual(environment.socket.asked.map(({ type, since }) => [type, since]), [["subscribe", "1.1.0"]]);
  environment.socket.say(subscribed("r", { recovered: true, reason: null }), update("r", 1, 5, 0.5));
  await environment.pass(20);
  assert.equal(session.getSnapshot().state.seq, 5);
  assert.deepEqual([client.connection.getSnapshot().status, client.connection.getSnapshot().lostAt], ["open", null]);
  assert.ok(backoff(3, () => 0) >= 2000 && backoff(30, () => 1) === TIMES.longestWait);
});

test("close codes from 4500 stop it, and others do not", async () => {
  for (const code of [4500, 4501, 4504, 4507, 4999]) {
    const { environment, client, session } = await watching();
    environment.socket.fail(code, "no");
    await environment.pass(3_600_000);
    assert.deepEqual([client.connection.getSnapshot().status, environment.sockets.length], ["stopped", 1]);
    assert.equal(session.getSnapshot().connection.reason, "no");
    client.retry();
    await settle();
    assert.equal(environment.sockets.length, 2);
  }
  for (const code of [1000, 1001, 1006, 1011, 4001, 4008, 4013]) assert.equal(verdict(code), "retry", String(code));
});

test("an expired token is asked for anew, and kept otherwise", async () => {
  let asked = 0;
  const { environment, client } = await watching({ token: async () => `t${++asked}` });
  assert.deepEqual(environment.socket.sent[0], { type: "auth", token: "t1" });
  environment.socket.fail(1006);
  await environment.pass(500);
  environment.socket.open();
  assert.equal(environment.socket.sent[0].token, "t1");
  environment.socket.say(subscribed("r"));
  environment.socket.fail(4005);
  await environment.pass(TIMES.longestWait);
  environment.socket.open();
  assert.equal(environment.socket.sent[0].token, "t2");
  assert.equal(client.connection.getSnapshot().status, "connecting");
});

test("a token that expires and cannot be renewed stops it, until another one is given", async () => {
  const { environment, client } = await watching({ token: "old" });
  environment.socket.fail(4005);
  assert.equal(client.connection.getSnapshot().status, "stopped");
  client.useToken("new");
  await settle();
  environment.socket.open();
  assert.equal(environment.socket.sent[0].token, "new");
});

test("a token that cannot be had is tried for again", async () => {
  let asked = 0;
  const { environment, client } = begin({ token: () => (++asked < 3 ? Promise.reject(new Error("offline")) : "t") });
  client.session("r").subscribe(() => {});
  await settle();
  assert.match(client.connection.getSnapshot().reason, /offline/);
  await environment.pass(500 + 1000);
  assert.deepEqual([asked, environment.sockets.length], [3, 1]);
});

test("a page that comes to the front, and a network that is back, do not wait", async () => {
  for (const wake of [(e) => e.window.dispatchEvent(new Event("online")), (e) => e.document.dispatchEvent(new Event("visibilitychange"))]) {
    const { environment } = await watching();
    environment.socket.fail(1006);
    for (let attempt = 0; attempt < 5; attempt++) {
      await environment.pass(TIMES.longestWait);
      environment.socket.fail(1006);
    }
    const sockets = environment.sockets.length;
    wake(environment);
    await settle();
    assert.equal(environment.sockets.length, sockets + 1);
  }
});

test("a network that is back does not wait for a try that began before", async () => {
  for (const [under, more] of [[10, 0], [TIMES.opening / 2, 1]]) {
    const { environment, client } = await watching();
    environment.socket.fail(1006);
    await environment.pass(200_000);
    while (client.connection.getSnapshot().status !== "waiting") await environment.pass(10);
    while (client.connection.getSnapshot().status !== "connecting") await environment.pass(10);
    const sockets = environment.sockets.length;
    await environment.pass(under);
    environment.window.dispatchEvent(new Event("online"));
    await settle();
    assert.equal(environment.sockets.length, sockets + more, "one that has only begun is let go on");
    environment.socket.fail(1006);
    await environment.pass(TIMES.firstWait);
    assert.equal(environment.sockets.length, sockets + more + 1, "and what follows it comes soon");
  }
});

test("a page that goes to the back wakes nothing", async () => {
  const { environment } = await watching();
  environment.socket.fail(1006);
  environment.document.visibilityState = "hidden";
  environment.document.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.equal(environment.sockets.length, 1);
});

test("silence is asked about, and without an answer it is a break", async () => {
  const { environment, client } = await watching();
  const [socket] = environment.sockets;
  socket.sent.length = 0;
  await environment.pass(TIMES.silence);
  assert.equal(socket.sent.at(-1).type, "ping");
  socket.say({ type: "pong" });
  await environment.pass(TIMES.silence + 10);
  assert.equal(socket.sent.filter(({ type }) => type === "ping").length, 2);
  await environment.pass(TIMES.sign);
  assert.equal(client.connection.getSnapshot().status, "waiting");
  assert.equal(socket.closed, 1000);
});

test("a session that is yet to come leaves the server silent, and is not taken for a server that does not answer", async () => {
  const { environment, client } = begin();
  const session = client.session("later", { wait: true });
  session.subscribe(() => {});
  await settle();
  const { socket } = environment;
  socket.open();
  for (const { type } of socket.sent) if (type === "ping") socket.say({ type: "pong" });
  await environment.pass(TIMES.opening * 2);
  assert.equal(client.connection.getSnapshot().status, "open");
  assert.equal(environment.sockets.length, 1);
  assert.equal(session.getSnapshot().state, null);
});

test("a server that never answers is given up and tried again", async () => {
  const { environment, client } = begin();
  client.session("r").subscribe(() => {});
  await environment.pass(TIMES.opening);
  assert.equal(client.connection.getSnapshot().status, "waiting");
  await environment.pass(500);
  assert.equal(environment.sockets.length, 2);
});

test("what does not fit is asked for anew, once, without the token that led there", async () => {
  const { environment, session } = await watching();
  environment.socket.sent.length = 0;
  environment.socket.say(update("r", 7, 8, 0.8), update("r", 8, 9, 0.9));
  assert.deepEqual(environment.socket.sent.map(({ type, since }) => [type, since]), [["unsubscribe", undefined], ["subscribe", undefined]]);
  environment.socket.say(subscribed("r"), snapshot("r", 9), update("r", 9, 10, 1));
  await environment.pass(20);
  assert.equal(session.getSnapshot().state.seq, 10);
});

test("where no WebSocket comes through, events are fetched, with the token in a header and the place in another", async () => {
  const { environment, client } = begin({ token: "secret" });
  const session = client.session("r-1");
  session.subscribe(() => {});
  await settle();
  environment.socket.fail(1006);
  await environment.pass(500);
  environment.socket.fail(1006);
  await environment.pass(1000);
  assert.equal(environment.sockets.length, 2);
  const [request] = environment.requests;
  assert.equal(new URL(request.url).pathname, "/base/sessions/r-1/events");
  assert.equal(request.headers.Authorization, "Bearer secret");
  assert.equal(request.url.includes("secret"), false);
  const stream = new TransformStream();
  const writer = stream.writable.getWriter();
  request.answer(new Response(stream.readable));
  const frame = (message) => `id: ${message.resume ?? ""}\nevent: ${message.type}\ndata: ${JSON.stringify(message)}\n\n`;
  const bytes = new TextEncoder().encode(`: hello\n\n${frame(subscribed("r-1"))}${frame(snapshot("r-1", 3, { title: "é" }))}`);
  for (const byte of bytes) await writer.write(Uint8Array.of(byte)); // However it is cut.
  await environment.pass(20);
  assert.equal(session.getSnapshot().state.title, "é");
  assert.equal(client.connection.getSnapshot().transport, "sse");
  await writer.close();
  await environment.pass(4000);
  assert.equal(environment.sockets.length, 3, "the WebSocket is tried again");
});

test("events that a server's return has found first give way to a WebSocket, where one had come through before", async () => {
  const { environment, client, session } = await watching();
  environment.socket.fail(1006);
  while (environment.requests.length === 0) {
    await environment.pass(1000);
    if (environment.socket.readyState === 0) environment.socket.fail(1006);
  }
  const sockets = environment.sockets.length;
  const stream = new TransformStream();
  environment.requests[0].answer(new Response(stream.readable));
  const told = { ...subscribed("r"), recovered: true, reason: null };
  await stream.writable.getWriter().write(new TextEncoder().encode(`data: ${JSON.stringify(told)}\n\n`));
  await environment.pass(20);
  assert.deepEqual([client.connection.getSnapshot().transport, environment.sockets.length], ["sse", sockets + 1]);
  const beside = environment.socket;
  beside.open();
  await settle();
  assert.equal(beside.closed, 1000);
  assert.equal(environment.sockets.length, sockets + 2);
  environment.socket.open();
  assert.deepEqual(environment.socket.asked.map(({ type, since }) => [type, since]), [["subscribe", "1.1.0"]]);
  environment.socket.say(told, update("r", 1, 2, 0.2));
  await environment.pass(20);
  assert.deepEqual([client.connection.getSnapshot().transport, session.getSnapshot().state.seq], ["websocket", 2]);
});

test("an HTTP 401 stops it", async () => {
  const { environment, client } = begin({ transport: "sse" });
  client.session("r").subscribe(() => {});
  await settle();
  environment.requests[0].answer(new Response('{"message": "who are you?"}', { status: 401 }));
  await environment.pass(60_000);
  assert.deepEqual([client.connection.getSnapshot().status, client.connection.getSnapshot().reason], ["stopped", "who are you?"]);
  assert.equal(environment.requests.length, 1);
});

test("one session asked for twice is one subscription, as wide as the wider of them", async () => {
  const { environment, client, session } = await watching();
  environment.socket.sent.length = 0;
  assert.equal(client.session("r"), session);
  assert.deepEqual(environment.socket.sent, []);
  assert.equal(client.session("r", { events: 500 }), session);
  assert.deepEqual(environment.socket.sent.map(({ type, events }) => [type, events]), [["unsubscribe", undefined], ["subscribe", 500]]);
});

test("sessions that nobody listens to any more are not kept for ever, and those of one render are not lost", async () => {
  const { environment, client } = begin();
  const rendered = Array.from({ length: 200 }, (_, number) => client.session(`s${number}`));
  rendered.forEach((store, number) => assert.equal(client.session(`s${number}`), store));
  const stop = rendered[0].subscribe(() => {});
  await environment.pass(60_000);
  client.session("another");
  assert.equal(client.session("s0"), rendered[0], "it is listened to");
  assert.notEqual(client.session("s1"), rendered[1]);
  assert.equal(client.session("s199"), rendered[199]);
  stop();
});

test("what a listener throws is reported, and is no matter to the connection or to others", async (context) => {
  const { environment, client, session, told } = await watching();
  const reports = [];
  context.mock.method(globalThis, "queueMicrotask", (report) => reports.push(report));
  session.subscribe(() => {
    throw new Error("a bug in a component");
  });
  client.connection.subscribe(() => {
    throw new Error("another one");
  });
  const last = [];
  session.subscribe(() => last.push(session.getSnapshot().connection.status));
  const before = told();
  environment.socket.fail(1006);
  await environment.pass(1000);
  assert.equal(environment.sockets.length, 2, "it is connected anew");
  assert.ok(told() > before && last.includes("waiting"));
  assert.ok(reports.length > 1);
  assert.throws(reports[0], /a bug in a component|another one/);
});

test("another token, a moment after the last listener has gone, leaves it ready for the next one", async () => {
  const { environment, client, stop } = await watching();
  stop();
  client.useToken("b");
  const session = client.session("x");
  session.subscribe(() => {});
  await settle();
  assert.equal(environment.sockets.length, 2);
  environment.socket.open();
  assert.deepEqual(environment.socket.asked.map(({ type, token, session: id }) => [type, token ?? id]), [["auth", "b"], ["subscribe", "x"]]);
});

test("a token that has expired is asked for anew by events and by requests, too", async () => {
  let asked = 0;
  const { environment, client } = begin({ transport: "sse", token: () => `t${(asked += 1)}` });
  client.session("r").subscribe(() => {});
  await settle();
  const closing = new Response(new ReadableStream({
    start(stream) {
      stream.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(subscribed("r"))}\n\n`));
      stream.close();
    },
  }));
  environment.requests[0].answer(closing);
  await environment.pass(1000);
  const refused = () => new Response('{"message": "the token has expired"}', { status: 401 });
  environment.requests[1].answer(refused());
  await environment.pass(5000);
  assert.deepEqual(environment.requests.map(({ headers }) => headers.Authorization), ["Bearer t1", "Bearer t1", "Bearer t2"]);
  environment.requests[2].answer(refused());
  await environment.pass(60_000);
  assert.equal(client.connection.getSnapshot().status, "stopped", "one that was never good is not asked for again and again");
  assert.equal(asked, 2);
  const fetched = client.fetch("r");
  await settle();
  environment.requests[3].answer(refused());
  await settle();
  environment.requests[4].answer(new Response('{"id": "r"}'));
  assert.deepEqual(await fetched, { id: "r" });
  assert.equal(environment.requests[4].headers.Authorization, "Bearer t3");
});

test("who is asked for a token and never answers is asked again", async () => {
  let asked = 0;
  const { environment, client } = begin({ token: () => ((asked += 1) === 1 ? new Promise(() => {}) : "t") });
  client.session("r").subscribe(() => {});
  await environment.pass(TIMES.opening);
  assert.equal(client.connection.getSnapshot().reason, "there is no token yet");
  await environment.pass(1000);
  assert.deepEqual([asked, environment.sockets.length], [2, 1]);
});

test("an address that is none is refused at once", () => {
  for (const url of ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"]) {
    assert.throws(() => new Client({ url }, new Environment()), TypeError);
  }
});
