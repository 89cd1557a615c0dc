"""Time and memory of `vocable train kmeans` on hours of audio and several layers of a HuBERT-base-sized model.

    python -m benchmarks.training ../shared/audio [--hours 10] [--out benchmarks/results/training.md]

The model has random weights; every frame of every layer goes through the cache on disk. The recordings of train.jsonl,
shuffled, stand in the corpus again under other ids where they are fewer hours. A run that was killed goes on from what
lies in --work, which is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from itertools import count
from pathlib import Path

import soundfile
from safetensors import safe_open
from transformers import HubertConfig

from benchmarks.measure import commit, family, machine
from benchmarks.tokenize import write_model

LAYERS, LIMIT = 6, 2000  # MB beyond the model
START, FEATURES = "start", "features, into the cache"


@dataclass
class Stage:
    """Wall seconds, and peaks in MB of all processes together: with the pages of the mapped cache, and without."""

    seconds: float = 0.0
    mapped: float = 0.0
    held: float = 0.0


def main() -> None:
    options = parse()
    work = options.work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model = work / "model"
    if not model.exists():
        write_model(work / "model.part").rename(model)
    manifest, hours = write_corpus(options.audio, work / "corpus.jsonl", options.hours)
    for stages in watch(command(options, manifest), work):
        text = report(stages, options, hours)
        if options.out:
            options.out.write_text(text)
    print(text)
    shutil.rmtree(work)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, help="folder with train.jsonl")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--precision", default="bf16" if "bf16" in Path("/proc/cpuinfo").read_text() else "fp32")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "vocable-training"))
    parser.add_argument("--out", type=Path, help="write the table here as well")
    return parser.parse_args()


def write_corpus(audio: Path, path: Path, hours: float) -> tuple[Path, float]:
    """A manifest of so many hours, or a recording more; and its hours."""
    lines = (audio / "train.jsonl").read_text().splitlines()
    recordings = [(audio / json.loads(line)["path"]).resolve() for line in lines]
    random.Random(0).shuffle(recordings)
    lengths = [soundfile.info(recording).duration for recording in recordings]
    entries: list[str] = []
    seconds = 0.0
    for index in count():
        if seconds >= 3600 * hours:
            break
        entries.append(json.dumps({"id": f"{index:06}", "path": str(recordings[index % len(recordings)])}))
        seconds += lengths[index % len(recordings)]
    path.write_text("\n".join(entries) + "\n")
    return path, seconds / 3600


def command(options: argparse.Namespace, manifest: Path) -> list[str]:
    work = options.work
    settings = {
        "features": work / "model",
        "layers": f"1-{LAYERS}",
        "clusters": options.clusters,
        "iterations": options.iterations,
        "precision": options.precision,
        "cache": work / "cache",
        "device": "cpu",
        "out": work / "units",
    }
    told = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "vocable", "train", "kmeans", str(manifest), *told, "--overwrite"]


def watch(command: list[str], work: Path) -> Iterator[dict[str, Stage]]:
    """Runs the command; what its stages have cost so far, a few times a minute and at the end.

    What a run that was killed had spent on features counts on; clusterings start anew, and so do their figures.
    """
    kept = work / "stages.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    stages = {name: Stage(**known[name]) for name in (START, FEATURES) if name in known}
    with (work / "log").open("w") as log, subprocess.Popen(command, stderr=log) as child:
        last = told = time.monotonic()
        while child.poll() is None:
            time.sleep(0.5)
            mapped, held, layer = memory(child.pid, work / "cache")
            stage = stages.setdefault(name_stage(layer, list(stages), work), Stage())
            now = time.monotonic()
            stage.seconds, last = stage.seconds + now - last, now
            stage.mapped, stage.held = max(stage.mapped, mapped), max(stage.held, held)
            if now - told > 20:
                told = now
                kept.write_text(json.dumps({name: asdict(cost) for name, cost in stages.items()}))
                yield stages
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(work / 'log').read_text()}")
    yield stages


def name_stage(layer: str | None, known: list[str], work: Path) -> str:
    """A layer's file is mapped while it is clustered; the cache is announced when features are about to come."""
    if layer:
        return f"clustering {layer}"
    if set(known) - {START, FEATURES}:
        return "saving"
    return FEATURES if "cache " in (work / "log").read_text() else START


