"""Neural codecs of all families as tokenizers that are their own vocoders; and their artifact."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vocable import artifacts
from vocable.artifacts import Artifact, hash_tensors
from vocable.audio import conform
from vocable.clock import Windows, num_frames
from vocable.errors import ArtifactError, InputError, SpecError
from vocable.nets.codec_families import LEVELS, level_codes, level_values, measure
from vocable.nets.codecs import FAMILIES, CodecNet
from vocable.nets.each import run_each
from vocable.nets.threads import one_thread_each
from vocable.tokenizers.checkpoint import Checkpoint
from vocable.tokenizers.own_codec import MODEL_TYPE, TRAINING, build_net, write_checkpoint
from vocable.types import Audio, Codebook, Tokens, TokenSpec

if TYPE_CHECKING:
    from vocable.tokenizers.streaming import CodecStream

KIND = "codec"
_KNOWN = (*FAMILIES, MODEL_TYPE)
SCALE = "scale"
_WINDOW_SECONDS = 30.0
_WINDOWS_AT_ONCE = 8  # in memory; no result depends on it
_NO_SETTINGS = frozenset(
    {"_commit_hash", "_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"}
)


class NeuralCodec:
    """Audio -> Tokens with K residual codebooks "rvq0", "rvq1", ... (or one, "fsq0"), T = ceil(N / hop) -> Audio again.

    Audio is padded with zeros to whole frames. On a CPU every window runs alone and on one core, so the codes and the
    samples of an utterance depend on nothing else. Recordings longer than 30 s are cut into windows with context, which
    belong to the fingerprint. Any first few codebooks of tokens decode: `tokens.take(["rvq0", "rvq1"])` is the lower
    bitrate. EnCodec at 48 kHz works on windows of 1 s, each normalised to unit level; the level is one more codebook,
    "scale", of 256 entries 0.5 dB apart from -120 dB (root mean square, of full scale) on, constant over a window.
    Without it sound comes back at unit level. Upstream keeps the level as a float, and overlaps windows by 1 %.

    settings: config.json of the model. tensors: its weights, float32, by their published names.
    num_codebooks: the first so many residual codebooks, None for all: the codes are those of all, cut.
    precision: "fp32", "bf16" or "fp16", of all but the quantizer.
    windows: how long recordings are cut; the context is of use up to the net's own.
    origin: where the weights were found, {"model": ..., "revision": ...}.
    InputError if the model is not a codec known here, or anything does not fit.
    """

    evidence: Mapping[str, Any] = {}

    def __init__(
        self,
        settings: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        num_codebooks: int | None = None,
        precision: str = "fp32",
        windows: Windows | None = None,
        origin: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.net = build_net(settings, tensors, num_codebooks=num_codebooks, precision=precision)
        self.precision = precision
        self.origin = dict(origin or {})
        self.device = torch.device(device)
        self.windows = windows or _default_windows(self.net)
        _check_windows(self.windows, self.net)
        self._settings = plain_settings(settings)
        self._tensors = dict(tensors)
        self._weights = hash_tensors(tensors)
        self.net.to(self.device)
        books = [Codebook(size, label) for size, label in zip(self.net.codebook_sizes, self.net.labels, strict=True)]
        if self.net.levels:
            books.append(Codebook(LEVELS, SCALE, stride=self.windows.frames))
        source = self._artifact().fingerprint
        self.spec = TokenSpec(self.net.sample_rate, self.net.hop_length, tuple(books), source)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        num_codebooks: int | None = None,
        precision: str = "fp32",
        windows: Windows | None = None,
    ) -> NeuralCodec:
        """Reads a hub id or a local directory with config.json and model.safetensors, as the codec was published.

        ArtifactError if a file or a tensor is missing or damaged. InputError for a model that is no codec known here,
        or codebooks that it does not have.
        """
        checkpoint = Checkpoint.open(model, revision=revision)
        if not is_codec(checkpoint.config):
            kind = checkpoint.config.get("model_type")
            raise InputError(f"expected a codec ({', '.join(_KNOWN)}), got a model of type {kind!r}")
        options: dict[str, Any] = {"num_codebooks": num_codebooks, "precision": precision, "windows": windows}
        origin = {"model": checkpoint.model, "revision": checkpoint.revision}
        tensors = read_all(checkpoint)
        with naming(checkpoint):
            codec = cls(checkpoint.config, tensors, origin=origin, device=device, **options)
        codec.evidence = checkpoint.read_json(TRAINING) or {}
        return codec

    @classmethod
    def from_saved(
        cls, place: str | os.PathLike[str], *, revision: str | None = None, device: str = "cpu"
    ) -> NeuralCodec:
        """Reads what `save_pretrained` wrote; the weights from it if bundled, else from where they were found.

        ArtifactError if it is damaged, or if the weights found are not those it was saved with.
        """
        artifact = artifacts.load(place, KIND, revision=revision)
        config, origin = artifact.config, artifact.origin
        try:
            windows, weights = Windows(**config["windows"]), str(config["weights"])
            options = {name: config[name] for name in ("num_codebooks", "precision")}
            tensors, found = recover_weights(artifact.extra, origin, weights)
            codec = cls(config["model"], tensors, windows=windows, origin=origin, device=device, **options)
        except (KeyError, TypeError, InputError) as problem:
            raise ArtifactError(f"{place} lacks a part of a codec: {problem}", hint="update vocable") from problem
        if codec.fingerprint != artifact.fingerprint:
            raise ArtifactError(
                f"{place} holds settings that this version does not know ({found})", hint="update vocable"
            )
        return codec

    def save_pretrained(self, path: str | os.PathLike[str], *, bundle: bool = False, overwrite: bool = False) -> None:
        """Writes config.json and model.safetensors; the weights go inside if `bundle`, or if they lie nowhere else."""
        artifacts.save(self._artifact(bundle=bundle), path, overwrite=overwrite)

    def publish(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes config.json and model.safetensors as codecs are published, and how it was trained beside them."""
        write_checkpoint(Path(path), self._settings, self._tensors, self.evidence, overwrite=overwrite)

    @property
    def fingerprint(self) -> str:
        """What the tokens of this codec, and of no other, are signed with."""
        return self.spec.source

    @property
    def sample_rate(self) -> int:
        """Hz of the audio, both ways."""
        return self.net.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the audio, both ways: mono is doubled for a stereo codec, stereo mixed down for a mono one."""
        return self.net.channels

    def encode(self, audio: Audio) -> Tokens:
        """Tokens of audio at any rate, with any channels. AudioError for an empty utterance, NaN or infinity."""
        audio = conform(audio, self.sample_rate, self.channels)
        cuts = ((row, window) for row, n in enumerate(audio.lengths.tolist()) for window in self.windows.cut(n))
        codes: list[list[Tensor]] = [[] for _ in range(len(audio))]
        while group := list(islice(cuts, _WINDOWS_AT_ONCE)):
            parts = self.encode_windows([audio.waveform(row)[:, w.start : w.stop] for row, w in group])
            for part, (row, window) in zip(parts, group, strict=True):
                codes[row].append(part[:, window.skip : window.skip + window.frames])
        return Tokens.of([torch.cat(parts, dim=1) for parts in codes], self.spec, audio.lengths.tolist())

    def encode_windows(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Codes [K, T] of each waveform [N] or [C, N] at the codec's rate, every one taken as a whole."""
        waves = [whole_frames(wave, self.net) for wave in waveforms]
        return [codes.cpu() for codes in run_each(self._encode, waves, self.device)]

    def decode(self, tokens: Tokens) -> Audio:
        """Audio [B, C, N] with lengths `tokens.samples`. SpecError for tokens that `require` refuses."""
        self.require(tokens.spec)
        counts = tokens.samples.tolist()

        def one(row: int) -> Tensor:
            blocks = self.decode_blocks(tokens.utterance(row), counts[row], tokens.spec)
            return torch.cat([torch.zeros(0, self.channels), *(_framed(block) for block in blocks)]).T

        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            return Audio.of(list(pool.map(one, range(len(tokens)))), self.sample_rate)

    def decode_blocks(self, codes: Tensor, samples: int, spec: TokenSpec | None = None) -> Iterator[Tensor]:
        """Blocks of the waveform of codes [K, T], a window each, [n] or for stereo [n, C]: joined, what `decode` gives.

        spec: what the codes are; without one they are the codec's first K codebooks.
        InputError if so many samples do not make T frames, SpecError for codes that `require` refuses.
        """
        spec = spec or self.spec.take(range(len(codes)))
        self.require(spec)
        if codes.shape != (spec.num_codebooks, num_frames(samples, self.net.hop_length) if samples else 0):
            raise InputError(
                f"expected codes of {spec.num_codebooks} codebooks and {samples} samples, got {codes.shape}"
            )
        hop = self.net.hop_length
        for window in self.windows.cut(samples) if samples else ():
            first, stop = window.start // hop, -(-window.stop // hop)
            wave = self._decode(codes[:, first:stop], spec)[:, window.skip * hop :]
            wave = wave[:, : min(window.frames * hop, samples - (first + window.skip) * hop)]
            yield wave[0] if self.channels == 1 else wave.T

    def require(self, spec: TokenSpec) -> None:
        """SpecError unless tokens of this spec are the codec's own: all its codebooks, or the first few in order."""
        self.spec.require(spec)
        ladder = tuple(label for label in spec.labels if label != SCALE)
        if not ladder or ladder != self.net.labels[: len(ladder)]:
            raise SpecError(
                f"expected the first few of {', '.join(self.net.labels)} in order, got {', '.join(spec.labels)}",
                hint="each codebook refines the ones before it: keep the first few with tokens.take([...])",
            )

    def streaming(self) -> CodecStream:
        """A context manager that encodes and decodes chunk by chunk: `with codec.streaming() as stream:`.

        InputError if the codec is not causal.
        """
        if not self.net.causal:
            raise InputError(
                f"{self._settings['model_type']} cannot stream: its frames depend on later audio",
                hint="encode the whole recording: it is cut into windows, in bounded memory",
            )
        from vocable.tokenizers.streaming import CodecStream

        return CodecStream(self)

    @torch.no_grad()
    def _encode(self, samples: Tensor) -> Tensor:
        """Codes [b, K, t] of samples [b, c, n], with the level of each row if it is a code."""
        codes = self.net.quantize(self.net.latents(samples))
        if not self.net.levels:
            return codes
        levels = level_codes(measure(samples))
        return torch.cat([codes, levels[:, None, None].expand(-1, 1, codes.shape[-1])], dim=1)

    def _decode(self, codes: Tensor, spec: TokenSpec) -> Tensor:
        """Samples [C, n] of codes [K, t], on the CPU."""
        ladder = [row for row, label in enumerate(spec.labels) if label != SCALE]
        if self.device.type == "cpu":
            with one_thread_each():
                wave = self.net.decode(codes[None, ladder])[0]
        else:
            wave = self.net.decode(codes[None, ladder].to(self.device))[0].cpu()
        if SCALE in spec.labels:
            gains = level_values(codes[spec.labels.index(SCALE)])
            wave = wave * gains.repeat_interleave(self.net.hop_length)
        return wave

    def _artifact(self, *, bundle: bool = False) -> Artifact:
        config = {
            "model": self._settings,
            "weights": self._weights,
            "num_codebooks": len(self.net.labels),
            "precision": self.precision,
            "windows": asdict(self.windows),
        }
        return Artifact(KIND, config, {}, self._tensors if bundle or not self.origin else {}, self.origin)


