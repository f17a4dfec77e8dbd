// Draws the panels that /api/layout describes, with the numbers of /api/data.

import { clock, element, moment, number } from "./format.js";
import { KINDS, dark } from "./panels.js";

const MANY_OPTIONS = 50;
const ANSWER_WITHIN_MS = 15_000;
const $ = (id) => document.getElementById(id);

let layout = null; // the response of /api/layout
let panels = new Map(); // panel id -> { show(found, data), redraw(), close() }
let latest = null; // the newest data
let generation = 0; // grows with each choice: responses to earlier choices are ignored
let timer = 0;

async function get(path) {
  const response = await fetch(path + location.search, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  if (response.ok) return response.json();
  const body = await response.text();
  let message = body;
  try { message = JSON.parse(body).error; } catch { /* plain text */ }
  throw Object.assign(new Error(message), { status: response.status });
}

function build() {
  for (const panel of panels.values()) panel.close?.();
  panels = new Map();
  document.title = layout.title;
  document.querySelector("h1").textContent = layout.title;
  const made = layout.sections.map((section) => {
    const grid = element("div", { class: "grid" });
    for (const panel of section.panels) {
      const view = KINDS[panel.kind](panel);
      const heading = element("h3", { id: `${panel.id}-title` }, panel.title);
      const attributes = { class: `panel ${panel.kind}`, id: panel.id, "aria-labelledby": heading.id };
      const [x, y, width, height] = panel.place;
      const box = element("section", attributes, heading, ...view.content);
      box.placed = [`${x + 1} / span ${width}`, `${y + 1} / span ${height}`];
      grid.append(box);
      panels.set(panel.id, view);
    }
    const title = section.topic && section.topic !== section.id ? `${section.title} (topic ${section.topic})` : section.title;
    return element("section", { id: section.id }, element("h2", {}, title), grid);
  });
  $("sections").replaceChildren(...made);
  place();
}

const wide = matchMedia("(min-width: 1100px)");

function place() {
  for (const box of document.querySelectorAll(".panel")) {
    [box.style.gridColumn, box.style.gridRow] = wide.matches ? box.placed : ["", ""];
  }
}

function choices() {
  const chosen = new URLSearchParams(location.search);
  const titles = { topic: "Records", range: "Time", feature: "Feature" };
  const made = Object.entries(layout.choices).flatMap(([name, options]) => {
    const many = options.length > MANY_OPTIONS; // then the browser searches the options for what the user types
    const field = element(many ? "input" : "select", { id: `choose-${name}`, name });
    const list = many ? element("datalist", { id: `offers-${name}` }) : field;
    for (const [value, text] of options) list.append(element("option", { value }, text));
    const offered = () => options.some(([value]) => value === field.value);
    const current = chosen.get(name) ?? { feature: options[0][0], range: layout.range, topic: "all" }[name];
    field.value = current;
    if (many) {
      field.setAttribute("list", list.id);
      field.placeholder = current;
      field.addEventListener("focus", () => { field.value = ""; }); // the browser lists only options that contain the text
      field.addEventListener("blur", () => { if (!offered()) field.value = current; });
    }
    field.addEventListener("change", () => {
      if (!offered()) return;
      const next = new URLSearchParams(location.search);
      next.set(name, field.value);
      history.pushState(null, "", `?${next}`);
      start();
    });
    const label = element("label", {}, `${titles[name]} `, field);
    return many ? [label, list] : [label];
  });
  $("choices").replaceChildren(...made);
}

// --- the state of the stream

function setStatus(state, text) {
  $("status").dataset.state = state;
  document.body.classList.toggle("away", state === "away");
  if ($("state").textContent !== text) $("state").textContent = text; // a screen reader reads each change aloud
}

function showState(data) {
  const waiting = data.lag > 0 ? `, ${number(data.lag)} records wait in Kafka` : "";
  if (data.state === "empty") setStatus("empty", "No data yet: waiting for the stream's first micro-batch");
  else if (data.state === "stopped") setStatus("stopped", `No new data since ${since(data.last)}${waiting}`);
  else if (!data.whole) setStatus("stopped", "Elasticsearch cannot reach part of the data: the numbers do not include it");
  else setStatus("live", "Live");
  const stored = Number((100 * data.points_fraction).toPrecision(4));
  const sample = stored < 100 ? ` · points are a sample: ${stored} % are stored` : "";
  $("updated").textContent = `· updated ${clock.format(new Date(data.time))}${sample}`;
}

function since(text) {
  const time = new Date(text);
  return new Date() - time < 12 * 3_600_000 ? clock.format(time) : moment.format(time);
}

async function refresh() {
  clearTimeout(timer);
  const mine = generation;
  try {
    const data = await get("/api/data");
    if (mine !== generation) return;
    latest = data;
    for (const [id, panel] of panels) panel.show(data.panels[id], data);
    showState(data);
    document.body.classList.remove("loading");
  } catch (error) {
    if (mine !== generation) return;
    showError(error);
  }
  timer = setTimeout(refresh, layout.refresh_s * 1000);
}

function showError(error) {
  const cause = error.status ? error.message : "The page's server does not answer";
  const old = latest ? `; the page shows the state of ${clock.format(new Date(latest.time))}` : "";
  setStatus("away", `${cause}${old}`);
}

async function start() {
  const mine = ++generation;
  document.body.classList.add("loading");
  try {
    const found = await get("/api/layout");
    if (mine !== generation) return;
    const focused = document.activeElement?.id;
    layout = found;
    choices();
    if (focused) $(focused)?.focus();
    build();
    await refresh();
  } catch (error) {
    if (mine !== generation) return;
    showError(error);
    if (!(error.status === 400)) timer = setTimeout(start, 5000);
  }
}

dark.addEventListener("change", () => { for (const panel of panels.values()) panel.redraw?.(); });
wide.addEventListener("change", place);
addEventListener("popstate", start);
start();
