// Made by .ci/declarations.py from the protocol's JSON Schema: change the messages, not this file.

/** Says who asks. */
export interface Auth {
  readonly type: "auth";
  readonly token: string;
}

/** A heartbeat: nothing newer than `seq` has been published, and how alive the session is. */
export interface Bookmark {
  readonly type: "bookmark";
  readonly session: string;
  readonly seq: number;
  readonly resume: string;
  readonly liveness: "lost" | "ok" | "stalled";
  readonly heartbeat_at: string | null;
  readonly progressed_at: string | null;
  readonly server_time: string;
}

/** Asks for a session's end. */
export interface Cancel {
  readonly type: "cancel";
  readonly session: string;
  readonly reason?: string | null;
}

export type ClientMessage = Subscribe | Unsubscribe | Auth | Cancel | Ping;

/** The answer to `GET /config`: what a page needs to know. */
export interface Config {
  readonly protocol: string;
  readonly auth: string;
  readonly authenticated: boolean;
  readonly name: string | null;
  readonly verbs: readonly ("cancel" | "delete" | "read")[];
  readonly keepalive: number;
  readonly version?: string;
}

/** One event that the pipeline emitted: the `n`-th of its session, at state `seq`. */
export interface EventMessage {
  readonly type: "event";
  readonly session: string;
  readonly n: number;
  readonly seq: number;
  readonly resume: string;
  readonly name: string;
  readonly data: unknown;
  readonly at: string;
}

/**
 * The session has ended, and this is the last message.
 *
 * `persisted_seq` is what the store holds; where it is below `seq`, the final state did not reach it.
 */
export interface End {
  readonly type: "end";
  readonly session: string;
  readonly seq: number;
  readonly status: "cancelled" | "completed" | "failed" | "interrupted" | "lost" | "queued" | "running" | "timed_out";
  readonly resumable: boolean;
  readonly persisted_seq: number | null;
  readonly resume: string;
}

/**
 * Why a session did not complete, as far as a viewer may know.
 *
 * `type` is the exception's class name, "Cancelled", or "Failure" for `session.fail()`. `message`
 * is None unless the pipeline gave a text: messages of exceptions carry keys and addresses, so
 * they go to the log only.
 */
