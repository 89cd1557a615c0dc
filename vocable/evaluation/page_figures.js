
// Round places between two values: 1, 2 or 5 times a power of ten apart.
function roundTicks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= rough * .999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}

function tickText(value, ticks) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1, places = clamp(Math.ceil(-Math.log10(step) - 1e-9), 0, 6);
  return minus(value.toFixed(places));
}

// Places on a logarithmic axis: all of 1, 2, 5 where they are few, else powers of ten; both ends of a narrow range.
function logTicks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    all.push(...[1, 2, 5].map(factor => factor * 10 ** power).filter(value => value >= low && value <= high));
  }
  const tens = all.filter(value => Number.isInteger(Math.round(Math.log10(value) * 1e9) / 1e9));
  return all.length <= 9 || tens.length < 3 ? all : tens;
}

function sheet(width, height, label) {
  return draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
}

function text(x, y, content, attributes = {}) {
  const node = draw("text", { x, y, ...attributes });
  node.textContent = content;
  return node;
}

function line(x1, y1, x2, y2, name) { return draw("line", { x1, y1, x2, y2, class: name }); }

function horizontals(chart, ticks, y, left, right) {
  ticks.forEach(tick => chart.append(line(left, y(tick), right, y(tick), "grid"),
    text(left - 8, y(tick) + 4, tickText(tick, ticks), { "text-anchor": "end" })));
}

// What is drawn again whenever its width changes.
function fluid(node, render) {
  let width = 0;
  new ResizeObserver(() => {
    if (node.clientWidth && node.clientWidth !== width) render(width = node.clientWidth);
  }).observe(node);
  return () => { if (width) render(width); };
}

function ratePlot() {
  const figure = make("figure"), key = make("p", { className: "quiet", "aria-live": "polite" });
  const metric = choice("Metric", rated.map(one => option(one.index, `${one.name} \u2013 ${one.what}`)), () => render());
  const kinds = RATES.filter(([kind]) => judged.some(system => rateOf(system, kind) !== null));
  const rate = choice("Rate", kinds.map(([kind]) => option(kind, rateName(kind))), () => render());
  const render = fluid(figure, width => {
    const chosen = metrics[Number(metric.select.value)], kind = rate.select.value;
    const points = ratePoints(chosen, kind), off = judged.filter(system => !points.some(point => point.system === system));
    figure.replaceChildren(...(points.length ? [drawRates(points, chosen, kind, width)] : []));
    const original = systems.find(system => system.kind === "original"), ideal = original && scoresOf(original, chosen);
    key.textContent = [
      `${capital(chosen.what)}; ${chosen.better}. Bars are 95 % intervals.`,
      ideal ? `The original scores ${chosen.withUnit(ideal.mean)}.` : "",
      points.some(point => point.raw) ? "Hollow points are drawn at their raw rate, the only one known." : "",
      off.length ? `Not drawn, for want of a rate or a finite score: ${off.map(system => system.name).join(", ")}.` : "",
    ].filter(Boolean).join(" ");
  });
  return [make("div", { className: "choices" }, metric.label, rate.label), figure, key];
}

function ratePoints(metric, kind) {
  return judged.map(system => {
    const column = scoresOf(system, metric), own = rateOf(system, kind), rate = own ?? number(system.bitrate);
    return { system, rate, raw: own === null, y: number(column?.mean ?? null), low: number(column?.low ?? null),
      high: number(column?.high ?? null) };
  }).filter(point => point.rate > 0 && point.y !== null && Number.isFinite(point.y));
}

