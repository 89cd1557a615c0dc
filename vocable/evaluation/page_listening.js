
const ICONS = { play: "M2.5 .8v10.4L11.2 6z", pause: "M2 1h3v10H2zM7 1h3v10H7z" };
function playButton(name, about, toggle) {
  const path = draw("path"), label = make("span", { textContent: name });
  const button = make("button", { type: "button", className: "play", onclick: toggle, "aria-label": `Play ${name}: ${about}` },
    make("i", {}, draw("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, path)), label);
  button.show = (playing, broken) => {
    path.setAttribute("d", playing ? ICONS.pause : ICONS.play);
    button.setAttribute("aria-pressed", playing);
    button.disabled = broken;
    label.textContent = broken ? `${name} (cannot be played here)` : name;
  };
  button.show(false, false);
  return button;
}

// The keys by which a position is moved and sounds are chosen; returns what tells it to those who cannot see it.
function slider(node, label, deck, total, toggle, choose) {
  for (const [name, value] of Object.entries({ role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0,
    "aria-valuemax": total.toFixed(2) })) node.setAttribute(name, value);
  const keys = { ArrowRight: .1, ArrowUp: .1, ArrowLeft: -.1, ArrowDown: -.1, PageUp: 1, PageDown: -1 };
  node.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in keys) deck.seek(deck.time + keys[event.key]);
    else if (event.key === "Home" || event.key === "End") deck.seek(event.key === "Home" ? 0 : total);
    else if (event.key === " ") toggle();
    else if (/^[1-9]$/.test(event.key) && choose) choose(Number(event.key) - 1);
    else return;
    event.preventDefault();
  });
  node.addEventListener("click", event => {
    const box = node.getBoundingClientRect();
    deck.seek((event.clientX - box.left) / box.width * total);
  });
  return (time, text) => {
    node.setAttribute("aria-valuenow", time.toFixed(2));
    node.setAttribute("aria-valuetext", text);
  };
}

function itemArticle(item, metric) {
  const about = [item.text && item.id, item.speaker, seconds(item.seconds)].filter(Boolean).join("  \u00b7  ");
  const name = make("h3", { dir: "auto", textContent: item.text || item.id });
  const article = make("article", { className: "item", "data-item": item.index, "aria-label": item.id },
    make("header", {}, name, make("p", { className: "quiet", textContent: about })));
  article.append(clips.has(item.index) ? bench(item, metric, article) : scoresOnly(item, metric), allScores(item));
  return article;
}

function scoreText(system, metric, item) {
  const column = metric && scoresOf(system, metric);
  if (!column) return "";
  const value = column.values[item.index];
  return value === null || value === undefined ? `${metric.name}: failed` : metric.withUnit(value);
}

function scoresOnly(item, metric) {
  return make("div", {}, make("p", { className: "quiet", textContent: "No players: left out to keep the page small." }),
    definitions(judged.map(system => [system.name, scoreText(system, metric, item) || "\u2013"]), "notes"));
}

function allScores(item) {
  const details = more("All scores");
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const failures = metric => system => new Map(scoresOf(system, metric)?.failures).get(item.id);
    details.append(sortable(`Scores of ${item.id}`, [
      { name: "System", key: system => system.name },
      ...rated.map(metric => ({ name: `${metric.name} ${metric.arrow}`, note: metric.unit, number: true, title: metric.what,
        key: system => number(scoresOf(system, metric)?.values[item.index] ?? null),
        cell: system => make("span", { title: failures(metric)(system) || "", textContent: !scoresOf(system, metric) ? "\u2013"
          : scoresOf(system, metric).values[item.index] === null ? "failed"
            : shown(scoresOf(system, metric).values[item.index], metric.digits) }) })),
    ], systems));
  });
  return details;
}

