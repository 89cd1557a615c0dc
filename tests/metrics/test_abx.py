from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocable.audio import read, write
from vocable.corpus import Corpus
from vocable.errors import InputError
from vocable.metrics.abx import (
    Segment,
    abx,
    angular,
    corpus_segments,
    cosine,
    distances,
    dtw,
    segments,
    store_segments,
    unequal,
)
from vocable.quantizers import KMeans
from vocable.store import Entry, TokenStore
from vocable.tokenizers import LogMel, UnitTokenizer, tokenize
from vocable.types import Audio, Codebook, TokenSpec


def of(*codes, phone, speaker="s", context=""):
    return [Segment(np.atleast_1d(code), phone, speaker, context) for code in codes]


def plain_dtw(costs):
    """The cheapest path, cell by cell; of equally cheap ones the diagonal, then the shorter."""
    best = {}
    for i, j in product(range(costs.shape[0]), range(costs.shape[1])):
        diagonal, straight = best.get((i - 1, j - 1)), [best[s] for s in ((i, j - 1), (i - 1, j)) if s in best]
        total, length = min([*straight, *([diagonal] if diagonal else [])], default=(0, 0))
        if diagonal and diagonal[0] == total:
            length = diagonal[1]
        best[i, j] = total + costs[i, j], length + 1
    total, length = best[costs.shape[0] - 1, costs.shape[1] - 1]
    return total / length


def test_dtw_by_hand():
    # 0 0 1 against 0 1: through 0-0, 0-0, 1-1 for nothing; 0 1 against 2 2: two steps of one each
    costs = unequal(np.array([[0, 0, 1]]), np.array([[0, 1]]))
    assert dtw(costs, np.array([3]), np.array([2])).tolist() == [0]
    assert dtw(unequal(np.array([[0, 1]]), np.array([[2, 2]])), np.array([2]), np.array([2])).tolist() == [1]
    # 1 2 against 1 3 4: nothing, then 2-3, then 2-4: two of three steps
    costs = unequal(np.array([[1, 2]]), np.array([[1, 3, 4]]))
    assert dtw(costs, np.array([2]), np.array([3])).tolist() == [2 / 3]


@pytest.mark.parametrize("values", [2, 1000])
def test_dtw_of_many_pairs_is_that_of_each(values):
    draw = np.random.default_rng(values)
    costs = draw.integers(0, values, (20, 6, 5)).astype(np.float64)
    rows, columns = draw.integers(1, 7, 20), draw.integers(1, 6, 20)
    expected = [plain_dtw(cost[:n, :m]) for cost, n, m in zip(costs, rows, columns, strict=True)]
    assert dtw(costs, rows, columns).tolist() == expected
    assert dtw(costs.swapaxes(1, 2), columns, rows).tolist() == expected


def test_distances_of_vectors():
    a = np.array([[[1.0, 0], [0, 2], [0, 0]]])
    b = np.array([[[3.0, 0], [-1, 0]]])
    assert cosine(a, b)[0].tolist() == [[0, 2], [1, 1], [1, 1]]
    assert angular(a, b)[0].tolist() == [[0, 1], [0.5, 0.5], [0.5, 0.5]]
    draw = np.random.default_rng(0).standard_normal((50, 1, 39)).astype(np.float32)
    assert not angular(draw, draw * 3).any()


def test_the_table_of_distances_is_that_of_each_pair():
    draw = np.random.default_rng(1)
    items = [Segment(draw.standard_normal((n, 3)), "a") for n in draw.integers(1, 9, 70)]
    table = distances(items, angular)
    assert np.array_equal(table, table.T)
    for i, j in draw.integers(0, 70, (40, 2)):
        expected = plain_dtw(angular(items[i].frames[None], items[j].frames[None])[0])
        assert table[i, j] == pytest.approx(expected, abs=1e-12)


