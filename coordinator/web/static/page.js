// Fetch the page again every two seconds while something can still change, and put the new
// content in place when it differs. Without this script the page is complete, only not live.
"use strict";

const EVERY_MS = 2000;

async function refresh() {
  const main = document.querySelector("main");
  if (main && main.dataset.live === "yes" && !document.hidden) {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const fresh = new DOMParser()
        .parseFromString(await answer.text(), "text/html")
        .querySelector("main");
      if (fresh && fresh.innerHTML !== main.innerHTML) {
        const open = new Set(
          [...main.querySelectorAll("details[open]")].map((item) => item.id));
        for (const item of fresh.querySelectorAll("details")) {
          item.open = open.has(item.id);
        }
        const focused = document.activeElement && document.activeElement.id;
        main.replaceWith(fresh);
        if (focused) {
          const again = document.getElementById(focused);
          if (again) again.focus({ preventScroll: true });
        }
      }
      document.body.classList.remove("away");
    } catch {
      document.body.classList.add("away");
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