def is_codec(config: Mapping[str, Any]) -> bool:
    """Whether these values of a config.json are those of a codec known here."""
    return config.get("model_type") in _KNOWN


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config.json that say what the network is, without those that say where it came from."""
    return {
        name: plain_settings(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in _NO_SETTINGS
    }


def read_all(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of a checkpoint. ArtifactError as for `Checkpoint.read`."""
    return checkpoint.read({name: name for name in checkpoint.files})


@contextmanager
def naming(checkpoint: Checkpoint) -> Iterator[None]:
    """Puts the place into what is wrong with the tensors found there."""
    try:
        yield
    except ArtifactError as problem:
        raise ArtifactError(f"{checkpoint.folder}: {problem}", hint="fetch the model again") from problem


def recover_weights(
    bundled: Mapping[str, Tensor], origin: Mapping[str, Any], weights: str
) -> tuple[Mapping[str, Tensor], str]:
    """The tensors with this hash, bundled or from where `origin` says, and the place they were found at.

    ArtifactError if those that are there have another hash.
    """
    place, tensors = "the artifact", bundled
    if not bundled:
        checkpoint = Checkpoint.open(str(origin["model"]), revision=origin["revision"])
        place, tensors = str(checkpoint.folder), read_all(checkpoint)
    found = hash_tensors(tensors)
    if found != weights:
        raise ArtifactError(
            f"expected the weights {weights[:12]}, got {found[:12]} in {place}",
            hint="put the model that was saved back there, or make the artifact anew from this one",
        )
    return tensors, place


