"""What recordings cost as compressed files: raw codes, models of codes, and bytes on disk.

    python -m benchmarks.compression ../shared/audio --tokenizer UNITS --tokenizer CODEC [--out FILE]

The folder holds dev.jsonl, of which every twelfth recording is taken. Order 0 and adaptive: what the models say that
codes cost. Heads: bytes of them. Beyond: what files have beyond heads and the model (blocks, ends), in percent of it.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import commit, machine
from vocable import audio
from vocable.cli.shared import open_tokenizer
from vocable.compression import MODELS, Head, Reader, Writer
from vocable.compression.container import block_frames
from vocable.corpus import Corpus
from vocable.types import TokenSpec


@dataclass
class Recording:
    codes: np.ndarray
    samples: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--tokenizer", action="append", required=True, help="units or a codec; several times for several"
    )
    parser.add_argument("--every", type=int, default=12, help="recording of dev.jsonl")
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = report(list(rows(options)), options)
    print(text)
    if options.out:
        options.out.write_text(text)


def rows(options: argparse.Namespace) -> Iterator[str]:
    paths = [entry.path for entry in Corpus.of(options.folder / "dev.jsonl")][:: options.every][: options.files]
    for name in options.tokenizer:
        tokenizer = open_tokenizer(name)
        found = []
        for path in paths:
            tokens = tokenizer.encode(audio.read(path))
            found.append(Recording(tokens.utterance(0).numpy(), int(tokens.samples[0])))
        yield from compared(Path(name).name, tokenizer.spec, found)


def compared(name: str, spec: TokenSpec, found: Sequence[Recording]) -> Iterator[str]:
    """Rows for all codebooks and for the first half and the first of them, apart and as one long recording."""
    counts = sorted({spec.num_codebooks, max(1, spec.num_codebooks // 2), 1}, reverse=True)
    for count in counts if spec.labels[0] == "rvq0" else counts[:1]:
        part = spec.take(range(count))
        apart = [Recording(one.codes[:count], one.samples) for one in found]
        yield row(name, f"{len(found)} files", part, apart)
        codes = np.concatenate([one.codes for one in apart], axis=1)
        yield row(name, "one file", part, [Recording(codes, spec.num_samples(codes.shape[1]))])


def row(name: str, kind: str, spec: TokenSpec, found: Sequence[Recording]) -> str:
    seconds = sum(one.codes.shape[1] for one in found) / spec.frame_rate
    sizes = [book.size for book in spec.codebooks]
    bits = {coder: sum(cost(one.codes, sizes, coder) for one in found) / seconds for coder in ("order0", "adaptive")}
    head = Head(spec, spec.sample_rate, block_frames(spec))
    began = time.process_time()
    files = [written(one, head) for one in found]
    middle = time.process_time()
    for one, data in zip(found, files, strict=True):
        assert np.array_equal(np.concatenate(list(Reader(io.BytesIO(data))), axis=1), one.codes)
    ended = time.process_time()
    total, heads = sum(map(len, files)), len(files) * (len(head.to_bytes()) + 10)
    beyond = 100 * (8 * (total - heads) / seconds / bits["adaptive"] - 1)
    fast = f"{seconds / (middle - began):,.0f} / {seconds / (ended - middle):,.0f}"
    figures = [spec.bitrate, bits["order0"], bits["adaptive"], 8 * total / seconds]
    cells = [name, str(spec.num_codebooks), kind, *(f"{value:,.0f}" for value in figures)]
    return f"| {' | '.join(cells)} | {total:,} | {heads:,} | {beyond:.1f} | {fast} |"


def cost(codes: np.ndarray, sizes: Sequence[int], coder: str) -> float:
    """Bits of codes [K, T] under a model that learns as it goes."""
    model, total = MODELS[coder](sizes), 0.0
    for column in codes.T.tolist():
        for book, code in enumerate(column):
            expected = model.frequencies(book)
            total -= math.log2(float(expected[code]) / float(expected.sum(dtype=np.float64)))
            model.update(book, code)
    return total


def written(one: Recording, head: Head) -> bytes:
    sink = io.BytesIO()
    writer = Writer(sink, head)
    writer.write(one.codes)
    writer.finish(one.samples)
    return sink.getvalue()


def report(lines: Sequence[str], options: argparse.Namespace) -> str:
    command = " ".join(
        ["python -m benchmarks.compression ../shared/audio", *(f"--tokenizer {t}" for t in options.tokenizer)]
    )
    return f"""# Compressed files

{date.today()}, {machine()}, commit {commit()}

{options.files} recordings of dev, apart and as one long one: bit/s, bytes, percent of the adaptive model's
bits, and how many times as fast as the sound the coder writes and reads on one core, checks included.

| tokenizer | codebooks | as | raw | order 0 | adaptive | on disk | bytes | heads | beyond, % | coder |
|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

`{command}`
"""


if __name__ == "__main__":
    main()
