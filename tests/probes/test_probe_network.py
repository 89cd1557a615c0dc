"""The batch never matters to a probe, and its parts are what they are called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vocable.probes.bodies import BiLSTM, drop, mask_of, pool
from vocable.probes.material import Layer
from vocable.probes.network import FrameFront, Network

CODES = (Layer("L1", (0, 2), (5, 6)), Layer("f0", (1,), (9,)))
FRAMES = (Layer("L1", (0, 1, 2)), Layer("L2", (3, 4, 5)))


def _batch(layers: tuple[Layer, ...], lengths: list[int], garbage: int) -> torch.Tensor:
    torch.manual_seed(0)
    width = sum(len(layer.columns) for layer in layers)
    shape = (len(lengths), max(lengths), width)
    frames = torch.randint(0, 5, shape, dtype=torch.int32) if layers[0].sizes else torch.randn(shape)
    frames[~mask_of(torch.tensor(lengths), max(lengths))] = garbage
    return frames


@pytest.mark.parametrize("head", ["linear", "bilstm", "xvector"])
@pytest.mark.parametrize("attention", ["frame", "utterance"])
@pytest.mark.parametrize(("layers", "stride"), [(CODES, 0), (CODES, 2), (FRAMES, 0), (FRAMES, 1)])
def test_an_utterance_gives_the_same_alone_and_in_a_batch(head, attention, layers, stride) -> None:
    torch.manual_seed(1)
    network = Network(layers, 7, head=head, attention=attention, dim=16, stride=stride)
    lengths = torch.tensor([9, 1, 30, 4])
    batch = _batch(layers, lengths.tolist(), garbage=3)
    together = network(batch, lengths)
    for index, length in enumerate(lengths.tolist()):
        alone = network(batch[index : index + 1, :length], lengths[index : index + 1])
        steps = int(alone.lengths[0])
        assert steps == int(together.lengths[index]) == (-(-length // stride) if stride else length)
        logits = together.logits[index, :steps] if stride else together.logits[index]
        torch.testing.assert_close(logits, alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.embedding[index], alone.embedding[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.weights[index], alone.weights[0], atol=1e-5, rtol=1e-5)


def test_weights_of_layers_sum_to_one_and_follow_the_frames() -> None:
    torch.manual_seed(2)
    frames, lengths = _batch(FRAMES, [6, 3], 0), torch.tensor([6, 3])
    weights = Network(FRAMES, 2, head="linear", dim=8)(frames, lengths).weights.detach()
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert weights.shape == (2, 2) and float((weights[0] - weights[1]).abs().max()) > 1e-4


def test_one_layer_has_all_the_weight() -> None:
    network = Network(FRAMES[:1], 2, head="linear", dim=8)
    answer = network(torch.randn(2, 4, 3), torch.tensor([4, 2]))
    assert answer.weights.tolist() == [[1.0], [1.0]]


def test_the_bilstm_is_that_of_torch() -> None:
    torch.manual_seed(3)
    ours, theirs = BiLSTM(8), nn.LSTM(8, 4, batch_first=True, bidirectional=True)
    for name, weight in ours.forwards.named_parameters():
        getattr(theirs, name).data = weight.data
    for name, weight in ours.backwards.named_parameters():
        getattr(theirs, f"{name}_reverse").data = weight.data
    frames, lengths = torch.randn(3, 7, 8), torch.tensor([7, 2, 5])
    packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    mask = mask_of(lengths, 7)
    torch.testing.assert_close(ours(frames, mask)[mask], expected[mask])


def test_pooling_by_hand() -> None:
    frames = torch.tensor([[[1.0], [3.0], [99.0]]])
    pooled = pool(frames, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(pooled, torch.tensor([[2.0, (1 + 1e-5) ** 0.5]]))


def test_frames_are_scaled_to_those_of_the_training() -> None:
    front = FrameFront((Layer("a", (0,)), Layer("b", (1,))), 1)
    utterances = [torch.tensor([[1.0, 10.0], [3.0, 10.0]]), torch.tensor([[5.0, 10.0]])]
    front.start(utterances)
    torch.testing.assert_close(front.mean, torch.tensor([3.0, 10.0]))
    assert float(front.scale[0]) == pytest.approx((8 / 3) ** -0.5)
    assert torch.isfinite(front(utterances[0][None])).all()  # a dimension that never varies


def test_dropout_keeps_the_mean_and_disturbs_nobody() -> None:
    state = torch.get_rng_state()
    dropped = drop(torch.ones(200, 100), 0.25, torch.Generator().manual_seed(0))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(state, torch.get_rng_state())
