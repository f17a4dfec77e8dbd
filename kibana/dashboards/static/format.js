// Numbers and times as texts, and tables as HTML and as CSV.

const GROUPED = 10_000; // from here on, a number needs no decimals
const DIGITS = 5; // significant digits of the largest number of a column

export const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
export const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeStyle: "medium" });

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A number with a fixed count of decimals, so that numbers side by side and one after the other look alike.
export function number(value, decimals = 0) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value; // a category
  const size = Math.abs(value);
  const options =
    size >= GROUPED || (decimals === 0 && Number.isInteger(value)) ? { maximumFractionDigits: 0 }
    : size !== 0 && size < 10 ** -decimals ? { maximumSignificantDigits: 4, notation: size < 1e-4 ? "scientific" : "standard" }
    : { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return new Intl.NumberFormat("en", options).format(value);
}

// The numbers of a column of a table: all with the same count of decimals.
export function column(values) {
  const numbers = values.filter((value) => typeof value === "number");
  const largest = Math.max(0, ...numbers.map(Math.abs));
  if (numbers.every(Number.isInteger)) return values.map((value) => number(value));
  if (largest < 1e-4) {
    const scientific = new Intl.NumberFormat("en", { notation: "scientific", maximumSignificantDigits: DIGITS });
    return values.map((value) => (typeof value === "number" ? scientific.format(value) : number(value)));
  }
  const decimals = Math.min(8, Math.max(0, DIGITS - 1 - Math.floor(Math.log10(largest))));
  const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return values.map((value) => (typeof value === "number" ? fixed.format(value) : number(value)));
}

export function age(seconds) {
  const [size, unit] =
    seconds < 120 ? [1, "s"] : seconds < 7200 ? [60, "min"] : seconds < 172_800 ? [3600, "h"] : [86_400, "days"];
  return `${number(Math.round(Math.max(0, seconds) / size))} ${unit} ago`;
}

export function table(caption, headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text))));
  const hidden = element("caption", {}, caption);
  return element("table", {}, hidden, element("thead", {}, head), element("tbody", {}, ...body));
}

// The value of a cell of a CSV file. A spreadsheet would run a text that begins like a formula, so it gets an apostrophe.
function cell(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function download(name, headings, rows) {
  const lines = [headings, ...rows].map((row) => row.map(cell).join(","));
  const address = URL.createObjectURL(new Blob(["\uFEFF", lines.join("\r\n"), "\r\n"], { type: "text/csv" }));
  element("a", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
