// The index of units: search, filters, sorting, cards, and the address that holds them. Without this script the table
// stands sorted by IoU and everything is visible.
"use strict";
const unitsTable = document.querySelector("table.units");
const report = JSON.parse(unitsTable.closest(".part").querySelector("script.data").textContent);
const conceptNumbers = new Map(report.concepts.map((concept) => [concept.name, concept.number]));

const view = (() => {
  const body = unitsTable.tBodies[0];
  const scroll = unitsTable.closest(".scroll");
  const rows = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const articles = new Map([...document.querySelectorAll("article.unit")].map((one) => [one.dataset.key, one]));
  const units = report.units;
  const texts = units.map((unit) =>
    [`unit ${unit.key}`, unit.formula, unit.label, unit.category, unit.kind].join(" ").toLowerCase());
  const heads = [...unitsTable.tHead.rows[0].cells].filter((head) => head.dataset.sort);
  const state = {};
  const changed = () => { apply(); write(); };

  const field = (key, label, control) => {
    control.addEventListener(control.tagName === "SELECT" ? "change" : "input", () => {
      state[key] = control.value;
      changed();
    });
    control.name = key;
    fields.set(key, control);
    return make("label", {}, label + " ", control);
  };
  const fields = new Map();
  const choice = (key, label, options) =>
    field(key, label, make("select", {}, ...options.map(([value, text]) => make("option", { value }, text))));
  const values = (name) => [...new Set(units.map((unit) => unit[name]).filter((value) => value))].sort();
  const number = (key, label) => field(key, label, make("input", { type: "number", min: 0, max: 1, step: "any" }));
  const down = (name) => typeof units.find((unit) => unit[name] !== null)?.[name] === "number" && name !== "unit";
  const sortName = (head) => (down(head.dataset.sort) ? "-" : "") + head.dataset.sort;
  const status = make("output", { "aria-live": "polite" });
  const buttons = ["table", "cards"].map((name) =>
    make("button", { type: "button", "data-view": name, onclick: () => { state.view = name; changed(); } }, name));
  const cards = make("ol", { class: "cards", hidden: true });
  const tested = units.some((unit) => unit.p_value !== null);
  scroll.before(
    make("div", { class: "tools", role: "search" },
      field("q", "Search", make("input", { type: "search", placeholder: "concept, formula or unit" })),
      choice("category", "category", [["", "all"], ...values("category").map((one) => [one, one])]),
      choice("length", "length", [["", "all"], ...values("length").map((one) => [String(one), String(one)])]),
      number("iou", "IoU at least"),
      ...(tested ? [number("p", "p at most")] : []),
      choice("sort", "sort by", heads.flatMap((head) => {
        const first = sortName(head);
        const text = head.textContent;
        const other = first.startsWith("-") ? first.slice(1) : "-" + first;
        const word = (name) => (name.startsWith("-") ? ", falling" : ", rising");
        return [[first, text + word(first)], [other, text + word(other)]];
      })),
      make("span", { role: "group", "aria-label": "view" }, ...buttons), status),
    cards);

  const wanted = () => {
    const words = [...(state.q || "").toLowerCase().matchAll(/"([^"]+)"|[^\s"]+/g)].map((match) => match[1] ?? match[0]);
    const least = state.iou === "" || Number.isNaN(+state.iou) ? null : +state.iou;
    const most = state.p === "" || Number.isNaN(+state.p) ? null : +state.p;
    return units.map((unit, i) => words.every((word) => texts[i].includes(word))
      && (!state.category || unit.category === state.category)
      && (!state.length || unit.length === +state.length)
      && (least === null || unit.iou >= least)
      && (most === null || (unit.p_value !== null && unit.p_value <= most)));
  };
  const compare = (name, sign) => (a, b) => {
    const [x, y] = [units[a][name], units[b][name]];
    if (x === y) return a - b;
    if (x === null || y === null) return x === null ? 1 : -1; // what was not computed comes last
    return (x < y ? -1 : 1) * sign || a - b;
  };
  const card = (unit) => {
    const row = rows.get(unit.key);
    const shot = articles.get(unit.key)?.querySelector("svg.shot")?.cloneNode(true);
    const picture = shot || make("span", { class: `shot ${row.dataset.picture || ""}` });
    const text = row.querySelector(".formula").cloneNode(true).childNodes;
    return make("li", {}, make("a", { href: row.querySelector("a").getAttribute("href") }, picture,
      make("strong", {}, `Unit ${unit.key}`), ` IoU ${row.querySelector("[data-iou]").textContent}`, make("br"), make("span", { class: "formula" }, ...text)));
  };
  let order = "-iou";
  const apply = () => {
    const name = heads.some((head) => head.dataset.sort === state.sort.replace("-", "")) ? state.sort : "-iou";
    const falling = name.startsWith("-");
    const key = name.replace("-", "");
    const hits = wanted();
    const sorted = units.map((_, i) => i).sort(compare(key, falling ? -1 : 1));
    if (name !== order) {
      body.append(...sorted.map((i) => rows.get(units[i].key))); // the views stay: to move them costs half a second
      order = name;
    }
    units.forEach((unit, i) => {
      rows.get(unit.key).hidden = !hits[i];
      if (articles.has(unit.key)) articles.get(unit.key).hidden = !hits[i];
    });
    for (const head of heads) {
      head.removeAttribute("aria-sort");
      if (head.dataset.sort === key) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    }
    const shown = hits.filter(Boolean).length;
    const asCards = state.view === "cards";
    cards.replaceChildren(...(asCards ? sorted.filter((i) => hits[i]).map((i) => card(units[i])) : []));
    cards.hidden = !asCards;
    scroll.hidden = asCards;
    for (const button of buttons) button.setAttribute("aria-pressed", String((button.dataset.view === "cards") === asCards));
    fields.get("sort").value = name;
    const head = heads.find((one) => one.dataset.sort === key);
    status.textContent = `${shown} of ${units.length}, by ${head.textContent.trim()}, ${falling ? "falling" : "rising"}`;
  };

  const empty = { q: "", category: "", length: "", iou: "", p: "", sort: "-iou", view: "table", hide: "", ask: "" };
  const write = () => {
    state.hide = document.documentElement.dataset.hide || "";
    const told = Object.keys(empty).filter((key) => state[key] !== empty[key]).map((key) => [key, state[key]]);
    const text = new URLSearchParams(told).toString();
    history.replaceState(null, "", text ? "#" + text : location.href.split("#")[0]);
  };
  const reveal = (key) => {
    const article = articles.get(key);
    if (!article) { // on another page
      const link = rows.get(key)?.querySelector("a").getAttribute("href");
      if (link && !link.startsWith("#")) location.assign(link);
      return;
    }
    if (article.hidden) read("");
    const settle = (times) => { // what comes into view above takes its own height, which moves the rest
      article.scrollIntoView();
      if (times) requestAnimationFrame(() => settle(times - 1));
    };
    settle(4);
  };
  const read = (text) => {
    const found = new URLSearchParams(text);
    for (const key of Object.keys(empty)) state[key] = found.get(key) ?? empty[key];
    for (const [key, control] of fields) control.value = state[key];
    hideOutlines(state.hide);
    apply();
    document.dispatchEvent(new CustomEvent("ask", { detail: state.ask }));
    if (found.get("unit")) reveal(found.get("unit"));
  };
  const follow = () => {
    const text = location.hash.slice(1);
    if (text.startsWith("unit-")) reveal(text.slice(5));
    else if (text.includes("=")) {
      read(text);
      if (!text.includes("unit=")) document.querySelector(state.ask ? ".ask" : ".index").scrollIntoView();
    }
  };
  for (const head of heads) {
    const button = make("button", { type: "button", onclick: () => {
      const first = sortName(head);
      state.sort = order === first ? (first.startsWith("-") ? first.slice(1) : "-" + first) : first;
      changed();
    } }, head.textContent);
    head.replaceChildren(button);
  }
  document.addEventListener("view", write);
  window.addEventListener("hashchange", follow);
  const start = () => {
    read("");
    follow();
  };
  return { start, asked: (text) => { state.ask = text; write(); } };
})();
