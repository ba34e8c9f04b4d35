// Everything that comes from a folder is put in as text, never as markup.
const SHOWN_MS = 1000, HIDDEN_MS = 10000, PATIENCE_MS = 10000;
const OPEN = new Set(["running", "failed", "gone", "silent"]), MANY = 6;
const MARKS = { running: "●", waiting: "○", sorted: "✓", failed: "✕", stopped: "■", gone: "⚠", silent: "?", unknown: "?" };
const token = new URLSearchParams(location.search).get("token");
const query = token ? `?token=${encodeURIComponent(token)}` : "";
const toggled = new Map(); // what the reader has opened or closed
const cards = new Map();
let freshAt = null, failing = "";

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") node.className = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function seconds(value) {
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// A guess: nobody counts on its seconds.
function roughly(value) {
  return value < 600 ? `about ${seconds(value)}` : `about ${seconds(60 * Math.round(value / 60)).replace(" 0 s", "")}`;
}

function percent(fraction) {
  return `${Math.floor(100 * fraction)} %`;
}

// Replaces the children of a node, unless they would be the same: what is selected or focused stays.
function fill(node, value, build) {
  const key = JSON.stringify(value);
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  const pre = node.querySelector("pre");
  const atEnd = !pre || pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
  const top = pre ? pre.scrollTop : 0;
  node.replaceChildren(...build(value).filter((child) => child !== null));
  const now = node.querySelector("pre");
  if (now) now.scrollTop = atEnd ? now.scrollHeight : top;
}

// ------------------------------------------------------------------------------------------------- the batch

function showBatch(batch) {
  document.getElementById("headline").textContent !== batch.headline &&
    (document.getElementById("headline").textContent = batch.headline);
  const bad = batch.standing === "gone" || batch.counts.some(([kind]) => ["failed", "gone", "silent"].includes(kind));
  document.getElementById("head").className = bad ? "bad" : "good";
  const told = batch.counts.map(([, words, count]) => [String(count), words]);
  if (batch.left_s !== null) told.push([roughly(batch.left_s), "left"]);
  fill(document.getElementById("cards"), told, (items) =>
    items.map(([value, what]) => make("div", {}, make("dd", {}, value), make("dt", {}, what))));
  const order = ["sorted", "running", "failed", "gone", "silent", "stopped", "unknown", "waiting"];
  const shares = [...batch.counts].sort((one, other) => order.indexOf(one[0]) - order.indexOf(other[0]));
  fill(document.getElementById("share"), shares, (items) =>
    items.map(([kind, , count]) => {
      const part = make("span", { class: kind });
      part.style.flex = String(count);
      return part;
    }));
  const running = batch.counts.find(([kind]) => kind === "running");
  document.title = batch.standing === "running" && running ? `${batch.headline}, ${running[2]} running` : batch.headline;
}

// ---------------------------------------------------------------------------------------------- a recording

function newCard(id) {
  const parts = { head: make("summary") };
  const body = make("div", { class: "body" });
  for (const name of ["failure", "track", "changes", "warnings", "gauges", "log", "foot"]) {
    parts[name] = make("div", { class: name === "log" ? "log" : "part" });
    body.append(parts[name]);
  }
  const root = make("details", { id: `r-${id}` }, parts.head, body);
  parts.head.addEventListener("click", () => toggled.set(id, !root.open));
  root.addEventListener("toggle", () => {
    const pre = root.querySelector("pre");
    if (root.open && pre) pre.scrollTop = pre.scrollHeight;
  });
  return { root, parts };
}

function doing(rec) {
  if (rec.kind !== "running" && rec.kind !== "gone") return rec.status;
  const place = rec.step ? `${rec.stage}: ${rec.step}` : rec.stage || "starting";
  const attempt = rec.attempt > 1 ? `, attempt ${rec.attempt}` : "";
  const gpu = rec.gpu ? `, on ${rec.gpu}` : "";
  return rec.kind === "running" ? `${place}${gpu}${attempt}` : rec.stage ? `${rec.status}; it was at ${place}` : rec.status;
}

function figures(rec) {
  const told = [];
  if (rec.kind === "running" && rec.fraction !== null) told.push(percent(rec.fraction));
  if (rec.n_spikes) told.push(`${rec.n_spikes.toLocaleString("en")} spikes`);
  if (rec.kind === "running" && rec.elapsed_s !== null) told.push(seconds(rec.elapsed_s));
  else if (rec.elapsed_s >= 1) told.push(`took ${seconds(rec.elapsed_s)}`);
  if (rec.kind === "running" && rec.left_s !== null) told.push(`${roughly(rec.left_s)} left`);
  else if (rec.step_left_s !== null) told.push(`${seconds(rec.step_left_s)} left of this step`);
  return told.join(" · ");
}

function buildHead(rec) {
  const bar = rec.kind === "running" && rec.fraction !== null
    ? make("progress", { max: "1", value: String(rec.fraction), "aria-label": `${rec.step} ${percent(rec.fraction)}` })
    : null;
  return [
    make("span", { class: "mark", "aria-hidden": "true" }, MARKS[rec.kind]),
    make("span", { class: "what" }, make("strong", {}, rec.name), make("span", { class: "doing" }, doing(rec))),
    make("span", { class: "times" }, figures(rec)),
    bar,
  ];
}

const STAGE_WORDS = { done: "done", now: "now", failed: "it ended here", todo: "to do" };
const STAGE_MARKS = { done: "✓ ", now: "● ", failed: "✕ ", todo: "" };

