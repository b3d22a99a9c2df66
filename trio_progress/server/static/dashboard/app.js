/** The page: its address, the connection, the token and the keys. */

import { Client, RequestError } from "../trio-progress.js";
import { duration } from "../words.js";
import { attribute, h, s, text } from "./dom.js";
import { Endings } from "./endings.js";
import { ListPage } from "./list.js";
import { SessionPage } from "./session.js";

const TOKEN = "trio-progress token";
const THEME = "trio-progress theme";
/** A connection that comes back sooner than this (milliseconds) was never worth a word. */
const PATIENCE = 1200;
/** How long (milliseconds) the page says that the connection is back. */
const SAID = 6000;

const find = (id) => document.getElementById(id);
const main = find("main");

// A browser that keeps nothing for pages throws at the mere name of a storage.

function kept(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

function keep(storage, name, value) {
  try {
    window[storage].setItem(name, value);
  } catch {
    // It is forgotten with the page.
  }
}

const address = new URL("./", document.baseURI).href;
const client = new Client({ url: address, token: kept("sessionStorage", TOKEN) });
const endings = new Endings(client, (id) => (location.hash = `#/${encodeURIComponent(id)}`));
/** What the pages share, `opened` of which are the sessions whose parts the list shows; what the server says of itself and of the reader comes when it has answered. */
const app = { client, address, endings, opened: new Set(), auth: "none", verbs: [], words };
let page = null;
let listAddress = "#/";

// The address: "#/" with what is filtered by, or "#/<session>".

function route() {
  const asked = location.hash || "#/";
  const session = /^#\/([^?]+)$/.exec(asked);
  // Who comes back to the list as it was finds the session that they come from; who comes by a label begins above.
  const from = asked === listAddress ? (page?.session ?? null) : null;
  page?.hide();
  page = null;
  if (session) {
    try {
      page = new SessionPage(app, decodeURIComponent(session[1]), askToCancel, listAddress);
    } catch {
      main.replaceChildren(h("p", { class: "empty" }, h("strong", {}, "Invalid session address"), h("a", { href: "#/" }, "Back to the list")));
      return;
    }
  } else {
    listAddress = asked;
    const go = (query) => {
      listAddress = query.size ? `#/?${query}` : "#/";
      history.replaceState(null, "", listAddress);
    };
    page = new ListPage(app, new URLSearchParams(asked.split("?")[1] ?? ""), go, from);
  }
  main.replaceChildren(page.element);
  window.scrollTo(0, 0);
  page.show(); // Which may know at once where the reader was.
}

window.addEventListener("hashchange", () => {
  if (!started) return;
  main.focus({ preventScroll: true });
  route();
});

let started = false;

/** Asks the server first whether it wants a token: a connection without one would only be told so by its end. */
async function start() {
  const config = await client.config().catch(() => null);
  find("token-button").hidden = config?.auth !== "token";
  if (config !== null && config.auth !== "none" && !config.authenticated) {
    if (config.auth === "token") {
      refused = kept("sessionStorage", TOKEN) !== null;
      main.replaceChildren(tokenless());
      askForToken();
    } else main.replaceChildren(h("p", { class: "empty" }, h("strong", {}, "You are not signed in"), "Sign in, then reload this page."));
    return;
  }
  if (config !== null) Object.assign(app, { auth: config.auth, verbs: config.verbs });
  started = true;
  route();
}

// The connection: quiet while it stands; when it is lost, since when, and when it is back.

let announced = "";
let backUntil = 0;
let lostAt = null;

function drawLink() {
  const { status, since, lostAt: lost, retryAt, reason, transport } = client.connection.getSnapshot();
  const now = Date.now();
  if (status === "open") {
    if (lostAt !== null && since - lostAt > PATIENCE) backUntil = since + SAID;
    else if (lostAt !== null) lostAt = null;
  } else if (lost !== null) {
    lostAt = lost;
  }
  const words = { idle: "Not connected", connecting: "Connecting", open: transport === "sse" ? "Live (SSE)" : "Live", stopped: "Stopped" };
  const down = status !== "open" && status !== "stopped" && lostAt !== null && now - lostAt > PATIENCE;
  attribute(find("link"), "data-link", down ? "lost" : status);
  attribute(document.body, "data-still", down || status === "stopped");
  text(find("link").querySelector("span"), down ? "Connection lost" : (words[status] ?? words.connecting));
  const notice = find("notice");
  if (down) {
    const wait = retryAt === null ? 0 : Math.ceil((retryAt - now) / 1000);
    say("lost", `Connection lost ${duration((now - lostAt) / 1000)} ago. This page shows the state at that time.`,
      wait > 1 ? `Try now (in ${wait}s)` : null);
  } else if (status === "stopped") {
    say("stopped", reason ?? "The server refused this connection.", "Try again");
  } else if (status === "open" && now < backUntil) {
    say("back", `Reconnected after ${duration((since - lostAt) / 1000)}. This page is up to date again.`, null);
  } else {
    if (status === "open") lostAt = null;
    announced = "";
    notice.hidden = true;
  }
}

function say(kind, words, button) {
  const notice = find("notice");
  notice.hidden = false;
  if (announced !== kind) {
    announced = kind;
    notice.dataset.kind = kind;
    const again = () => {
      client.retry();
      main.focus({ preventScroll: true }); // The button goes.
    };
    notice.replaceChildren(h("span"), h("button", { type: "button", onclick: again }));
  }
  text(notice.firstChild, words);
  notice.lastChild.hidden = button === null;
  text(notice.lastChild, button ?? "");
}

client.connection.subscribe(() => {
  drawLink();
  const { status, code } = client.connection.getSnapshot();
  if (status === "open") refused = false;
  if (status === "stopped" && TOKEN_CODES.includes(code)) {
    refused = true;
    askForToken();
  }
});
setInterval(drawLink, 500);

// The token: asked for when the server wants one.

/** Close codes, and what HTTP says, of a server that wants a token, another one, or a fresh one. */
const TOKEN_CODES = [4500, 4005, 401];

/** Whether the token that it has was not taken. */
let refused = false;

function askForToken() {
  const dialog = find("token");
  find("token-button").hidden = false;
  if (dialog.open) return;
  const has = kept("sessionStorage", TOKEN) !== null;
  text(find("token-title"), has && !refused ? "Another token" : "Token required");
  text(find("token-why"), !has
    ? "This server requires a token to show its sessions."
    : refused
      ? "The server rejected the token, or the token has expired."
      : "It replaces the current token.");
  find("token-value").value = "";
  dialog.showModal();
}

/** What the page shows to those who do not give one now. */
function tokenless() {
  const button = h("button", { class: "quiet more", type: "button", onclick: askForToken }, "Enter a token");
  return h("div", { class: "empty" }, h("strong", {}, "Token required"), "This server requires a token to show its sessions.", button);
}

find("token-button").addEventListener("click", askForToken);
find("token").querySelector("form").addEventListener("submit", () => {
  const token = find("token-value").value.trim();
  if (!token) return;
  keep("sessionStorage", TOKEN, token);
  refused = false;
  find("token-value").value = "";
  client.useToken(token);
  if (!started) start();
});

// Cancelling: asked once more, with a reason for those who watch.

let cancelling = null;

function askToCancel(state) {
  cancelling = state.id;
  text(find("cancel-what"), `“${state.title}” will be asked to stop. Its progress so far is kept.`);
  text(find("cancel-wrong"), "");
  find("cancel-reason").value = "";
  find("cancel").showModal();
}

find("cancel").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await client.cancel(cancelling, find("cancel-reason").value.trim() || null);
    find("cancel").close();
  } catch (error) {
    text(find("cancel-wrong"), words(error));
  }
});