def whole_frames(wave: Tensor, net: CodecNet) -> Tensor:
    """A waveform [N] or [C, N] as the codec takes it: float32 [c, n], one channel doubled if need be, n whole hops."""
    wave = (wave if wave.ndim == 2 else wave[None]).float()
    if wave.shape[0] not in {1, net.channels} or not wave.shape[1]:
        raise InputError(f"expected a waveform of {net.channels} channels, got shape {list(wave.shape)}")
    wave = wave.expand(net.channels, -1)
    return F.pad(wave, (0, -wave.shape[1] % net.hop_length))


def _default_windows(net: CodecNet) -> Windows:
    """30 s of new frames with the context that the network asks for, or as much as it takes at most."""
    frames = net.longest or round(_WINDOW_SECONDS * net.sample_rate / net.hop_length)
    return Windows(frames, net.context, net.hop_length)


def _check_windows(windows: Windows, net: CodecNet) -> None:
    if (windows.hop_length, windows.window) != (net.hop_length, 1):
        raise InputError(f"expected windows with hop {net.hop_length} and window 1, got {windows}")
    whole = windows.frames + 2 * windows.context
    if net.longest is not None and whole > net.longest:
        raise InputError(f"expected windows of at most {net.longest} frames, got {whole} with their context")


def _framed(block: Tensor) -> Tensor:
    return block if block.ndim == 2 else block[:, None]
