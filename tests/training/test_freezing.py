from dataclasses import asdict

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg
from torch.utils.flop_counter import FlopCounterMode

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.errors import InputError
from stillmotion.training import freezing
from stillmotion.training.loop import parameter_groups

LAYERS, WIDTH, DIM, BATCH = 2, 32, 16, 3
VISION = {"width": WIDTH, "layers": LAYERS, "image_size": 32, "patch_size": 8, "head_width": 16}
TEXT = {"width": WIDTH, "layers": LAYERS, "heads": 2, "context_length": 8, "vocab_size": 100}

VISION_EMBEDDINGS = {
    "visual.class_embedding",
    "visual.positional_embedding",
    "visual.conv1.weight",
    "visual.ln_pre.weight",
    "visual.ln_pre.bias",
}
BLOCK = {
    "ln_1.weight",
    "ln_1.bias",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.weight",
    "attn.out_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
}


def build(kind):
    torch.manual_seed(0)
    if kind == "CLIP":
        return open_clip.CLIP(embed_dim=DIM, vision_cfg=dict(VISION), text_cfg=dict(TEXT))
    if kind == "CustomTextCLIP":
        return open_clip.CustomTextCLIP(embed_dim=DIM, vision_cfg=dict(VISION), text_cfg=dict(TEXT))
    pooled = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    decoder = {"context_length": 8, "vocab_size": 100, "width": WIDTH, "heads": 2, "layers": 1}
    return open_clip.CoCa(
        embed_dim=DIM,
        multimodal_cfg=decoder | {"attn_pooler_heads": 2},
        text_cfg=TEXT | {"embed_cls": True, "output_tokens": True, "context_length": 7},
        vision_cfg=VISION | pooled,
    )


def freeze(model, **what):
    """Names of the open_clip model's frozen parameters."""
    open_clip.model.set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=32)))
    backbone = OpenClipBackbone(model, open_clip.SimpleTokenizer(), {})
    return [name.removeprefix("model.") for name in freezing.freeze(backbone, **what)]


def text_prefix(kind):
    return "" if kind == "CLIP" else "text."


def embeddings_of(kind):
    prefix = text_prefix(kind)
    names = {f"{prefix}positional_embedding", f"{prefix}token_embedding.weight"}
    return VISION_EMBEDDINGS | names | ({"text.cls_emb"} if kind == "CoCa" else set())


def blocks_of(kind, num):
    towers = ("visual.", text_prefix(kind))
    return {f"{tower}transformer.resblocks.{n}.{name}" for tower in towers for n in range(num) for name in BLOCK}


def loss_of(model):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, 32, 32, generator=generator)
    tokens = torch.randint(1, 99, (BATCH, 7), generator=generator)
    tokens = torch.cat([tokens, torch.full((BATCH, 1), 99)], dim=1) if isinstance(model, open_clip.CLIP) else tokens
    if isinstance(model, open_clip.CustomTextCLIP):
        tokens = torch.nn.functional.pad(tokens, (0, 1), value=99)
    return model.encode_image(images).square().sum() + model.encode_text(tokens).square().sum()


def backward_flops(model):
    loss = loss_of(model)
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    return counter.get_total_flops()


kinds = pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP", "CoCa"])


@kinds
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_embeddings_and_the_first_blocks_of_both_towers_are_frozen_and_nothing_else(kind, blocks):
    model = build(kind)
    expected = embeddings_of(kind) | blocks_of(kind, blocks)
    assert expected <= {name for name, _ in model.named_parameters()}
    assert set(freeze(model, embeddings=True, blocks=blocks)) == expected
    assert {name for name, value in model.named_parameters() if not value.requires_grad} == expected


def test_nothing_is_frozen_where_nothing_is_asked_for():
    model = build("CLIP")
    assert freeze(model, embeddings=False, blocks=0) == []
    assert all(value.requires_grad for value in model.parameters())


@kinds
def test_frozen_parameters_get_no_gradient_and_the_others_do(kind):
    model = build(kind)
    frozen = set(freeze(model, embeddings=True, blocks=1))
    loss_of(model).backward()
    with_gradient = {name for name, value in model.named_parameters() if value.grad is not None}
    assert not frozen & with_gradient
    assert {"visual.transformer.resblocks.1.mlp.c_fc.weight", "visual.proj"} <= with_gradient
    assert f"{text_prefix(kind)}transformer.resblocks.1.mlp.c_fc.weight" in with_gradient


