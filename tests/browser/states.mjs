// Merges recorded streams, one JSON array of messages a line, and writes the state after each message, one array a line:
// `state`, whether the message was `taken`, whether the state is the very `same` object, and the view's `resume`.

import { createInterface } from "node:readline";
import { emptyView, merge, mergeState, OutOfStep } from "../../trio_progress/server/static/merge.js";

function after(state, message) {
  try {
    return { state: mergeState(state, message), taken: true };
  } catch (error) {
    if (!(error instanceof OutOfStep)) throw error;
    return { state, taken: false };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let state = null;
  let view = emptyView("r");
  const steps = [];
  for (const message of JSON.parse(line)) {
    const { state: next, taken } = after(state, message);
    if (taken) view = merge(view, message, 50, 0);
    steps.push({ state: next, taken, same: next === state, view: view.state, resume: view.resume });
    state = next;
  }
  console.log(JSON.stringify(steps));
}