function bench(item, metric, article) {
  const total = Math.min(item.seconds, data.sounds.longest), top = Math.min(clips.get(item.index).rate, RATE) / 2;
  const offered = clips.get(item.index).systems.map(index => systems[index]);
  const picture = make("canvas", { className: "picture" }), scope = make("div", { className: "scope" }, picture);
  const rows = make("div"), axis = make("canvas", { className: "axis quiet", "aria-hidden": "true" });
  const cursor = make("div", { className: "cursor", hidden: true }), now = make("p", { className: "quiet now" });
  const stage = make("div", { className: "stage" }, scope, rows, axis, now, cursor);
  const ribbonRows = Math.max(0, ...offered.map(system => ribbons.get(system.index)?.labels.length || 0));
  // as tall as the list of players beside it, and the same whichever plays
  const tall = innerWidth > 720 ? clamp(41 * offered.length - 44, 148 + 21 * ribbonRows, 300) : 116 + 21 * ribbonRows;
  const fit = () => { picture.style.height = `${tall - 21 * rows.childElementCount}px`; };
  fit();
  let shownSystem = null, units = null;
  const deck = transport(item.index, total, () => moved());
  const toggle = system => { deck.toggle(system.index); show(system); prefetch(); };
  const prefetch = () => offered.forEach(system => sound(item.index, system.index).catch(() => deck.broken.add(system.index)));
  const buttons = offered.map(system => playButton(system.name, item.id, () => toggle(system)));
  const players = make("ol", { className: "players" }, ...offered.map((system, i) => make("li", {}, buttons[i],
    make("span", { className: "score", textContent: scoreText(system, metric, item) }))));
  const announce = slider(scope, `Position in ${item.id}`, deck, total, () => toggle(shownSystem || offered[0]),
    number => { if (offered[number] && deck.active !== offered[number].index) toggle(offered[number]); });
  const moved = () => {
    cursor.hidden = !deck.time;
    cursor.style.transform = `translateX(${deck.time / total * stage.clientWidth}px)`;
    cursor.style.height = `${scope.offsetHeight + rows.offsetHeight}px`;
    const frame = units ? Math.floor((deck.time - units.start) / units.step) : -1;
    const codes = units ? units.rows.filter(row => frame >= 0 && frame < row.codes.length).map(row => `${row.label} ${row.codes[frame]}`) : [];
    now.textContent = [shownSystem?.name, seconds(deck.time), ...codes].filter(Boolean).join("  \u00b7  ");
    announce(deck.time, now.textContent);
    buttons.forEach((button, i) => button.show(deck.active === offered[i].index, deck.broken.has(offered[i].index)));
  };
  const seen = new Map();
  const levelsOf = async system => {
    const buffer = await sound(item.index, system.index);
    if (!seen.has(system)) seen.set(system, levels(buffer.getChannelData(0), top, hopOf(total)));
    return seen.get(system);
  };
  const show = async system => {
    if (shownSystem === system) return;
    shownSystem = system;
    units = unitsOf(item.index, system.index);
    rows.replaceChildren(...(units?.rows || []).map(() => make("canvas", { className: "ribbon", "aria-hidden": "true" })));
    fit();
    redraw();
    picture.setAttribute("aria-label", `Spectrogram of ${system.name}: ${item.id}`);
    try {
      const { peak } = await levelsOf(offered[0]).catch(() => ({ peak: -20 })), found = await levelsOf(system);
      if (shownSystem === system) paint(picture, found, peak, total);
    } catch {
      deck.broken.add(system.index);
      moved();
    }
  };
  const redraw = () => {
    drawAxis(axis, total);
    units?.rows.forEach((row, k) => drawRibbon(rows.children[k], units, row.codes, total));
    moved();
  };
  article.begin = () => show(offered[0]);
  article.redraw = redraw;
  article.stop = () => deck.stop();
  return make("div", { className: "bench" }, players, stage);
}

const PAGE = 8;

