/** Server-sent events out of a `fetch`: unlike `EventSource` it can carry an `Authorization` header. */

/**
 * Takes text apart into events, as the HTML standard has it (section 9.2.6), however the text is cut into pieces.
 *
 * `feed(text)` returns the events that are whole by then: `{ id, event, data }`.
 */
export class SseParser {
  #rest = "";
  #id = null;
  #event = "";
  #data = [];

  feed(text) {
    const found = [];
    this.#rest += text;
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      // A CR at the very end may be half of a CR LF.
      if (end < 0 || (this.#rest[end] === "\r" && end === this.#rest.length - 1)) return found;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + (this.#rest.startsWith("\r\n", end) ? 2 : 1));
      const event = this.#line(line);
      if (event !== null) found.push(event);
    }
  }

  #line(line) {
    if (line === "") {
      const event = this.#data.length ? { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") } : null;
      this.#event = "";
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return null; // A comment: the server says that it lives.
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }
}

/**
 * Reads a stream of events until it ends.
 *
 * @param response What `fetch` has given.
 * @param onEvent Called with each event.
 * @param onBytes Called whenever anything has come, comments included.
 */
export async function readEvents(response, onEvent, onBytes) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    for (const event of parser.feed(decoder.decode(value, { stream: true }))) onEvent(event);
  }
}