def memory(pid: int, cache: Path) -> tuple[float, float, str | None]:
    """Proportional set size in MB with and without the cache's pages; and the last of its layers that is mapped."""
    total, pages, layers = 0, 0, []
    for one in family(pid):
        for name, sizes in mappings(one):
            ours = name.startswith(f"{cache}/")
            total += sizes.get("Pss", 0)
            pages += sizes.get("Pss", 0) - sizes.get("Anonymous", 0) if ours else 0
            layers += [Path(name).stem] if ours else []
    last = max(layers, key=lambda label: int(label[1:]), default=None)
    return total * 1.024e-3, (total - pages) * 1.024e-3, last


def mappings(pid: int) -> Iterator[tuple[str, dict[str, int]]]:
    """The file, if any, and the sizes in KiB of each mapping of a process; nothing if it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return
    name, sizes = "", dict[str, int]()
    for line in lines:
        first, *rest = line.split(maxsplit=5)
        if first.endswith(":"):
            sizes |= {first[:-1]: int(rest[0])} if rest[-1] == "kB" else {}
        else:
            yield name, sizes
            name, sizes = rest[4] if len(rest) > 4 else "", {}
    yield name, sizes


def report(stages: dict[str, Stage], options: argparse.Namespace, hours: float) -> str:
    """The table, and what the command itself said at its end."""
    model, peak = model_megabytes(options.work / "model"), max(stage.held for stage in stages.values())
    said = (options.work / "log").read_text().splitlines()
    cache = sum(file.stat().st_size for file in (options.work / "cache").glob("L*"))
    state = "" if any(line.startswith("wall time") for line in said) else " So far: it has not ended."
    rows = [
        f"| {name} | {stage.seconds:,.0f} | {stage.held:,.0f} | {stage.held - model:,.0f} | {stage.mapped:,.0f} |"
        for name, stage in stages.items()
    ]
    return f"""# Training units of {LAYERS} layers on {hours:.1f} hours

`vocable train kmeans --layers 1-{LAYERS} --clusters {options.clusters} --iterations {options.iterations} \
--precision {options.precision} --cache DIR`: a HuBERT-base with random weights,
{model:.0f} MB in float32 as far as these layers need it, and {cache / 1e9:.2f} GB of frames on disk.

Peak beyond the model: {peak - model:,.0f} MB, where {LIMIT:,} MB were allowed.{state}

| | wall time (s) | peak (MB) | beyond the model (MB) | with pages of the mapped cache (MB) |
|---|---|---|---|---|
{chr(10).join(rows)}

Memory is that of all processes of the command together (proportional set size), Python, torch and the decoding
process included, looked at every half second. Pages of the cache are the file's: the system keeps them as long as
nothing else needs the memory. What the command said:

```text
{chr(10).join(line.replace(f"{options.work}/", "") for line in said if not line.startswith("features: "))}
```

Load {os.getloadavg()[0]:.1f} when this was written; {machine()}; {date.today()}, commit {commit()}.
"""


def model_megabytes(path: Path) -> float:
    """The weights that the layers need, in float32."""
    deeper = tuple(f"encoder.layers.{block}." for block in range(LAYERS, HubertConfig().num_hidden_layers))
    with safe_open(path / "model.safetensors", "pt") as file:
        needed = [name for name in file.keys() if not name.startswith(deeper)]  # noqa: SIM118
        return float(sum(4 * math.prod(file.get_slice(name).get_shape()) for name in needed)) / 1e6


if __name__ == "__main__":
    main()
