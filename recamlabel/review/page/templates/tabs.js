"use strict";
// Cards and statistics as two tabs; an address of something in the statistics opens them. Without a script both are seen.
(() => {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  if (!tabs.length) return;
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  function open(tab) {
    for (const one of tabs) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
      panel(one).hidden = one !== tab;
    }
  }
  function follow() {
    const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    const tab = target && tabs.find((one) => panel(one).contains(target));
    if (tab) open(tab), target.scrollIntoView();
  }
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      open(next);
      next.focus();
    });
  }
  document.querySelector("[role=tablist]").hidden = false;
  open(tabs[0]);
  addEventListener("hashchange", follow);
  follow();
})();
