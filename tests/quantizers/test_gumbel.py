"""Gumbel vector quantization against transformers' module, and frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from vocable.errors import InputError
from vocable.quantizers.gumbel import GumbelCodes, GumbelVQ, diversity_loss, temperature_at


def pair(groups: int = 2, size: int = 20) -> tuple[GumbelVQ, Wav2Vec2GumbelVectorQuantizer]:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        conv_dim=(24,), conv_stride=(2,), conv_kernel=(2,), num_codevector_groups=groups, codevector_dim=12
    )
    config.num_codevectors_per_group = size
    theirs = Wav2Vec2GumbelVectorQuantizer(config)
    torch.nn.init.uniform_(theirs.codevectors)
    torch.nn.init.normal_(theirs.weight_proj.weight)
    ours = GumbelVQ(24, size, groups, 12)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def rows(count: int) -> Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_codes_and_codevectors_are_those_of_transformers(groups: int) -> None:
    ours, theirs = pair(groups)
    vectors = rows(200)
    expected, perplexity = theirs.eval()(vectors[None])
    quantized, codes, _ = ours.eval()(vectors)
    torch.testing.assert_close(quantized, expected[0])
    logits = theirs.weight_proj(vectors).view(200, groups, 20)
    assert torch.equal(codes, logits.argmax(-1))
    frozen = ours.freeze()
    assert torch.equal(frozen.encode(vectors), codes)
    assert torch.equal(frozen.decode(codes), expected[0])
    used = torch.nn.functional.one_hot(frozen.encode(vectors), 20).float()
    assert float(groups * (1 - diversity_loss(used)) * 20) == pytest.approx(float(perplexity), rel=1e-5)


def test_training_draws_as_transformers_does() -> None:
    ours, theirs = pair()
    theirs.temperature = ours.temperature = 0.7
    vectors = rows(50)
    torch.manual_seed(5)
    expected, perplexity = theirs.train()(vectors[None])
    torch.manual_seed(5)
    quantized, codes, probabilities = ours.train()(vectors)
    torch.testing.assert_close(quantized, expected[0])
    assert (2 * (1 - diversity_loss(probabilities)) * 20).item() == pytest.approx(perplexity.item(), rel=1e-5)
    assert bool((codes != ours.eval()(vectors)[1]).any())
    for module, out in ((theirs, expected[0]), (ours, quantized)):
        out.square().sum().backward()
        assert bool(module.weight_proj.weight.grad.abs().sum() > 0)  # passed on straight through the choice
    torch.testing.assert_close(ours.weight_proj.weight.grad, theirs.weight_proj.weight.grad)


def test_temperature_falls_from_two_to_one_half() -> None:
    assert temperature_at(0.0) == 2.0
    assert temperature_at(0.5) == pytest.approx(1.0)
    assert temperature_at(1.0) == temperature_at(7.0) == 0.5


def test_diversity_is_zero_for_even_use_and_nearly_one_for_a_single_entry() -> None:
    assert float(diversity_loss(torch.full((3, 2, 10), 0.1))) == pytest.approx(0.0, abs=1e-6)
    assert float(diversity_loss(torch.eye(10)[[4, 4, 4], None])) == pytest.approx(0.9)


def test_a_code_is_a_function_of_its_vector() -> None:
    frozen, vectors = pair()[0].freeze(), rows(130)
    codes = frozen.encode(vectors)
    assert torch.equal(torch.cat([frozen.encode(part) for part in vectors.split(7)]), codes)
    assert torch.equal(frozen.encode(vectors.view(13, 10, 24)), codes.view(13, 10, 2))
    assert frozen.codebook_sizes == (20, 20)
    assert frozen.width == 12
    again = GumbelCodes.from_config(frozen.config(), frozen.tensors())
    assert torch.equal(again.encode(vectors), codes)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 groups divide"):
        GumbelVQ(4, 8, 2, 5)
    with pytest.raises(InputError, match="of 2 groups"):
        GumbelCodes(torch.ones(5, 4), torch.ones(5), torch.ones(5, 2), 2)
    with pytest.raises(InputError, match="codes"):
        pair()[0].freeze().decode(torch.full((1, 2), 20))