function drawRates(points, metric, kind, width) {
  const height = width < 560 ? 320 : 400, left = 48, right = width - 12, top = 14, bottom = height - 42;
  const values = points.flatMap(point => [point.y, point.low ?? point.y, point.high ?? point.y]);
  const original = systems.find(system => system.kind === "original"), ideal = number(original?.scores[metric.index]?.mean);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const near = ideal !== null && Number.isFinite(ideal) && Math.max(high, ideal) - Math.min(low, ideal) < 1.6 * (high - low);
  if (near) [low, high] = [Math.min(low, ideal), Math.max(high, ideal)];
  const margin = (high - low) * .08 || Math.abs(high) * .1 || 1;
  const y = value => bottom - (value - low + margin) / (high - low + 2 * margin) * (bottom - top);
  const rates = points.map(point => point.rate);
  const [from, to] = [Math.min(...rates) / 1.35, Math.max(...rates) * 1.35];
  const x = value => left + Math.log(value / from) / Math.log(to / from) * (right - left);

  const chart = sheet(width, height, `${metric.name} against bits per second: ` + points
    .map(point => `${point.system.name}, ${shown(point.rate, 0)} bit/s, ${metric.withUnit(point.y)}`).join("; "));
  horizontals(chart, roundTicks(low - margin, high + margin, 6), y, left, right);
  logTicks(from, to).forEach(tick => chart.append(line(x(tick), bottom, x(tick), bottom + 4, "grid"),
    text(x(tick), bottom + 18, tick.toLocaleString("en"), { "text-anchor": "middle" })));
  chart.append(text(right, height - 4, `bit/s${kind === "raw" ? "" : `, ${rateName(kind)}`}`, { "text-anchor": "end" }),
    text(left, height - 4, `${metric.name}${metric.unit && `, ${metric.unit}`} ${metric.arrow}`));
  if (near) chart.append(line(left, y(ideal), right, y(ideal), "level"), text(right, y(ideal) - 5, "original", { "text-anchor": "end" }));
  families.forEach(family => {
    const row = points.filter(point => point.system.family === family).sort((a, b) => a.rate - b.rate);
    if (row.length > 1) chart.append(tinted(draw("polyline", { class: "line",
      points: row.map(point => `${x(point.rate)},${y(point.y)}`).join(" ") }), family));
  });
  points.forEach(point => {
    if (point.low !== null && point.high !== null) {
      chart.append(tinted(line(x(point.rate), y(point.low), x(point.rate), y(point.high), "span"), point.system.family));
    }
    chart.append(tinted(draw("circle", { cx: x(point.rate), cy: y(point.y), r: 5, class: point.raw ? "dot raw" : "dot" }), point.system.family));
  });
  const lines = [...chart.querySelectorAll(".line")].map(row => row.getAttribute("points").split(" ").map(pair => pair.split(",").map(Number)));
  placeNames(chart, points.map(point => ({ x: x(point.rate), y: y(point.y), name: point.system.name })), lines, left, right);
  return chart;
}

// Each name beside its point, on the first side where it touches no other name, no point and no line.
function placeNames(chart, points, lines, left, right) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "12px system-ui, sans-serif";
  const taken = points.map(({ x, y }) => ({ x: x - 6, y: y - 6, w: 12, h: 12 }));
  for (const row of lines) row.slice(1).forEach(([x, y], i) => {
    const [fromX, fromY] = row[i], steps = Math.ceil(Math.hypot(x - fromX, y - fromY) / 6);
    for (let k = 0; k <= steps; k++) taken.push({ x: fromX + (x - fromX) * k / steps - 1, y: fromY + (y - fromY) * k / steps - 1, w: 2, h: 2 });
  });
  for (const point of points) {
    const name = point.name.length > 32 ? `${point.name.slice(0, 31)}\u2026` : point.name, w = pen.measureText(name).width + 2, h = 15;
    const places = [[10, -7], [-10 - w, -7], [-w / 2, -25], [-w / 2, 11], [8, -22], [8, 9], [-8 - w, -22], [-8 - w, 9]]
      .map(([dx, dy]) => ({ x: clamp(point.x + dx, left, right - w), y: point.y + dy, w, h }));
    const free = box => !taken.some(other => box.x < other.x + other.w && other.x < box.x + box.w
      && box.y < other.y + other.h && other.y < box.y + box.h);
    const box = places.find(free) || places[0];
    taken.push(box);
    chart.append(text(box.x, box.y + 11.5, name, { class: "name" }));
  }
}

