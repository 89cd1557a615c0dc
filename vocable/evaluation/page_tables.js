
// A table that is sorted by the buttons in its head. Columns: { name, note, title, number, key, cell }, of which `key`
// gives what rows are sorted by, null last; `cell` what is shown: text, or nodes.
function sortable(label, columns, rows, mark = () => "") {
  const body = make("tbody");
  const lines = rows.map(row => ({ row, line: make("tr", { className: mark(row) }, ...columns.map((column, index) => {
    const cell = make(index ? "td" : "th", { className: column.number ? "number" : "", ...(index ? {} : { scope: "row" }) });
    cell.append(...[column.cell ? column.cell(row) : column.key(row)].flat());
    return cell;
  })) }));
  const heads = columns.map(column => make("th", { scope: "col", className: column.number ? "number" : "" },
    make("button", { type: "button", title: column.title || "", onclick: event => sort(column, event.currentTarget.parentNode) },
      column.name, ...(column.number ? [make("small", { textContent: column.note || "" })] : []))));
  const sort = (column, head) => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const order = (a, b) => a === null || b === null ? (a === null) - (b === null)
      : sign * (column.number ? (a > b) - (a < b) : a.localeCompare(b));
    body.append(...lines.sort((a, b) => order(column.key(a.row), column.key(b.row))).map(entry => entry.line));
  };
  body.append(...lines.map(entry => entry.line));
  return make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": label },
    make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
}

const reasons = make("dialog", { "aria-labelledby": "reasons-title" });

// Why scores are missing: the same reason once, with the items it befell.
function showReasons(system, metric, column) {
  const told = new Map();
  column.failures.forEach(([id, why]) => told.set(why, [...(told.get(why) || []), id]));
  const list = [...told].sort((a, b) => b[1].length - a[1].length)
    .map(([why, ids]) => [`${why} (${ids.length})`, ids.join(", ")]);
  reasons.replaceChildren(
    make("h3", { id: "reasons-title", textContent: `${system.name}, ${metric.name}: ${failedText(column)}` }),
    list.length ? definitions(list, "") : make("p", { className: "quiet", textContent: "No reason was recorded." }),
    make("button", { type: "button", className: "button", textContent: "Close", onclick: () => reasons.close() }));
  reasons.showModal();
}

const failedText = column => `${column.failed} of ${column.count + column.failed} failed`;

// The best mean of a metric among systems that are not the original; none where fewer than two can be compared.
function bestMean(metric) {
  const means = judged.map(system => number(scoresOf(system, metric)?.mean)).filter(value => value !== null);
  return means.length > 1 && new Set(means).size > 1 ? (metric.higher ? Math.max : Math.min)(...means) : null;
}

function scoreCell(system, metric, best) {
  const column = scoresOf(system, metric);
  if (!column) return ["\u2013"];
  const mean = make("span", { textContent: shown(column.mean, metric.digits) }), parts = [mean];
  if (best !== null && system.kind !== "original" && number(column.mean) === best) {
    mean.className = "best";
    parts.push(make("span", { className: "unseen", textContent: " (best)" }));
  }
  if (column.low !== null && column.high !== null && column.low !== column.high) parts.push(make("small", {
    textContent: range(column.low, column.high, metric.digits) }));
  if (column.failed) parts.push(make("button", { type: "button", className: "failed", textContent: failedText(column),
    "aria-label": `${failedText(column)}: why, ${system.name}, ${metric.name}`,
    onclick: () => showReasons(system, metric, column) }));
  return parts;
}

function comparison() {
  const columns = [
    { name: "System", key: system => system.name },
    { name: "bit/s", note: "raw", number: true, key: system => number(system.bitrate), cell: system => shown(system.bitrate, 0),
      title: "bits per second of the codes as they are" },
    ...rated.map(metric => {
      const best = bestMean(metric);
      return { name: `${metric.name} ${metric.arrow}`, note: metric.unit, number: true, title: `${metric.what}; ${metric.better}`,
        key: system => number(scoresOf(system, metric)?.mean), cell: system => scoreCell(system, metric, best) };
    }),
  ];
  const notes = rated.map(metric => [`${metric.name} ${metric.arrow}`,
    `${metric.what}${metric.unit && `, ${metric.unit}`}; ${metric.better}`]);
  const about = systems.filter(system => system.facts.length).map(system => make("div", {},
    make("h3", { textContent: system.name }), definitions(system.facts, "notes")));
  return [
    sortable("Comparison", columns, systems, system => system.kind === "original" ? "original" : ""),
    more("What the columns are", definitions(notes, "notes")),
    ...(about.length ? [more("What the systems are", make("div", { className: "about" }, ...about))] : []),
  ];
}

