
document.querySelector("h1").textContent = data.title;
document.querySelector(".facts").append(...data.facts.map(([label, value]) =>
  make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: value }))));
section("comparison", "Comparison", "Means over the recordings, with 95 % intervals below. Choose a column to sort by it.", ...comparison(),
  ...(data.leftOut.length ? [more(`${counted(data.leftOut.length, "recording")} could not be read: no system is judged on them`, definitions(data.leftOut, "notes"))] : []));
if (rated.length && judged.some(system => system.bitrate)) section("rates", "Quality against rate", "", ...ratePlot());
const curved = curves();
if (curved.length) section("codebooks", "Codebook by codebook", "Of systems with several; the scales do not begin at zero.", ...curved);
if (systems.some(system => system.tokens)) section("tokens", "Tokens", "What codes cost, and how codebooks are used.", ...tokenTables());
if (data.items.length) section("listening", "Listening", "Space plays, arrow keys step, digits choose a system: the position stays.", ...listening());
if (clips.size && systems.length > 1) section("blind", "Blind comparison", "Two systems, unnamed and in changing order. Which is closer to how it should sound?", ...blind());
if (data.commands.length) section("commands", "Commands", "What made this page.", make("pre", { tabIndex: 0, textContent: data.commands.join("\n") }));
document.body.append(reasons);
