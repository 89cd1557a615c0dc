"""Check the bundled speech samples: format, length, peak, silence at the ends, and (English) the words heard.

Run, in the same environment as make_samples.py (Moonshine's tiny English model comes inside its package):
    python scripts/samples/check_samples.py vocable/samples
It prints one line per clip and ends with status 1 when a clip is outside the limits below.
"""

import argparse
import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import soundfile

RATE = 24_000
SECONDS = (2.5, 6.0)
PEAK_DB = (-3.5, -2.5)
SILENCE = 0.2
TOTAL_BYTES = 2_000_000
WORD_ERROR = 0.10


def load_judge():
    """Moonshine's tiny English transcriber; only its microphone module needs sounddevice, so a stub will do."""
    sys.modules.setdefault("sounddevice", types.ModuleType("sounddevice"))
    from moonshine_voice import ModelArch, get_assets_path
    from moonshine_voice.transcriber import Transcriber

    return Transcriber(str(Path(get_assets_path()) / "tiny-en"), ModelArch.TINY)


def hear(judge, wave: np.ndarray) -> str:
    padded = np.pad(wave, RATE // 2).astype(np.float32)
    return " ".join(line.text.strip() for line in judge.transcribe_without_streaming(padded.tolist(), RATE).lines)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def edits(reference: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


def silence(wave: np.ndarray, floor_db: float = -42.0) -> tuple[float, float]:
    """Seconds before and after the part whose 10 ms level is within `floor_db` of the loudest."""
    hop = RATE // 100
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop)
    level = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (floor_db / 20))
    return loud[0] * hop / RATE, (len(wave) - (loud[-1] + 1) * hop) / RATE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of samples.jsonl")
    folder = parser.parse_args().folder
    judge = load_judge()
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    faults, errors, count = [], 0, 0
    for row in rows:
        path = folder / row["path"]
        info = soundfile.info(path)
        wave, _ = soundfile.read(path)
        peak = 20 * np.log10(np.abs(wave).max())
        before, after = silence(wave)
        if (info.samplerate, info.channels, info.subtype) != (RATE, 1, "PCM_16"):
            faults.append(f"{path.name}: {info.samplerate} Hz, {info.channels} channels, {info.subtype}")
        if not SECONDS[0] <= info.duration <= SECONDS[1]:
            faults.append(f"{path.name}: {info.duration:.2f} s")
        if not PEAK_DB[0] <= peak <= PEAK_DB[1]:
            faults.append(f"{path.name}: peak {peak:.2f} dBFS")
        if max(before, after) > SILENCE:
            faults.append(f"{path.name}: silence {before:.2f} s and {after:.2f} s")
        heard = hear(judge, wave)
        line = f"{path.name}  {info.duration:.2f} s  peak {peak:.2f} dBFS  silence {before:.2f}/{after:.2f} s"
        if row["language"] == "en":
            reference = words(row["text"])
            wrong = edits(reference, words(heard))
            errors, count = errors + wrong, count + len(reference)
            line += f"  words {wrong}/{len(reference)} wrong"
        print(f"{line}  heard: {heard}")
    total = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    print(f"{len(rows)} clips, {total} bytes in the folder, English word error {errors / count:.1%}")
    if total > TOTAL_BYTES:
        faults.append(f"{total} bytes in the folder")
    if errors > WORD_ERROR * count:
        faults.append(f"word error {errors / count:.1%}")
    for fault in faults:
        print(f"outside the limits: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
