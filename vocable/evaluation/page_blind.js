
// Votes are kept by the browser where it lets pages keep something, else as long as the page is open.
const KEY = `vocable-votes-${data.identity}`;
const votes = kept();

function kept() {
  try {
    const known = name => systems.some(system => system.name === name);
    const rows = JSON.parse(localStorage.getItem(KEY) || "[]");
    return rows.filter(row => known(row.a) && known(row.b) && [row.a, row.b, null].includes(row.preferred))
      .map(row => ({ item: String(row.item), a: row.a, b: row.b, preferred: row.preferred, time: String(row.time) }));
  } catch {
    return [];
  }
}

function keep() {
  try { localStorage.setItem(KEY, JSON.stringify(votes)); } catch { /* they stay in memory */ }
}

// Two-sided sign test: how often chance alone would be as one-sided as this, ties left out.
function signTest(wins, losses) {
  const n = wins + losses, least = Math.min(wins, losses);
  let term = Math.exp(-n * Math.LN2), sum = 0;
  for (let k = 0; k <= least; k++) {
    sum += term;
    term *= (n - k) / (k + 1);
  }
  return n ? Math.min(1, 2 * sum) : 1;
}

// Wilson's 95 % interval of a share.
function wilson(wins, n) {
  const z = 1.959964, share = wins / n, centre = (share + z * z / (2 * n)) / (1 + z * z / n);
  const reach = z * Math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n);
  return [clamp(centre - reach, 0, 1), clamp(centre + reach, 0, 1)];
}

function tally() {
  const pairs = new Map();
  for (const vote of votes) {
    const [first, second] = [vote.a, vote.b].sort((a, b) => systems.findIndex(s => s.name === a) - systems.findIndex(s => s.name === b));
    const key = JSON.stringify([first, second]), row = pairs.get(key) || { first, second, wins: 0, losses: 0, ties: 0 };
    pairs.set(key, row);
    if (vote.preferred === null) row.ties++; else if (vote.preferred === first) row.wins++; else row.losses++;
  }
  return [...pairs.values()];
}

