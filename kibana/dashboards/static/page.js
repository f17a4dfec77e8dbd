// Draws the panels that /api/layout describes, with the numbers of /api/data. Text from documents is only put into
// text nodes, so it cannot become HTML.

const ROWS_SHOWN = 200;
const MANY_OPTIONS = 50;
const ANSWER_WITHIN_MS = 15_000;
const dark = matchMedia("(prefers-color-scheme: dark)");
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeStyle: "medium" });
const $ = (id) => document.getElementById(id);

let layout = null; // the response of /api/layout
let panels = new Map(); // panel id -> { show(data), redraw(), close() }
let latest = null; // the newest data
let generation = 0; // grows with each choice: responses to earlier choices are ignored
let timer = 0;

// --- small helpers

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function number(value, decimals, digits = 5) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value; // a category
  const size = Math.abs(value);
  const options =
    decimals === 0 || Number.isInteger(value) || size >= 10_000 ? { maximumFractionDigits: 0 }
    : size !== 0 && size < 1e-4 ? { notation: "scientific", maximumSignificantDigits: 4 }
    : { maximumSignificantDigits: digits };
  return new Intl.NumberFormat("en", options).format(value);
}

async function get(path) {
  const response = await fetch(path + location.search, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  if (response.ok) return response.json();
  const body = await response.text();
  let message = body;
  try { message = JSON.parse(body).error; } catch { /* plain text */ }
  throw Object.assign(new Error(message), { status: response.status });
}

// --- colours: a canvas cannot use CSS variables, so a change of the colour scheme redraws the charts

function theme() {
  const [text, quiet, line, series] = dark.matches
    ? ["#e6eaf2", "#a3aec2", "#323b4b", ["#6cb6ff", "#ffab5e", "#7ee0b0", "#d5a6ff", "#ff9aa8", "#e3d26f"]]
    : ["#1a2230", "#566074", "#e3e8f0", ["#0b64a8", "#d9730d", "#1a8f5a", "#7b3fb5", "#c2304a", "#7a6a00"]];
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    axis: { labelColor: quiet, titleColor: quiet, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12, titlePadding: 6, tickCount: 5, labelOverlap: true },
    legend: { labelColor: text, labelFontSize: 12, offset: 2 },
    view: { stroke: null },
    range: { category: series },
    mark: { color: series[0] },
  };
}

const tip = element("div", { id: "tip", hidden: "" });
document.body.append(tip);

function tooltip(_handler, event, _item, value) {
  tip.hidden = !value;
  if (!value) return;
  const lines = Object.entries(value).map(([name, text]) => element("div", {}, element("b", {}, `${name}: `), String(text)));
  tip.replaceChildren(...lines);
  tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 8)}px`;
}

// --- tables: behind each chart, filled only while they are open

function table(caption, headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text))));
  const hidden = element("caption", {}, caption);
  return element("table", {}, hidden, element("thead", {}, head), element("tbody", {}, ...body));
}

function cells(panel, rows) {
  if (panel.kind === "sample") {
    const [fields, headings] = [panel.columns.map(([name]) => name), panel.columns.map(([, title]) => title)];
    return [headings, rows.map((row) => fields.map((name) => number(row[name])))];
  }
  const byX = new Map();
  for (const { x, series, value } of rows) byX.set(x, (byX.get(x) ?? new Map()).set(series, value)); // a name may be "constructor"
  const title = (x) => (panel.time ? moment.format(x) : number(x));
  const filled = [...byX].map(([x, values]) => [title(x), ...panel.columns.slice(1).map((name) => number(values.get(name)))]);
  return [panel.columns, filled.toReversed()];
}

function numbersOf(panel) {
  const box = element("div", { class: "rows", tabindex: "0", role: "group", "aria-label": `${panel.title}: numbers` });
  const about = element("p", {}, panel.description);
  const details = element("details", {}, element("summary", {}, "Explanation and numbers"), about, box);
  let rows = [];
  const fill = () => {
    if (!details.open) return;
    const [headings, all] = cells(panel, rows);
    const shown = all.slice(0, ROWS_SHOWN);
    const caption = all.length > shown.length ? `${panel.title}: the first ${shown.length} of ${all.length} rows` : panel.title;
    const scrolled = box.scrollTop;
    box.replaceChildren(table(caption, headings, shown));
    box.scrollTop = scrolled;
  };
  details.addEventListener("toggle", fill);
  return { details, show(found) { rows = found; fill(); } };
}

// --- panels

function metric(panel) {
  const value = element("strong", { id: `${panel.id}-value` }, "–");
  const about = element("details", {}, element("summary", {}, "Explanation"), element("p", {}, panel.description));
  return {
    content: [element("p", { class: "number" }, value, element("span", {}, panel.unit)), about],
    show(found) { value.textContent = number(found, panel.decimals, Math.abs(found) < 0.1 ? 4 : 5); }, // as many digits as a tile has room for
  };
}

function reasons(panel) {
  const box = element("div", { class: "rows", tabindex: "0", role: "group", "aria-label": panel.title });
  const about = element("details", {}, element("summary", {}, "Explanation"), element("p", {}, panel.description));
  return {
    content: [box, about],
    show(rows) {
      const filled = rows.map((row) => row.map((cell) => (typeof cell === "number" ? number(cell) : cell)));
      const none = element("p", {}, "none");
      box.replaceChildren(rows.length ? table(panel.title, panel.columns, filled) : none);
      box.querySelector("caption")?.classList.add("visually-hidden");
    },
  };
}

function chart(panel) {
  const drawing = element("div", { class: "drawing", role: "img", "aria-label": `${panel.title}. ${panel.description}` });
  const area = element("div", { class: "chart empty" }, drawing, element("p", { class: "none" }, "no data"));
  const numbers = numbersOf(panel);
  let view = null, rows = [], drawn = 0;
  const copied = () => rows.map((row) => ({ ...row })); // Vega adds keys to the rows that it is given
  const put = () => view.data("rows", copied()).runAsync();
  const draw = async () => {
    if (!rows.length) return;
    const mine = ++drawn;
    const spec = {
      ...panel.spec, data: { name: "rows", values: copied() }, width: "container", height: "container",
      autosize: { type: "fit", contains: "padding", resize: false },
    };
    const target = element("div"); // the old drawing stays until the new one is complete
    drawing.append(target);
    const made = await vegaEmbed(target, spec, {
      mode: "vega-lite", ast: true, actions: false, renderer: "canvas", defaultStyle: false, tooltip, config: theme(),
    });
    if (mine !== drawn) {
      target.remove();
      return made.finalize();
    }
    view?.finalize();
    drawing.replaceChildren(target);
    view = made.view;
    await put();
  };
  return {
    content: [area, numbers.details],
    show(found) {
      rows = found;
      area.classList.toggle("empty", rows.length === 0);
      numbers.show(rows);
      if (!rows.length) return;
      if (view) put();
      else if (!drawn) draw();
    },
    redraw: draw,
    close() { drawn++; view?.finalize(); },
  };
}

const KINDS = { metric, line: chart, sample: chart, table: reasons };

function build() {
  for (const panel of panels.values()) panel.close?.();
  panels = new Map();
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
    const current = chosen.get(name) ?? (name === "feature" ? options[0][0] : "all");
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
  const sample = data.points_fraction < 1 ? ` · points are a sample: ${number(100 * data.points_fraction)} % are stored` : "";
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
    for (const [id, panel] of panels) panel.show(data.panels[id]);
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
