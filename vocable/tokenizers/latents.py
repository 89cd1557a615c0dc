"""What a codec's encoder gives before its quantizer, as features on which any quantizer can be fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vocable.artifacts import hash_tensors
from vocable.clock import num_frames
from vocable.errors import ArtifactError, InputError
from vocable.nets.each import run_each
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.codec import naming, plain_settings, read_all, recover_weights, whole_frames
from vocable.tokenizers.own_codec import build_net
from vocable.types import Audio, Features

KIND = "latents"


class LatentExtractor:
    """Frames [B, 1, T, D] of a codec's encoder, T = ceil(N / hop_length), from mono audio padded with zeros to frames.

    They are those that the codec quantizes: of EnCodec at 48 kHz, those of the utterance brought to unit level, and of
    as many frames as one of its windows has at most. On a CPU each utterance runs alone and on one core, so its bits
    depend on nothing else.

    settings: config.json of the codec. tensors: its weights, float32, by their published names.
    precision: "fp32", "bf16" or "fp16", of the encoder; features come out in float32.
    origin: where the weights were found, {"model": ..., "revision": ...}.
    InputError if the model is not a codec known here, or anything does not fit.
    """

    layers = ("latents",)
    window = 1

    def __init__(
        self,
        settings: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        precision: str = "fp32",
        origin: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self._net = build_net(settings, tensors, precision=precision)
        self._settings = plain_settings(settings)
        self._tensors = dict(tensors)
        self._weights = hash_tensors(tensors)
        self.precision = precision
        self.origin = dict(origin or {})
        self.device = torch.device(device)
        self._net.to(self.device)

    @classmethod
    def from_pretrained(
        cls, model: str, *, revision: str | None = None, device: str = "cpu", precision: str = "fp32"
    ) -> LatentExtractor:
        """Reads a hub id or a local directory, as the codec was published.

        ArtifactError if a file or a tensor is missing or damaged. InputError for a model that is no codec known here.
        """
        checkpoint = Checkpoint.open(model, revision=revision)
        origin = {"model": checkpoint.model, "revision": checkpoint.revision}
        tensors = read_all(checkpoint)
        with naming(checkpoint):
            return cls(checkpoint.config, tensors, precision=precision, origin=origin, device=device)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        origin: Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        device: str = "cpu",
    ) -> LatentExtractor:
        """The extractor that `config()` described, with the tensors given, else with those found at `origin`.

        ArtifactError if the weights are not those of the configuration.
        """
        try:
            found, _ = recover_weights(tensors or {}, origin, str(config["weights"]))
            extractor = cls(config["model"], found, precision=config["precision"], origin=origin, device=device)
        except (KeyError, TypeError, AttributeError, InputError) as problem:
            raise ArtifactError(f"expected the configuration of codec latents, got {config!r}") from problem
        if extractor.config() != config:
            raise ArtifactError(f"expected the configuration of codec latents, got {config!r}", hint="update vocable")
        return extractor

    @property
    def sample_rate(self) -> int:
        """Hz of the audio."""
        return self._net.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""
        return self._net.hop_length

    @property
    def context(self) -> int:
        """Frames on either side that a frame depends on, or 3 s where that has no bound."""
        return self._net.context

    @property
    def longest(self) -> int | None:
        """Frames that one utterance may have at most, None without a bound."""
        return self._net.longest

    @property
    def dim(self) -> int:
        """Width of the latents."""
        return self._net.dim

    def extract(self, audio: Audio) -> Features:
        """Features, on the extractor's device.

        InputError for an empty utterance, one that is too long, and for audio not mono at the extractor's rate.
        """
        audio.require_mono(self.sample_rate)
        lengths = [num_frames(n, self.hop_length) for n in audio.lengths.tolist()]
        longest = max(lengths, default=0)
        if self.longest is not None and longest > self.longest:
            raise InputError(
                f"expected at most {self.longest} frames, got {longest}", hint="cut the audio into windows"
            )
        waves = [whole_frames(audio.waveform(row), self._net) for row in range(len(audio))]
        frames = torch.zeros(len(audio), 1, longest, self.dim, device=self.device)
        for row, part in enumerate(run_each(self._net.latents, waves, self.device)):
            frames[row, 0, : len(part)] = part
        return Features(frames, torch.tensor(lengths, dtype=torch.int64), self.hop_length, self.sample_rate)

    def config(self) -> dict[str, Any]:
        """Plain values that say which features these are, whatever the place of the model; see `from_config`."""
        return {"kind": KIND, "model": self._settings, "weights": self._weights, "precision": self.precision}

    def state_dict(self) -> dict[str, Tensor]:
        """The weights of the whole codec, by their published names."""
        return dict(self._tensors)
