"""LanguageModel: transformers' Llama over the ids of a token stream; transformers reads its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vocable.artifacts import hash_tensors, read_tensors
from vocable.errors import ArtifactError, InputError
from vocable.files import new_directory
from vocable.tokenizers.streams import Special, TokenStream

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CONFIG, WEIGHTS, STREAM = "config.json", "model.safetensors", "stream.json"
_SHARED = "lm_head.weight"
_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "rms_norm_eps",
    "rope_parameters",
    "hidden_act",
    "max_position_embeddings",
)
_MADE_BY = "make one with `vocable train lm`"


@dataclass(frozen=True, slots=True)
class LanguageDesign:
    """A decoder-only Transformer as Llama has it (Touvron et al. 2023): rotary positions, gated feed-forward networks.

    dim: width. depth: blocks. heads: of attention, which divide `dim`. width: of the feed-forward networks.
    context: ids that it sees at once. dropout: of attention, while it is trained.
    """

    dim: int = 192
    depth: int = 4
    heads: int = 4
    width: int = 512
    context: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        whole = (self.dim, self.depth, self.heads, self.width, self.context)
        if min(whole) < 1 or self.dim % (2 * self.heads) or self.context < 2 or not 0 <= self.dropout < 1:
            raise InputError(f"expected a width that twice the heads divide, and a context of 2 or more, got {self}")


def complete(stream: TokenStream) -> TokenStream:
    """The stream with pad, bos and eos, if it has no special ids yet.

    InputError if it is not flat, or if its special ids lack one of bos and eos.
    """
    stream.form.require_flat("a language model")
    whole = stream if stream.special else stream | Special()
    if not {"bos", "eos"} <= set(whole.special):
        raise InputError(
            f"expected a stream with bos and eos, got special ids {', '.join(whole.special)}",
            hint="a language model has to know where recordings begin and end: make the stream with both",
        )
    return whole


def new_network(design: LanguageDesign, stream: TokenStream) -> LlamaForCausalLM:
    """A network with random weights for the ids of a stream that is `complete`; embeddings are shared by both ends."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=stream.vocabulary,
        hidden_size=design.dim,
        num_hidden_layers=design.depth,
        num_attention_heads=design.heads,
        intermediate_size=design.width,
        max_position_embeddings=design.context,
        attention_dropout=design.dropout,
        tie_word_embeddings=True,
        pad_token_id=stream.special.get("pad"),
        bos_token_id=stream.special["bos"],
        eos_token_id=stream.special["eos"],
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A network and the stream whose ids it continues. evidence: how it was trained, and what it is worth."""

    network: Any
    stream: TokenStream
    evidence: Mapping[str, Any]

    @property
    def context(self) -> int:
        """Ids that it was trained to see at once."""
        return int(self.network.config.max_position_embeddings)

    @property
    def weights(self) -> int:
        """How many it has."""
        return sum(weight.numel() for weight in self.network.parameters())

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = next(self.network.parameters()).device
        return found

    @torch.inference_mode()
    def nats(self, ids: Tensor) -> Tensor:
        """-log p of each id [B, N] but the first of a row, given those before it: float32 [B, N - 1]."""
        return surprise(self.network, ids.to(self.device))

    def save_pretrained(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes what `transformers.AutoModelForCausalLM` reads, and stream.json, whole or not at all.

        OutputError if something is there and `overwrite` is not given.
        """
        from safetensors.torch import save_file

        # the embeddings are shared by both ends, and saved once
        tensors = {name: t.cpu().contiguous() for name, t in self.network.state_dict().items() if name != _SHARED}
        with new_directory(Path(path), overwrite=overwrite) as folder:
            save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
            self.network.config.architectures = ["LlamaForCausalLM"]
            self.network.config.save_pretrained(folder)
            files = {name: _digest(folder / name) for name in (CONFIG, WEIGHTS)}
            self.stream.save(folder / STREAM, evidence={"language model": dict(self.evidence), "files": files})

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], *, device: str = "cpu") -> LanguageModel:
        """Reads such a folder; weights are never unpickled. ArtifactError if it is none, or anything is damaged."""
        from transformers import LlamaConfig, LlamaForCausalLM

        folder = Path(path)
        if not (folder / STREAM).is_file():
            raise ArtifactError(f"{folder} holds no language model of vocable", hint=_MADE_BY)
        stream, evidence = TokenStream.load(folder), TokenStream.evidence(folder)
        if "language model" not in evidence:
            raise ArtifactError(f"{folder} holds a token stream and no language model", hint=_MADE_BY)
        for name, claimed in evidence["files"].items():
            if name not in (CONFIG, WEIGHTS) or not (folder / name).is_file() or _digest(folder / name) != claimed:
                raise ArtifactError(f"{folder / name} is damaged: its checksum does not fit", hint=_MADE_BY)
        config = LlamaConfig(**json.loads((folder / CONFIG).read_bytes()))
        network: Any = LlamaForCausalLM(config)
        try:
            missing, unknown = network.load_state_dict(read_tensors(folder / WEIGHTS), strict=False)
        except RuntimeError as problem:
            raise ArtifactError(f"{folder / WEIGHTS} does not fit {CONFIG}: {problem}", hint=_MADE_BY) from problem
        if unknown or set(missing) - {_SHARED} or config.vocab_size != stream.vocabulary:
            raise ArtifactError(f"{folder} holds a network that does not fit its stream", hint=_MADE_BY)
        return cls(network.to(device).eval(), stream, evidence["language model"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the stream and every weight: what its probabilities depend on."""
        shape = {name: getattr(self.network.config, name) for name in _SHAPE}  # not the version that wrote it
        facts = [self.stream.config(), shape, hash_tensors(self.network.state_dict())]
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def surprise(network: nn.Module, ids: Tensor) -> Tensor:
    """-log p of ids [B, N] but the first of each row: [B, N - 1], in float32."""
    logits = network(input_ids=ids[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
