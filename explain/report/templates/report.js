// A filter box and sortable columns for each table of class "sortable". Without this script the page is complete:
// rows stand sorted by IoU and everything is visible.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const texts = rows.map((row) => row.textContent.toLowerCase());

  const label = document.createElement("label");
  const input = document.createElement("input");
  const status = document.createElement("output");
  const tools = document.createElement("div");
  tools.className = "tools";
  input.type = "search";
  label.append("Filter ", input);
  status.setAttribute("aria-live", "polite");
  tools.append(label, status);
  (table.closest(".scroll") || table).before(tools);

  // Rows and cards stand in the same order, so that the card of row i is card i.
  const cards = table.dataset.cards ? [...document.querySelectorAll(table.dataset.cards)] : [];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const hit = words.every((word) => texts[i].includes(word));
      row.hidden = !hit;
      if (cards[i]) cards[i].hidden = !hit;
      shown += hit;
    });
    status.textContent = words.length ? `${shown} of ${rows.length} shown` : "";
  });

  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number(text.replace(/[\u202f%]/g, "").replace("\u2212", "-"));
    return text === "–" ? -Infinity : text === "" || Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? (a > b) - (a < b) : String(a).localeCompare(String(b));

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : head.classList.contains("n");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [value(row, column), row]);
      keyed.sort((a, b) => (down ? -1 : 1) * compare(a[0], b[0]));
      body.append(...keyed.map((pair) => pair[1]));
      status.textContent = `sorted by ${button.textContent}, ${down ? "largest" : "smallest"} first`;
    });
  });
}
