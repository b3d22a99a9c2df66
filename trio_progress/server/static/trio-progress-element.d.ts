import type { SessionView, Token } from "./trio-progress.js";

/** `<trio-progress session="r-42" url="https://host/">`. */
/** The element's own events, beside those of all elements; `detail` is the view. */
export interface TrioProgressEventMap extends HTMLElementEventMap {
  change: CustomEvent<SessionView>;
  end: CustomEvent<SessionView>;
}

export class TrioProgressElement extends HTMLElement {
  addEventListener<Type extends keyof TrioProgressEventMap>(
    type: Type,
    listener: (this: TrioProgressElement, event: TrioProgressEventMap[Type]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** A token, or a function that gives one; it goes before the attribute. */
  get token(): Token;
  set token(token: Token);
  /** The merged view of the session; null before there is one to show. */
  readonly view: SessionView | null;
}

declare global {
  interface HTMLElementTagNameMap {
    "trio-progress": TrioProgressElement;
  }
}
