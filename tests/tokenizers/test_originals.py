"""Original checkpoints give the codes and the samples that the packages they come from give."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.tiny_originals import (
    CODEBOOKS,
    DAC_ARGUMENTS,
    DIM,
    FILTERS,
    RATIOS,
    SIZE,
    dac_shapes,
    encodec_shapes,
    filled,
    noise,
    write_dac,
    write_encodec,
)
from vocable.errors import ArtifactError, OutputError, VocableError
from vocable.tokenizers.codec import NeuralCodec
from vocable.tokenizers.originals import import_codec
from vocable.types import Audio

# by the packages themselves: codes of noise(channels, 60), every sixth sample decoded from them (first channel)
UPSTREAM = {
    "24": (
        [[3, 5, 9, 9, 9, 3, 3, 9, 5, 9], [5, 5, 5, 3, 3, 3, 5, 7, 5, 3], [3, 2, 3, 2, 3, 9, 5, 2, 2, 2]],
        [-0.065501, -0.077486, -0.066792, -0.112512, -0.104684, -0.093046, -0.10211, -0.079425, -0.087528, -0.063512],
    ),
    "32": (
        [[3, 3, 3, 3, 3, 3, 1, 5, 3, 3], [3, 7, 12, 7, 7, 7, 11, 11, 3, 3]],
        [0.060129, 0.048573, 0.035075, -0.023583, 0.067864, 0.05213, 0.056097, 0.031945, 0.131801, 0.04053],
    ),
    "48": (
        [[1, 1, 13, 14, 3, 1, 0, 15, 11, 12], [5, 13, 5, 13, 15, 6, 15, 5, 6, 5]],
        [0.244808, -0.101676, -0.087126, 0.130235, 0.153585, 0.255067, 0.317018, 0.33594, 0.089842, -0.166945],
    ),
    "dac": (
        [[1, 0, 14, 13, 13, 13, 11, 11, 11, 11], [5, 13, 12, 0, 6, 0, 14, 14, 14, 0], [9, 0, 6, 3, 3, 3, 3, 3, 2, 0]],
        [0.051439, 0.118349, 0.019083, 0.02842, -0.080947, -0.087189, 0.029654, 0.013369, 0.103365, 0.147711],
    ),
}
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def imported(folder: Path, kind: str) -> Path:
    """The directory that a tiny checkpoint becomes."""
    source = write_dac(folder / "weights.pth") if kind == "dac" else write_encodec(folder / f"encodec_{kind}.th", kind)
    import_codec(source, folder / kind)
    return folder / kind


@pytest.mark.parametrize("kind", ["24", "32", "dac"])
def test_codes_and_samples_are_those_of_upstream(kind: str, tmp_path: Path) -> None:
    codec = NeuralCodec.from_pretrained(str(imported(tmp_path, kind)))
    rate = 16000 if kind == "dac" else 1000 * int(kind)
    tokens = codec.encode(Audio.of([noise(1, 60)], rate))
    codes, samples = UPSTREAM[kind]
    assert (tokens.spec.sample_rate, tokens.spec.hop_length) == (rate, 6)
    assert tokens.codes[0].tolist() == codes
    torch.testing.assert_close(codec.decode(tokens).samples[0, 0, ::6], torch.tensor(samples), **TOLERANCE)


def test_the_windows_of_48_khz_are_those_of_upstream(tmp_path: Path) -> None:
    from transformers import EncodecModel

    model = EncodecModel.from_pretrained(imported(tmp_path, "48")).eval()
    with torch.no_grad():
        codes, scale = model._encode_frame(noise(2, 60)[None], model.config.target_bandwidths[-1])
        decoded = model._decode_frame(codes, scale)
    assert codes[0].tolist() == UPSTREAM["48"][0]
    torch.testing.assert_close(decoded[0, 0, ::6], torch.tensor(UPSTREAM["48"][1]), **TOLERANCE)
    assert (model.config.chunk_length, model.config.chunk_stride, model.config.normalize) == (48000, 47520, True)


@pytest.mark.parametrize("kind", ["24", "48", "dac"])
def test_the_directory_is_whole_and_says_what_it_is(kind: str, tmp_path: Path) -> None:
    folder = imported(tmp_path, kind)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "preprocessor_config.json"}
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    rate, channels = (16000, 1) if kind == "dac" else (1000 * int(kind), 2 if kind == "48" else 1)
    assert (preprocessor["sampling_rate"], preprocessor["feature_size"]) == (rate, channels)
    spec = import_codec(next(tmp_path.glob(f"*{kind}.th" if kind != "dac" else "*.pth")), folder, overwrite=True)
    assert NeuralCodec.from_pretrained(str(folder)).spec == spec


def test_bandwidths_are_those_that_were_published(tmp_path: Path) -> None:
    """Of 2, 4, 8 ... codebooks, and of all; here of 4 bits at 4000 frames/s."""
    config = json.loads((imported(tmp_path, "24") / "config.json").read_text())
    assert config["target_bandwidths"] == [2 * 4000 * 4 / 1000, 3 * 4000 * 4 / 1000]
    assert config["upsampling_ratios"] == list(RATIOS)


def test_a_refused_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    state, told = filled(encodec_shapes("24")), {"metadata": {"kwargs": {"sample_rate": 16000}}}
    broken: dict[str, Any] = {
        "missing.th": {name: tensor for name, tensor in state.items() if "decoder.model.4" not in name},
        "strange.th": state | {"lm.weight": torch.zeros(2)},
        "integers.th": state | {"encoder.model.0.conv.conv.bias": torch.zeros(FILTERS, dtype=torch.int64)},
        "shapes.th": state | {"encoder.model.9.conv.conv.bias": torch.zeros(3)},
        "lstm.th": {name: tensor for name, tensor in state.items() if "lstm" not in name},
        "layer.th": {name: tensor for name, tensor in state.items() if name != "encoder.model.7.lstm.weight_ih_l1"},
        "book.th": {name: tensor for name, tensor in state.items() if "layers.1._codebook.embed" not in name},
        "empty.th": {},
        "number.th": 7,
        "rate.pth": {"state_dict": filled(dac_shapes())},
        "gains.pth": {"state_dict": filled(dac_shapes()) | {"encoder.block.0.weight_g": torch.ones(1)}, **told},
        "dac.pth": {"state_dict": {"quantizer.quantizers.0.codebook.weight": torch.zeros(16, 4)}, "metadata": {}},
    }
    for name, values in broken.items():
        torch.save(values, tmp_path / name)
    (tmp_path / "noise.th").write_bytes(b"PK\x03\x04" + bytes(100))
    for name in (*broken, "noise.th", "nothing.th"):
        with pytest.raises(ArtifactError, match=name):
            import_codec(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sample_rate_can_be_told(tmp_path: Path) -> None:
    torch.save({"state_dict": filled(dac_shapes())}, tmp_path / "weights.pth")
    spec = import_codec(tmp_path / "weights.pth", tmp_path / "out", sample_rate=44100)
    assert spec.sample_rate == 44100
    with pytest.raises(OutputError, match="already"):
        import_codec(tmp_path / "weights.pth", tmp_path / "out", sample_rate=44100)


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": filled(dac_shapes()), "metadata": Path("x")}, tmp_path / "weights.pth")
    with pytest.raises(VocableError, match="holds more"):
        import_codec(tmp_path / "weights.pth", tmp_path / "out")


@pytest.fixture
def torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages import it to read files; where it cannot be loaded, an empty module does."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("torchaudio")
@pytest.mark.parametrize("kind", ["24", "32", "48"])
def test_the_encodec_package_agrees(kind: str) -> None:
    pytest.importorskip("encodec", exc_type=ImportError)
    model = upstream_encodec(kind)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == dict(encodec_shapes(kind))
    model.load_state_dict(filled(encodec_shapes(kind)))
    with torch.no_grad():
        ((codes, scale),) = model.encode(noise(model.channels, 60)[None])
        samples = model._decode_frame((codes, scale))
    assert codes[0].tolist() == UPSTREAM[kind][0]
    torch.testing.assert_close(samples[0, 0, ::6], torch.tensor(UPSTREAM[kind][1]), **TOLERANCE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("torchaudio")
def test_the_dac_package_agrees(tmp_path: Path) -> None:
    dac = pytest.importorskip("dac", exc_type=ImportError)
    model = dac.DAC(**DAC_ARGUMENTS).eval()
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == dict(dac_shapes())
    model.load_state_dict(filled(dac_shapes()))
    with torch.no_grad():
        codes = model.encode(noise(1, 60)[None])[1]
        samples = model.decode(model.quantizer.from_codes(codes)[0])
    assert codes[0].tolist() == UPSTREAM["dac"][0]
    torch.testing.assert_close(samples[0, 0, ::6], torch.tensor(UPSTREAM["dac"][1]), **TOLERANCE)
    model.save(str(tmp_path / "weights.pth"), package=False)
    import_codec(tmp_path / "weights.pth", tmp_path / "out")
    tokens = NeuralCodec.from_pretrained(str(tmp_path / "out")).encode(Audio.of([noise(1, 60)], 16000))
    assert tokens.codes[0].tolist() == UPSTREAM["dac"][0]


def upstream_encodec(kind: str) -> Any:
    """encodec.EncodecModel in the shape of the tiny checkpoints."""
    from encodec import EncodecModel
    from encodec.modules import SEANetDecoder, SEANetEncoder
    from encodec.quantization import ResidualVectorQuantizer

    channels, rate = (2, 48000) if kind == "48" else (1, 1000 * int(kind))
    shape = {
        "channels": channels,
        "dimension": DIM,
        "n_filters": FILTERS,
        "ratios": list(RATIOS),
        "norm": "time_group_norm" if kind == "48" else "weight_norm",
        "causal": kind == "24",
        "true_skip": kind == "32",
    }
    quantizer = ResidualVectorQuantizer(dimension=DIM, n_q=CODEBOOKS[kind], bins=SIZE)
    halves = SEANetEncoder(**shape), SEANetDecoder(**shape)
    return EncodecModel(*halves, quantizer, [1.0], rate, channels, normalize=kind == "48").eval()
