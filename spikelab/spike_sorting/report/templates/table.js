// Tables with many rows: a heading sorts by its column, a second time the other way; unknown values stay last.
function keyOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
}

function sortBy(table, column, isDown) {
  const isUnknown = (key) => key === "" || key === "–";
  const compare = (a, b) => {
    const [one, other] = [keyOf(a, column), keyOf(b, column)];
    if (isUnknown(one) || isUnknown(other)) return isUnknown(one) - isUnknown(other);
    const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
    return isDown ? -order : order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

// A filter is words, all of which a row must have, and comparisons such as "snr>5": the column that begins so.
function conditionOf(word, headings) {
  const found = word.match(/^(.+?)(<=|>=|<|>|=)(-?[\d.]+)$/);
  if (!found) return (row) => row.textContent.toLowerCase().includes(word);
  const [, name, sign, text] = found;
  const squeezed = (heading) => heading.textContent.toLowerCase().replace(/\s+/g, "");
  const column = headings.findIndex((heading) => squeezed(heading).startsWith(name));
  const limit = Number(text);
  const test = { "<": (v) => v < limit, ">": (v) => v > limit, "<=": (v) => v <= limit, ">=": (v) => v >= limit, "=": (v) => v === limit }[sign];
  return column < 0 ? null : (row) => row.cells[column].dataset.key !== undefined && test(Number(row.cells[column].dataset.key));
}

function filterRows(table, input, said) {
  const headings = [...table.tHead.rows[0].cells];
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const conditions = words.map((word) => conditionOf(word, headings));
  const unknown = words.filter((_, place) => conditions[place] === null);
  input.setAttribute("aria-invalid", unknown.length > 0);
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) row.hidden = !conditions.every((fits) => fits === null || fits(row));
  const shown = rows.filter((row) => !row.hidden).length;
  said.textContent = unknown.length ? `no column begins with ${unknown.join(", ")}` : shown < rows.length ? `${shown} of ${rows.length}` : `${rows.length}`;
}

for (const table of document.querySelectorAll("table.units")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const isDown = heading.getAttribute("aria-sort") === "ascending";
    for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    sortBy(table, column, isDown);
  }));
  const filter = table.closest("section").querySelector(".filter");
  if (filter) {
    const [input, said] = [filter.querySelector("input"), filter.querySelector("output")];
    const apply = () => filterRows(table, input, said);
    input.addEventListener("input", apply);
    apply();
  }
}
