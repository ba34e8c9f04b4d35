// The unit table: a click on a heading sorts by it, a second click the other way; unknown values stay last.
function sortBy(table, column, isDown) {
  const keyOf = (row) => {
    const cell = row.cells[column];
    return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
  };
  const isUnknown = (key) => key === "" || key === "–";
  const compare = (a, b) => {
    const [one, other] = [keyOf(a), keyOf(b)];
    if (isUnknown(one) || isUnknown(other)) return isUnknown(one) - isUnknown(other);
    const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
    return isDown ? -order : order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

for (const table of document.querySelectorAll("table.units")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const isDown = heading.getAttribute("aria-sort") === "ascending";
    for (const other of headings) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    sortBy(table, column, isDown);
  }));
}
