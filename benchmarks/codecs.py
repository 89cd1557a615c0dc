"""Codecs of full size with random weights: a plain transformers loop and vocable in turns, on the same files.

    python -m benchmarks.codecs [FOLDER] [--count 12] [--out benchmarks/results/codecs.md]

Encoding is from files on disk to codes, decoding from codes to samples in memory. Without a folder, or
../shared/audio/dev, the recordings are synthetic.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from torch import Tensor

from benchmarks.measure import commit, machine
from benchmarks.tokenize import NEARBY, choose, synthesize
from vocable.audio import read
from vocable.corpus import Corpus
from vocable.store import TokenStore
from vocable.tokenizers import NeuralCodec, tokenize
from vocable.types import Tokens

MODELS: dict[str, tuple[type, dict[str, Any]]] = {
    "EnCodec 24 kHz": (transformers.EncodecModel, {"target_bandwidths": [6.0]}),
    "DAC 16 kHz": (transformers.DacModel, {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}),
    "Mimi": (transformers.MimiModel, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=NEARBY)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    lines = []
    with tempfile.TemporaryDirectory() as work:
        for line in report(options, Path(work)):
            print(line, flush=True)
            lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def report(options: argparse.Namespace, work: Path) -> Iterator[str]:
    folder: Path = options.folder
    paths = choose(folder, options.count) if folder.is_dir() else synthesize(work / "audio", options.count)
    seconds = sum(soundfile.info(path).duration for path in paths)
    yield "# Codecs against a plain transformers loop"
    yield ""
    yield "Audio-seconds per second; the ratio is vocable's to the loop's."
    yield ""
    yield "| | encode: loop | vocable | ratio | decode: loop | vocable | ratio | equal codes |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, (kind, values) in MODELS.items():
        torch.manual_seed(0)
        model: Any = kind(kind.config_class(**values)).eval()  # type: ignore[attr-defined]
        model.save_pretrained(work / name)
        codec = NeuralCodec.from_pretrained(str(work / name))
        yield f"| {name} | {compare(model, codec, paths, seconds, options.rounds, work)} |"
    yield ""
    yield f"{len(paths)} files, {seconds:.0f} s of audio, best of {options.rounds}; random weights;"
    yield f"{torch.get_num_threads()} threads; {machine()}; {date.today()}, commit {commit()}."


def compare(model: Any, codec: NeuralCodec, paths: list[Path], seconds: float, rounds: int, work: Path) -> str:
    """The cells of one row."""
    count = len(codec.net.labels)
    waves = [read(path, codec.sample_rate).samples for path in paths]
    lengths = [wave.shape[-1] for wave in waves]

    def loop_encode() -> list[Tensor]:
        return [plain_codes(model, codec, read(path, codec.sample_rate).samples, count) for path in paths]

    def encode() -> None:
        tokenize(Corpus.of_lines(map(str, paths)), codec, work / "tokens", overwrite=True, workers=1)

    def loop_decode() -> None:
        for codes in expected:
            model.decode(audio_codes=codes[None]) if "Encodec" not in type(model).__name__ else model.decode(
                codes[None, None], [None]
            )

    with torch.no_grad():
        expected = loop_encode()
        times = [turns([loop_encode, encode], rounds)]
        stored = {entry.path: entry.codes for entry in TokenStore.open(work / "tokens")}
        found = [torch.from_numpy(stored[str(path)]).long() for path in paths]
        tokens = Tokens.of(found, codec.spec, lengths)
        times.append(turns([loop_decode, lambda: codec.decode(tokens)], rounds))
    equal = sum(int((a[:, : b.shape[1]] == b).sum()) for a, b in zip(expected, found, strict=True))
    cells = [f"{seconds / a:.1f} | {seconds / b:.1f} | {a / b:.2f}" for a, b in times]
    return " | ".join([*cells, f"{equal / sum(codes.numel() for codes in found):.4%}"])


def plain_codes(model: Any, codec: NeuralCodec, wave: Tensor, count: int) -> Tensor:
    """Codes [k, t] as transformers gives them for one file, padded to whole frames as vocable does."""
    hop = codec.net.hop_length
    padded = torch.nn.functional.pad(wave, (0, -wave.shape[-1] % hop))
    codes = model.encode(padded).audio_codes
    return codes.reshape(-1, codes.shape[-1])[:count]


def turns(runs: list[Callable[[], object]], rounds: int) -> tuple[float, ...]:
    """The best time of each, taken in turns."""
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for index, run in enumerate(runs):
            began = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - began)
    return tuple(best)


if __name__ == "__main__":
    main()
