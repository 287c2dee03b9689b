// Pages work without this; with it tables sort at once, filters need no button, and texts can be copied.
"use strict";

// A table that holds all its rows is sorted where it is; its address goes along.
function sortBy(table, header, link) {
  const column = [...header.parentNode.children].indexOf(header);
  const was = header.getAttribute("aria-sort");
  const first = header.classList.contains("number") ? "descending" : "ascending";
  const now = was === "ascending" ? "descending" : was === "descending" ? "ascending" : first;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", now);
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: valueOf(row.cells[column]) }));
  const direction = now === "ascending" ? 1 : -1;
  rows.sort((one, other) => {
    if (one.value === null || other.value === null) return (one.value === null) - (other.value === null);
    return direction * compare(one.value, other.value);
  });
  body.append(...rows.map((item) => item.row));
  if (link) remember(link, now);
}

function valueOf(cell) {
  const text = cell.dataset.v ?? cell.textContent.trim();
  if (text === "–" || text === "" || cell.classList.contains("unknown")) return null;
  const number = Number(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return one < other ? -1 : one > other ? 1 : 0;
}

function remember(link, now) {
  const address = new URL(link.href);
  const key = address.searchParams.get("sort").replace(/^-/, "");
  address.searchParams.set("sort", (now === "descending" ? "-" : "") + key);
  history.replaceState(null, "", address);
}

for (const table of document.querySelectorAll("table[data-complete]")) {
  if (table.tBodies[0].rows.length < 2) continue;
  for (const header of table.tHead.rows[0].cells) {
    let link = header.querySelector("a");
    if (!link) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sortBy(table, header, null));
      continue;
    }
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      sortBy(table, header, link);
    });
  }
}

for (const form of document.querySelectorAll("form[data-auto]")) {
  // Empty fields would only lengthen the address.
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
  // A page that comes back out of the browser's memory still has its fields off.
  window.addEventListener("pageshow", () => {
    for (const field of form.elements) field.disabled = false;
  });
  form.addEventListener("change", (event) => {
    if (event.target.tagName === "SELECT") form.requestSubmit();
  });
}

if (navigator.clipboard) {
  for (const text of document.querySelectorAll("pre[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    });
    text.previousElementSibling.append(button);
  }
}
