from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from vocable.errors import InputError
from vocable.metrics import tokens as metrics
from vocable.store import Entry, TokenStore
from vocable.types import Codebook, TokenSpec

SPEC = TokenSpec(16000, 160, (Codebook(4, "L6"),), "made-up")
HUBERT = TokenSpec(16000, 320, (Codebook(4, "L6"),), "made-up", window=400)

tables = st.dictionaries(
    st.tuples(st.integers(0, 5), st.sampled_from("abcd")), st.integers(1, 50), min_size=2, max_size=20
).filter(lambda table: len({label for _, label in table}) > 1)


def test_histogram_and_what_is_used_of_it():
    counts = metrics.code_counts(torch.tensor([[0, 0, 1], [3, 3, 0]]), 4)
    assert counts.tolist() == [3, 1, 0, 2]
    assert metrics.usage(counts) == 0.75
    assert metrics.dead_entries(counts).tolist() == [2]


def test_histograms_add_up():
    one, other = torch.tensor([0, 1, 1]), torch.tensor([3, 1])
    both = metrics.code_counts(torch.cat([one, other]), 4)
    assert torch.equal(metrics.code_counts(one, 4) + metrics.code_counts(other, 4), both)


@pytest.mark.parametrize("code", [-1, 4])
def test_codes_outside_the_codebook_are_refused(code):
    with pytest.raises(InputError, match=r"0\.\.3"):
        metrics.code_counts(torch.tensor([0, code]), 4)


def test_entropy_by_hand():
    assert metrics.entropy(torch.tensor([4, 2, 1, 1])) == 1.75
    assert metrics.perplexity(torch.tensor([4, 2, 1, 1])) == pytest.approx(2**1.75)
    assert metrics.entropy(torch.tensor([0, 9])) == 0
    assert metrics.perplexity(torch.full((8,), 5)) == pytest.approx(8)
    assert metrics.normalized_entropy(torch.tensor([4, 2, 1, 1])) == 1.75 / 2
    assert metrics.normalized_entropy(torch.full((7,), 3)) == metrics.normalized_entropy(torch.tensor([2])) == 1
    with pytest.raises(InputError):
        metrics.entropy(torch.zeros(3, dtype=torch.int64))


