"""Puts trained models into the package, as those that it brings along: 16 bits, no paths of this machine, checksums.

    python -m scripts.pack_models --encoder encoder/ --units units/ --vocoder vocoder/ --codec codec/

The folders are what `vocable train encoder`, `train kmeans`, `train vocoder` and `train codec` wrote; what is left out
stays as it is. Units keep their fingerprint if they were learned on an encoder saved with --half. Otherwise they are
those of the rounded encoder, and the vocoder, if it was trained on the units given, becomes the vocoder of these.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vocable import artifacts, builtin
from vocable.errors import InputError
from vocable.files import new_directory, write_atomic
from vocable.tokenizers import NeuralCodec, SSLExtractor, UnitTokenizer
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.codec import read_all
from vocable.tokenizers.own_codec import TRAINING, write_checkpoint
from vocable.vocoders import UnitVocoder

LARGEST, MOST = 16_000_000, 48_000_000  # bytes of a file and of all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("encoder", "units", "vocoder", "codec"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--models", type=Path, default=builtin.MODELS, help="where built-in models lie")
    options = parser.parse_args()
    pack(options.models, options.encoder, options.units, options.vocoder, options.codec)


def pack(
    models: Path,
    encoder: Path | None = None,
    units: Path | None = None,
    vocoder: Path | None = None,
    codec: Path | None = None,
) -> None:
    """Packs those that are given. InputError if a file is too large or names a path of this machine."""
    if encoder:
        pack_encoder(encoder, models / builtin.ENCODER)
    made_of = pack_units(units, models / builtin.UNITS, models / builtin.ENCODER) if units else {}
    if vocoder:
        pack_vocoder(vocoder, models / builtin.VOCODER, made_of)
    if codec:
        pack_codec(codec, models / builtin.CODEC)
    check(models)
    sums = {name: digest for folder in folders(models) for name, digest in builtin.sums_of(folder).items()}
    write_atomic(models / builtin.SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())


def pack_encoder(source: Path, out: Path) -> None:
    checkpoint = Checkpoint.open(str(source))
    config = {name: value for name, value in checkpoint.config.items() if name != "_name_or_path"}
    with new_directory(out, overwrite=True) as folder:
        save_file(in_half(read_all(checkpoint)), folder / artifacts.WEIGHTS, metadata={"format": "pt"})
        (folder / artifacts.CONFIG).write_text(as_text(config | {"dtype": "float16"}))
        for name in ("preprocessor_config.json", TRAINING):
            values = checkpoint.read_json(name)
            if values is not None:
                (folder / name).write_text(as_text(values))
    say(out, f"{sum(tensor.numel() for tensor in read_all(Checkpoint.open(str(out))).values()):,} weights")


def pack_units(source: Path, out: Path, encoder: Path) -> dict[str, str]:
    """The old fingerprint, and the new one."""
    units = UnitTokenizer.from_pretrained(source)
    config = units.extractor.config()
    extractor = SSLExtractor.from_pretrained(
        str(encoder),
        layers=config["layers"],
        precision=config["precision"],
        mode=config["mode"],
        normalize_layers=config["normalize_layers"],
    )
    if {name for name in config if config[name] != extractor.config()[name]} - {"weights"}:
        raise InputError(f"expected units of the encoder in {encoder}, got units of another in {source}")
    rounded = UnitTokenizer(extractor, units.quantizers, windows=units.windows, evidence=units.evidence)
    # by the name of the encoder it is found wherever vocable is installed
    artifact = replace(rounded.artifact(), origin={"model": builtin.ENCODER, "revision": None})
    artifacts.save(artifact, out, overwrite=True)
    labels = ", ".join(f"{book.label} ({book.size})" for book in rounded.spec.codebooks)
    say(out, f"{labels}, fingerprint {rounded.fingerprint}")
    if rounded.fingerprint != units.fingerprint:
        print(f"  other units than {units.fingerprint}: the encoder was rounded to 16 bits", file=sys.stderr)
    return {units.fingerprint: rounded.fingerprint}


def pack_vocoder(source: Path, out: Path, made_of: Mapping[str, str]) -> None:
    vocoder = UnitVocoder.from_pretrained(source)
    theirs = made_of.get(vocoder.spec.source, vocoder.spec.source)
    packed = artifacts.read_fingerprint(out.parent / builtin.UNITS)
    if theirs != packed:
        raise InputError(f"expected a vocoder of the units {packed[:12]}, got one of {theirs[:12]}")
    artifact = artifacts.load(source, "vocoder")
    spec = replace(vocoder.spec, source=theirs).to_dict()
    artifact = artifacts.halved(replace(artifact, config=artifact.config | {"spec": spec}, origin={}))
    artifacts.save(artifact, out, half=True, overwrite=True)
    say(out, f"fingerprint {artifact.fingerprint}")


def pack_codec(source: Path, out: Path) -> None:
    checkpoint = Checkpoint.open(str(source))
    evidence = checkpoint.read_json(TRAINING) or {}
    write_checkpoint(out, checkpoint.config, in_half(read_all(checkpoint)), evidence, overwrite=True)
    codec = NeuralCodec.from_pretrained(str(out))
    say(out, f"{codec.spec.num_codebooks} codebooks, {codec.spec.bitrate:g} bit/s, fingerprint {codec.fingerprint}")


def check(models: Path) -> None:
    """InputError if a file is too large, all are, or a configuration names a path of this machine."""
    files = [path for folder in folders(models) for path in folder.iterdir()]
    sizes = {path: path.stat().st_size for path in files}
    for path, size in sizes.items():
        if size > LARGEST:
            raise InputError(f"expected at most {LARGEST:,} bytes a file, got {size:,} in {path}")
        if path.suffix == ".json":
            for text in texts(json.loads(path.read_text())):
                if text.startswith(("/", "~")):
                    raise InputError(f"expected no paths of this machine in {path}, got {text}")
    total = sum(sizes.values())
    if total > MOST:
        raise InputError(f"expected at most {MOST:,} bytes in all, got {total:,}")
    print(f"{total:,} bytes in {models}")


def folders(models: Path) -> list[Path]:
    return [models / name for name in builtin.NAMES if (models / name).is_dir()]


def texts(values: Any) -> Iterator[str]:
    """All strings in JSON values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from texts(value)


def in_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in 16 bits. InputError if that is too few for a number in them."""
    found = {name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}
    for name, tensor in found.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(f"expected numbers of at most 65504 in {name}, which is what 16 bits hold")
    return found


def as_text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def say(folder: Path, told: str) -> None:
    size = (folder / artifacts.WEIGHTS).stat().st_size
    print(f"{folder.name}: {size:,} bytes, {told}")


if __name__ == "__main__":
    main()
