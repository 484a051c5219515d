import math

import numpy as np
import pytest
import torch

from stillmotion.config.loading import FAMILIES
from stillmotion.config.scorers import TrainedParams
from stillmotion.errors import InputError
from stillmotion.retrieval.aggregators import AGGREGATORS, build_aggregator
from stillmotion.retrieval.scoring import module_of

DIM, CLIPS, HEADS = 16, 4, 2
SETTINGS = {"heads": HEADS, "mlp_ratio": 2.0}
"""Small values for the settings of all kinds."""
TRAINED = [kind for kind, params in FAMILIES["scorers"].items() if issubclass(params, TrainedParams)]
erf = np.vectorize(math.erf)


def make_params(kind, **settings):
    """The params of a kind, with those of SETTINGS that it has."""
    params = FAMILIES["scorers"][kind]
    names = params.model_fields.keys() - {"kind"}
    return params(kind=kind, **{name: (SETTINGS | settings)[name] for name in names})


def build(kind, seed=0, dim=DIM, **settings):
    return build_aggregator(make_params(kind, **settings), dim=dim, num_clips=CLIPS, seed=seed).eval()


def make_clips(num=3):
    clips = torch.randn(num, CLIPS, DIM, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(clips, dim=-1)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def encoder_block(x, w):
    """A pre-norm transformer encoder block in float64 (Vaswani et al. 2017; Xiong et al. 2020), (B, T, D)."""
    y = layer_norm(x, w["block.norm1.weight"], w["block.norm1.bias"])
    q, k, v = np.split(y @ w["block.self_attn.in_proj_weight"].T + w["block.self_attn.in_proj_bias"], 3, axis=-1)
    heads = []
    for h in range(HEADS):
        own = slice(h * DIM // HEADS, (h + 1) * DIM // HEADS)
        logits = q[..., own] @ k[..., own].swapaxes(1, 2) / math.sqrt(DIM / HEADS)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., own])
    out = np.concatenate(heads, axis=-1)
    x = x + out @ w["block.self_attn.out_proj.weight"].T + w["block.self_attn.out_proj.bias"]
    y = layer_norm(x, w["block.norm2.weight"], w["block.norm2.bias"])
    hidden = y @ w["block.linear1.weight"].T + w["block.linear1.bias"]
    hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
    return x + hidden @ w["block.linear2.weight"].T + w["block.linear2.bias"]


def weights_of(module):
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def test_every_aggregator_among_the_scorers_can_be_built():
    assert AGGREGATORS.keys() == {"mean", *TRAINED}
    modules = {module_of(FAMILIES["scorers"][kind]) for kind in AGGREGATORS}
    assert modules == {"stillmotion.retrieval.aggregated"}


def test_the_mean_is_worked_by_hand():
    clips = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    mean = build_aggregator(make_params("mean"), dim=2, num_clips=2, seed=0)
    root = math.sqrt(0.5)
    torch.testing.assert_close(mean(clips), torch.tensor([[root, root], [1.0, 0.0]]))
    assert list(mean.parameters()) == []


@pytest.mark.parametrize("train", [True, False])
def test_transformer_mean_is_a_residual_block_over_positioned_clips_then_the_mean(train):
    module, clips = build("transformer_mean").train(train), make_clips()
    w, x = weights_of(module), clips.double().numpy()
    expected = unit((x + encoder_block(x + w["positions"], w)).mean(axis=1))
    with torch.no_grad():
        np.testing.assert_allclose(module(clips).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_class_token_reads_out_the_learned_token_before_the_clips(train):
    module, clips = build("class_token").train(train), make_clips()
    w = weights_of(module)
    x = np.concatenate([np.tile(w["token"], (3, 1, 1)), clips.double().numpy()], axis=1)
    expected = unit((x + encoder_block(x + w["positions"], w))[:, 0])
    with torch.no_grad():
        np.testing.assert_allclose(module(clips).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["transformer_mean", "class_token"])
def test_the_order_of_clips_matters_to_those_with_positions(kind):
    module, clips = build(kind), make_clips()
    with torch.no_grad():
        assert (module(clips) - module(clips.flip(1))).abs().max() > 1e-4


def test_the_order_of_clips_does_not_matter_to_the_mean():
    clips = make_clips()
    torch.testing.assert_close(build("mean")(clips), build("mean")(clips.flip(1)))


@pytest.mark.parametrize("kind", AGGREGATORS)
def test_embeddings_have_unit_length_and_do_not_depend_on_the_other_videos(kind):
    module, clips = build(kind), make_clips(5)
    with torch.no_grad():
        together = module(clips)
        alone = torch.cat([module(clip[None]) for clip in clips])
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", TRAINED)
def test_every_parameter_is_trained(kind):
    module = build(kind).train()
    module(make_clips())[:, 0].sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in module.parameters())


@pytest.mark.parametrize("kind", TRAINED)
def test_the_seed_decides_the_initial_weights_and_the_global_generator_is_left_alone(kind):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, same, other = build(kind, seed=0), build(kind, seed=0), build(kind, seed=1)
    assert torch.equal(torch.rand(2), expected)
    pairs = zip(first.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    different = zip(first.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in different)


@pytest.mark.parametrize("kind", [kind for kind in TRAINED if "heads" in FAMILIES["scorers"][kind].model_fields])
def test_heads_that_do_not_divide_the_dimensions_are_an_error_that_names_the_param(kind):
    with pytest.raises(InputError, match=r"params\.yaml: heads .* is 3 and the embeddings have 16 dimensions"):
        build(kind, heads=3)