// Curves over codebooks: one small plot a measure, one line a system of several codebooks.
const CURVES = [
  ["Entries used", "usage", 100, "%"], ["Normalized entropy", "normalized_entropy", 1, ""], ["PNMI", "pnmi", 1, ""],
  ["Entropy, order 0", "entropy0", 1, "bit/s"],
];

function curveOf(system, field) {
  const { use, rates, phones } = system.tokens, told = new Map(phones);
  return use.map(book => number(book[field] ?? told.get(book.label)?.[field]
    ?? rates.find(row => row.label === book.label)?.[field] ?? null));
}

function curves() {
  const deep = systems.filter(system => system.tokens?.use.length > 1);
  if (!deep.length) return [];
  // of systems that share their first codebooks the deepest shows them all
  const longest = deep.filter(system => !deep.some(other => other !== system && other.family === system.family
    && other.tokens.use.length > system.tokens.use.length));
  const plots = CURVES.map(([title, field, scale, unit]) => ({ title, unit, most: field === "entropy0" ? Infinity : scale, rows: longest.map(system =>
    ({ system, values: curveOf(system, field).map(value => value === null ? null : value * scale) }))
    .filter(row => row.values.some(value => value !== null)) })).filter(plot => plot.rows.length);
  const keys = make("ul", { className: "keys" }, ...longest.map(system =>
    tinted(make("li", {}, make("i", { "aria-hidden": "true" }), system.name), system.family)));
  return [make("div", { className: "multiples" }, ...plots.map(curve)), keys];
}

function curve({ title, unit, most, rows }) {
  const place = make("div");
  fluid(place, width => place.replaceChildren(drawCurve(title, rows, most, width)));
  return make("figure", {}, make("figcaption", {}, title, make("span", { className: "quiet", textContent: unit && ` ${unit}` })), place);
}

function drawCurve(title, rows, most, width) {
  const height = 190, left = 42, right = width - 10, top = 12, bottom = height - 26;
  const deepest = rows.reduce((most, row) => row.values.length > most.values.length ? row : most), count = deepest.values.length;
  const values = rows.flatMap(row => row.values).filter(value => value !== null && Number.isFinite(value));
  const margin = (Math.max(...values) - Math.min(...values)) * .1 || Math.abs(values[0]) * .1 || 1;
  const [low, high] = [Math.max(0, Math.min(...values) - margin), Math.min(most, Math.max(...values) + margin)];
  const y = value => bottom - (value - low) / (high - low) * (bottom - top);
  const x = index => left + 8 + index / Math.max(1, count - 1) * (right - left - 16);
  const chart = sheet(width, height, `${title} by codebook: ` + rows.map(row =>
    `${row.system.name} ${row.values.map(value => shown(value, 2)).join(", ")}`).join("; "));
  horizontals(chart, roundTicks(low, high, 4), y, left, right);
  const labels = deepest.system.tokens.use.map(book => book.label), widest = Math.max(...labels.map(label => label.length)) * 7 + 8;
  const every = Math.ceil(count / Math.max(1, Math.floor((right - left) / widest)));
  labels.forEach((label, index) => index % every || chart.append(text(x(index), bottom + 18, label.slice(0, 14),
    { "text-anchor": index === 0 ? "start" : index === count - 1 ? "end" : "middle", ...(index === 0 && { dx: -8 }), ...(index === count - 1 && { dx: 8 }) })));
  rows.forEach(row => {
    const places = row.values.map((value, index) => [value, index]).filter(([value]) => value !== null && Number.isFinite(value));
    chart.append(tinted(draw("polyline", { class: "line", points: places.map(([value, index]) => `${x(index)},${y(value)}`).join(" ") }), row.system.family));
    if (places.length < 24) places.forEach(([value, index]) =>
      chart.append(tinted(draw("circle", { cx: x(index), cy: y(value), r: 3.5, class: "dot" }), row.system.family)));
  });
  return chart;
}
