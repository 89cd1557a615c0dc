"""A language model learns, goes on after an interruption, is saved as transformers saves, and continues recordings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from vocable.cli import cli
from vocable.errors import ArtifactError, InputError, SpecError
from vocable.language import LanguageDesign, LanguageModel, stream_for, train_lm
from vocable.language.generation import Request, Sampling, Wish, continuations, sample
from vocable.language.grammar import Bounds
from vocable.language.packs import pack
from vocable.language.task import predicted
from vocable.store import Entry, TokenStore
from vocable.tokenizers.streams import BPE, Flatten, Special, TokenStream
from vocable.training.regime import Regime
from vocable.training.reports import Report
from vocable.types import Codebook, TokenSpec

DESIGN = LanguageDesign(32, 2, 2, 64, 32, 0.0)
REGIME = Regime(
    30, learning_rate=1e-2, warm_up=4, discriminators="none", ema=0.8, report_every=10, check_every=15, precision="fp32"
)
SPEC = TokenSpec(16000, 320, (Codebook(12, "c0"), Codebook(6, "c1")), "a" * 64)


def entries(count: int, spec: TokenSpec = SPEC) -> list[Entry]:
    """Each code is three more than the one before; the second codebook says half of the first."""
    made = []
    for index in range(count):
        first = (np.arange(20 + index) * 3 + index) % 12
        codes = np.stack([first, first // 2])[: spec.num_codebooks]
        made.append(Entry(f"u{index}", codes, spec.num_samples(codes.shape[1])))
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    made = TokenStore.create(tmp_path_factory.mktemp("store") / "tokens", SPEC)
    made.append(entries(20))
    return made


@pytest.fixture(scope="module")
def model(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return trained(store, tmp_path_factory.mktemp("work"), REGIME)


def trained(store: TokenStore, work: Path, regime: Regime, **told: object) -> LanguageModel:
    return train_lm(store, stream_for(store), work, design=DESIGN, regime=regime, batch=8, **told)  # type: ignore[arg-type]


def test_it_learns_what_needs_a_context(model: LanguageModel) -> None:
    costs = {row["name"]: row for row in model.evidence["costs"]}
    assert costs["language model"]["bits_per_second"] < 0.7 * costs["order 0"]["bits_per_second"]
    assert costs["order 0"]["bits_per_second"] < costs["log2(vocabulary)"]["bits_per_second"]
    held = model.evidence["seconds"][1]
    ids = model.evidence["ids"][1] - model.evidence["recordings"][1]
    for row in costs.values():
        assert row["bits_per_second"] == pytest.approx(row["loss"] * ids / np.log(2) / held)
    assert model.evidence["recordings"] == [19, 1]


def test_what_is_foretold_is_that_of_the_whole(store: TokenStore, model: LanguageModel, tmp_path: Path) -> None:
    """In one window, every id is foretold from all before it; in short ones, from half a window at least."""
    held = pack(store, model.stream, tmp_path, held_out=0.2).held
    whole = sum(float(model.nats(torch.from_numpy(ids.astype(np.int64))[None]).sum()) for ids in held.recordings())
    one = predicted(model.network, held, 1000)
    assert one.nats == pytest.approx(whole, rel=1e-4)
    assert one.ids == len(held.ids) - len(held.packed)
    short = predicted(model.network, held, 15)
    assert short.ids == one.ids
    assert short.nats == pytest.approx(
        sum(_by_hand(model, torch.from_numpy(ids.astype(np.int64)), 15) for ids in held.recordings()), rel=1e-4
    )


def _by_hand(model: LanguageModel, ids: torch.Tensor, context: int) -> float:
    total, counted, start = 0.0, 1, 0
    while counted < len(ids):
        found = model.nats(ids[start : start + context + 1][None])[0]
        total += float(found[counted - start - 1 :].sum())
        counted, start = min(len(ids), start + context + 1), start + context // 2
    return total


def test_it_goes_on_to_the_same_bits(store: TokenStore, model: LanguageModel, tmp_path: Path) -> None:
    def stop(report: Report) -> None:
        if report.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(store, tmp_path, REGIME, on_report=stop)
    again = trained(store, tmp_path, REGIME)
    assert again.fingerprint == model.fingerprint
    with pytest.raises(InputError, match="another training"):
        trained(store, tmp_path, replace(REGIME, seed=1))


def test_saved_as_transformers_does(model: LanguageModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    before = model.fingerprint
    model.save_pretrained(tmp_path / "lm")
    again = LanguageModel.from_pretrained(tmp_path / "lm")
    assert again.fingerprint == model.fingerprint == before
    assert again.stream == model.stream
    assert again.evidence["perplexity"] == model.evidence["perplexity"]
    ids = torch.arange(10)[None]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "lm").eval()(ids).logits
    assert torch.equal(theirs, again.network(ids).logits)
    weights = bytearray((tmp_path / "lm" / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (tmp_path / "lm" / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match="damaged"):
        LanguageModel.from_pretrained(tmp_path / "lm")
    with pytest.raises(ArtifactError, match="no language model"):
        LanguageModel.from_pretrained(tmp_path)


def test_continuations(store: TokenStore, model: LanguageModel, tmp_path: Path) -> None:
    """The beginnings are kept, the rule is followed behind them, and all of it fits into a store."""
    found = list(continuations(model, store, Request(0.5, 0.2, 3), Sampling(0.0)))
    begun = {entry.id: entry.codes for entry in store}
    for entry, given in found:
        assert given == 10
        assert entry.codes.shape[1] > given
        assert np.array_equal(entry.codes[:, :given], begun[entry.id][:, :given])
        assert (entry.codes[0, given + 1] - entry.codes[0, given]) % 12 == 3
    TokenStore.create(tmp_path / "tokens", model.stream.spec).append([entry for entry, _ in found])
    free = [entry for entry, _ in continuations(model, store, Request(2.0, 0, 2), Sampling(seed=3))]
    assert [entry.id for entry in free] == ["sample-0000", "sample-0001"]
    assert all(1 <= entry.codes.shape[1] <= 100 for entry in free)
    same = [entry for entry, _ in continuations(model, store, Request(2.0, 0, 2), Sampling(seed=3))]
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(free, same, strict=True))


def test_beyond_its_context(model: LanguageModel) -> None:
    (ids,) = sample(model, [Wish("long", Bounds(40, 40), 40)], Sampling(1.0, top_k=3))
    assert len(ids) > 2 * model.context
    assert model.stream.inverse(ids).shape == (2, 40)


def test_memory_changes_nothing(model: LanguageModel) -> None:
    """Greedy ids are those that the network finds likeliest when it reads everything at once."""
    (ids,) = sample(model, [Wish("one", Bounds(8, 8), 8)], Sampling(0.0))
    likeliest = model.network(input_ids=torch.from_numpy(ids)[None]).logits[0].argmax(-1).numpy()
    from vocable.language.grammar import Grammar

    walk = Grammar(model.stream).walk(Bounds(8, 8))
    for place, id in enumerate(ids[1:]):
        assert id == likeliest[place] or not walk.allowed()[likeliest[place]]
        walk.push(int(id))


def test_runs_that_lasted_stop_in_time(tmp_path: Path) -> None:
    spec = SPEC.take([0])
    store = TokenStore.create(tmp_path / "tokens", spec)
    store.append(
        [replace(entry, codes=np.repeat(entry.codes, 2, 1)[:, : entry.codes.shape[1]]) for entry in entries(4, spec)]
    )
    for runs in ("timed", "once"):
        stream = stream_for(store, runs=runs)
        made = train_lm(store, stream, tmp_path / runs, design=DESIGN, regime=replace(REGIME, steps=2), batch=2)
        for entry, given in continuations(made, store, Request(0.4, 0.2, 2), Sampling()):
            assert given < entry.codes.shape[1] <= given + (20 if runs == "timed" else 11)


def test_pairs(tmp_path: Path) -> None:
    spec = SPEC.take([0])
    store = TokenStore.create(tmp_path / "tokens", spec)
    store.append(entries(4, spec))
    stream = TokenStream(spec, (Flatten(), BPE(12, ((0, 3), (6, 9), (12, 13)))))
    made = train_lm(store, stream, tmp_path / "w", design=DESIGN, regime=replace(REGIME, steps=2), batch=2)
    for entry, given in continuations(made, store, Request(0.4, 0.2, 2), Sampling()):
        assert given == 10 < entry.codes.shape[1] <= 30


def test_what_is_refused(store: TokenStore, model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two recordings"):
        trained(TokenStore.create(tmp_path / "empty", SPEC), tmp_path / "w", REGIME)
    with pytest.raises(InputError, match="bos and eos"):
        train_lm(
            store,
            TokenStream(SPEC, (Flatten(), Special(("pad",)))),
            tmp_path / "w",
            design=DESIGN,
            regime=REGIME,
            batch=1,
        )
    other = TokenStore.create(tmp_path / "other", replace(SPEC, source="b" * 64))
    with pytest.raises(SpecError, match="expected tokens"):
        list(continuations(model, other, Request(), Sampling()))
    with pytest.raises(InputError, match="none in"):
        list(continuations(model, TokenStore.create(tmp_path / "none", SPEC), Request(), Sampling()))
    with pytest.raises(InputError, match="temperature"):
        Sampling(-1.0)


def test_the_vocabulary_has_to_fit(model: LanguageModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "lm")
    evidence = TokenStream.evidence(tmp_path / "lm")
    TokenStream(SPEC.take([0]), (Flatten(), Special())).save(tmp_path / "lm" / "stream.json", evidence=evidence)
    with pytest.raises(ArtifactError, match="does not fit its stream"):
        LanguageModel.from_pretrained(tmp_path / "lm")


def test_commands(tmp_path: Path) -> None:
    """From sound to a continuation that can be heard, by the inverter of spectral units."""
    from vocable.corpus import Corpus
    from vocable.presets import SAMPLES
    from vocable.tokenizers import MFCC, tokenize, train_kmeans

    corpus = Corpus([*Corpus.of(str(SAMPLES))][:3])
    units = train_kmeans(corpus, MFCC(), 8)
    tokens = tmp_path / "tokens"
    tokenize(corpus, units, tokens)
    told = ["train", "lm", str(tokens), "--out", str(tmp_path / "lm"), "--steps", "2", "--batch", "2"]
    told += ["--context", "16", "--runs", "timed", "--device", "cpu"]
    run = CliRunner().invoke(cli, told, catch_exceptions=False)
    assert run.exit_code == 0
    rows = [line.split()[0] for line in run.stdout.splitlines()[1:]]
    assert rows == ["log2(vocabulary)", "order", "order", "language"]
    told = ["continue", str(tokens), "--lm", str(tmp_path / "lm"), "--out", str(tmp_path / "wavs"), "--samples", "2"]
    told += ["--seconds", "0.3", "--prompt-seconds", "0.3", "--device", "cpu"]
    assert CliRunner().invoke(cli, told, catch_exceptions=False).exit_code == 0
    assert len(list((tmp_path / "wavs").rglob("*.wav"))) == 2
    assert len(TokenStore.open(tmp_path / "wavs.tokens")) == 2
    assert json.loads((tmp_path / "lm" / "config.json").read_text())["model_type"] == "llama"
