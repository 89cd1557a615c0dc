"""The same audio, the same tokens: random recordings in random batches, orders and numbers of workers and threads.

    python -m benchmarks.invariance ../shared/audio/dev [--count 200] [--rounds 20] [--hours 2] [--out FILE]

A small HuBERT with random weights and 500 units of layer 2. Each round writes a store; its codes are
compared with those of every recording alone. Then a recording of hours: its windows, each taken alone, and the memory.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers

from benchmarks.measure import commit, machine, run
from benchmarks.memory import VOCABLE, join
from vocable.audio import read
from vocable.corpus import Corpus, Utterance
from vocable.quantizers.kmeans import KMeans
from vocable.store import TokenStore
from vocable.tokenizers import SSLExtractor, UnitTokenizer, ssl, tokenize
from vocable.tokenizers.ssl_batches import Batch, plan
from vocable.tokenizers.variants import variants
from vocable.types import Audio

LAYER, CLUSTERS, RATE = 2, 500, 16000
Codes = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as work:
        for line in report(options, Path(work)):
            print(line, flush=True)
            lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def report(options: argparse.Namespace, work: Path) -> Iterator[str]:
    rng = random.Random(0)
    everything = list(Corpus.of(options.folder))
    corpus = rng.sample(everything, min(options.count, len(everything)))
    units = make_units(work, corpus)
    exact = codes_alone(corpus, units)
    frames = sum(codes.shape[1] for codes in exact.values())
    yield "# The same audio gives the same tokens"
    yield ""
    yield f"{len(corpus)} recordings, {frames:,} frames; {options.rounds} rounds, each with an order, a size of batches"
    yield "and numbers of decoding processes and of threads drawn at random."
    yield ""
    yield "| | equal to the recording alone, worst round | identical rounds | alone, equal to fp32 exact |"
    yield "|---|---|---|---|"
    made = variants(units)
    for name, tokenizer in made.items():
        alone = codes_alone(corpus, tokenizer)
        rounds = options.rounds if "fp32" in name else min(5, options.rounds)
        shares = [share(alone, round_of(corpus, tokenizer, work / "tokens", rng)) for _ in range(rounds)]
        identical = sum(part == 1 for part in shares)
        yield f"| {name} | {min(shares):.4%} | {identical} of {len(shares)} | {share(exact, alone):.4%} |"
    fast = made["fp32 fast"]
    with mock.patch.object(ssl, "plan", padded):
        shares = [share(exact, round_of(corpus, fast, work / "tokens", rng)) for _ in range(options.rounds)]
        yield f"| fp32 fast in padded batches, as on an accelerator | {min(shares):.4%} | - | - |"
    yield ""
    yield from long_recording(options, units, work)
    yield ""
    yield f"{machine()}; {date.today()}, commit {commit()}; `python -m benchmarks.invariance {' '.join(sys.argv[1:])}`"


def padded(*given: Any, **settings: Any) -> Iterator[Batch]:
    """The batches of an accelerator, which a CPU does not make of itself."""
    return plan(*given, **settings | {"cpu": False})


def make_units(work: Path, corpus: list) -> UnitTokenizer:
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=128,
        num_hidden_layers=LAYER,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=(64,) * 7,
    )
    transformers.logging.disable_progress_bar()
    transformers.HubertModel(config).save_pretrained(work / "model")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(work / "model")
    extractor = SSLExtractor.from_pretrained(str(work / "model"), layers=[LAYER])
    features = extractor.extract(Audio.of([read(some.path, RATE).waveform(0) for some in corpus[:20]], RATE))
    frames = torch.cat([features.utterance(index)[0] for index in range(len(features))])
    chosen = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))[:CLUSTERS]
    return UnitTokenizer(extractor, [KMeans(frames[chosen])])


def codes_alone(corpus: list[Utterance], tokenizer: UnitTokenizer) -> Codes:
    """Codes of each recording, encoded by itself."""
    return {utterance.id: tokenizer.encode(read(utterance.path)).utterance(0).numpy() for utterance in corpus}


def round_of(corpus: list[Utterance], tokenizer: UnitTokenizer, out: Path, rng: random.Random) -> Codes:
    """Codes of a store that was written in a random way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(rng.choice([1, 2, 3]))
    tokenize(
        Corpus(rng.sample(corpus, len(corpus))),
        tokenizer,
        out,
        overwrite=True,
        workers=rng.choice([0, 1, 2, 4]),
        batch_seconds=rng.uniform(5, 300),
        shard_seconds=rng.uniform(0.5, 20),
    )
    torch.set_num_threads(threads)
    return {entry.id: entry.codes for entry in TokenStore.open(out)}


def share(expected: Codes, found: Codes) -> float:
    """Share of equal codes. ValueError if a recording is missing or has another number of frames."""
    if {name: codes.shape for name, codes in expected.items()} != {name: codes.shape for name, codes in found.items()}:
        raise ValueError("other recordings, or other numbers of frames")
    equal = sum(int((expected[name] == found[name]).sum()) for name in expected)
    return equal / sum(codes.size for codes in expected.values())


def long_recording(options: argparse.Namespace, units: UnitTokenizer, work: Path) -> Iterator[str]:
    """Tokenizes hours from the command line, and compares every window with itself alone."""
    path = join(options.folder, work / "long.flac", options.hours)
    units.save_pretrained(work / "units")
    cost = run([*VOCABLE, "tokenize", path, "--tokenizer", work / "units", "--out", work / "long"])
    entry = next(iter(TokenStore.open(work / "long")))
    wave = read(path, RATE).waveform(0)[0]
    equal = total = first = 0
    for window in units.windows.cut(len(wave)):
        codes = units.encode_windows([wave[window.start : window.stop]])[0]
        kept = codes[:, window.skip : window.skip + window.frames].numpy()
        equal += int(np.array_equal(kept, entry.codes[:, first : first + window.frames]))
        total += 1
        first += window.frames
    yield f"A recording of {options.hours:g} h, {entry.codes.shape[1]:,} frames: {equal} of {total} windows have the"
    yield "codes of the same window alone."
    yield f"Peak memory of all processes together {cost.megabytes:.0f} MB, in {cost.seconds:.0f} s."


if __name__ == "__main__":
    main()
