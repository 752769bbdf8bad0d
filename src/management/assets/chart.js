// The picture of the last five minutes: who answered, stacked, and the events between. The server keeps the seconds.
import uPlot from "./uplot.js";
import { $, count, make, rate } from "./words.js";

const WINDOW = 300;
const SHORTEST = 60; // what is shown of an instance that has just started
// From the bottom to the top.
export const SOURCES = [
  ["l1", "memory"],
  ["l2", "Redis"],
  ["joined", "joined another read’s load"],
  ["load", "Postgres"],
  ["stale", "stale, flagged"],
  ["failed", "failed"],
];

const seconds = new Map(); // by their time
let order = SOURCES.map((_, at) => at);
let events = [];
let plot = null;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// The server names its sources, so their order may change.
export function begin({ sources, seconds: known }) {
  order = SOURCES.map(([source]) => sources.indexOf(source));
  seconds.clear();
  add(known);
}

export function add(some) {
  for (const { at, reads } of some) seconds.set(at, order.map((from) => reads[from] ?? 0));
  const newest = Math.max(...seconds.keys());
  for (const at of seconds.keys()) if (at <= newest - WINDOW) seconds.delete(at);
}

// The sum of each source over the last seconds.
export function sums(last = WINDOW) {
  const newest = Math.max(...seconds.keys());
  const sum = SOURCES.map(() => 0);
  let number = 0;
  for (const [at, reads] of seconds) {
    if (at <= newest - last) continue;
    number += 1;
    reads.forEach((n, source) => { sum[source] += n; });
  }
  return { ...Object.fromEntries(SOURCES.map(([source], at) => [source, sum[at]])), all: sum.reduce((a, b) => a + b, 0), seconds: Math.max(number, 1) };
}

export function draw(some) {
  events = some;
  if (!seconds.size) return;
  const data = stacked();
  if (plot) plot.setData(data, false);
  else plot = create(data);
  const newest = data[0].at(-1);
  const shown = Math.min(WINDOW, Math.max(SHORTEST, newest - data[0][0] + 1));
  plot.setScale("x", { min: newest - shown + 1, max: newest });
  showLegend();
  if ($("chart").nextElementSibling.open) showTable();
}

// One row of times, then for each source, from the top of the stack to its bottom, the sum up to it. A second without a sample is a gap.
function stacked() {
  const newest = Math.max(...seconds.keys());
  const oldest = Math.max(Math.min(...seconds.keys()), newest - WINDOW + 1);
  const times = Array.from({ length: newest - oldest + 1 }, (_, at) => oldest + at);
  const tops = SOURCES.map(() => []);
  for (const at of times) {
    const reads = seconds.get(at);
    let top = 0;
    SOURCES.forEach((_, source) => tops[source].push(reads ? (top += reads[source]) : null));
  }
  return [times, ...tops.reverse()];
}

function create(data) {
  const lines = SOURCES.map(([source]) => ({ stroke: colour(source), fill: colour(source), width: 1, points: { show: false } })).reverse();
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const ago = (seconds) => (seconds === 0 ? "now" : seconds % 60 ? `−${seconds} s` : `−${seconds / 60} min`);
  return new uPlot({
    ...size(),
    padding: [36, 14, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false }, y: { range: (_, __, most) => [0, Math.max(most * 1.08, 4)] } },
    axes: [
      { ...axis, splits, values: (self, at) => at.map((second) => ago(self.scales.x.max - second)), grid: { show: false }, size: 28, gap: 4 },
      { ...axis, size: 64, values: (_, splits) => splits.map((n) => (n % 1 ? "" : `${count(n)}/s`)) },
    ],
    series: [{}, ...lines],
    hooks: { draw: [drawEvents] },
  }, data, $("chart"));
}

// A mark for each minute, or for each quarter of one.
function splits({ scales: { x: { min, max } } }) {
  const step = max - min > 150 ? 60 : 15;
  return Array.from({ length: 5 }, (_, at) => max - step * at).filter((at) => at > min + step / 3).reverse();
}

const LOOKS = { lost: "bad", back: "good", invalidated: "fg", warmed: "fg", switched: "warn" };

// A dashed line and a word for each event, in two rows. Labels that would cover each other are left out; the table has them all.
function drawEvents(self) {
  const { ctx, bbox } = self;
  const scale = devicePixelRatio;
  ctx.save();
  ctx.font = `600 ${12 * scale}px system-ui, sans-serif`;
  // Labels of axes are aligned in other ways.
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  const rows = [bbox.left, bbox.left];
  for (const { at, kind, text } of events) {
    const second = at / 1000;
    if (second < self.scales.x.min || second > self.scales.x.max + 1) continue;
    const x = Math.min(self.valToPos(second, "x", true), bbox.left + bbox.width);
    ctx.strokeStyle = ctx.fillStyle = colour(LOOKS[kind] ?? "fg");
    ctx.setLineDash([4 * scale, 3 * scale]);
    ctx.lineWidth = 1.5 * scale;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top - 4 * scale);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const width = ctx.measureText(text).width;
    const left = Math.min(Math.max(x - width / 2, bbox.left), bbox.left + bbox.width - width);
    const row = rows.findIndex((free) => left >= free);
    if (row >= 0) {
      ctx.fillText(text, left, bbox.top - (8 + 15 * row) * scale);
      rows[row] = left + width + 10 * scale;
    }
  }
  ctx.restore();
}

function size() {
  const style = getComputedStyle($("chart"));
  const inside = (all, ...paddings) => paddings.reduce((rest, name) => rest - Number.parseFloat(style[name]), all);
  return { width: inside($("chart").clientWidth, "paddingLeft", "paddingRight"), height: inside($("chart").clientHeight, "paddingTop", "paddingBottom") };
}

function showLegend() {
  const now = sums(5);
  const ever = sums();
  $("legend").replaceChildren(...SOURCES.map(([source, name]) => {
    const per = now[source] / now.seconds;
    const item = make("li", { className: ever[source] ? source : `${source} none` }, make("i"), `${name} `, make("b", { textContent: `${rate(per)}/s` }));
    item.querySelector("i").setAttribute("aria-hidden", "true");
    return item;
  }));
}

function showTable() {
  const newest = Math.max(...seconds.keys());
  const cells = (kind, values) => values.map((value, at) => {
    const cell = make(at ? kind : "th", { textContent: value });
    if (!at || kind === "th") cell.scope = kind === "th" ? "col" : "row";
    return cell;
  });
  $("minutes-head").replaceChildren(make("tr", {}, ...cells("th", ["minute", ...SOURCES.map(([, name]) => name)])));
  const minutes = Array.from({ length: WINDOW / 60 }, (_, back) => {
    const sum = SOURCES.map(() => 0);
    for (const [at, reads] of seconds) if (Math.floor((newest - at) / 60) === back) reads.forEach((n, source) => { sum[source] += n; });
    return make("tr", {}, ...cells("td", [back ? `${back} min before` : "the last", ...sum.map(count)]));
  });
  $("minutes").replaceChildren(...minutes);
  $("events").replaceChildren(...events.map(({ at, text }) => make("li", { textContent: `${new Date(at).toLocaleTimeString()} ${text}` })));
}

// Canvases know no style sheets.
function again() {
  plot?.destroy();
  plot = null;
  draw(events);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
new ResizeObserver(() => plot?.setSize(size())).observe($("chart"));
$("chart").nextElementSibling.addEventListener("toggle", () => draw(events));
