"""Tiny likenesses of the built-in models, packed as they are, and a copy of the package that has them inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from scripts.pack_models import pack
from tests.tiny_foreign import write_tiny_foreign
from tests.tiny_own_codecs import random_codec, tiny_design
from vocable.nets.unit_decoder import UnitDecoder
from vocable.quantizers import KMeans
from vocable.tokenizers import SSLExtractor, UnitTokenizer
from vocable.tokenizers.own_codec import write_checkpoint
from vocable.types import TokenSpec
from vocable.vocoders import UnitVocoder, design

_PACKAGE = Path(__file__).parents[1] / "vocable"


def write_units(encoder: Path, out: Path) -> UnitTokenizer:
    """Units of two layers of an encoder, whose centroids are noise."""
    torch.manual_seed(0)
    extractor = SSLExtractor.from_pretrained(str(encoder), layers=[1, 2])
    units = UnitTokenizer(extractor, [KMeans(torch.randn(12, extractor.dim)) for _ in extractor.layers])
    units.save_pretrained(out)
    return units


def write_vocoder(spec: TokenSpec, out: Path) -> UnitVocoder:
    """A vocoder that was never trained."""
    torch.manual_seed(0)
    config = design("tiny", spec, spec.sample_rate)
    config["generator"] |= {"dim": 16, "depth": 1, "width": 32}
    vocoder = UnitVocoder(UnitDecoder(config), spec, spec.sample_rate)
    vocoder.save_pretrained(out)
    return vocoder


def write_parts(folder: Path) -> Path:
    """What is packed: encoder/, units/, vocoder/ and codec/."""
    write_tiny_foreign(folder / "encoder", "w2v-bert")
    units = write_units(folder / "encoder", folder / "units")
    write_vocoder(units.spec, folder / "vocoder")
    write_checkpoint(folder / "codec", *random_codec(tiny_design()), {"recordings": 0})
    return folder


def pack_parts(parts: Path, models: Path) -> Path:
    """All of them packed."""
    pack(models, *(parts / name for name in ("encoder", "units", "vocoder", "codec")))
    return models


def copy_package(folder: Path, models: Path) -> Path:
    """A folder to import vocable from, with these models inside."""
    shutil.copytree(_PACKAGE, folder / "vocable", ignore=shutil.ignore_patterns("models", "__pycache__"))
    shutil.copytree(models, folder / "vocable" / "models")
    return folder


def run_there(package: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python with that copy of the package, and with no hub to fetch from."""
    paths = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
