/** How fast the work goes, measured here from the counts that arrive, as a line of a few dozen points. */

import { duration, rate, rateWithUnit } from "../words.js";
import { attribute, h, s, text } from "./dom.js";

/** Milliseconds of one point. */
const BUCKET = 500;
const KEPT = 120;
/** Phases whose speed is kept; of more, those that moved longest ago are forgotten. */
const LINES = 100;
/** Milliseconds that the line is wide at least. */
const SPAN = 12_000;
/** Work comes in lumps: so many points together are what is said to be the speed now. */
const LATELY = 6;
const WIDTH = 300;
const HEIGHT = 56;

/**
 * Counts done per second, in buckets of half a second, of each phase that moves. Pure but for what it keeps.
 *
 * A phase whose count falls (it was set anew) begins its line anew.
 */
export class Meter {
  #lines = new Map();

  /** Takes a state in, as it is at `now` (milliseconds). */
  take(state, now) {
    this.#walk(state.phases, "", now);
  }

  #walk(phases, above, now) {
    for (const phase of phases) {
      const path = `${above}/${phase.name}`;
      if (phase.status === "running") this.#sample(path, phase, now);
      this.#walk(phase.phases, path, now);
    }
  }

  #sample(path, phase, now) {
    let line = this.#lines.get(path);
    if (line === undefined || phase.done < line.done || phase.attempt !== line.attempt) {
      line = { path, points: [], at: now, done: phase.done, moved: 0, attempt: phase.attempt };
      this.#lines.delete(path);
      this.#lines.set(path, line);
      if (this.#lines.size > LINES) this.#forget();
    }
    line.title = phase.title;
    line.unit = phase.unit;
    if (now - line.at < BUCKET) return;
    const speed = ((phase.done - line.done) * 1000) / (now - line.at);
    if (speed > 0) line.moved = now;
    line.points.push({ at: now, speed });
    if (line.points.length > KEPT) line.points.shift();
    line.at = now;
    line.done = phase.done;
  }

  #forget() {
    const oldest = [...this.#lines.values()].sort((a, b) => a.at - b.at)[0];
    this.#lines.delete(oldest.path);
  }

  /** How many phases' lines are kept. */
  get size() {
    return this.#lines.size;
  }

  /** The line that says most: the phase that moved last and, of several, has the most points; null where none did. */
  subject() {
    let best = null;
    for (const line of this.#lines.values()) {
      if (line.moved === 0) continue;
      const later = best === null ? Infinity : line.moved - best.moved;
      if (later > 4 * BUCKET || (later > -4 * BUCKET && line.points.length > best.points.length)) best = line;
    }
    return best;
  }
}

/** The speed of the last few seconds. */
export function lately(points) {
  const last = points.slice(-LATELY);
  return last.reduce((sum, { speed }) => sum + speed, 0) / last.length;
}

/** The corner points of a line in a box, the newest at its right edge. */
export function outline(points, width, height) {
  const from = points[0].at;
  const span = Math.max(points.at(-1).at - from, SPAN);
  const top = Math.max(...points.map((point) => point.speed)) || 1;
  const left = width - ((points.at(-1).at - from) / span) * width;
  return points.map(({ at, speed }) => [
    round(left + ((at - from) / span) * width),
    round(height - (speed / top) * (height - 2)),
  ]);
}

function round(value) {
  return Math.round(value * 10) / 10;
}

/** The block "Throughput"; hidden until something has moved for a moment. */
export class Throughput {
  #speed = h("strong");
  #name = h("span");
  #area = s("path", { class: "area" });
  #line = s("path", { class: "line" });
  #svg = s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    s("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    this.#area,
    this.#line,
  );
  #since = h("span");
  #peak = h("span");

  constructor() {
    this.element = h(
      "section",
      { class: "block", "aria-label": "Throughput", hidden: true },
      h("h2", {}, "Throughput"),
      h("div", { class: "spark-said" }, this.#speed, this.#name),
      this.#svg,
      h("div", { class: "spark-foot num" }, this.#since, this.#peak),
    );
    this.meter = new Meter();
  }

  draw() {
    const line = this.meter.subject();
    const points = line?.points ?? [];
    this.element.hidden = points.length < 3;
    if (this.element.hidden) return;
    const corners = outline(points, WIDTH, HEIGHT);
    const path = corners.map(([x, y], index) => `${index ? "L" : "M"}${x} ${y}`).join("");
    attribute(this.#line, "d", path);
    attribute(this.#area, "d", `${path}L${corners.at(-1)[0]} ${HEIGHT}L${corners[0][0]} ${HEIGHT}Z`);
    const now = lately(points);
    const peak = Math.max(...points.map((point) => point.speed));
    text(this.#speed, `${rateWithUnit(now, line.unit)}/s`);
    text(this.#name, line.title);
    text(this.#since, `last ${duration((points.at(-1).at - points[0].at) / 1000)}`);
    text(this.#peak, `peak ${rate(peak, line.unit)}/s`);
    attribute(this.#svg, "aria-label", `${line.title}: ${rateWithUnit(now, line.unit)} per second, at most ${rate(peak, line.unit)}`);
  }
}
