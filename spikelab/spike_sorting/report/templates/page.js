// The plots take their colours from the style sheet, and again when the reader changes between light and dark.
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return darkScheme.matches && !document.documentElement.hasAttribute("data-print");
}

function paint(layout) {
  Object.assign(layout, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true });
  layout.margin = layout.margin || { l: 68, r: 14, t: 30, b: 46 };
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: fontSize, color: colour("--ink") };
  layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--ink") };
  layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") } };
  for (const [name, axis] of Object.entries(layout)) {
    if (/^[xy]axis\d*$/.test(name)) Object.assign(axis, { gridcolor: colour("--rule"), linecolor: colour("--rule"), automargin: true });
  }
  for (const note of layout.annotations || []) note.font = { size: fontSize - 1, color: colour("--ink") };
  return layout;
}

function draw() {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  for (const canvas of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = figures[canvas.dataset.figure];
    // Faint points sum up on white, and vanish on black.
    for (const { type, marker } of data) if (type === "scattergl") marker.opacity = isDark() ? 0.85 : 0.45;
    Plotly.react(canvas, data, paint(layout), {
      responsive: true,
      displaylogo: false,
      displayModeBar: canvas.closest(".tiles") ? false : "hover",
      modeBarButtons: [["toImage", "pan2d", "resetScale2d"]],
      toImageButtonOptions: {
        format: document.body.dataset.imageFormat,
        scale: Number(document.body.dataset.imageScale),
      },
    });
  }
}

// What else is to be painted anew with the colours.
const redraw = [];

function drawAll() {
  draw();
  for (const again of redraw) again();
}

if (document.getElementById("figures")) {
  draw();
  darkScheme.addEventListener("change", drawAll);
  const printing = (isOn) => {
    document.documentElement.toggleAttribute("data-print", isOn);
    drawAll();
  };
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
}
