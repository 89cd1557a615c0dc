"""How fast packed tokens are read as shuffled blocks, in tokens a second of one core.

    python -m benchmarks.reading [--tokens N] [--length N] [--batch N] [--epochs N] [--out FILE]

Packs random tokens first, of uint16 and of uint32, in a folder that is removed. CPU time counts, which does not depend
on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.measure import commit, machine
from vocable.exports import PackedTokens
from vocable.exports.packed import PackedSink
from vocable.exports.rows import Content, Row
from vocable.reading import BlockReader, Blocks, TokenBlocks, WholeUtterances
from vocable.store import Entry
from vocable.tokenizers.streams import TokenStream
from vocable.types import Codebook, TokenSpec

_FRAMES = 1000  # of a recording: 20 s at 50 Hz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8_000_000)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        text = report([row for size in (500, 1 << 17) for row in rows(Path(folder), size, options)], options)
    print(text)
    if options.out:
        options.out.write_text(text)


def rows(folder: Path, size: int, options: argparse.Namespace) -> Iterator[str]:
    packed = pack(folder / str(size), size, options.tokens)
    kinds: dict[str, Callable[[], Blocks]] = {
        "across recordings": lambda: TokenBlocks(packed, options.length),
        "whole recordings": lambda: WholeUtterances(packed, options.length, pad=packed.vocabulary),
    }
    for name, make in kinds.items():
        began = cpu_seconds()
        reader = BlockReader(make(), options.batch, seed=0)
        opened = 1000 * (cpu_seconds() - began)
        alone, helped = speed(reader, 0, options.epochs), speed(reader, 1, options.epochs)
        yield f"| {name} | {packed.tokens.dtype} | {opened:.1f} | {alone / 1e6:,.0f} | {helped / 1e6:,.0f} |"


def speed(reader: BlockReader, workers: int, epochs: int) -> float:
    """Tokens for each second of CPU time."""
    began, tokens = cpu_seconds(), 0
    for _ in range(epochs):
        tokens += sum(batch.numel() for batch in (reader.with_workers(workers) if workers else reader))
    return tokens / (cpu_seconds() - began)


def cpu_seconds() -> float:
    """Of this process and of children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def pack(folder: Path, size: int, tokens: int) -> PackedTokens:
    spec = TokenSpec(16000, 320, (Codebook(size, "L6"),), "a" * 64)
    sink, rng = PackedSink(folder, "", Content(spec, TokenStream(spec)), {}), np.random.default_rng(0)
    for index, frames in enumerate(rng.integers(1, 2 * _FRAMES, tokens // _FRAMES).tolist()):
        ids = rng.integers(0, size, frames)
        sink.add(Row(Entry(str(index), ids[None], spec.num_samples(frames)), ids, None))
    sink.finish()
    return PackedTokens.open(folder)


def report(lines: list[str], options: argparse.Namespace) -> str:
    return f"""# Reading packed tokens

{date.today()}, {machine()}, commit {commit()}

{options.tokens:,} random tokens in recordings of 1 to {2 * _FRAMES - 1}, shuffled, in batches of {options.batch}
blocks of {options.length}, int64, files in memory. Million tokens, padding included, for each second of
CPU time: in this process, and from a worker process, the time of both together with its start and end.
Opened: ms of CPU time before the first batch.

| blocks | on disk | opened, ms | this process | a worker |
|---|---|---|---|---|
{chr(10).join(lines)}

`python -m benchmarks.reading`
"""


if __name__ == "__main__":
    main()
