"use strict";
// Sorting: the first click on a heading sorts upwards, the second downwards, the third restores the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" }[heading.getAttribute("aria-sort")] ?? "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      if (next !== "none") heading.setAttribute("aria-sort", next);
      body.append(...(next === "none" ? original : sorted(original, column, next === "descending")));
    });
  });
}

function sorted(rows, column, downwards) {
  const key = (row) => {
    const text = row.cells[column]?.dataset.sort;
    if (text === undefined) return null;
    return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return [...rows].sort((left, right) => {
    // Failed methods and missing values stay at the end, whichever way the rest is sorted.
    const ends = left.classList.contains("last") - right.classList.contains("last");
    if (ends !== 0) return ends;
    const [a, b] = [key(left), key(right)];
    if (a === null || b === null) return (a === null) - (b === null);
    return downwards ? compare(b, a) : compare(a, b);
  });
}

// Rows are filtered by what they say, and columns chosen, where there are many.
const MANY_ROWS = 8, MANY_COLUMNS = 6;
for (const box of document.querySelectorAll(".table")) {
  const scroll = box.querySelector(".scroll"), table = box.querySelector("table");
  const tools = document.createElement("div");
  tools.className = "tools";
  if (table && table.tBodies[0].rows.length >= MANY_ROWS) tools.append(...filter(table, scroll.getAttribute("aria-label")));
  if (table && table.tHead.rows[0].cells.length >= MANY_COLUMNS) tools.append(choice(table));
  const hint = document.createElement("span");
  hint.className = "sideways";
  hint.textContent = "Scrolls sideways \u2194";
  tools.append(hint);
  box.prepend(tools);
  const look = () => {
    const rest = scroll.scrollWidth - scroll.clientWidth;
    box.toggleAttribute("data-wide", rest > 1);
    box.toggleAttribute("data-left", scroll.scrollLeft > 1);
    box.toggleAttribute("data-right", rest - scroll.scrollLeft > 1);
  };
  scroll.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(scroll);
  if (table) new ResizeObserver(look).observe(table);
  look();
}

function filter(table, about) {
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "Filter rows";
  search.setAttribute("aria-label", `Filter the rows of ${about}`);
  const count = document.createElement("output");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : "";
  });
  return [search, count];
}

function choice(table) {
  const details = document.createElement("details"), list = document.createElement("fieldset");
  const summary = document.createElement("summary"), legend = document.createElement("legend");
  summary.textContent = "Columns";
  legend.textContent = "Columns that are shown";
  list.append(legend);
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (column === 0) return;
    const label = document.createElement("label"), tick = document.createElement("input");
    tick.type = "checkbox";
    tick.checked = true;
    tick.addEventListener("change", () => {
      for (const row of table.rows) {
        // A failure's message goes over all columns.
        if (row.cells[column] && row.cells[column].colSpan === 1) row.cells[column].hidden = !tick.checked;
      }
    });
    label.append(tick, ` ${head.textContent}`);
    list.append(label);
  });
  details.append(summary, list);
  return details;
}

const theme = document.getElementById("theme");
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  name();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
theme.hidden = false;
name();
