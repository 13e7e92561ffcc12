"use strict";
(() => {
  const root = document.documentElement;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // The URL stores the filters and the open item, so that views can be shared and the back button works.
  const FIELDS = ["model", "layer", "property"];
  const searchTexts = new Map();
  let state;

  // Folded parts are text until they are asked for, so that a page of any size opens at once.
  function unpack(holder) {
    for (const pack of all("noscript", holder)) {
      const made = document.createElement("template");
      made.innerHTML = pack.textContent;
      for (const entry of all(".entry", made.content)) setOpen(entry, false);
      pack.replaceWith(made.content);
    }
    for (const pack of all("template", holder)) {
      const { group } = pack.previousElementSibling.dataset;
      for (const row of all("tr", pack.content)) if (group) row.dataset.of = group;
      pack.replaceWith(pack.content);
    }
  }

  // Return the element with an identifier, from a folded part too.
  function locate(id) {
    if (id && !document.getElementById(id)) {
      for (const pack of all("noscript")) if (pack.textContent.includes(`id="${id}"`)) unpack(pack.parentElement);
    }
    return id ? document.getElementById(id) : null;
  }

  const entries = () => all(".entry");
  const comparisons = () => Map.groupBy(all(".comparison"), (part) => part.dataset.id);
  const filtered = () => Boolean(state.q || state.status.size || FIELDS.some((field) => state[field] !== null));

  function read() {
    const hash = location.hash.slice(1);
    const bare = /^[iw]-[0-9a-f]+$/.test(hash);
    const found = new URLSearchParams(bare ? "" : hash);
    const accept = (found.get("accept") ?? "").split(",").filter(Boolean);
    if (accept.some((id) => !comparisons().has(id))) unpack(document.body);
    return {
      q: found.get("q") ?? "",
      model: found.get("model"),
      layer: found.get("layer"),
      property: found.get("property"),
      status: new Set((found.get("status") ?? "").split(",").filter(Boolean)),
      item: bare ? hash : found.get("item"),
      accept: new Set(accept.filter((id) => comparisons().has(id))),
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

  const isFolded = (part) => Boolean(part.closest("details:not([open])"));
  const visible = () => entries().filter((entry) => !entry.hidden && !isFolded(entry));

  function show() {
    if (!one("#search")) return;
    if (filtered()) unpack(document.body);
    const list = entries();
    const found = list.filter((entry) => (entry.hidden = !matches(entry)) === false);
    const total = Number(one("#items").dataset.count);
    for (const fold of all("details.items")) {
      fold.hidden = filtered() && !one(".entry:not([hidden])", fold);
      if (filtered() && !fold.open) fold.open = fold.dataset.auto = true;
      else if (!filtered() && fold.dataset.auto) {
        fold.open = false;
        delete fold.dataset.auto;
      }
    }
    showOverview(found);
    if (one("#search").value !== state.q) one("#search").value = state.q;
    for (const field of FIELDS) one(`#${field}`).value = state[field] === null ? "" : `=${state[field]}`;
    for (const button of all(".status")) button.setAttribute("aria-pressed", String(state.status.has(button.dataset.status)));
    one("#shown").textContent = filtered() ? `${found.length} of ${total} items` : `${total} ${total === 1 ? "item" : "items"}`;
    one("#reset").hidden = !filtered();
    one("#none").hidden = !filtered() || found.length > 0;
    showAccepted();
  }

  // Rows are shown as they are folded, or under a filter those of the items that match.
  function showOverview(found) {
    const rows = new Set(found.map((entry) => JSON.stringify([entry.dataset.model, entry.dataset.layer])));
    const models = new Set(found.map((entry) => entry.dataset.model));
    for (const body of all(".overview tbody")) {
      const { model } = body.dataset;
      const isOpen = (row) => one(".fold", row).getAttribute("aria-expanded") === "true";
      const open = isOpen(one("tr.model", body));
      const groups = new Set(all("tr.span", body).filter(isOpen).map((row) => row.dataset.group));
      body.hidden = filtered() && !models.has(model);
      for (const row of all("tr.span", body)) row.hidden = filtered() || !open;
      for (const row of all("tr.layer", body)) {
        const { of, layer } = row.dataset;
        row.hidden = filtered() ? !rows.has(JSON.stringify([model, layer])) : !open || (of !== undefined && !groups.has(of));
      }
    }
  }

  function showAccepted() {
    for (const part of all(".comparison")) {
      const button = one(".accept", part);
      if (!button) continue;
      const accepted = state.accept.has(part.dataset.id);
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
    const target = locate(id);
    if (!target) return;
    const entry = target.closest(".entry");
    if (entry && entry.hidden) reset();
    for (let fold = target.closest("details:not([open])"); fold; fold = fold.closest("details:not([open])")) fold.open = true;
    if (entry) setOpen(entry, true);
    target.scrollIntoView({ block: "start" });
    (entry ? one(".title", entry) : target).focus({ preventScroll: true });
  }

  function focusOn(part) {
    (one(".title", part) ?? part).focus({ preventScroll: true });
    part.scrollIntoView({ block: part.matches(".open, .card, details") ? "start" : "nearest" });
  }

  function moveFocus(by) {
    const list = visible();
    if (!list.length) return;
    const now = list.findIndex((entry) => entry.contains(document.activeElement));
    const at = now < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(now + by, 0), list.length - 1);
    focusOn(list[at]);
  }

  // The failures that have a cause of their own: each changed baseline once, and each other item.
  function moveToFailure(by) {
    for (const fold of all("details.items:is(.crashed, .failed, .error, .unfinished)")) {
      unpack(fold);
      fold.open = true;
    }
    const list = all(".stop").filter((part) => !part.hidden && !isFolded(part.parentElement));
    if (!list.length) return;
    const now = list.findIndex((part) => part.contains(document.activeElement));
    const at = now < 0 ? (by > 0 ? 0 : list.length - 1) : (now + by + list.length) % list.length;
    if (list[at].matches(".entry")) setOpen(list[at], true);
    if (list[at].matches("details")) list[at].open = true;
    focusOn(list[at]);
  }

  function exportAccepted() {
    const accept = [...state.accept].map((id) => comparisons().get(id)[0].dataset).map(({ key, fingerprint }) => ({ key, fingerprint }));
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

  function copy(button) {
    const text = one("pre", button.parentElement);
    const select = () => getSelection().selectAllChildren(text);
    if (!navigator.clipboard) return select();
    navigator.clipboard.writeText(text.textContent).then(() => {
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    }, select);
  }

  function follow(cell) {
    const { model, layer, property } = cell.dataset;
    if ("several" in cell.dataset) {
      change({ q: "", model, layer: layer ?? null, property, status: new Set(), item: null }, { push: true });
      one("#items").scrollIntoView({ block: "start" });
      moveFocus(1);
    } else open(cell);
  }

  function open(link) {
    const id = link.getAttribute("href").slice(1);
    change({ item: id }, { push: true });
    goTo(id);
  }

  function toggle(entry) {
    setOpen(entry, !entry.classList.contains("open"));
    change({ item: entry.classList.contains("open") ? entry.id : null });
  }

  function fold(button) {
    unpack(button.closest("tbody"));
    button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
    show();
  }

  function accept(button) {
    const accepted = new Set(state.accept);
    const { id } = button.closest(".comparison").dataset;
    if (!accepted.delete(id)) accepted.add(id);
    change({ accept: accepted });
  }

  // One listener for all, as folded parts come later.
  const CLICKS = {
    "a.cell": follow,
    "a.go": open,
    ".entry .title": (button) => toggle(button.closest(".entry")),
    ".overview .fold": fold,
    ".accept": accept,
    ".copy": copy,
    ".views button": (button) => setView(button.closest(".pair"), button.dataset.view),
  };
  document.addEventListener("click", (event) => {
    for (const [selector, action] of Object.entries(CLICKS)) {
      const part = event.target.closest(selector);
      if (!part) continue;
      if (part.matches("a")) event.preventDefault();
      action(part);
      return;
    }
  });
  document.addEventListener("input", ({ target }) => {
    if (target.matches(".swiper input")) target.closest(".pair").style.setProperty("--at", `${target.value}%`);
  });
  // The event of a details element does not bubble.
  document.addEventListener("toggle", ({ target }) => {
    if (target.matches("details") && target.open && one(":scope > noscript", target)) {
      unpack(target);
      show();
    }
  }, true);

  // The first failures are open, except those that a card tells of.
  const failing = all(".entry.stop").slice(0, 5);
  for (const entry of entries()) setOpen(entry, failing.includes(entry));

  // In a narrow window, scroll the overview so that the first failure is visible beside the names.
  const table = one(".overview .scroll");
  const firstFailure = table && one(".cell:is(.crashed, .failed, .error, .unfinished)", table);
  if (firstFailure) table.scrollLeft += Math.max(0, firstFailure.getBoundingClientRect().right - table.getBoundingClientRect().right + 12);

  one("#export").addEventListener("click", exportAccepted);
  one("#forget").addEventListener("click", () => change({ accept: new Set() }));

  if (one("#search")) {
    one("#search").addEventListener("input", (event) => change({ q: event.target.value }));
    for (const field of FIELDS) one(`#${field}`).addEventListener("change", ({ target }) => change({ [field]: target.value === "" ? null : target.value.slice(1) }));
    for (const button of all(".status")) {
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
      if (open) unpack(document.body);
      for (const fold of all("details.items")) fold.open = open;
      for (const entry of entries()) if (!entry.hidden) setOpen(entry, open);
      show();
    });
    one("#next")?.addEventListener("click", () => moveToFailure(1));
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
      n: () => moveToFailure(1),
      p: () => moveToFailure(-1),
      j: () => moveFocus(1), ArrowDown: () => moveFocus(1),
      k: () => moveFocus(-1), ArrowUp: () => moveFocus(-1),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  });

  state = read();
  addEventListener("popstate", () => {
    state = read();
    show();
    goTo(state.item);
  });
  show();
  if (state.item) goTo(state.item);
})();
