"""Codecs as their authors publish them (encodec's .th, descript-audio-codec's .pth), in transformers' layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable.errors import ArtifactError, InputError, OutputError
from vocable.files import new_directory, require_absent
from vocable.tokenizers.codebooks import is_dense, read_torch
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.originals_dac import convert_dac
from vocable.tokenizers.originals_encodec import convert_encodec
from vocable.types import TokenSpec

_DAC, _ENCODEC = "quantizer.quantizers.0.codebook.weight", "quantizer.vq.layers.0._codebook.embed"
_KINDS = "codecs are read from files of encodec and descript-audio-codec; a codebook needs --features MODEL --layers N"


def import_codec(path: Path, out: Path, *, sample_rate: int | None = None, overwrite: bool = False) -> TokenSpec:
    """Writes the codec in a checkpoint of encodec or descript-audio-codec as a directory, and says what its tokens are.

    The directory has config.json, model.safetensors and preprocessor_config.json, as NeuralCodec.from_pretrained and
    transformers read them. Neither upstream package is needed, and no code in the file is run.
    sample_rate: in Hz, for a checkpoint that does not tell its own.
    ArtifactError if the file is missing, damaged or no such checkpoint. OutputError if `out` is there already.
    """
    require_absent(out, overwrite=overwrite)
    settings, tensors = _converted(path, sample_rate)
    try:
        spec = NeuralCodec(settings, tensors).spec
        _require_all_used(settings, tensors)
    except (InputError, ArtifactError) as problem:
        raise ArtifactError(f"{path}: {problem.message}", hint=problem.hint) from problem
    _write(out, settings, tensors, overwrite=overwrite)
    return spec


def _converted(path: Path, sample_rate: int | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors under transformers' names."""
    try:
        values = read_torch(path.read_bytes())
        state = _state(values)
        if _ENCODEC in state:
            return convert_encodec(state)
        return convert_dac(state, sample_rate or _sample_rate(values))
    except ArtifactError as problem:
        raise ArtifactError(f"{path}: {problem.message}", hint=problem.hint or _KINDS) from problem
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}") from problem


def _state(values: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name: at its top, or one level down."""
    if isinstance(values, Mapping):
        for inner in (values, values.get("state_dict"), values.get("best_state")):
            if isinstance(inner, Mapping) and (_DAC in inner or _ENCODEC in inner):
                return {str(name): _float32(str(name), tensor) for name, tensor in inner.items()}
    raise ArtifactError("expected a checkpoint of encodec or of descript-audio-codec, got something else")


def _float32(name: str, tensor: Any) -> Tensor:
    if not is_dense(tensor):
        raise ArtifactError(f"expected floating-point numbers in {name}, got something else")
    converted: Tensor = tensor.detach().to(torch.float32).contiguous()
    return converted


def _sample_rate(values: Mapping[str, Any]) -> int:
    """What descript-audio-codec notes beside its weights: the arguments that made the model."""
    try:
        return int(values["metadata"]["kwargs"]["sample_rate"])
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(
            "expected a checkpoint that tells its sample rate, got none", hint="name it with --sample-rate"
        ) from None


def _require_all_used(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """ArtifactError if a tensor has no place in the model: its sizes were then read off the wrong ones."""
    import transformers

    kind = getattr(transformers, settings["architectures"][0])
    with torch.device("meta"):
        known = kind(kind.config_class.from_dict(dict(settings))).state_dict()
    if left := sorted(set(tensors) - set(known)):
        raise ArtifactError(f"expected the tensors of one model, got {left[0]} with no place in it")


def _write(out: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], *, overwrite: bool) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with new_directory(out, overwrite=overwrite) as folder:
        for name, values in (("config.json", settings), ("preprocessor_config.json", _preprocessor(settings))):
            (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        try:
            save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
        except SafetensorError as problem:
            raise OutputError(f"cannot write {out}: {problem}", hint="is the disk full?") from problem


def _preprocessor(settings: Mapping[str, Any]) -> dict[str, Any]:
    common = {
        "feature_size": settings.get("audio_channels", 1),
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": settings["sampling_rate"],
    }
    if settings["model_type"] == "dac":
        return {"feature_extractor_type": "DacFeatureExtractor", "hop_length": settings["hop_length"], **common}
    cut = {name: settings[name] for name in ("chunk_length_s", "overlap")}
    return {"feature_extractor_type": "EncodecFeatureExtractor", **cut, **common}
