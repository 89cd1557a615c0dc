"""`vocable train bpe`: the table on standard output, the folder, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run
from vocable.store import Entry, TokenStore
from vocable.tokenizers.streams import TokenStream
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 320, (Codebook(12, "L6"), Codebook(5, "L9")), "a" * 64)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    store = TokenStore.create(tmp_path / "tokens", SPEC)
    rng = np.random.default_rng(0)
    words = rng.integers(0, 12, (6, 4))
    for name in "abcdefghij":
        units = np.repeat(words[rng.integers(0, 6, 50)].ravel(), 2)
        store.append([Entry(name, np.stack([units, units % 5]), SPEC.num_samples(len(units)))])
    return store


def test_the_command(vocable: Run, store: TokenStore, tmp_path: Path) -> None:
    out = tmp_path / "bpe"
    arguments = ("train", "bpe", store.path, "--vocab", 40, "--codebooks", "L6", "--held-out", 0.2, "--out", out)
    code, table, err = vocable(*arguments)
    assert code == 0, err
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == ["codes", "units", "BPE"] * 2
    stream = TokenStream.load(out)
    assert stream.spec == store.spec.take(["L6"]) and stream.vocabulary <= 43
    assert TokenStream.evidence(out)["gains"][1]["held_out"] is True
    assert f"{stream.vocabulary} ids, pad, bos, eos special, in {out}" in err
    assert sorted(path.name for path in out.iterdir()) == ["stream.json", "tokenizer.json", "tokenizer_config.json"]

    before = (out / "stream.json").read_bytes()
    code, _, err = vocable(*arguments)
    assert code == 1 and "is there already" in err and (out / "stream.json").read_bytes() == before
    code, _, err = vocable(*arguments, "--overwrite", "--special", "", "--no-dedup")
    assert code == 0 and "none special" in err, err
    assert TokenStream.load(out).exact

    other = tmp_path / "other"
    for options, message in (
        (("--vocab", 12, "--codebooks", "L6"), "a vocabulary larger than the 12 units, got 12"),
        (("--codebooks", "L7"), "no codebook 'L7' among L6, L9"),
        (("--special", "bos,bos"), "distinct names"),
    ):
        code, _, err = vocable("train", "bpe", store.path, *options, "--out", other)
        assert code == 1 and message in err and not other.exists()
    code, _, err = vocable("train", "bpe", tmp_path / "nothing", "--out", other)
    assert code == 1 and "is not a token store" in err
    next(iter(store.shards())).write_bytes(b"damage")
    code, _, err = vocable("train", "bpe", store.path, "--out", other)
    assert code == 1 and "is damaged" in err and not other.exists()