def test_what_is_apart_is_told_apart():
    items = of([1, 1], [1], [1, 1, 1], phone="a") + of([2], [2, 2], phone="b")
    result = abx(items)
    assert result.error == 0
    assert result.pairs == {("a", "b"): 0, ("b", "a"): 0}
    assert result.segments == 5
    vectors = [Segment(np.eye(4)[item.frames], item.phone) for item in items]
    assert abx(vectors).error == 0


def test_ties_by_hand():
    # X = 1, A = 0: as far as B = 0 is; X = 0, A = 1: farther than B; there is no second b
    assert abx(of(0, 1, phone="a") + of(0, phone="b")).error == 0.75
    assert abx(of(0, 0, phone="a") + of(0, 0, phone="b")).error == 0.5


def test_what_says_nothing_is_chance():
    draw = np.random.default_rng(3)
    items = [Segment(draw.standard_normal((3, 8)), phone) for phone in "abcd" * 25]
    assert abx(items).error == pytest.approx(0.5, abs=0.03)
    codes = [Segment(draw.integers(0, 6, 4), phone) for phone in "abcd" * 25]
    assert abx(codes).error == pytest.approx(0.5, abs=0.03)


def test_across_speakers_by_hand():
    # each tells phones apart by itself, but the codes of one are those of the other's other phone
    items = of(0, 0, phone="a", speaker="s") + of(1, 1, phone="b", speaker="s")
    items += of(1, 1, phone="a", speaker="t") + of(0, 0, phone="b", speaker="t")
    assert abx(items).error == 0
    assert abx(items, across=True).error == 1
    # X of t alone has no rival of t, yet is X to A and B of s
    assert abx(items[:5], across=True).pairs == {("a", "b"): 1}


def test_only_phones_between_the_same_neighbours_are_compared():
    items = of(0, 0, phone="a", context="x y") + of(0, phone="b", context="z y")
    with pytest.raises(InputError, match="no triple"):
        abx(items)
    assert abx(items + of(3, phone="b", context="x y")).error == 0


def test_contexts_speakers_and_pairs_are_averaged_in_turn():
    # (a, b): speaker s 1/2 in one context and 0 in the other, speaker t 1/2; (a, c) 0
    items = of(0, 0, phone="a", context="1") + of(0, phone="b", context="1")
    items += of(0, 0, phone="a", context="2") + of(5, phone="b", context="2") + of(6, phone="c", context="2")
    items += of(0, 0, phone="a", speaker="t") + of(0, phone="b", speaker="t")
    result = abx(items)
    assert result.pairs == {("a", "b"): (0.25 + 0.5) / 2, ("a", "c"): 0}
    assert result.error == 0.1875


def test_pairs_of_speakers_count_the_same_however_many_contexts_they_share():
    items = [item for context in "12" for item in of(0, phone="a", context=context) + of(1, phone="b", context=context)]
    items += of(1, phone="a", speaker="t", context="1") + of(0, phone="b", speaker="t", context="1")
    items += [item for context in "12" for item in of(0, phone="a", speaker="u", context=context)]
    # A and B of s: X of u is right in both contexts, X of t wrong in its one; A and B of t: X of s and of u are wrong
    assert abx(items, across=True).pairs == {("a", "b"): 3 / 4, ("b", "a"): 1}


def test_a_phone_with_many_tokens_is_thinned_evenly():
    items = of(*range(100), phone="a") + of(0, phone="b")
    result = abx(items, most=4)
    assert result.segments == 5
    # 0, 25, 50 and 75 are kept: three X as far from every A as from B, and 0, to which B is nearer
    assert result.error == (9 * 0.5 + 3) / 12
    assert abx(items, most=None).segments == 101


