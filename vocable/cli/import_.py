"""`vocable import`: codebooks and codecs that others published."""

from __future__ import annotations

from pathlib import Path

import click

from vocable.cli import shared
from vocable.cli.train import parse_layers


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...|MODEL", type=click.Path(path_type=Path))
@click.option("--features", metavar="MODEL|mfcc|logmel", help="The features that a codebook is for.")
@click.option("--layers", metavar="6,9", help="Layers of the model: one for each file, in the same order.")
@shared.out_option
@click.option("--revision", help="Revision of the model on the hub.")
@click.option("--bundle", is_flag=True, help="Put the model's weights inside the artifact.")
@click.option("--sample-rate", type=click.IntRange(1), help="Of a codec whose checkpoint does not tell it, in Hz.")
@shared.overwrite_option
def command(
    files: tuple[Path, ...],
    features: str | None,
    layers: str | None,
    out: Path,
    revision: str | None,
    bundle: bool,
    sample_rate: int | None,
    overwrite: bool,
) -> None:
    """Make an artifact of k-means codebooks, of a codec's original checkpoint, or of a model's pickled weights.

    With --features, FILE is a codebook: .npy, .pt, .safetensors, a flat FAISS index, or a KMeans of scikit-learn as
    pickle or joblib wrote it (fairseq, textless, SpeechBrain, ESPnet). Without, it is a checkpoint of encodec (.th) or
    descript-audio-codec (.pth). What a file holds is told by its content. No code in it is run. MODEL, a directory or
    a hub id with pytorch_model.bin and no safetensors, is written anew with safetensors.

    \b
    vocable import km100.bin --features facebook/hubert-base-ls960 --layers 6 --out units/
    vocable import l6.npy l9.npy --features facebook/hubert-base-ls960 --layers 6,9 --out units/
    vocable import encodec_24khz-d7cc33bc.th --out encodec/
    vocable import weights_44khz.pth --out dac/
    vocable import facebook/hubert-base-ls960 --out hubert-base/
    """
    from vocable.files import require_absent

    require_absent(out, overwrite=overwrite)
    if features is None and len(files) == 1 and _is_model(files[0]):
        _model(str(files[0]), out, revision, overwrite=overwrite)
        return
    if features is None:
        _codec(files, layers, out, sample_rate, overwrite=overwrite)
        return
    from vocable.tokenizers.codebooks import import_units

    units = import_units(features, parse_layers(layers), files, revision=revision)
    units.save_pretrained(out, bundle=bundle, overwrite=overwrite)
    sizes = ", ".join(f"{book.label} ({book.size})" for book in units.spec.codebooks)
    shared.say(f"units {units.fingerprint[:12]} in {out}: {sizes}")


def _is_model(path: Path) -> bool:
    return path.is_dir() or (not path.exists() and path.suffix not in {".th", ".pth", ".pt", ".bin"})


def _model(model: str, out: Path, revision: str | None, *, overwrite: bool) -> None:
    from vocable.tokenizers.conversion import convert_checkpoint

    count = convert_checkpoint(model, out, revision=revision, overwrite=overwrite)
    shared.say(f"{count} tensors of {model} in {out}: use it as --features {out} or --tokenizer {out}")


def _codec(files: tuple[Path, ...], layers: str | None, out: Path, sample_rate: int | None, *, overwrite: bool) -> None:
    if len(files) != 1 or layers is not None:
        raise click.UsageError("codebooks need --features, the model that they go with; a codec is a single file")
    from vocable.tokenizers.originals import import_codec

    spec = import_codec(files[0], out, sample_rate=sample_rate, overwrite=overwrite)
    shared.say(
        f"codec in {out}: {spec.num_codebooks} codebooks at {spec.frame_rate:g} frames/s of {spec.sample_rate} Hz"
    )