function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// A cell that a spreadsheet takes for text, never for a formula.
const quoted = value => `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;

function exported(kind) {
  const rows = votes.map(({ item, a, b, preferred, time }) => ({ item, a, b, preferred, time }));
  if (kind === "json") return JSON.stringify({ title: data.title, votes: rows }, null, 1);
  return [["item", "a", "b", "preferred", "time"], ...rows.map(row => [row.item, row.a, row.b, row.preferred ?? "no difference", row.time])]
    .map(row => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function results(changed) {
  const pairs = tally();
  if (!pairs.length) return [make("p", { className: "quiet", textContent: "No votes yet." })];
  const count = (name, key) => ({ name, key, number: true });
  const table = sortable("Results", [
    { name: "Systems", key: row => `${row.first}, ${row.second}` },
    count("first better", row => row.wins), count("no difference", row => row.ties), count("second better", row => row.losses),
    { name: "prefer the first", note: "of those decided", number: true, key: row => row.wins + row.losses ? row.wins / (row.wins + row.losses) : null,
      cell: row => {
        const n = row.wins + row.losses;
        if (!n) return ["\u2013"];
        const [low, high] = wilson(row.wins, n).map(share => 100 * share);
        return [`${shown(100 * row.wins / n, 0)} %`, make("small", { textContent: `${range(low, high, 0)} %` })];
      } },
    { name: "p", note: "sign test", number: true, key: row => signTest(row.wins, row.losses), cell: row => shown(signTest(row.wins, row.losses), 3) },
  ], pairs);
  const button = (textContent, onclick) => make("button", { type: "button", className: "button", textContent, onclick });
  return [table, make("p", { className: "quiet", textContent: "Intervals of 95 % (Wilson); p of the two-sided sign test; votes for no difference count in neither." }),
    make("div", { className: "choices" },
      button("Save as JSON", () => save("votes.json", "application/json", exported("json"))),
      button("Save as CSV", () => save("votes.csv", "text/csv", exported("csv"))),
      button("Forget all votes", () => { if (confirm(`Forget ${counted(votes.length, "vote")}?`)) { votes.length = 0; keep(); changed(); } }))];
}

const shuffled = list => list.map(value => [Math.random(), value]).sort((a, b) => a[0] - b[0]).map(([, value]) => value);
const playable = (item, system) => clips.get(item).systems.includes(system);

function blind() {
  const offered = judged.length > 1 ? judged : systems, original = systems.find(system => system.kind === "original");
  const names = chosen => offered.map((system, index) => option(system.index, system.name, index === chosen));
  const first = choice("Compare", names(0), () => end()), second = choice("with", names(1), () => end());
  const reference = make("input", { type: "checkbox", checked: judged.length > 1 && !!original });
  const begin = make("button", { type: "button", className: "button main", textContent: "Start", onclick: () => start() });
  const note = make("p", { className: "quiet", "aria-live": "polite" }), panel = make("div"), outcome = make("div", { hidden: true });
  const reveal = make("button", { type: "button", className: "button", onclick: () => { outcome.hidden = !outcome.hidden; count(); } });
  let queue = [], done = 0, deck = null;

  const count = () => {
    reveal.textContent = `${outcome.hidden ? "Show" : "Hide"} results (${counted(votes.length, "vote")})`;
    reveal.setAttribute("aria-expanded", !outcome.hidden);
    outcome.replaceChildren(...(outcome.hidden ? [] : results(count)));
  };
  const end = () => { deck?.stop(); deck = null; panel.replaceChildren(); note.textContent = ""; };
  const start = () => {
    end();
    const [x, y] = [first, second].map(one => Number(one.select.value));
    queue = shuffled([...clips.keys()].filter(item => playable(item, x) && playable(item, y)));
    done = 0;
    if (x === y) note.textContent = "Choose two different systems.";
    else if (!queue.length) note.textContent = "No recording has players of both.";
    else next(x, y);
  };
  const next = (x, y) => {
    end();
    if (done === queue.length) { note.textContent = "That was the last one. Start again for another round."; begin.focus(); return; }
    const sides = shuffled([x, y]);
    const trial = trialPanel(data.items[queue[done]], queue[done], sides, reference.checked && original && playable(queue[done], original.index)
      ? original : null, `Trial ${done + 1} of ${queue.length}`, preferred => {
      if (preferred !== undefined) {
        votes.push({ item: data.items[queue[done]].id, a: systems[sides[0]].name, b: systems[sides[1]].name,
          preferred: preferred === null ? null : systems[sides[preferred]].name, time: new Date().toISOString() });
        keep();
        count();
      }
      done++;
      next(x, y);
    });
    deck = trial.deck;
    panel.replaceChildren(trial.node);
    trial.node.focus({ preventScroll: true });
  };
  count();
  const check = original ? [make("label", { className: "check" }, reference, "the original as a reference")] : [];
  return [make("div", { className: "choices" }, first.label, second.label, ...check, begin), note, panel,
    make("div", { className: "choices" }, reveal), outcome];
}

function trialPanel(item, index, sides, original, title, decided) {
  const total = Math.min(item.seconds, data.sounds.longest), fill = make("i"), track = make("div", { className: "track" }, fill);
  const sounds = [...sides, ...(original ? [original.index] : [])], names = ["A", "B", "Reference"];
  let last = 0;
  const deck = transport(index, total, () => moved());
  const play = which => { last = which; deck.toggle(sounds[which]); };
  const buttons = sounds.map((_, i) => playButton(names[i], "blind trial", () => play(i)));
  const announce = slider(track, "Position in the trial", deck, total, () => play(last));
  const ballots = [["1", "A is better", 0], ["2", "No difference", null], ["3", "B is better", 1]].map(([key, name, side]) =>
    Object.assign(make("button", { type: "button", className: "button vote", onclick: () => decided(side) },
      make("kbd", { textContent: key, "aria-hidden": "true" }), name), { key }));
  const hint = make("p", { className: "quiet" });
  const moved = () => {
    fill.style.width = `${100 * deck.time / total}%`;
    announce(deck.time, seconds(deck.time));
    buttons.forEach((button, i) => button.show(deck.active === sounds[i], deck.broken.has(sounds[i])));
    const ready = sides.every(side => deck.heard.has(side));
    ballots.forEach(ballot => { ballot.disabled = !ready; });
    hint.textContent = ready ? "1, 2, 3 vote; space plays and stops; x switches." : "Listen to both before you vote: space plays and stops, x switches.";
  };
  const node = make("div", { className: "trial", tabIndex: -1, role: "group", "aria-label": "Blind trial" },
    make("p", {}, make("b", { textContent: title }), make("span", { className: "quiet", dir: "auto", textContent: `  ${item.text || item.id}` })),
    make("div", { className: "row" }, ...buttons), track,
    make("div", { className: "row votes" }, ...ballots, make("button", { type: "button", className: "button", textContent: "Skip", onclick: () => decided(undefined) })), hint);
  node.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    const ballot = ballots.find(one => one.key === event.key);
    if (ballot) { if (!ballot.disabled) ballot.click(); }
    else if (event.key === "x") { last = last === 0 ? 1 : 0; deck.play(sounds[last]); }
    else if (event.key === " " && event.target === node) play(last);
    else return;
    event.preventDefault();
  });
  sounds.forEach(system => sound(index, system).catch(() => { deck.broken.add(system); moved(); }));
  moved();
  return { node, deck };
}