def test_segments_have_the_frames_whose_centre_they_hold():
    phones = [(0.2, "pau"), (0.4, "a"), (0.45, "t"), (0.9, "b"), (1.5, "pau")]
    centres = np.arange(10) / 10 + 0.05
    found = segments(np.arange(10), phones, centres, speaker="s", in_context=True, leave_out={"pau"})
    assert [(s.phone, s.context, s.frames.tolist(), s.speaker) for s in found] == [
        ("a", "pau t", [2, 3], "s"),
        ("b", "t pau", [4, 5, 6, 7, 8], "s"),
    ]
    assert [s.context for s in segments(np.zeros((10, 2)), phones, centres)] == [""] * 4


def test_segments_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="order of time"):
        segments(np.arange(3), [(0.2, "a"), (0.1, "b")], np.arange(3.0))
    with pytest.raises(InputError, match="centre"):
        segments(np.arange(3), [(0.2, "a")], np.arange(4.0))


def test_segments_of_a_store(tmp_path):
    spec = TokenSpec(1000, 100, (Codebook(9, "fast"), Codebook(9, "slow", stride=2)), "made-up")
    store = TokenStore.create(tmp_path / "s", spec)
    codes = np.array([[1, 2, 3, 4], [5, 5, 6, 6]], np.uint8)
    fields = {"speaker": "s", "phones": [[0.2, "a"], [0.4, "b"]]}
    store.append([Entry("one", codes, samples=400, fields=fields), Entry("two", codes, samples=400)])
    found = store_segments(store, "slow")
    assert [(s.phone, s.speaker, s.frames.tolist()) for s in found] == [("a", "s", [5, 5]), ("b", "s", [6, 6])]
    assert [s.phone for s in store_segments(store, 0, leave_out={"a"})] == ["b"]
    with pytest.raises(InputError, match="no codebook"):
        store_segments(store, "L9")


def slow_abx(items, across):
    """The definition, triple by triple: X is of A's phone, B of another; all of one context; nested means."""

    def far(one, other):
        costs = [[float(a != b) for b in other.frames] for a in one.frames]
        return plain_dtw(np.array(costs))

    cells = {}
    for a, b, x in product(items, repeat=3):
        one_speaker = a.speaker == b.speaker and (a.speaker != x.speaker if across else a.speaker == x.speaker)
        if a is not x and a.phone == x.phone != b.phone and a.context == b.context == x.context and one_speaker:
            wrong = (far(a, x) > far(b, x)) + 0.5 * (far(a, x) == far(b, x))
            pair = cells.setdefault((a.phone, b.phone), {}).setdefault((a.speaker, x.speaker), {})
            pair.setdefault(a.context, []).append(wrong)
    contexts = {
        pair: [np.mean([np.mean(wrongs) for wrongs in by_context.values()]) for by_context in by_speaker.values()]
        for pair, by_speaker in cells.items()
    }
    return {pair: np.mean(speakers) for pair, speakers in contexts.items()}


codes = st.lists(st.integers(0, 2), min_size=1, max_size=3).map(np.array)
somebody = st.builds(Segment, codes, st.sampled_from("ab"), st.sampled_from("stu"), st.sampled_from("12"))


@pytest.mark.parametrize("across", [False, True])
@given(st.lists(somebody, min_size=6, max_size=14))
def test_errors_are_those_of_the_definition(across, items):
    expected = slow_abx(items, across)
    if not expected:
        with pytest.raises(InputError, match="no triple"):
            abx(items, across=across)
        return
    found = abx(items, across=across)
    assert dict(found.pairs) == pytest.approx(expected)
    assert found.error == pytest.approx(np.mean(list(expected.values())))


@given(st.lists(somebody, min_size=6, max_size=14), st.permutations(range(3)), st.randoms(use_true_random=False))
def test_neither_the_names_of_codes_nor_the_order_of_segments_matters(items, names, random):
    renamed = [Segment(np.array(names)[item.frames], item.phone, item.speaker, item.context) for item in items]
    random.shuffle(renamed)
    if slow_abx(items, False):
        assert abx(renamed).error == pytest.approx(abx(items).error)


