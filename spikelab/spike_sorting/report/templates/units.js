// The unit that is chosen in the table: its footprint, waveform and autocorrelogram, from the packed details.
const details = JSON.parse(document.getElementById("details").textContent);
const unitTable = document.querySelector("table.units");
const chosenBox = document.getElementById("chosen");
let chosenRow = null;

function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function waveformsOf(unit) {
  const samples = unpack(unit.w, Int8Array);
  const length = samples.length / unit.c.length;
  const times = Array.from({ length }, (_, place) => unit.t0 + place * unit.dt);
  const waves = unit.c.map((_, channel) => Array.from(samples.slice(channel * length, (channel + 1) * length), (value) => value * unit.uV));
  return { times, waves };
}

const plainAxis = () => ({ zeroline: false, showgrid: true, ticks: "" });

function footprint(unit) {
  const { times, waves } = waveformsOf(unit);
  const places = unit.c.map((channel) => details.places[channel]).map((place, order) => (place && place[0] !== null ? place : [0, -20 * order]));
  const apart = Math.min(...places.flatMap(([x, y], a) => places.slice(a + 1).map(([ox, oy]) => Math.hypot(x - ox, y - oy))).filter((d) => d > 0), 100);
  const largest = Math.max(...waves[0].map(Math.abs)) || 1;
  const wide = (0.8 * apart) / (times[times.length - 1] - times[0] || 1);
  const middle = (times[times.length - 1] + times[0]) / 2;
  const lines = places.map(([x, y], order) => ({
    type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false,
    x: times.map((time) => x + wide * (time - middle)),
    y: waves[order].map((value) => y + (0.9 * apart * value) / largest),
    line: { color: colour(order ? "--soft" : "--kept"), width: order ? 1.2 : 2.2 },
  }));
  const dots = {
    type: "scatter", mode: "markers", showlegend: false, x: places.map(([x]) => x), y: places.map(([, y]) => y),
    text: waves.map((wave) => `${Math.round(Math.max(...wave) - Math.min(...wave))} µV from peak to peak`),
    hovertemplate: "%{text}<extra></extra>", marker: { size: 4, color: colour("--soft") },
  };
  const layout = {
    xaxis: { ...plainAxis(), title: { text: "x (µm)" }, constrain: "domain" },
    yaxis: { ...plainAxis(), title: { text: "y (µm)" }, scaleanchor: "x", constrain: "domain" },
  };
  return { data: [...lines, dots], layout };
}

function waveform(unit) {
  const { times, waves } = waveformsOf(unit);
  const isTimed = details.unit_of_time === "ms";
  const trace = { type: "scatter", mode: "lines", x: times, y: waves[0], line: { color: colour("--kept"), width: 2.2 }, hovertemplate: "%{x:.3g} " + details.unit_of_time + "<br>%{y:.1f} µV<extra></extra>" };
  return { data: [trace], layout: { xaxis: { ...plainAxis(), title: { text: isTimed ? "time (ms)" : "sample" } }, yaxis: { ...plainAxis(), title: { text: "µV" } } } };
}

function autocorrelogram(unit) {
  const half = Array.from(unpack(unit.a, Uint16Array), (count) => (count * 1000) / unit.n / details.bin_ms);
  const lags = half.map((_, place) => (place + 0.5) * details.bin_ms);
  const trace = { type: "bar", x: [...lags.map((lag) => -lag).reverse(), ...lags], y: [...half.slice().reverse(), ...half], marker: { color: colour("--kept"), line: { width: 0 } }, hovertemplate: "%{x} ms<br>%{y:.1f} Hz<extra></extra>" };
  return { data: [trace], layout: { bargap: 0, xaxis: { ...plainAxis(), title: { text: "lag (ms)" } }, yaxis: { ...plainAxis(), title: { text: "Hz" }, rangemode: "tozero" } } };
}

function drawChosen() {
  const unit = chosenRow && details.units[chosenRow.dataset.unit];
  const parts = { footprint: unit && unit.w ? footprint(unit) : null, waveform: unit && unit.w ? waveform(unit) : null, autocorrelogram: unit && unit.a ? autocorrelogram(unit) : null };
  for (const [name, figure] of Object.entries(parts)) {
    const canvas = chosenBox.querySelector(`[data-chosen="${name}"]`);
    canvas.closest("figure").classList.toggle("none", !figure);
    if (figure && window.Plotly) Plotly.react(canvas, figure.data, paint({ margin: { l: 56, r: 10, t: 8, b: 42 }, hovermode: "closest", showlegend: false, ...figure.layout }), { responsive: true, displayModeBar: false });
  }
}

function choose(row, isMoved) {
  if (chosenRow) {
    chosenRow.removeAttribute("aria-current");
    chosenRow.querySelector("button").tabIndex = -1;
  }
  chosenRow = row;
  row.setAttribute("aria-current", "true");
  const button = row.querySelector("button");
  button.tabIndex = 0;
  if (isMoved) {
    button.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }
  const names = [...unitTable.tHead.rows[0].cells].map((heading) => heading.textContent);
  const cells = [...row.cells].map((cell) => cell.textContent);
  chosenBox.querySelector("h3").textContent = `Unit ${cells[0]}, ${cells[1]}`;
  const facts = chosenBox.querySelector("dl");
  facts.replaceChildren(...names.slice(2).flatMap((name, place) => {
    const pair = document.createElement("div");
    const [what, value] = [document.createElement("dt"), document.createElement("dd")];
    what.textContent = name;
    value.textContent = cells[place + 2] || "–";
    pair.append(value, what);
    return [pair];
  }));
  drawChosen();
}

function chooseById(id) {
  const row = [...unitTable.tBodies[0].rows].find((one) => one.cells[0].textContent === id);
  if (row) {
    row.hidden = false;
    choose(row, false);
    row.scrollIntoView({ block: "nearest" });
  }
}

unitTable.tBodies[0].addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row) choose(row, true);
});
unitTable.tBodies[0].addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (!step || !chosenRow) return;
  event.preventDefault();
  const rows = [...unitTable.tBodies[0].rows].filter((row) => !row.hidden);
  const place = rows.indexOf(chosenRow) + step;
  if (rows.length) choose(rows[Math.min(Math.max(place, 0), rows.length - 1)], true);
});
for (const canvas of document.querySelectorAll("[data-figure]")) {
  if (canvas.on) canvas.on("plotly_click", ({ points }) => {
    const id = points[0] && points[0].customdata;
    if (id !== undefined) chooseById(id);
  });
}
redraw.push(drawChosen);
if (unitTable.tBodies[0].rows.length) choose(unitTable.tBodies[0].rows[0], false);
