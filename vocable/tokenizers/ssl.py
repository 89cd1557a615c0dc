"""Features from self-supervised models: the hidden states of HuBERT, wav2vec 2.0 or WavLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from vocable.artifacts import hash_tensors
from vocable.clock import num_frames
from vocable.errors import ArtifactError, InputError
from vocable.nets.ssl import SSLEncoder
from vocable.nets.ssl_config import SSLConfig
from vocable.nets.threads import one_thread_each
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.types import Audio, Features

_SAMPLE_RATE = 16000
_CONTEXT_SECONDS = 3.0
_BATCH_SAMPLES = 480 * _SAMPLE_RATE  # per pass on an accelerator: 32 utterances of 15 s
_PREFIXES = ("", "hubert.", "wav2vec2.", "wavlm.")
_PROBE = "feature_extractor.conv_layers.0.conv.weight"
_NEW_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


class SSLExtractor:
    """Frames [B, L, T, D] of chosen layers, T = (N - window) // hop_length + 1; a clip below a window is padded to it.

    "L6" is the output of transformer block 6 (hidden_states[6] in transformers), "L0" the input of the first block.
    On a CPU each utterance runs alone and on one core, so its bits depend on nothing else; to use all cores, give as
    many utterances at once. On an accelerator padded batches run under masks, equal to the utterance alone up to
    rounding.
    """

    sample_rate = _SAMPLE_RATE

    def __init__(
        self, net: SSLEncoder, *, normalize: bool, origin: Mapping[str, str | None], device: str = "cpu"
    ) -> None:
        self._weights = hash_tensors(net.state_dict())
        self._net = net.to(device).eval().requires_grad_(False)
        self.normalize = normalize
        self.origin = dict(origin)
        self.device = torch.device(device)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        layers: Sequence[int] | None = None,
        revision: str | None = None,
        device: str = "cpu",
    ) -> SSLExtractor:
        """Reads a hub id or a local directory; only the tensors that the deepest of the layers needs.

        layers: 0 to the number of blocks, None for all of them.
        ArtifactError if a file or a tensor is missing or damaged. InputError for layers that the model does not have,
        or a kind of model that is not supported.
        """
        checkpoint = Checkpoint.open(model, revision=revision)
        config = SSLConfig.from_dict(checkpoint.config)
        preprocessor = checkpoint.read_json("preprocessor_config.json") or {}
        if preprocessor.get("sampling_rate", _SAMPLE_RATE) != _SAMPLE_RATE:
            raise InputError(f"expected a model of {_SAMPLE_RATE} Hz, got one of {preprocessor['sampling_rate']} Hz")
        net = _empty(config, range(config.num_hidden_layers + 1) if layers is None else layers)
        _fill(net, _read(checkpoint, net), str(checkpoint.folder))
        normalize = bool(preprocessor.get("do_normalize", config.feat_extract_norm == "layer"))
        return cls(net, normalize=normalize, origin=_origin(checkpoint), device=device)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        origin: Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        device: str = "cpu",
    ) -> SSLExtractor:
        """The extractor that `config()` described, with the tensors given, else with those found at `origin`.

        ArtifactError if the weights are not those of the configuration.
        """
        try:
            net = _empty(SSLConfig.from_dict(config["model"]), config["layers"])
            normalize, weights = bool(config["normalize"]), str(config["weights"])
            place, revision = origin["model"], origin["revision"]
        except (KeyError, TypeError, AttributeError, InputError) as problem:
            raise ArtifactError(f"expected the configuration of an SSL extractor, got {config!r}") from problem
        if tensors is None:
            checkpoint = Checkpoint.open(place, revision=revision)
            place, tensors = str(checkpoint.folder), _read(checkpoint, net)
        _fill(net, tensors, place)
        extractor = cls(net, normalize=normalize, origin=origin, device=device)
        if extractor._weights != weights:
            raise ArtifactError(
                f"expected the weights {weights[:12]}, got {extractor._weights[:12]} in {place}",
                hint="put the model with which the units were trained back there, or train units on this one",
            )
        if extractor.config() != config:
            raise ArtifactError(
                f"expected the configuration of an SSL extractor, got {config!r}", hint="update vocable"
            )
        return extractor

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""
        return self._net.config.hop_length

    @property
    def window(self) -> int:
        """Samples that one frame sees of the convolutions."""
        return self._net.config.window

    @property
    def context(self) -> int:
        """Frames on either side that windows of long audio get; attention itself has no bound."""
        return round(_CONTEXT_SECONDS * self.sample_rate / self.hop_length)

    @property
    def layers(self) -> tuple[str, ...]:
        """Labels of the layers, in the order asked for."""
        return tuple(f"L{layer}" for layer in self._net.layers)

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return self._net.config.hidden_size

    @torch.no_grad()
    def extract(self, audio: Audio) -> Features:
        """Features, on the extractor's device. InputError for an empty utterance and for audio not mono at 16 kHz."""
        audio.require_mono(self.sample_rate)
        lengths = [num_frames(n, self.hop_length, self.window) for n in audio.lengths.tolist()]
        waves = [self._prepare(audio.waveform(index)[0]) for index in range(len(audio))]
        shape = len(waves), len(self.layers), max(lengths, default=0), self.dim
        frames = torch.zeros(shape, device=self.device)
        for row, part in self._alone(waves) if self.device.type == "cpu" else self._padded(waves):
            frames[row, :, : lengths[row]] = part[:, : lengths[row]]
        return Features(frames, torch.tensor(lengths, dtype=torch.int64), self.hop_length, self.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are, whatever the place of the model; see `from_config`."""
        return {
            "kind": "ssl",
            "model": self._net.config.to_dict(),
            "layers": list(self._net.layers),
            "normalize": self.normalize,
            "weights": self._weights,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The weights in use, by name."""
        return dict(self._net.state_dict())

    def _prepare(self, wave: Tensor) -> Tensor:
        """One utterance [n] as the model wants it: unit variance if it was trained so, and one window at least."""
        wave = wave.float()
        if self.normalize:
            # 1e-7 as in transformers' Wav2Vec2FeatureExtractor
            wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        # a buffer of its own: where a row lies in a batch's memory must not choose another kernel
        return F.pad(wave, (0, max(0, self.window - len(wave)))).clone()

    def _alone(self, waves: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Each utterance on a thread of its own, the longest first: the number of cores has no part in its bits.

        Nor do threads wait for one another at the end of each operation, which costs most where cores are shared.
        """
        rows = sorted(range(len(waves)), key=lambda row: -len(waves[row]))
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            yield from zip(rows, pool.map(self._run, [waves[row] for row in rows]), strict=True)

    @torch.no_grad()
    def _run(self, wave: Tensor) -> Tensor:
        return cast(Tensor, self._net(wave[None]))[0]

    def _padded(self, waves: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        for rows in _buckets([len(wave) for wave in waves], _BATCH_SAMPLES):
            samples = torch.nn.utils.rnn.pad_sequence([waves[row] for row in rows], batch_first=True)
            lengths = torch.tensor([len(waves[row]) for row in rows])
            yield from zip(rows, self._net(samples.to(self.device), lengths.to(self.device)), strict=True)


def _empty(config: SSLConfig, layers: Sequence[int]) -> SSLEncoder:
    with torch.device("meta"):
        return SSLEncoder(config, layers)


def _read(checkpoint: Checkpoint, net: SSLEncoder) -> dict[str, Tensor]:
    """The tensors of the network, whatever head they were saved under and whichever way weight norm was written."""
    prefix = next((prefix for prefix in _PREFIXES if prefix + _PROBE in checkpoint.files), "")
    return checkpoint.read({name: _written(prefix + name, checkpoint.files) for name in net.state_dict()})


def _written(name: str, files: Mapping[str, str]) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_NEW_NAMES[last]}" if last in _NEW_NAMES and name not in files else name


def _fill(net: SSLEncoder, tensors: Mapping[str, Tensor], place: str) -> None:
    expected = net.state_dict()
    if expected.keys() != tensors.keys():
        raise ArtifactError(
            f"{place} does not hold this model's tensors: {sorted(expected.keys() ^ tensors.keys())[0]}"
        )
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            found = list(tensors[name].shape)
            raise ArtifactError(f"expected {name} of shape {list(tensor.shape)}, got {found} in {place}")
    net.load_state_dict(dict(tensors), assign=True)


def _origin(checkpoint: Checkpoint) -> dict[str, str | None]:
    return {"model": checkpoint.model, "revision": checkpoint.revision}


def _buckets(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Indices in groups of similar length, each padded to at most `limit` samples or alone."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and lengths[index] * (len(group) + 1) > limit:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