def test_turned_and_longer_vectors_are_as_far_apart():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    for distance in (cosine, angular):
        turned = [Segment(7 * item.frames @ turn, item.phone, item.speaker, item.context) for item in waves()]
        assert abx(turned, distance=distance).error == pytest.approx(abx(waves(), distance=distance).error)


def speak(folder, **fields):
    """Two recordings of four phones, two tones twice, 0.2 s each, and one without phones; their corpus."""
    time = torch.arange(3200) / 16000
    tones = [0.3 * torch.sin(2 * torch.pi * hertz * time) for hertz in (300, 2000, 300, 2000)]
    lines = []
    for name, speaker in (("one", "s"), ("two", "t"), ("none", "s")):
        write(folder / f"{name}.wav", Audio.of([torch.cat(tones)], 16000))
        phones = [[0.2, "a"], [0.4, "b"], [0.6, "a"], [0.8, "b"]] if name != "none" else None
        lines.append({"path": f"{name}.wav", "id": name, "speaker": speaker, "phones": phones} | fields)
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return Corpus.of(folder / "all.jsonl")


def test_features_of_a_corpus(tmp_path):
    corpus, extractor = speak(tmp_path), LogMel()
    found = corpus_segments(corpus, extractor)
    assert [(item.phone, item.speaker) for item in found] == [*product("abab", "s"), *product("abab", "t")]
    frames = extractor.extract(read(tmp_path / "one.wav")).utterance(0)[0].numpy()
    assert all(np.array_equal(item.frames, frames[i * 20 : i * 20 + 20]) for i, item in enumerate(found[:4]))
    assert abx(found).error == abx(found, across=True).error == 0
    assert [item.phone for item in corpus_segments(corpus, extractor, "logmel", leave_out={"a"})] == list("bbbb")
    with pytest.raises(InputError, match="no layer 'L9'") as wrong:
        corpus_segments(corpus, extractor, "L9")
    assert wrong.value.hint == "there are logmel"


def test_features_and_units_have_the_same_segments(tmp_path):
    corpus, extractor = speak(tmp_path), LogMel(hop_length=320)
    units = UnitTokenizer(extractor, [KMeans(torch.linspace(-18, -2, 5)[:, None].repeat(1, 80))])
    tokenize(corpus, units, tmp_path / "tokens")
    ours, theirs = corpus_segments(corpus, extractor), store_segments(TokenStore.open(tmp_path / "tokens"), 0)
    key = [(item.phone, item.speaker, len(item.frames)) for item in ours]
    assert key == [(item.phone, item.speaker, len(item.frames)) for item in theirs] and len(key) == 8
    for one, other in zip(ours, theirs, strict=True):
        assert units.quantizers[0].encode(torch.tensor(one.frames))[:, 0].tolist() == other.frames.tolist()


def test_recordings_that_cannot_be_read_are_not_left_out_in_silence(tmp_path):
    corpus = speak(tmp_path)
    (tmp_path / "two.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match="1 of 2 recordings with phones cannot be read"):
        corpus_segments(corpus, LogMel())


def waves():
    """Segments whose frames are sines of the phone, the speaker and the token: neither told apart nor confused."""
    items = []
    for token, (phone, speaker, context) in enumerate(product("abc" * 4, "st", "12")):
        grid = np.arange(2 + token % 5)[:, None] * 0.7 + np.arange(5) * (1 + "abc".index(phone))
        frames = np.sin(grid + token * 1.3) + np.cos(np.arange(5) * "st".index(speaker) + "abc".index(phone))
        items.append(Segment(frames, phone, speaker, context))
    return items


@pytest.mark.parametrize(("across", "expected"), [(False, 0.1753472), (True, 0.3984375)])
def test_errors_are_those_of_fastabx(across, expected):
    # fastabx 0.9.0, angular distance, by context and, within, by speaker; float32
    assert abx(waves(), across=across).error == pytest.approx(expected, abs=1e-6)
