"use strict";
(() => {
  const root = document.documentElement;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // The URL stores the filters and the open item, so that views can be shared and the back button works.
  const FIELDS = ["model", "layer", "property"];
  const entries = all(".entry");
  const searchTexts = new Map();
  // Items of one model share a baseline, so that a comparison can occur several times.
  const comparisons = Map.groupBy(all(".comparison"), (part) => part.dataset.id);
  let state = read();

  function read() {
    const hash = location.hash.slice(1);
    const bare = /^i-[0-9a-f]+$/.test(hash);
    const found = new URLSearchParams(bare ? "" : hash);
    return {
      q: found.get("q") ?? "",
      model: found.get("model"),
      layer: found.get("layer"),
      property: found.get("property"),
      status: new Set((found.get("status") ?? "").split(",").filter(Boolean)),
      item: bare ? hash : found.get("item"),
      accept: new Set((found.get("accept") ?? "").split(",").filter((id) => comparisons.has(id))),
    };
  }

  function address() {
    const parts = new URLSearchParams();
    if (state.q) parts.set("q", state.q);
    for (const field of FIELDS) if (state[field] !== null) parts.set(field, state[field]);
    if (state.status.size) parts.set("status", [...state.status].join(","));
    if (state.item) parts.set("item", state.item);
    if (state.accept.size) parts.set("accept", [...state.accept].join(","));
    return `#${parts}`;
  }

  function change(update, { push = false } = {}) {
    state = { ...state, ...update };
    if (address() !== location.hash && !(address() === "#" && !location.hash)) {
      history[push ? "pushState" : "replaceState"](null, "", address());
    }
    show();
  }

  function textOf(entry) {
    if (!searchTexts.has(entry)) {
      const parts = all(".head, .message, .numbers, .comparison .sentence, .comparison h4", entry);
      searchTexts.set(entry, parts.map((part) => part.textContent).join("\n").toLowerCase());
    }
    return searchTexts.get(entry);
  }

  function matches(entry) {
    if (FIELDS.some((field) => state[field] !== null && entry.dataset[field] !== state[field])) return false;
    if (state.status.size && !state.status.has(entry.dataset.outcome)) return false;
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    return !words.length || words.every((word) => textOf(entry).includes(word));
  }

  function setOpen(entry, open) {
    entry.classList.toggle("open", open);
    one(".title", entry).setAttribute("aria-expanded", String(open));
    one(".body", entry).inert = !open;
  }

  const visible = () => entries.filter((entry) => !entry.hidden);

  function show() {
    for (const entry of entries) entry.hidden = !matches(entry);
    const shown = visible().length;
    const filtered = state.q || state.status.size || FIELDS.some((field) => state[field] !== null);
    if (one("#search")) {
      if (one("#search").value !== state.q) one("#search").value = state.q;
      for (const field of FIELDS) one(`#${field}`).value = state[field] === null ? "" : `=${state[field]}`;
      for (const button of all("[data-status]")) button.setAttribute("aria-pressed", String(state.status.has(button.dataset.status)));
      one("#shown").textContent = filtered ? `${shown} of ${entries.length} items` : `${shown} ${shown === 1 ? "item" : "items"}`;
      one("#reset").hidden = !filtered;
      one("#none").hidden = shown > 0;
    }
    for (const part of [...comparisons.values()].flat()) {
      const button = one(".accept", part);
      if (!button) continue;
      const { id } = part.dataset;
      const accepted = state.accept.has(id);
      part.classList.toggle("is-accepted", accepted);
      button.setAttribute("aria-pressed", String(accepted));
      button.textContent = accepted ? "Accepted" : "Accept this change";
    }
    const count = state.accept.size;
    one("#accepted").hidden = !count;
    root.classList.toggle("has-accepted", count > 0);
    one("#accepted-count").textContent = `${count} ${count === 1 ? "change" : "changes"} accepted`;
  }

  const reset = () => change({ q: "", model: null, layer: null, property: null, status: new Set() });

  function goTo(id) {
    const target = id && document.getElementById(id);
    const entry = target && target.closest(".entry");
    if (!entry) return;
    if (entry.hidden) reset();
    setOpen(entry, true);
    target.scrollIntoView({ block: "start" });
    one(".title", entry).focus({ preventScroll: true });
  }

  function moveFocus(by) {
    const list = visible();
    if (!list.length) return;
    const now = list.findIndex((entry) => entry.contains(document.activeElement));
    const at = now < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(now + by, 0), list.length - 1);
    one(".title", list[at]).focus({ preventScroll: true });
    list[at].scrollIntoView({ block: list[at].classList.contains("open") ? "start" : "nearest" });
  }

  function exportAccepted() {
    const accept = [...state.accept].map((id) => comparisons.get(id)[0].dataset).map(({ key, fingerprint }) => ({ key, fingerprint }));
    const text = JSON.stringify({ format: "convlens-accept", version: 1, accept }, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "application/json" }));
    link.download = "convlens-accept.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function setView(pair, view) {
    clearInterval(pair.blinking);
    pair.dataset.view = view;
    pair.classList.remove("lit");
    for (const button of all(".views button", pair)) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    if (view === "blink") pair.blinking = setInterval(() => pair.classList.toggle("lit"), 600);
  }

  for (const pair of all(".pair")) {
    for (const button of all(".views button", pair)) button.addEventListener("click", () => setView(pair, button.dataset.view));
    one(".swiper input", pair).addEventListener("input", (event) => pair.style.setProperty("--at", `${event.target.value}%`));
  }

  const failing = entries.filter((entry) => ["failed", "error", "crashed", "unfinished"].includes(entry.dataset.outcome));
  for (const entry of entries) {
    setOpen(entry, failing.includes(entry) && failing.indexOf(entry) < 5);
    one(".title", entry).addEventListener("click", () => {
      setOpen(entry, !entry.classList.contains("open"));
      change({ item: entry.classList.contains("open") ? entry.id : null });
    });
  }

  for (const cell of all("a.cell")) {
    cell.addEventListener("click", (event) => {
      event.preventDefault();
      const { model, layer, property } = cell.dataset;
      if ("several" in cell.dataset) {
        change({ q: "", model, layer: layer ?? null, property, status: new Set(), item: null }, { push: true });
        one("#items").scrollIntoView({ block: "start" });
        moveFocus(1);
      } else {
        const id = cell.getAttribute("href").slice(1);
        change({ item: id }, { push: true });
        goTo(id);
      }
    });
  }

  // In a narrow window, scroll the overview so that the first failure is visible beside the names.
  const table = one(".overview .scroll");
  const firstFailure = table && one(".cell:is(.crashed, .failed, .error, .unfinished)", table);
  if (firstFailure) table.scrollLeft += Math.max(0, firstFailure.getBoundingClientRect().right - table.getBoundingClientRect().right + 12);

  for (const fold of all(".fold")) {
    fold.addEventListener("click", () => {
      const open = fold.getAttribute("aria-expanded") !== "true";
      fold.setAttribute("aria-expanded", String(open));
      for (const row of all("tr.layer", fold.closest("tbody"))) row.hidden = !open;
    });
  }

  for (const button of all(".accept")) {
    button.addEventListener("click", () => {
      const accept = new Set(state.accept);
      const { id } = button.closest(".comparison").dataset;
      if (!accept.delete(id)) accept.add(id);
      change({ accept });
    });
  }
  one("#export").addEventListener("click", exportAccepted);
  one("#forget").addEventListener("click", () => change({ accept: new Set() }));

  if (one("#search")) {
    one("#search").addEventListener("input", (event) => change({ q: event.target.value }));
    for (const field of FIELDS) one(`#${field}`).addEventListener("change", ({ target }) => change({ [field]: target.value === "" ? null : target.value.slice(1) }));
    for (const button of all("[data-status]")) {
      button.addEventListener("click", () => {
        const status = new Set(state.status);
        if (!status.delete(button.dataset.status)) status.add(button.dataset.status);
        change({ status });
      });
    }
    one("#reset").addEventListener("click", reset);
    one("#none-reset").addEventListener("click", reset);
    one("#unfold").addEventListener("click", ({ target }) => {
      const open = target.getAttribute("aria-pressed") !== "true";
      target.setAttribute("aria-pressed", String(open));
      for (const entry of visible()) setOpen(entry, open);
    });
    one("#help-open").addEventListener("click", () => one("#help").showModal());
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || one("#help").open) return;
    const field = event.target.closest("input, select, textarea");
    if (event.key === "Escape") {
      if (field && field.id === "search") {
        change({ q: "" });
        field.blur();
      } else {
        const entry = document.activeElement.closest(".entry.open");
        if (entry) {
          setOpen(entry, false);
          one(".title", entry).focus();
          change({ item: null });
        } else if (state.q) change({ q: "" });
      }
      return;
    }
    if (field || event.target.closest(".scroll, pre")) {
      if (field || event.key.startsWith("Arrow")) return;
    }
    const actions = {
      "/": () => one("#search")?.focus(),
      "?": () => one("#help").showModal(),
      j: () => moveFocus(1), ArrowDown: () => moveFocus(1),
      k: () => moveFocus(-1), ArrowUp: () => moveFocus(-1),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  });

  const restore = () => { state = read(); show(); goTo(state.item); };
  addEventListener("popstate", restore);
  show();
  if (state.item) goTo(state.item);
})();
