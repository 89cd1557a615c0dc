"""Features from self-supervised models: the hidden states of HuBERT, wav2vec 2.0, WavLM and the like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocable.artifacts import hash_tensors
from vocable.clock import num_frames
from vocable.errors import ArtifactError, InputError
from vocable.nets.encoder import Encoder
from vocable.nets.ssl import SSLEncoder
from vocable.nets.threads import one_thread_each
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.ssl_batches import Batch, Mode, plan
from vocable.tokenizers.ssl_loading import load_encoder, read_preprocessing, rebuild_encoder
from vocable.types import Audio, Features

__all__ = ["Mode", "Precision", "SSLExtractor"]

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CONTEXT_SECONDS = 3.0


class SSLExtractor:
    """Frames [B, L, T, D] of chosen layers, T = (N - window) // hop_length + 1; a clip below a window is padded to it.

    "L6" is the output of transformer block 6 (hidden_states[6] in transformers), "L0" the input of the first block;
    "L6.pre" is what block 6's feed-forward network gives before its residual and final norm (see nets.ssl).

    net: the network with its weights in float32; it is the extractor's from then on.
    normalize: whether waveforms get zero mean and unit variance first, as some models were trained.
    normalize_layers: whether each frame of each layer gets zero mean and unit variance over D (a layer norm).
    precision: of the weights and activations behind the first convolution. Features are float32 in any case.
    mode: "exact" gives an utterance the same bits alone, in any batch and in any order; "fast" equals them up to
        rounding, and fills an accelerator better. On a CPU each utterance runs alone and on one core in either mode,
        so the number of cores has no part in its bits; to use all cores, give as many utterances at once.
    """

    def __init__(
        self,
        net: Encoder,
        *,
        normalize: bool,
        origin: Mapping[str, str | None],
        device: str = "cpu",
        precision: Precision = "fp32",
        mode: Mode = "exact",
        normalize_layers: bool = False,
    ) -> None:
        if precision not in _DTYPES or mode not in get_args(Mode):
            expected = f"precision {', '.join(_DTYPES)} and mode {', '.join(get_args(Mode))}"
            raise InputError(f"expected {expected}, got {precision!r} and {mode!r}")
        module = cast(nn.Module, net)
        tensors = dict(module.state_dict())
        self._weights = hash_tensors(tensors)
        # in low precision these are the only copy of the weights as they were read
        self._tensors = None if precision == "fp32" else tensors
        self._net = _prepared(module, torch.device(device), _DTYPES[precision])
        self.normalize, self.normalize_layers = normalize, normalize_layers
        self.precision: Precision = precision
        self.mode: Mode = mode
        self.origin = dict(origin)
        self.device = torch.device(device)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        layers: Sequence[int | str] | None = None,
        revision: str | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
        mode: Mode = "exact",
        normalize_layers: bool = False,
    ) -> SSLExtractor:
        """Reads a hub id or a local directory; only the tensors that the deepest of the layers needs.

        layers: 6, "6", "L6", "6.pre" or "L6.pre", from 0 to the number of blocks; None for L0 to the last.
        ArtifactError if a file or a tensor is missing or damaged. InputError for layers that the model does not have,
        or a kind of model that is not supported.
        """
        checkpoint = Checkpoint.open(model, revision=revision)
        sample_rate, normalize = read_preprocessing(checkpoint)
        net = load_encoder(checkpoint, layers, sample_rate=sample_rate)
        origin = {"model": checkpoint.model, "revision": checkpoint.revision}
        return cls(
            net,
            normalize=normalize,
            origin=origin,
            device=device,
            precision=precision,
            mode=mode,
            normalize_layers=normalize_layers,
        )

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
            extractor = cls(
                _net(config, origin, tensors),
                normalize=config["normalize"],
                origin=origin,
                device=device,
                precision=config["precision"],
                mode=config["mode"],
                normalize_layers=config["normalize_layers"],
            )
            weights, place = str(config["weights"]), "the artifact" if tensors else origin["model"]
        except (KeyError, TypeError, AttributeError, InputError) as problem:
            raise ArtifactError(f"expected the configuration of an SSL extractor, got {config!r}") from problem
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
    def sample_rate(self) -> int:
        """Hz of the audio that the model takes."""
        return self._net.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""
        return self._net.hop_length

    @property
    def window(self) -> int:
        """Samples that one frame sees of the convolutions."""
        return self._net.window

    @property
    def context(self) -> int:
        """Frames on either side that windows of long audio get; attention itself has no bound."""
        return round(_CONTEXT_SECONDS * self.sample_rate / self.hop_length)

    @property
    def longest(self) -> int | None:
        """Frames that an utterance may have at most, None without a bound."""
        return self._net.longest

    @property
    def layers(self) -> tuple[str, ...]:
        """Labels of the layers, in the order asked for."""
        return self._net.labels

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return self._net.dim

    @torch.no_grad()
    def extract(self, audio: Audio) -> Features:
        """Features, on the extractor's device.

        InputError for an empty utterance, one of more frames than `longest`, and audio not mono at `sample_rate`.
        """
        audio.require_mono(self.sample_rate)
        lengths = [num_frames(n, self.hop_length, self.window) for n in audio.lengths.tolist()]
        if self.longest is not None and max(lengths, default=0) > self.longest:
            raise InputError(f"expected at most {self.longest} frames at once, got {max(lengths)}")
        with one_thread_each():  # a mean over many samples depends on how threads share them
            waves = [self._prepare(audio.waveform(index)[0]) for index in range(len(audio))]
        shape = len(waves), len(self.layers), max(lengths, default=0), self.dim
        frames = torch.zeros(shape, device=self.device)
        for row, part in self._run_all(waves):
            frames[row, :, : lengths[row]] = part[:, : lengths[row]]
        return Features(frames, torch.tensor(lengths, dtype=torch.int64), self.hop_length, self.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are, whatever the place of the model; see `from_config`."""
        return {
            "kind": "ssl",
            "model": self._net.settings(),
            "layers": list(self.layers),
            "normalize": self.normalize,
            "normalize_layers": self.normalize_layers,
            "precision": self.precision,
            "mode": self.mode,
            "weights": self._weights,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name, in float32 whatever the precision."""
        tensors = self._tensors or dict(cast(nn.Module, self._net).state_dict())
        # a packed weight has no storage that could be written to a file
        return {name: tensor.to_dense() if tensor.is_mkldnn else tensor for name, tensor in tensors.items()}

    def _prepare(self, wave: Tensor) -> Tensor:
        """One utterance [n] as the model wants it: unit variance if it was trained so, and one window at least."""
        wave = wave.float()
        if self.normalize:
            # 1e-7 as in transformers' Wav2Vec2FeatureExtractor
            wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        # a buffer of its own: where a row lies in a batch's memory must not choose another kernel
        return F.pad(wave, (0, max(0, self.window - len(wave)))).clone()

    def _run_all(self, waves: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        cpu, net = self.device.type == "cpu", self._net
        batches = plan(waves, self.mode, cpu=cpu, padding=net.padding, rate=net.sample_rate, window=net.window)
        for batch, frames in self._side_by_side(list(batches)) if cpu else map(self._run, batches):
            # no `strict`: fixed batches may be filled up with rows that stand for nothing
            yield from zip(batch.rows, frames, strict=False)

    def _side_by_side(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Each batch on a thread of its own: the number of cores has no part in its bits.

        Nor do threads wait for one another at the end of each operation, which costs most where cores are shared.
        """
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            yield from pool.map(self._run, batches)

    @torch.no_grad()
    def _run(self, batch: Batch) -> tuple[Batch, Tensor]:
        lengths = None if batch.lengths is None else batch.lengths.to(self.device)
        frames = self._net(batch.samples.to(self.device), lengths).float()
        return batch, F.layer_norm(frames, frames.shape[-1:]) if self.normalize_layers else frames


def _prepared(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Encoder:
    """The module ready to run; tensors given out before keep their values."""
    module.to(device).eval().requires_grad_(False)
    if isinstance(module, SSLEncoder):
        module.prepare(dtype)
    else:
        module.to(dtype)
    return cast(Encoder, module)


def _net(config: Mapping[str, Any], origin: Mapping[str, Any], tensors: Mapping[str, Tensor] | None) -> Encoder:
    if tensors is not None:
        return rebuild_encoder(config["model"], config["layers"], tensors)
    checkpoint = Checkpoint.open(origin["model"], revision=origin["revision"])
    return load_encoder(checkpoint, config["layers"], sample_rate=read_preprocessing(checkpoint)[0])