def test_runs_and_what_they_cost():
    runs = metrics.run_counts(torch.tensor([[7, 7, 7, 2, 7, 7], [1, 1, 1, 1, 1, 1]]))
    assert runs.tolist() == [3, 1]
    assert metrics.token_rate(runs, 0.5) == 8
    assert metrics.deduplicated_bitrate(runs, (8, 4), 0.5) == (3 * 3 + 1 * 2) / 0.5
    assert metrics.run_counts(torch.zeros(2, 0, dtype=torch.int64)).tolist() == [0, 0]
    with pytest.raises(InputError):
        metrics.token_rate(runs, 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_runs_count_changes_and_never_cost_more_than_the_raw_codes(codes):
    runs = metrics.run_counts(torch.tensor([codes]))
    assert int(runs) == 1 + sum(a != b for a, b in pairwise(codes))
    seconds = len(codes) / SPEC.frame_rate
    assert metrics.deduplicated_bitrate(runs, (4,), seconds) <= SPEC.bitrate * (1 + 1e-12)


def test_a_frame_is_labelled_by_the_phone_at_its_centre():
    # centres 5, 15, 25, 35, 45 ms; a phone that ends on a centre does not have it
    phones = [(0.015, "a"), (0.030, "b"), (0.040, "c")]
    assert metrics.frame_labels(phones, SPEC, 5) == ["a", "b", "b", "c"]


def test_frames_of_a_long_window_are_centred_on_it():
    assert metrics.frame_centres(HUBERT, 3).tolist() == [0.0125, 0.0325, 0.0525]
    assert metrics.frame_labels([(0.0325, "a"), (1.0, "b")], HUBERT, 3) == ["a", "b", "b"]


def test_phones_out_of_order_are_refused():
    with pytest.raises(InputError, match="descend"):
        metrics.frame_labels([(0.2, "a"), (0.1, "b")], SPEC, 3)
    assert metrics.frame_labels([], SPEC, 3) == []


def test_contingency_counts_labelled_frames_and_adds_up():
    table = metrics.contingency(torch.tensor([0, 0, 1, 1]), ["a", "b", "b"])
    assert table == {(0, "a"): 1, (0, "b"): 1, (1, "b"): 1}
    table += metrics.contingency(torch.tensor([0]), ["a"])
    assert table[0, "a"] == 2
    with pytest.raises(InputError):
        metrics.contingency(torch.tensor([0]), ["a", "b"])


def test_tables_of_a_store_by_hand(tmp_path):
    # 10 ms a frame, and a second codebook at half that rate: its codes count for both of their frames
    spec = TokenSpec(16000, 160, (Codebook(4, "L6"), Codebook(4, "slow", stride=2)), "made-up")
    store = TokenStore.create(tmp_path / "s", spec)
    codes = np.array([[0, 0, 1, 1], [3, 3, 2, 2]], np.uint8)
    # centres 5, 15, 25, 35 ms; the last frame has no phone
    store.append([Entry("one", codes, samples=640, fields={"phones": [[0.02, "a"], [0.03, "b"]]})])
    store.append([Entry("two", codes, samples=640, fields={"text": "no phones"})])
    fast, slow = metrics.phone_tables(store)
    assert fast == {(0, "a"): 2, (1, "b"): 1}
    assert slow == {(3, "a"): 2, (2, "b"): 1}


@pytest.mark.parametrize("wrong", [[[0.2, "a"], [0.1, "b"]], [["a", 0.2]], "abc", [[math.inf, "a"]]])
def test_labels_that_are_no_phones_are_refused(wrong):
    assert metrics.phones_of("one", {}, "phones") == metrics.phones_of("one", {"phones": None}, "phones") == []
    with pytest.raises(InputError, match="of one as"):
        metrics.phones_of("one", {"phones": wrong}, "phones")


def test_purities_by_hand():
    # rows code 0, 1, 2; columns a, b: the best phone of each code 4 + 3 + 1, the best code of each phone 4 + 3
    table = Counter({(0, "a"): 4, (0, "b"): 1, (1, "b"): 3, (2, "a"): 1, (2, "b"): 1})
    assert metrics.phone_purity(table) == 8 / 10
    assert metrics.cluster_purity(table) == 7 / 10


def test_pnmi_by_hand():
    # H(phone) = 1 bit, H(code) = 1 bit, H(both) = H(3/8, 1/8, 1/8, 3/8)
    table = Counter({(0, "a"): 3, (0, "b"): 1, (1, "a"): 1, (1, "b"): 3})
    joint = -2 * (3 / 8 * math.log2(3 / 8) + 1 / 8 * math.log2(1 / 8))
    assert metrics.pnmi(table) == pytest.approx(2 - joint, abs=1e-12)


def test_purity_and_mutual_information_of_a_published_example():
    # Manning, Raghavan and Schuetze 2008, "Introduction to Information Retrieval", figure 16.4 and table 16.2
    crosses, circles, diamonds = {1: 5, 2: 1, 3: 2}, {1: 1, 2: 4}, {2: 1, 3: 3}
    classes = {"x": crosses, "o": circles, "d": diamonds}
    table = Counter({(code, name): n for name, codes in classes.items() for code, n in codes.items()})
    assert metrics.phone_purity(table) == pytest.approx(0.71, abs=0.005)
    # theirs is normalized by the mean of both entropies: the harmonic mean of PNMI and of its counterpart for codes
    turned = Counter({(name, code): n for (code, name), n in table.items()})
    assert 2 / (1 / metrics.pnmi(table) + 1 / metrics.pnmi(turned)) == pytest.approx(0.36, abs=0.005)


@settings(deadline=None, max_examples=30)
@given(tables, st.permutations(range(6)))
def test_names_do_not_matter_and_merging_codes_never_tells_more(table, names):
    renamed = {(names[code], label): n for (code, label), n in table.items()}
    merged = Counter()
    for (code, label), n in table.items():
        merged[code // 2, label] += n
    for metric in (metrics.pnmi, metrics.phone_purity):
        assert metric(renamed) == metric(table)
        assert metric(merged) <= metric(table) + 1e-12
    assert metrics.cluster_purity(merged) >= metrics.cluster_purity(table)


def test_pnmi_of_independent_and_of_determined_phones():
    assert metrics.pnmi(Counter({(c, p): 5 for c in range(3) for p in "ab"})) == pytest.approx(0, abs=1e-12)
    assert metrics.pnmi(Counter({(0, "a"): 7, (1, "a"): 2, (2, "b"): 5, (3, "c"): 11})) == 1
    with pytest.raises(InputError, match="two different phones"):
        metrics.pnmi(Counter({(0, "a"): 3, (1, "a"): 3}))
    with pytest.raises(InputError):
        metrics.phone_purity(Counter())


@settings(deadline=None, max_examples=30)
@given(tables)
def test_pnmi_agrees_with_scikit_learn(table):
    codes = [code for (code, _), n in table.items() for _ in range(n)]
    labels = [label for (_, label), n in table.items() for _ in range(n)]
    shares = [n / len(labels) for n in Counter(labels).values()]
    expected = mutual_info_score(labels, codes) / -sum(p * math.log(p) for p in shares)
    assert metrics.pnmi(table) == pytest.approx(expected, abs=1e-9)
    assert 0 < metrics.cluster_purity(table) <= 1
    assert max(Counter(labels).values()) / len(labels) <= metrics.phone_purity(table) <= 1
