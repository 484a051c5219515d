import math

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.attention.patches import patch_attention
from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError

WIDTH, HEADS, GRID, FRAMES, CLIPS = 32, 2, 4, 3, 2


@torch.no_grad()
def make_stan(*, temporal="self_attention", num_layers=1, class_token="clip"):
    """Weights as after training: nothing is zero and no two are equal."""
    vision = {"width": WIDTH, "layers": 2, "image_size": 32, "patch_size": 8, "head_width": WIDTH // HEADS}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 77, "vocab_size": 49408}
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    open_clip.model.set_model_preprocess_cfg(model, PreprocessCfg(size=32).__dict__)
    settings = StanSettings(
        num_layers=num_layers,
        skipped_layers=0,
        interval=1,
        structure="branch",
        temporal=temporal,
        inter_proj="linear",
        class_token=class_token,
        class_token_mean="after_attention",
        max_frames=4,
        context_frames=4,
        drop_path=0.0,
        seed=0,
    )
    stan = StanBackbone(OpenClipBackbone(model, open_clip.SimpleTokenizer(), {}), settings).eval()
    generator = torch.Generator().manual_seed(7)
    for name, value in stan.named_parameters():
        value.normal_(0, 1.0 if "in_proj" in name else 0.3, generator=generator)
    return stan


@pytest.fixture
def pixels():
    return torch.randn(CLIPS, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def layer_norm(x, norm):
    scale, shift = (value.detach().double().numpy() for value in (norm.weight, norm.bias))
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * scale + shift


def class_attention(tokens, attn):
    """What the first of the tokens gives to each of them, by the formula of attention, the mean over heads."""
    weight, bias = (value.detach().double().numpy() for value in (attn.in_proj_weight, attn.in_proj_bias))
    size = WIDTH // HEADS
    shares = []
    for head in range(HEADS):
        of_query, of_keys = slice(head * size, (head + 1) * size), slice(WIDTH + head * size, WIDTH + (head + 1) * size)
        query = weight[of_query] @ tokens[0] + bias[of_query]
        energies = [math.exp(query @ (weight[of_keys] @ key + bias[of_keys]) / math.sqrt(size)) for key in tokens]
        shares.append([energy / sum(energies) for energy in energies])
    return np.mean(shares, axis=0)


def expected_attention(stan, frames):
    """One clip's, of a branch of one layer, from the outputs of the tower and of the temporal module."""
    layer, visual = stan.branch.layers[0], stan.model.visual
    found = visual.forward_intermediates(
        frames, indices=[1], intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
    )
    classes_FW = found["image_intermediates_prefix"][0][:, 0]
    if stan.settings.class_token == "clip":
        classes_FW = classes_FW.mean(0, keepdim=True).expand(FRAMES, -1)
    patches_FPW = found["image_intermediates"][0] + stan.branch.patch_positions + stan.branch.times[:FRAMES, None]
    if layer.is_joint:
        tokens = torch.cat([classes_FW[:1], patches_FPW.flatten(0, 1)]).double().numpy()
        weights = class_attention([layer_norm(token, layer.temporal.norm) for token in tokens], layer.temporal.attn)
        given = weights[1:].reshape(FRAMES, -1)
    else:
        patches_FPW = patches_FPW + layer.temporal(patches_FPW.transpose(0, 1)).transpose(0, 1)
        given = []
        for class_W, patches_PW in zip(classes_FW, patches_FPW, strict=True):
            tokens = torch.cat([class_W[None], patches_PW]).double().numpy()
            normed = [layer_norm(token, layer.spatial.ln_1) for token in tokens]
            given.append(class_attention(normed, layer.spatial.attn)[1:])
    return np.array([row / row.sum() for row in np.array(given)]).reshape(FRAMES, GRID, GRID)


@pytest.mark.parametrize(
    ("temporal", "class_token"),
    [("self_attention", "clip"), ("conv", "clip"), ("joint", "clip"), ("self_attention", "frame")],
)
@torch.no_grad()
def test_it_is_the_formula_of_attention_in_float64(temporal, class_token, pixels):
    stan = make_stan(temporal=temporal, class_token=class_token)
    found = patch_attention(stan, pixels)
    assert (found.shape, found.dtype) == ((CLIPS, FRAMES, GRID, GRID), torch.float32)
    for clip in range(CLIPS):
        wanted = expected_attention(stan, pixels[clip])
        np.testing.assert_allclose(found[clip].numpy(), wanted, atol=2e-6, rtol=1e-4)
        assert np.ptp(wanted) > 0.05  # else any weights would do


@pytest.mark.parametrize("temporal", ["self_attention", "joint"])
@torch.no_grad()
def test_the_last_layer_is_shown_and_each_frame_has_all_of_its_attention(temporal, pixels):
    stan = make_stan(temporal=temporal, num_layers=2)
    for layer, even in zip(stan.branch.layers, (False, True), strict=True):
        attn = layer.temporal.attn if layer.is_joint else layer.spatial.attn
        # a query of zeros attends to all keys alike
        attn.in_proj_weight[:WIDTH] = 0
        attn.in_proj_bias[:WIDTH] = 0
        found = patch_attention(stan, pixels)
        np.testing.assert_allclose(found.sum((2, 3)).numpy(), np.ones((CLIPS, FRAMES)), rtol=1e-5)
        assert bool((found - 1 / GRID**2).abs().max() < 1e-6) is even


@torch.no_grad()
def test_the_model_is_left_as_it_was(pixels):
    stan = make_stan()
    before = stan.frame_embeddings(pixels)
    first = patch_attention(stan, pixels)
    assert torch.equal(patch_attention(stan, pixels), first)
    assert torch.equal(stan.frame_embeddings(pixels), before)
    assert not any(module._forward_hooks for module in stan.modules())


def test_too_many_frames_are_one_line_and_leave_the_model_as_it_was(pixels):
    stan = make_stan()
    with pytest.raises(InputError, match="takes clips of at most 4 frames, not 6"):
        patch_attention(stan, torch.cat([pixels, pixels], dim=1))
    assert not any(module._forward_hooks for module in stan.modules())
