// Says what is left in the page's words: of each line, a state and moments in milliseconds, one array of answers a line.

import { createInterface } from "node:readline";
import { elapsed, expected, phaseLeft, sessionLeft, sinceTold } from "../../trio_progress/server/static/words.js";

for await (const line of createInterface({ input: process.stdin })) {
  const { state, moments } = JSON.parse(line);
  const said = moments.map((now) => {
    const times = { now, ran: elapsed(state, now), since: sinceTold(state, now, now) };
    const phases = state.phases ?? [];
    return {
      plain: sessionLeft(state, now, now, { label: false }),
      labelled: sessionLeft(state, now, now),
      phases: state.liveness === "ok" ? phases.map((phase) => phaseLeft(phase, times)) : [],
      expected: phases.map(expected),
    };
  });
  console.log(JSON.stringify(said));
}
