"""The upper bound of tokens: the same probe on the frames that they were made of."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping

from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.probes.material import DEFAULT_MEMORY, Material
from vocable.store import TokenStore
from vocable.tokenizers import NeuralCodec, load
from vocable.tokenizers.gathering import Reading
from vocable.types import FeatureExtractor


def bounds(
    stores: Mapping[str | os.PathLike[str], Material],
    corpus: Corpus,
    ids: Collection[str],
    *,
    memory: int = DEFAULT_MEMORY,
    reading: Reading | None = None,
    device: str = "cpu",
) -> list[Material]:
    """The frames of some recordings by each distinct extractor that made the tokens of these stores.

    memory: bytes that all of them may take. InputError if a store has no tokenizer or that of a codec, or a recording
    is not in the corpus.
    """
    found: dict[str, Material] = {}
    for place, like in stores.items():
        extractors = _extractors(place, device)
        key = json.dumps([extractor.config() for extractor in extractors], sort_keys=True)
        if key not in found:
            kinds = "+".join(str(extractor.config()["kind"]) for extractor in extractors)
            taken = {material.name for material in found.values()}
            name = f"continuous {kinds}" if f"continuous {kinds}" not in taken else f"continuous {kinds} of {like.name}"
            left = memory - sum(material.num_bytes for material in found.values())
            found[key] = Material.of_corpus(corpus, extractors, like, ids=ids, name=name, memory=left, reading=reading)
    return list(found.values())


def _extractors(place: str | os.PathLike[str], device: str) -> list[FeatureExtractor]:
    path = TokenStore.open(place).tokenizer_path
    if not path.is_dir():
        raise InputError(f"{place} does not say how its tokens were made", hint="leave out --features")
    tokenizer = load(str(path), device=device)
    if isinstance(tokenizer, NeuralCodec):
        raise InputError(f"{place} holds tokens of a codec, which has no features", hint="leave out --features")
    return [part.extractor for part in tokenizer.parts]