export interface ErrorInfo {
  readonly type: string;
  readonly message?: string | null;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** What was asked is not done; `session` where it was about one. */
export interface ErrorMessage {
  readonly type: "error";
  readonly code: "active" | "bad_request" | "ended" | "not_allowed" | "not_found" | "too_large" | "too_many" | "unauthorized" | "unavailable" | "unreadable";
  readonly message: string;
  readonly session?: string | null;
}

/** How long a phase was expected to take in all, and from what that is known. */
export interface Expected {
  readonly seconds: number;
  readonly source: "given" | "unit" | "usual" | "weight";
  readonly runs?: number;
  readonly unit_seconds?: number | null;
  readonly count?: number | null;
}

/** The session that a phase follows, as it was seen last. Its own phases are to be had under its id. */
export interface Followed {
  readonly id: string;
  readonly status?: "cancelled" | "completed" | "failed" | "interrupted" | "lost" | "queued" | "running" | "timed_out" | null;
  readonly liveness?: "lost" | "ok" | "stalled";
  readonly attempt?: number;
}

/**
 * So many custom events were dropped before they could be sent here.
 *
 * `resume` goes on behind them, so that nobody is told twice of the same loss.
 */
export interface Gap {
  readonly type: "gap";
  readonly session: string;
  readonly dropped: number;
  readonly resume?: string;
}

/** A session without its phases. */
export interface Head {
  readonly id: string;
  readonly pipeline: string | null;
  readonly title: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly epoch: number;
  readonly seq: number;
  readonly attempt: number;
  readonly status: "cancelled" | "completed" | "failed" | "interrupted" | "lost" | "queued" | "running" | "timed_out";
  readonly liveness: "lost" | "ok" | "stalled";
  readonly progress: number;
  readonly raw: number;
  readonly eta: number | null;
  readonly message: string | null;
  readonly counters: Readonly<Record<string, number>>;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly result: unknown;
  readonly error: ErrorInfo | null;
  readonly queued_at: string | null;
  readonly started_at: string | null;
  readonly progressed_at: string | null;
  readonly heartbeat_at: string | null;
  readonly ended_at: string | null;
  readonly stall_after?: number | null;
  readonly events?: number;
  readonly elapsed?: number | null;
  readonly eta_range?: readonly [number, number] | null;
  readonly published_at?: string | null;
  readonly parent?: string | null;
}

/** A session as a list shows it: it has come, has changed, or has ended. */
export interface Listed {
  readonly type: "listed";
  readonly session: string;
  readonly head: Head;
  readonly verbs: readonly ("cancel" | "delete" | "read")[];
}

/** All of the list's first part has been sent. */
export interface Listing {
  readonly type: "listing";
  readonly session?: "*";
  readonly complete: boolean;
  readonly cursor: string | null;
}

/** A phase with its children, in the order in which they came. */
export interface Phase {
  readonly name: string;
  readonly title: string;
  readonly status: "cancelled" | "completed" | "failed" | "pending" | "running" | "skipped";
  readonly attempt: number;
  readonly done: number;
  readonly total: number | null;
  readonly unit: string | null;
  readonly weight: number;
  readonly fraction: number | null;
  readonly rate: number | null;
  readonly eta: number | null;
  readonly message: string | null;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly skipped?: number;
  readonly folded?: number;
  readonly folded_weight?: number;
  readonly started_after?: number | null;
  readonly elapsed?: number | null;
  readonly expected?: Expected | null;
  readonly follows?: Followed | null;
  readonly phases: readonly Phase[];
}

/** A phase that changed, whole but for its children, at its `path` from the root. */
export interface PhaseUpdate {
  readonly name: string;
  readonly title: string;
  readonly status: "cancelled" | "completed" | "failed" | "pending" | "running" | "skipped";
  readonly attempt: number;
  readonly done: number;
  readonly total: number | null;
  readonly unit: string | null;
  readonly weight: number;
  readonly fraction: number | null;
  readonly rate: number | null;
  readonly eta: number | null;
  readonly message: string | null;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly skipped?: number;
  readonly folded?: number;
  readonly folded_weight?: number;
  readonly started_after?: number | null;
  readonly elapsed?: number | null;
  readonly expected?: Expected | null;
  readonly follows?: Followed | null;
  readonly path: readonly string[];
  readonly kept?: readonly string[];
}

/** Asks for a sign of life; a browser has no other. */
export interface Ping {
  readonly type: "ping";
  readonly data?: string;
}

/** The answer to a `ping`, with its data. */
export interface Pong {
  readonly type: "pong";
  readonly data: string;
}

export type ServerMessage = Subscribed | SnapshotFrame | Update | EventMessage | Bookmark | Gap | End | Listed | Listing | Unlisted | ErrorMessage | Pong;

/** The answer to `GET /sessions`. */
export interface SessionList {
  readonly sessions: readonly State[];
  readonly cursor: string | null;
}

/**
 * A session as it was at `seq`: plain attributes, frozen.
 *
 * It is what `tracker.snapshot()` and `tracker.watch()` give, and also the protocol's message of
 * that name. `resume` is the token with which `tracker.subscribe(since=...)` goes on from here.
 */
export interface State {
  readonly id: string;
  readonly pipeline: string | null;
  readonly title: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly epoch: number;
  readonly seq: number;
  readonly attempt: number;
  readonly status: "cancelled" | "completed" | "failed" | "interrupted" | "lost" | "queued" | "running" | "timed_out";
  readonly liveness: "lost" | "ok" | "stalled";
  readonly progress: number;
  readonly raw: number;
  readonly eta: number | null;
  readonly message: string | null;
  readonly counters: Readonly<Record<string, number>>;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly result: unknown;
  readonly error: ErrorInfo | null;
  readonly queued_at: string | null;
  readonly started_at: string | null;
  readonly progressed_at: string | null;
  readonly heartbeat_at: string | null;
  readonly ended_at: string | null;
  readonly stall_after?: number | null;
  readonly events?: number;
  readonly elapsed?: number | null;
  readonly eta_range?: readonly [number, number] | null;
  readonly published_at?: string | null;
  readonly parent?: string | null;
  readonly phases: readonly Phase[];
  readonly resume?: string;
}

/** How a `Snapshot` travels: the state in an envelope like the others'. */
export interface SnapshotFrame {
  readonly type: "snapshot";
  readonly session: string;
  readonly seq: number;
  readonly resume: string;
  readonly state: State;
}

/** Asks for the messages of a session, or with `"*"` for the list of sessions. */
export interface Subscribe {
  readonly type: "subscribe";
  readonly session: string;
  readonly since?: string | null;
  readonly max_hz?: number | null;
  readonly events?: number | null;
  readonly wait?: boolean;
  readonly close?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
}

/** The subscription stands. `reason` says why nothing was recovered: "new", "bad_token", "epoch", "too_old". */
export interface Subscribed {
  readonly type: "subscribed";
  readonly session: string;
  readonly recovered: boolean;
  readonly reason: string | null;
  readonly server_time: string;
  readonly verbs?: readonly ("cancel" | "delete" | "read")[];
}

/** A session was deleted. */
export interface Unlisted {
  readonly type: "unlisted";
  readonly session: string;
}

/** Asks for no more of them. */
export interface Unsubscribe {
  readonly type: "unsubscribe";
  readonly session: string;
}

/** What changed between the states `from_` and `seq`; absolute values, what is absent is unchanged. */
export interface Update {
  readonly type: "update";
  readonly session: string;
  readonly from: number;
  readonly seq: number;
  readonly resume: string;
  readonly head: Head;
  readonly phases: readonly PhaseUpdate[];
  readonly folded?: readonly (readonly string[])[];
  readonly kept?: readonly string[];
}

/** The server's messages by their `type`. */
export interface Messages {
  readonly bookmark: Bookmark;
  readonly end: End;
  readonly error: ErrorMessage;
  readonly event: EventMessage;
  readonly gap: Gap;
  readonly listed: Listed;
  readonly listing: Listing;
  readonly pong: Pong;
  readonly snapshot: SnapshotFrame;
  readonly subscribed: Subscribed;
  readonly unlisted: Unlisted;
  readonly update: Update;
}

/** A message of the server: of one type, or of any. */
export type Message<Type extends keyof Messages = keyof Messages> = Messages[Type];

/** What is known of a session: its messages, merged. Frozen, and shares with the view before what did not change. */
export interface SessionView {
  readonly session: string;
  /** The newest state; null until one has come. */
  readonly state: State | null;
  /** The newest custom events, oldest first. */
  readonly events: readonly SessionEvent[];
  /** How many custom events the server had to drop before they could be sent here. */
  readonly dropped: number;
  /** How it ended; null while more may come. */
  readonly end: Message<"end"> | null;
  /** Whether the last subscription went on where the one before stood; null before the first. */
  readonly recovered: boolean | null;
  /** What this client may do with the session: "read", "cancel", "delete". */
  readonly verbs: NonNullable<Subscribed["verbs"]>;
  /** Why it did not: "new", "bad_token", "epoch", "too_old". */
  readonly reason: string | null;
  /** Where to go on from, opaque. */
  readonly resume: string | null;
  /** Milliseconds by which the server's clock is ahead of this one. */
  readonly clockOffset: number;
  /** What the server says that cannot be done. */
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly connection: Connection;
}

/** One custom event. */
export type SessionEvent = Omit<Message<"event">, "type" | "session" | "resume">;

/** How the connection stands. Times are milliseconds since 1970, by this machine's clock. */
export interface Connection {
  readonly status: "idle" | "connecting" | "open" | "waiting" | "stopped";
  /** Since when it stands so. */
  readonly since: number;
  /** When it was lost; null while it is open, and before it ever was. */
  readonly lostAt: number | null;
  /** When it is tried again; null where nothing is waited for. */
  readonly retryAt: number | null;
  readonly transport: "websocket" | "sse" | null;
  /** The close code, or the HTTP status, with which it broke. */
  readonly code: number | null;
  readonly reason: string | null;
}

/** A value that changes: `useSyncExternalStore(store.subscribe, store.getSnapshot)`. Both may be passed around. */
export interface Store<View> {
  /** Calls `listener` after each change; returns what ends that. */
  readonly subscribe: (listener: () => void) => () => void;
  /** The value now: the same object until it has changed. */
  readonly getSnapshot: () => View;
}

/** The sessions of a server. */
export interface ListView {
  readonly sessions: readonly ListedState[];
  /** Whether the server has answered. */
  readonly loaded: boolean;
  /** Whether these are all; else `more()` asks for older ones. */
  readonly complete: boolean;
  readonly clockOffset: number;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly connection: Connection;
}

/** A session as lists have it. */
export type ListedState = Head &
  Partial<Pick<State, "phases">> & {
    /** What this client may do with it; absent where the server has not said. */
    readonly verbs?: Listed["verbs"];
  };

export interface ListStore extends Store<ListView> {
  /** Asks for a further page of older sessions. */
  more(): Promise<void>;
}

export type Token = string | null | (() => string | null | Promise<string | null>);

export interface ClientOptions {
  /** The server's address with its base path; that which the module came from, unless given. */
  url?: string;
  /** A token, or a function that is called for one at first, and again whenever it has expired. */
  token?: Token;
  /** To use only one of the two; both, as they can be had, unless given. */
  transport?: "websocket" | "sse" | null;
}

export interface SessionOptions {
  /** How many custom events are kept, the newest; 100 unless given. */
  events?: number;
  /** At most so many updates a second; as they come unless given. */
  maxHz?: number | null;
  /** Whether to wait for a session that is not there yet; true unless given. */
  wait?: boolean;
}

/** The connection to one server: open while something is subscribed to, and coming back by itself. */
export class Client {
  constructor(options?: ClientOptions);
  readonly connection: Store<Connection>;
  /** One session; the same store for the same id, so it may be asked for in a render. */
  session(id: string, options?: SessionOptions): Store<SessionView>;
  /** All sessions, or those with these labels; the same store for the same labels. */
  sessions(options?: { labels?: Readonly<Record<string, string>> }): ListStore;
  /** What a page needs to know of the server: whether it wants a token, and what this client may do. */
  config(): Promise<Config>;
  /** A session as it is now, asked for once. */
  fetch(id: string): Promise<State>;
  /** The sessions that were declared as parts of this one, the oldest first, asked for once: at most `limit` (100), the newest. */
  parts(id: string, options?: { limit?: number }): Promise<State[]>;
  /** Asks for a session's end. */
  cancel(id: string, reason?: string | null): Promise<void>;
  /** Removes all that is stored of a session; one that runs must be cancelled first. */
  delete(id: string): Promise<void>;
  /** Takes another token from now on, and tries again. */
  useToken(token: Token): void;
  /** Tries to connect at once, also where it has stopped. */
  retry(): void;
}

/** The server did not take a request. */
export class RequestError extends Error {
  readonly status: number;
  readonly code: string | null;
}

/** A message does not fit onto the state that it was merged into. */
export class OutOfStep extends Error {}

/** What is known of a session before anything is. */
export function emptyView(session: string): Omit<SessionView, "connection">;

/** The view after a message; `limit` custom events are kept, and `now` is this machine's clock in milliseconds. */
export function merge<View extends Omit<SessionView, "connection">>(
  view: View,
  message: Message,
  limit: number,
  now: number,
): View;
