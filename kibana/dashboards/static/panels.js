// The kinds of panels. Text from documents is only put into text nodes, so it cannot become HTML.

import { age, column, download, element, moment, number, table } from "./format.js";

const ROWS_SHOWN = 200;
export const dark = matchMedia("(prefers-color-scheme: dark)");

// A canvas cannot use CSS variables, so a change of the colour scheme redraws the charts.
function theme() {
  const [text, quiet, line] = dark.matches ? ["#e6eaf2", "#a3aec2", "#323b4b"] : ["#1a2230", "#566074", "#e3e8f0"];
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    axis: { labelColor: quiet, titleColor: quiet, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12, titlePadding: 6, tickCount: 5, labelOverlap: true },
    legend: { labelColor: text, labelFontSize: 12, offset: 2 },
    view: { stroke: null },
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

// The explanation of a panel, its numbers, and a button that downloads them. `numbers()` returns headings, rows as
// values and rows as texts. The table is filled only while it is open.
function about(panel, numbers, listed) {
  const text = element("p", {}, panel.description);
  const button = element("button", { type: "button", "aria-label": `Download the numbers of ${panel.title} as CSV` }, "Download CSV");
  button.addEventListener("click", () => {
    const { headings, values } = numbers();
    download(panel.id, headings, values);
  });
  const title = listed ? "Explanation and numbers" : "Explanation";
  const details = element("details", {}, element("summary", {}, title), text, button);
  if (!listed) return { details, fill() {} };
  const box = element("div", { class: "rows", tabindex: "0", role: "group", "aria-label": `${panel.title}: numbers` });
  details.append(box);
  const fill = () => {
    if (!details.open) return;
    const { headings, texts } = numbers();
    const shown = texts.slice(0, ROWS_SHOWN);
    const caption = texts.length > shown.length ? `${panel.title}: the first ${shown.length} of ${texts.length} rows` : panel.title;
    const scrolled = box.scrollTop;
    box.replaceChildren(table(caption, headings, shown));
    box.scrollTop = scrolled;
  };
  details.addEventListener("toggle", fill);
  return { details, fill };
}

// Returns the texts of rows of values: each column has the same count of decimals.
function formatted(values) {
  if (!values.length) return [];
  const columns = values[0].map((_, i) => column(values.map((row) => row[i])));
  return values.map((_, i) => columns.map((found) => found[i]));
}

function numbersOf(panel, rows) {
  if (panel.kind === "sample") {
    const fields = panel.columns.filter(([name]) => name !== "standard_error" || rows.some((row) => row[name] !== null));
    const values = rows.map((row) => fields.map(([name]) => row[name]));
    return { headings: fields.map(([, title]) => title), values, texts: formatted(values) };
  }
  const byX = new Map();
  for (const { x, series, value } of rows) byX.set(x, (byX.get(x) ?? new Map()).set(series, value)); // a name may be "constructor"
  const found = [...byX].toReversed();
  const numbers = found.map(([, values]) => panel.columns.slice(1).map((name) => values.get(name) ?? null));
  const shown = formatted(numbers);
  return {
    headings: panel.columns,
    values: found.map(([x], i) => [panel.time ? new Date(x).toISOString() : x, ...numbers[i]]),
    texts: found.map(([x], i) => [panel.time ? moment.format(x) : number(x), ...shown[i]]),
  };
}

function metric(panel) {
  const value = element("strong", { id: `${panel.id}-value` }, "–");
  let current = null;
  const { details } = about(panel, () => ({ headings: [panel.measure, "unit"], values: [[current, panel.unit]] }), false);
  return {
    content: [element("p", { class: "number" }, value, element("span", {}, panel.unit)), details],
    show(found) {
      current = found;
      value.textContent = number(found, panel.decimals);
      value.style.setProperty("--characters", value.textContent.length);
    },
  };
}

function reasons(panel) {
  const box = element("div", { class: "rows", tabindex: "0", role: "group", "aria-label": panel.title });
  let rows = [];
  const { details } = about(panel, () => ({ headings: panel.columns, values: rows }), false);
  return {
    content: [box, details],
    show(found) {
      rows = found;
      box.replaceChildren(rows.length ? table(panel.title, panel.columns, formatted(rows)) : element("p", {}, "none"));
      box.querySelector("caption")?.classList.add("visually-hidden");
    },
  };
}

function newest(panel) {
  const values = panel.columns.map(() => element("dd", {}, "–"));
  const pairs = panel.columns.map((heading, i) => element("div", {}, element("dt", {}, heading), values[i]));
  let row = [];
  const { details } = about(panel, () => ({ headings: panel.columns, values: [row] }), false);
  return {
    content: [element("dl", {}, ...pairs), details],
    show(found, data) {
      row = found ? [found.time, ...found.values] : [];
      const shown = found ? [age((new Date(data.time) - new Date(found.time)) / 1000), ...found.values.map((value) => number(value))] : [];
      for (const [i, value] of values.entries()) value.textContent = shown[i] ?? "–";
    },
  };
}

function note(panel) {
  const text = element("div", { class: "rows", tabindex: "0", role: "group", "aria-label": panel.title });
  text.append(...panel.paragraphs.map((paragraph) => element("p", {}, paragraph)));
  return { content: [text], show() {} };
}

const copied = (rows) => rows.map((row) => ({ ...row })); // Vega adds keys to the rows that it is given

function chart(panel) {
  const drawing = element("div", { class: "drawing", role: "img", "aria-label": `${panel.title}. ${panel.description}` });
  const none = element("p", { class: "none" }, "no data");
  const area = element("div", { class: "chart empty" }, drawing, none);
  let view = null, rows = [], events = [], drawn = 0;
  const { details, fill } = about(panel, () => numbersOf(panel, rows), true);
  const visible = () => (panel.log ? rows.some((row) => row.value > 0) : rows.length > 0);
  const put = () => {
    if (panel.events) view.data("events", copied(events));
    return view.data("rows", copied(rows)).runAsync();
  };
  const draw = async () => {
    if (!visible()) return;
    const mine = ++drawn;
    const spec = {
      ...panel.spec, data: { name: "rows", values: copied(rows) }, width: "container", height: "container",
      autosize: { type: "fit", contains: "padding", resize: false },
    };
    const target = element("div"); // the old drawing stays until the new one is complete
    drawing.append(target);
    const made = await vegaEmbed(target, spec, {
      mode: "vega-lite", ast: true, actions: false, renderer: "canvas", defaultStyle: false, tooltip, config: theme(),
      logLevel: 1, // errors only: Vega warns of each layer without rows, such as that of drift
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
    content: [area, details],
    show(found, data) {
      rows = found;
      events = data.events;
      none.textContent = rows.length ? "all values are 0" : "no data";
      area.classList.toggle("empty", !visible());
      fill();
      if (!visible()) return;
      if (view) put();
      else if (!drawn) draw();
    },
    redraw: draw,
    close() { drawn++; view?.finalize(); },
  };
}

export const KINDS = { metric, line: chart, sample: chart, table: reasons, newest, note };