/** What a browser says of a fetch that fails is for its console. */
function words(error) {
  return error instanceof RequestError ? error.message : "The server cannot be reached. Try again when the connection is back.";
}

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

// Colours: system, or as the reader wants them.

const ICONS = {
  system: ["Colours: system", "M8 2.5a5.5 5.5 0 0 1 0 11z", true],
  light: ["Colours: light", "M8 1v1.4M8 13.6V15M1 8h1.4M13.6 8H15M3.05 3.05l1 1M11.95 11.95l1 1M3.05 12.95l1-1M11.95 4.05l1-1", false],
  dark: ["Colours: dark", "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z", false],
};

function paint(theme) {
  const [words, d, filled] = ICONS[theme];
  attribute(document.documentElement, "data-theme", theme === "system" ? null : theme);
  const button = find("theme");
  attribute(button, "aria-label", words);
  attribute(button, "title", words);
  const ring = theme === "dark" ? [] : [s("circle", { cx: 8, cy: 8, r: theme === "light" ? 3 : 5.5 })];
  button.replaceChildren(s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, ...ring, s("path", { d, fill: filled ? "currentColor" : null })));
}

let theme = kept("localStorage", THEME);
if (theme === null || !Object.hasOwn(ICONS, theme)) theme = "system";
paint(theme);
find("theme").addEventListener("click", () => {
  const names = Object.keys(ICONS);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  keep("localStorage", THEME, theme);
  paint(theme);
});

// Keys, which the dialog "help" tells: "/" searches, and the arrow down leads to what is found; the arrows, or j and k, go from row to row and show the parts of one; "x" chooses one; Escape
// ends that, or goes back to the list.

find("help-button").addEventListener("click", () => find("help").showModal());

document.addEventListener("keydown", (event) => {
  // A box by which a row is chosen takes no letters.
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (event.key === "ArrowDown" && typing?.type === "search") {
    page.move(1);
    event.preventDefault();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") find("help").showModal();
  else if (page instanceof ListPage) keyOnList(event);
  else if (event.key === "Escape") location.hash = listAddress;
});

function keyOnList(event) {
  const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, Home: -Infinity, End: Infinity };
  const turns = { ArrowRight: true, ArrowLeft: false };
  const letter = event.key.length === 1;
  const first = event.key === "ArrowDown" && document.activeElement === document.body;
  if (event.key === "/") page.search();
  else if (event.key === "x") page.pick();
  else if (event.key === "Escape") {
    if (!page.leave()) return;
  } else if (event.key in turns && document.activeElement?.matches(".row-title, .pick input, .parts")) {
    page.turn(turns[event.key]);
  } else if (event.key in moves && (letter || first || document.activeElement?.matches(".row-title, .pick input"))) {
    page.move(moves[event.key]);
  } else return;
  event.preventDefault();
}

start();
drawLink();
