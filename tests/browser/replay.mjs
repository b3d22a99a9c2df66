// Merges messages, one JSON array a line, and writes what each array comes to, one state a line.

import { createInterface } from "node:readline";
import { emptyView, merge } from "../../trio_progress/server/static/merge.js";

for await (const line of createInterface({ input: process.stdin })) {
  const messages = JSON.parse(line);
  const view = messages.reduce((before, message) => merge(before, message, 50, Date.now()), emptyView("r"));
  console.log(JSON.stringify({ state: view.state, events: view.events.map(({ n }) => n), dropped: view.dropped, end: view.end?.status ?? null }));
}