def texts_of(kind, model):
    """Names of all that a text passes: in a CLIP all but the vision tower and the scale."""
    if kind == "CLIP":
        return {name for name, _ in model.named_parameters() if not name.startswith(("visual.", "logit_scale"))}
    return {f"text.{name}" for name, _ in model.text.named_parameters()}


@kinds
@pytest.mark.parametrize("blocks", [0, 1])
def test_the_whole_text_tower_is_frozen_beside_what_else_is_asked_for(kind, blocks):
    model = build(kind)
    texts = texts_of(kind, model)
    prefix = text_prefix(kind)
    ends = {"positional_embedding", "token_embedding.weight", "ln_final.weight", "ln_final.bias", "text_projection"}
    assert {f"{prefix}{name}" for name in ends} <= texts
    expected = texts | (embeddings_of(kind) | blocks_of(kind, blocks) if blocks else set())
    assert set(freeze(model, embeddings=bool(blocks), blocks=blocks, texts=True)) == expected
    assert {name for name, value in model.named_parameters() if not value.requires_grad} == expected
    assert not model.encode_text(torch.full((1, 7 if kind == "CoCa" else 8), 99)).requires_grad
    loss_of(model).backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None}.isdisjoint(expected)


def test_a_text_projection_that_is_a_linear_is_frozen_too():
    model = open_clip.CLIP(embed_dim=DIM, vision_cfg=dict(VISION), text_cfg=TEXT | {"proj_bias": True})
    frozen = set(freeze(model, embeddings=False, blocks=0, texts=True))
    assert {"text_projection.weight", "text_projection.bias"} <= frozen
    assert frozen == texts_of("CLIP", model)


def test_frozen_parameters_are_not_given_to_the_optimizer():
    model = build("CLIP")
    frozen = set(freeze(model, embeddings=True, blocks=1))
    given = {id(value) for group in parameter_groups(model, 0.1) for value in group["params"]}
    names = {name for name, value in model.named_parameters() if id(value) in given}
    assert names == {name for name, _ in model.named_parameters()} - frozen


@kinds
def test_the_backward_pass_costs_less_with_each_frozen_block(kind):
    costs = [backward_flops(build(kind))]
    for blocks in range(LAYERS + 1):
        model = build(kind)
        freeze(model, embeddings=True, blocks=blocks)
        costs.append(backward_flops(model))
    assert all(more > less for more, less in zip(costs, costs[1:], strict=False)), costs


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
def test_with_all_blocks_frozen_the_backward_pass_ends_at_the_projections(kind):
    model = build(kind)
    freeze(model, embeddings=True, blocks=LAYERS)
    # Each projection (BATCH × WIDTH · WIDTH × DIM) has a gradient for its weight and one for its input, which the
    # norm before it needs: two products of 2 · BATCH · WIDTH · DIM in each of two towers.
    assert backward_flops(model) == 2 * 2 * (2 * BATCH * WIDTH * DIM)


@kinds
def test_more_blocks_than_a_tower_has_are_an_error_that_names_the_param(kind):
    with pytest.raises(InputError) as caught:
        freeze(build(kind), embeddings=True, blocks=3)
    assert str(caught.value) == "params.yaml: frozen_blocks is 3 and a tower has 2 blocks; set fewer"


def test_the_shorter_tower_sets_the_limit():
    model = open_clip.CLIP(embed_dim=DIM, vision_cfg=dict(VISION), text_cfg=TEXT | {"layers": 1})
    with pytest.raises(InputError, match="frozen_blocks is 2 and a tower has 1 blocks"):
        freeze(model, embeddings=True, blocks=2)


def test_a_tower_of_another_kind_is_an_error_that_names_it():
    resnet = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    model = open_clip.CLIP(embed_dim=DIM, vision_cfg=resnet, text_cfg=dict(TEXT))
    with pytest.raises(InputError, match="not ModifiedResNet"):
        freeze(model, embeddings=True, blocks=0)
    model = build("CustomTextCLIP")
    model.text = torch.nn.Module()
    model.text.transformer = torch.nn.Module()  # as in open_clip's wrapper of Hugging Face models
    with pytest.raises(InputError, match="not Module"):
        freeze(model, embeddings=True, blocks=0)
