// Keeps the marked parts of a page up to date. Every page is whole without this file.
"use strict";
for (const part of document.querySelectorAll("[data-live]")) {
  const note = document.querySelector(`[data-live-note="${part.id}"]`);
  const say = (text) => { if (note) { note.textContent = text; note.hidden = false; } };
  const source = new EventSource(part.dataset.live);
  source.addEventListener("open", () => say("live"));
  source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED ? "not live: load the page again" : "connecting again …"));
  source.addEventListener("part", (event) => {
    // What somebody is typing into, or about to press, stays where it is.
    if (part.contains(document.activeElement)) return;
    const fresh = new DOMParser().parseFromString(event.data, "text/html");
    part.replaceChildren(...fresh.body.childNodes);
  });
  source.addEventListener("gone", () => { source.close(); window.location.reload(); });
  window.addEventListener("pagehide", () => source.close());
}
