import type { SessionView, Token } from "./trio-progress.js";

/** `<trio-progress session="r-42" url="https://host/">`. */
export class TrioProgressElement extends HTMLElement {
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
