/** Copying: buttons that say for a moment what came of it. */

import { h, text } from "./dom.js";

/** Milliseconds for which a button says what came of it. */
const SAID = 2000;

/** Copies a text; a browser may refuse it: by a policy, by its settings, or because the page is not in front. */
async function copied(words) {
  if (navigator.clipboard !== undefined) {
    return navigator.clipboard.writeText(words).then(() => true, () => false);
  }
  // Over plain HTTP from another machine there is no clipboard, but this still is.
  const field = h("textarea", { class: "sr", "aria-hidden": "true", readonly: true, tabindex: -1 });
  field.value = words;
  const held = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  held?.focus({ preventScroll: true });
  return done;
}

/** A button that copies what `words` returns. */
export function copyButton(name, words) {
  const button = h("button", { class: "quiet", type: "button" }, name);
  let timer;
  button.addEventListener("click", async () => {
    text(button, (await copied(words())) ? "Copied" : "Not copied");
    clearTimeout(timer);
    timer = setTimeout(() => text(button, name), SAID);
  });
  return button;
}

/** The line by which curl asks for a session; what a token is it asks the shell. */
export function curlLine(address, auth) {
  const token = auth === "token" ? ' -H "Authorization: Bearer $TRIO_PROGRESS_TOKEN"' : "";
  return `curl${token} '${address.replaceAll("'", "%27")}'`;
}