// Costs and uses of codebooks: a row for all of a system, and on demand one for each.
const RATES = [
  ["raw", "raw", "", "log2(size) bits a code"],
  ["entropy0", "order 0", "own", "entropy of single codes, counted on themselves"],
  ["entropy1", "order 1", "own", "entropy given the code before, counted on themselves"],
  ["held_out0", "order 0", "held out", "coded by a model of other recordings, without context"],
  ["held_out1", "order 1", "held out", "coded by a model of other recordings that knows the code before"],
  ["language_model", "n-gram", "held out", "coded by a language model of other recordings"],
  ["units", "runs", "raw", "log2(size) bits for each run of equal codes"],
  ["timed_units", "+ lengths", "own", "the same, and how long each run is"],
  ["held_out_units", "runs", "held out", "runs coded by a model of other recordings"],
  ["held_out_timed_units", "+ lengths", "held out", "the same, and how long each run is"],
];
const rateName = kind => {
  const [, title, note] = RATES.find(([name]) => name === kind);
  return `${title.startsWith("+") ? "runs " : ""}${title}${note && kind !== "raw" ? `, ${note}` : ""}`;
};
const rateOf = (system, kind) => {
  if (kind === "raw" && system.bitrate !== null) return number(system.bitrate);
  const all = system.tokens?.rates.find(row => row.label === "all");
  return all ? number(all[kind]) : null;
};

function tokenTables() {
  const named = systems.filter(system => system.tokens);
  const rows = named.flatMap(system => {
    const { rates, use, pairs, phones } = system.tokens, coded = new Map(pairs), told = new Map(phones);
    const books = use.map(book => ({ system, label: book.label, book, rates: rates.find(row => row.label === book.label),
      pairs: coded.get(book.label), phones: told.get(book.label) }));
    const all = rates.find(row => row.label === "all");
    if (books.length === 1) return [{ ...books[0], whole: true }];
    const sum = books.every(row => row.pairs !== undefined) ? books.reduce((total, row) => total + number(row.pairs), 0) : undefined;
    return [{ system, label: `all ${books.length}`, rates: all, pairs: sum, whole: true, several: true }, ...books];
  });
  const name = { name: "System", key: row => row.system.name };
  const book = { name: "Codebook", key: row => row.label };
  const column = (title, key, digits, note = "", what = "", scale = 1) => ({ name: title, note, title: what, number: true,
    key: row => { const value = number(key(row)); return value === null ? null : value * scale; },
    cell: row => { const value = number(key(row)); return shown(value === null ? null : value * scale, digits); } });
  const costs = [name, book, ...RATES.map(([kind, title, note, what]) => column(title, row => row.rates?.[kind], 0, note, what)),
    column("BPE", row => row.pairs, 0, "held out", "runs after byte-pair encoding, learned on other recordings")];
  const uses = [name, book,
    column("entries", row => row.book?.size, 0), column("used", row => row.book?.usage, 1, "%", "share of entries that occur", 100),
    column("dead", row => row.book?.dead, 0, "", "entries that never occur"),
    column("entropy", row => row.book?.entropy, 2, "bit"), column("normalized", row => row.book?.normalized_entropy, 3, "", "entropy, of log2(size)"),
    column("perplexity", row => row.book?.perplexity, 1), column("codes/s", row => row.book?.tokens_per_second, 1),
    column("units/s", row => row.book?.deduplicated_per_second, 1, "", "runs of equal codes per second"),
    column("mean run", row => row.book?.mean_run, 2, "codes"),
    ...(rows.some(row => row.phones) ? [column("PNMI", row => row.phones?.pnmi, 3, "", "share of the uncertainty about the phone that the code resolves"),
      column("phone purity", row => row.phones?.phone_purity, 3), column("cluster purity", row => row.phones?.cluster_purity, 3)] : [])];
  const several = rows.some(row => row.several), place = make("div"), books = rows.filter(row => row.book);
  const render = every => place.replaceChildren(sortable("Bits per second", costs, rows.filter(row => every || row.whole)));
  const check = make("input", { type: "checkbox", onchange: event => render(event.target.checked) });
  render(false);
  const use = sortable("Use of codebooks", uses, books);
  return [...(several ? [make("div", { className: "choices" }, make("label", { className: "check" }, check, "Every codebook"))] : []),
    make("h3", { textContent: "Bits per second" }), place, more("What the rates are", definitions(RATES.map(([kind, , , what]) => [rateName(kind), what]), "notes")),
    ...(books.length > 12 ? [more(`Use of ${books.length} codebooks`, use)] : [make("h3", { textContent: "Use of codebooks" }), use])];
}