function buildTrack(stages) {
  if (!stages.some(([, standing]) => standing !== "todo")) return [];
  return [make("ol", { class: "track", "aria-label": "stages" }, ...stages.map(([name, standing]) =>
    make("li", { class: standing, title: STAGE_WORDS[standing] }, `${STAGE_MARKS[standing]}${name}`)))];
}

function buildGauge(gauge) {
  const bar = gauge.fraction === null ? null : make("div", { class: "gauge", "aria-hidden": "true" });
  if (bar) {
    bar.append(make("span", { class: "fill" }));
    bar.firstChild.style.width = `${100 * gauge.fraction}%`;
    for (const limit of ["warn", "stop"]) {
      if (gauge[limit] === null) continue;
      const mark = make("span", { class: `limit ${limit}` });
      mark.style.left = `calc(${100 * gauge[limit]}% - 1px)`;
      bar.append(mark);
    }
  }
  const level = { ok: "", warn: "⚠ ", stop: "✕ " }[gauge.level];
  return make("div", { class: `level-${gauge.level}` }, make("dt", {}, gauge.name), make("dd", {}, `${level}${gauge.value}`),
    bar, gauge.limits ? make("dd", { class: "small" }, gauge.limits) : null);
}

function buildFailure(failure) {
  if (!failure) return [];
  return [make("div", { class: "failure" }, make("strong", {}, failure.title),
    failure.message ? make("p", {}, failure.message) : null,
    failure.advice ? make("p", {}, make("strong", {}, "What to do: "), failure.advice) : null)];
}

function list(kind, texts) {
  return texts.length ? [make("ul", { class: `remarks ${kind}` }, ...texts.map((text) => make("li", {}, text)))] : [];
}

function buildFoot([folder, notes, report]) {
  const link = report
    ? make("p", {}, make("a", { href: report, target: "_blank", rel: "noopener" }, "Open the report"))
    : null;
  return [link, ...notes.map((note) => make("p", {}, note)), make("p", { class: "path" }, folder)];
}

function showRecording(rec, isFew) {
  const card = cards.get(rec.id) || newCard(rec.id);
  cards.set(rec.id, card);
  const { root, parts } = card;
  if (root.dataset.kind !== rec.kind) {
    root.dataset.kind = rec.kind;
    root.className = `rec ${rec.kind}`;
    toggled.has(rec.id) || (root.open = OPEN.has(rec.kind) && isFew);
  }
  fill(parts.head, [rec.kind, rec.name, doing(rec), figures(rec), rec.fraction], () => buildHead(rec));
  fill(parts.failure, rec.failure, buildFailure);
  fill(parts.track, rec.stages, buildTrack);
  fill(parts.warnings, rec.warnings, (texts) => list("warnings", texts));
  fill(parts.gauges, rec.gauges, (all) => all.length ? [make("dl", { class: "gauges" }, ...all.map(buildGauge))] : []);
  fill(parts.changes, rec.changes, (texts) => list("changes", texts));
  fill(parts.log, rec.log, (lines) =>
    lines.length ? [make("h3", {}, "Log"), make("pre", { tabindex: "0", "aria-label": "last lines of the log" }, lines.join("\n"))] : []);
  fill(parts.foot, [rec.folder, rec.notes, rec.report], buildFoot);
  return root;
}

function showRecordings(recordings) {
  const main = document.getElementById("recordings");
  const isFew = recordings.filter((rec) => OPEN.has(rec.kind)).length <= MANY;
  const nodes = recordings.map((rec) => showRecording(rec, isFew));
  if (!nodes.length) {
    const words = "Nothing is sorted in or below these folders yet. What begins there appears here by itself.";
    nodes.push(document.querySelector("main > .empty") || make("p", { class: "empty" }, words));
  }
  const known = new Set(recordings.map((rec) => rec.id));
  for (const id of cards.keys()) if (!known.has(id)) cards.delete(id);
  // A node that is where it belongs is not moved: it would lose the focus.
  nodes.forEach((node, place) => main.children[place] === node || main.insertBefore(node, main.children[place] || null));
  while (main.children.length > nodes.length) main.lastChild.remove();
}

// --------------------------------------------------------------------------------------------------- the loop

function showFreshness() {
  const alarm = document.getElementById("alarm");
  const age = freshAt === null ? null : (Date.now() - freshAt) / 1000;
  const isOld = age !== null && age > 15;
  alarm.hidden = !failing && !isOld;
  const told = failing || "These folders have not been read for a while.";
  alarm.hidden || alarm.textContent === told || (alarm.textContent = told);
  if (freshAt === null) return;
  const clock = new Date(freshAt).toLocaleTimeString();
  document.getElementById("fresh").textContent = `As of ${clock}${age > 5 ? `, ${seconds(age)} ago` : ""}.`;
}

async function look() {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    const answer = await fetch(`state.json${query}`, { cache: "no-store", signal: patience.signal });
    if (answer.status === 403) throw new Error("spikelab watch was started anew: open the address that it has printed.");
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const state = await answer.json();
    freshAt = Date.now() - 1000 * state.age_s; // by the clock here, which may differ from the one there
    failing = "";
    showBatch(state.batch);
    showRecordings(state.recordings);
  } catch (error) {
    const isSilent = error instanceof TypeError || error.name === "AbortError";
    failing = isSilent ? "spikelab watch does not answer. Sorts go on without it; this page finds it again once it is started anew." : error.message;
  } finally {
    clearTimeout(timer);
  }
  showFreshness();
  setTimeout(look, document.hidden ? HIDDEN_MS : SHOWN_MS);
}

setInterval(showFreshness, 1000);
look();
