"use strict";
// Everything below puts data on screen through text nodes and attributes alone; no markup is ever made from it.
const data = JSON.parse(document.getElementById("data").textContent);
const systems = data.systems.map((system, index) => ({ ...system, index, family: system.name.split(" @ ")[0] }));
const judged = systems.filter(system => system.kind !== "original");
const metrics = data.metrics.map((metric, index) => ({ ...metric, index }));

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Systems of one family, which share what stands before " @ ", share a colour.
const families = [...new Set(judged.map(system => system.family))];
function tinted(node, family) {
  node.style.setProperty("--tint", `var(--c${families.indexOf(family) % 8})`);
  return node;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const number = value => value === null || value === undefined ? null : Number(value);   // infinities come as text
const seconds = value => value.toFixed(2) + " s";
const minus = text => text.replace("-", "\u2212");

function shown(value, digits) {
  value = number(value);
  if (value === null) return "\u2013";
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : "\u2212\u221e";
  return minus(value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
}

const range = (low, high, digits) => shown(low, digits) + (number(low) < 0 ? " to " : "\u2013") + shown(high, digits);
const counted = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;
const capital = text => text.charAt(0).toUpperCase() + text.slice(1);

// Three or four figures that count, the same decimals down a whole column.
function digitsFor(values) {
  const largest = Math.max(0, ...values.map(number).filter(value => value !== null && Number.isFinite(value)).map(Math.abs));
  return largest >= 100 ? 0 : largest >= 10 ? 1 : largest >= 2 ? 2 : 3;
}

const scoresOf = (system, metric) => system.scores[metric.index];
metrics.forEach(metric => {
  metric.arrow = metric.higher ? "\u2191" : "\u2193";
  metric.better = metric.higher ? "higher is better" : "lower is better";
  metric.digits = digitsFor(systems.flatMap(system => {
    const column = scoresOf(system, metric);
    return column ? [column.mean, column.high] : [];
  }));
  metric.withUnit = value => shown(value, metric.digits) + (metric.unit && number(value) !== null ? ` ${metric.unit}` : "");
});
const rated = metrics.filter(metric => judged.some(system => scoresOf(system, metric)));

function option(value, text, selected = false) { return make("option", { value, textContent: text, selected }); }

function choice(name, options, onchange) {
  const select = make("select", { onchange }, ...options);
  return { select, label: make("label", {}, name, select) };
}

function section(name, title, note, ...content) {
  const bar = make("div", { className: "bar" }, make("h2", { textContent: title }), make("p", { className: "quiet", textContent: note }));
  const node = make("section", { id: name, "aria-label": title }, bar, ...content);
  document.querySelector("main").append(node);
  document.querySelector("nav").append(make("a", { href: `#${name}`, textContent: title }));
  return node;
}

function more(title, ...content) {
  return make("details", {}, make("summary", { textContent: title }), ...content);
}

function definitions(pairs, className) {
  return make("dl", { className }, ...pairs.map(([term, text]) =>
    make("div", {}, make("dt", { textContent: term }), make("dd", { textContent: text }))));
}
