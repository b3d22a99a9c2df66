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