function listening() {
  const items = data.items.map((item, index) => ({ ...item, index })), list = make("div");
  let page = 0, found = items;
  const by = choice("Worst first, by", [...rated.map(metric => option(metric.index, metric.name)), option("", "order of the corpus")], () => renew());
  const of = choice("of", judged.map(system => option(system.index, system.name)), () => renew());
  const search = make("input", { type: "search", placeholder: "id, text, speaker", oninput: () => renew() });
  const status = make("p", { className: "quiet", "aria-live": "polite" });
  const seen = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => {
    seen.unobserve(entry.target);
    entry.target.begin();
  }), { rootMargin: "200px" });
  const sizes = new ResizeObserver(entries => entries.forEach(entry => entry.target.redraw()));
  dark.addEventListener("change", () => list.querySelectorAll(".item").forEach(article => article.redraw?.()));

  const badness = (metric, system) => item => {
    const value = number(scoresOf(system, metric)?.values[item.index] ?? null);
    return value === null ? Infinity : metric.higher ? -value : value;
  };
  const renew = () => {
    const words = search.value.trim().toLowerCase(), metric = by.select.value === "" ? null : metrics[Number(by.select.value)];
    found = items.filter(item => [item.id, item.text, item.speaker].some(text => text.toLowerCase().includes(words)));
    if (metric && judged.length) {
      const bad = new Map(found.map(item => [item, badness(metric, systems[Number(of.select.value)])(item)]));
      found.sort((a, b) => bad.get(a) === bad.get(b) ? 0 : bad.get(b) > bad.get(a) ? 1 : -1);
    }
    turn(0);
  };
  const turn = to => {
    page = to;
    list.querySelectorAll(".item").forEach(article => article.stop?.());
    seen.disconnect();
    sizes.disconnect();
    const metric = metrics[Number(by.select.value || (rated[0]?.index ?? -1))];
    const articles = found.slice(page * PAGE, (page + 1) * PAGE).map(item => itemArticle(item, metric));
    list.replaceChildren(...articles);
    articles.filter(article => article.begin).forEach(article => { seen.observe(article); sizes.observe(article); });
    const last = Math.min(found.length, (page + 1) * PAGE);
    status.textContent = found.length ? `${page * PAGE + 1}\u2013${last} of ${found.length}` : "Nothing was found.";
    pagers.forEach(pager => {
      pager.hidden = found.length <= PAGE;
      [pager.back.disabled, pager.on.disabled] = [!page, last >= found.length];
      pager.place.textContent = status.textContent;
    });
  };
  const pagers = [0, 1].map(end => {
    const back = make("button", { type: "button", className: "button", textContent: "Previous", onclick: () => step(-1) });
    const on = make("button", { type: "button", className: "button", textContent: "Next", onclick: () => step(1) });
    const step = by => { turn(page + by); if (end) node.scrollIntoView(); };
    const place = make("span", { className: "quiet" });
    return Object.assign(make("nav", { className: "pager", "aria-label": end ? "Pages, below" : "Pages" }, back, place, on), { back, on, place });
  });
  const node = make("div", {}, make("div", { className: "choices" }, by.label, ...(judged.length ? [of.label] : []),
    make("label", {}, "Search", search)), make("div", { className: "unseen" }, status), pagers[0], list, pagers[1]);
  renew();
  return [...soundNotes(), node];
}

// What a listener has to know of the players: coding, cuts, and what is not there.
function soundNotes() {
  const { coding, bitrate, longest, ranked, missing } = data.sounds;
  const left = data.items.filter((_, index) => !clips.has(index)), cut = data.items.some(item => item.seconds > longest);
  const told = [
    coding === "FLAC" ? "Players are lossless (FLAC)."
      : `Players are compressed (Opus, ${shown(bitrate / 1000, 1)} kbit/s as measured) to keep the page small, and so are the sounds ` +
        "behind the spectrograms. Scores were taken of the sounds themselves, not of these.",
    cut ? `Players end after ${longest} s.` : "",
    left.length ? `${clips.size} of ${data.items.length} recordings have players: by turns the worst${ranked && ` by ${ranked}`} and one drawn at random.` : "",
  ].filter(Boolean).join(" ");
  return [make("p", { className: "quiet", textContent: told }),
    ...(left.length ? [more(`${counted(left.length, "recording")} without players`, make("p", { className: "quiet", textContent: left.map(item => item.id).join(", ") }))] : []),
    ...(missing.length ? [more(`${counted(missing.length, "sound")} could not be read`, definitions(missing.map(([id, name, why]) => [`${id}, ${name}`, why]), "notes"))] : [])];
}
