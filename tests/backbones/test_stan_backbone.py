import copy
import json
from dataclasses import asdict

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.stan_backbone import KeptPatches, StanBackbone
from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError
from stillmotion.training.freezing import freeze
from stillmotion.training.patch_dropout import PatchDropout

KINDS = ["CLIP", "CustomTextCLIP", "CoCa"]
TEMPORAL = ["self_attention", "conv", "joint"]
TEXTS = ["a red ball", "a large red circle moves left! on a gray background. " * 3, "x", "word " * 100]
SETTINGS = StanSettings(
    num_layers=2,
    skipped_layers=0,
    interval=1,
    structure="branch",
    temporal="self_attention",
    inter_proj="linear",
    class_token="clip",
    class_token_mean="after_attention",
    max_frames=6,
    context_frames=4,
    drop_path=0.0,
    seed=0,
)


def make_clip(kind="CLIP", *, size_px=32, **vision):
    tower = {"width": 32, "layers": 3, "image_size": size_px, "patch_size": 8, "head_width": 16} | vision
    text = {"width": 32, "layers": 2, "heads": 2, "context_length": 77, "vocab_size": 49408}
    config = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}
    if kind == "CoCa":
        tower |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        text |= {"embed_cls": True, "output_tokens": True, "context_length": 76}
        multimodal = {"width": 32, "layers": 1, "heads": 2, "context_length": 76, "vocab_size": 49408}
        config["multimodal_cfg"] = multimodal | {"attn_pooler_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(open_clip, kind)(**json.loads(json.dumps(config)))
        for name, value in model.named_parameters():  # norms and biases that do nothing would hide what is left out
            if "ln_" in name or name.endswith("bias"):
                torch.nn.init.normal_(value, 1.0 if name.endswith("weight") else 0.0, 0.3)
    if kind != "CLIP":
        config["custom_text"] = True
    config = {"model_cfg": config, "preprocess_cfg": asdict(PreprocessCfg(size=size_px))}
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    context = 76 if kind == "CoCa" else 77
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(context_length=context), config).eval()


def make_stan(kind="CLIP", *, trained=True, size_px=32, vision=(), **change):
    settings = StanSettings(**(asdict(SETTINGS) | change))
    stan = expand_stan(make_clip(kind, size_px=size_px, **dict(vision)), settings)
    if trained:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for value in stan.branch.parameters():
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.2)
    return stan


@pytest.fixture(scope="module")
def stan():
    """One for tests that leave it as it is, with weights as after training."""
    return make_stan()


def make_pixels(clips=2, frames=4, size_px=32):
    return torch.randn(clips, frames, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def make_frames(num):
    return np.random.default_rng(0).integers(0, 256, (num, 32, 32, 3), dtype=np.uint8)


def silence(stan):
    branch = copy.deepcopy(stan.branch)
    stan.branch.forward = lambda *inputs: tuple(torch.zeros_like(part) for part in branch(*inputs))
    return stan


# What the image model gives is kept.


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_without_what_the_branch_adds_the_frames_are_those_of_the_image_model(kind):
    pixels = make_pixels()
    expected = make_clip(kind).model.encode_image(pixels.flatten(0, 1), normalize=True).unflatten(0, (2, 4))
    stan = silence(make_stan(kind))
    torch.testing.assert_close(stan.frame_embeddings(pixels), expected, atol=1e-6, rtol=1e-6)
    mean = torch.nn.functional.normalize(expected.mean(1), dim=-1)
    torch.testing.assert_close(stan.embed_clips(pixels), mean, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_with_a_class_token_of_each_frame_a_clip_of_one_frame_is_the_same_and_others_differ(kind):
    one, of_frames = make_stan(kind), make_stan(kind, class_token="frame")
    single, several = make_pixels(frames=1), make_pixels()
    torch.testing.assert_close(of_frames.frame_embeddings(single), one.frame_embeddings(single), atol=1e-6, rtol=1e-6)
    assert (of_frames.frame_embeddings(several) - one.frame_embeddings(several)).abs().max() > 1e-3
    silent = silence(of_frames).frame_embeddings(several)
    expected = make_clip(kind).model.encode_image(several.flatten(0, 1), normalize=True).unflatten(0, (2, 4))
    torch.testing.assert_close(silent, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("size_px", "vision"), [(48, {"patch_size": 16}), (32, {"pool_type": "avg"})])
@torch.no_grad()
def test_towers_of_other_sizes_and_poolings_are_kept_too(size_px, vision):
    pixels = make_pixels(size_px=size_px)
    clip = make_clip(size_px=size_px, **vision)
    expected = clip.model.encode_image(pixels.flatten(0, 1), normalize=True).unflatten(0, (2, 4))
    stan = make_stan(size_px=size_px, vision=vision)
    assert (stan.frame_embeddings(pixels) - expected).abs().max() > 1e-2
    torch.testing.assert_close(silence(stan).frame_embeddings(pixels), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [1, 4])
@torch.no_grad()
def test_what_the_branch_adds_goes_to_all_tokens_before_the_end_of_the_tower(kind, num_classes):
    pixels = make_pixels(clips=1)
    stan = make_stan(kind)
    generator = torch.Generator().manual_seed(3)
    classes_BCW, patches_BFPW = (
        torch.randn(1, num_classes, 32, generator=generator),
        torch.randn(1, 4, 16, 32, generator=generator),
    )
    stan.branch.forward = lambda *inputs: (classes_BCW, patches_BFPW)
    clip = make_clip(kind)
    added = torch.cat([classes_BCW[0].expand(4, -1)[:, None], patches_BFPW[0]], dim=1)
    clip.model.visual.transformer.register_forward_hook(lambda module, inputs, output: output + added)
    expected = clip.model.encode_image(pixels[0], normalize=True)
    torch.testing.assert_close(stan.frame_embeddings(pixels)[0], expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_model_it_is_built_around_stays_as_it_is():
    clip = make_clip()
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    stan = expand_stan(clip, SETTINGS)
    for value in stan.parameters():
        value.add_(1)
    assert type(clip.model.visual.patch_dropout) is torch.nn.Identity
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_texts_pixels_and_scale_are_those_of_the_image_model(stan):
    clip = make_clip()
    frames = make_frames(2)
    with torch.no_grad():
        assert torch.equal(stan.embed_texts(stan.tokens(TEXTS)), clip.embed_texts(clip.tokens(TEXTS)))
    assert torch.equal(stan.pixels(frames), clip.pixels(frames))
    assert stan.truncated(TEXTS).tolist() == [False, False, False, True]
    assert stan.logit_scale.item() == clip.logit_scale.item()
    assert (stan.dim, stan.image_size_px, stan.clip_frames) == (16, 32, None)


# Frames see one another.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temporal", TEMPORAL)
@torch.no_grad()
def test_the_order_of_frames_matters_once_trained_and_not_before(kind, temporal):
    pixels = make_pixels(frames=4)
    other = pixels[:, [2, 0, 3, 1]]
    new = make_stan(kind, temporal=temporal, trained=False)
    torch.testing.assert_close(new.embed_clips(other), new.embed_clips(pixels), atol=1e-5, rtol=1e-5)
    trained = make_stan(kind, temporal=temporal)
    assert (trained.embed_clips(other) - trained.embed_clips(pixels)).abs().max() > 1e-4
    clip = make_clip(kind)
    torch.testing.assert_close(clip.embed_clips(other), clip.embed_clips(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("structure", ["branch", "last_level_branch", "posterior"])
@torch.no_grad()
def test_a_clip_has_as_many_frames_as_it_likes_and_its_neighbours_do_not_change_it(structure):
    stan = make_stan(structure=structure)
    for num_frames in (1, 2, 6):
        pixels = make_pixels(frames=num_frames)
        frames = stan.frame_embeddings(pixels)
        assert frames.shape == (2, num_frames, 16)
        torch.testing.assert_close(frames.norm(dim=-1), torch.ones(2, num_frames))
        torch.testing.assert_close(stan.frame_embeddings(pixels[1:]), frames[1:], atol=1e-6, rtol=1e-5)


def test_more_frames_than_times_are_refused_with_the_mend(stan):
    with pytest.raises(InputError) as caught:
        stan.frame_embeddings(make_pixels(frames=7))
    assert str(caught.value) == (
        "this STAN takes clips of at most 6 frames, not 7; set num_frames to that or fewer, or max_frames of its "
        "expansion to 7 or more"
    )


def test_the_layers_that_are_read_are_the_tower_s(stan):
    pixels = make_pixels()
    seen = []
    blocks = stan.model.visual.transformer.resblocks
    hooks = [block.register_forward_hook(lambda *call: seen.append(call[2])) for block in blocks]
    found = []
    hooks.append(stan.branch.register_forward_pre_hook(lambda module, inputs: found.extend(inputs[0])))
    with torch.no_grad():
        stan.frame_embeddings(pixels)
    for hook in hooks:
        hook.remove()
    assert len(found) == 2
    for level, wanted in zip(found, seen[1:], strict=True):
        assert torch.equal(level.flatten(0, 1), wanted)


# Videos.


@torch.no_grad()
def test_a_video_s_frames_are_embedded_in_runs_and_its_clips_by_themselves(stan):
    frames = make_frames(6)
    clips_NF = np.array([[0, 2, 5], [1, 3, 4], [0, 1, 2]])
    assert not stan.clips_are_means
    frames_TD, clips_ND = stan.embed_video(frames, clips_NF, frames_a_pass=8)
    pixels = stan.pixels(frames)
    first, second = stan.frame_embeddings(pixels[None, :4])[0], stan.frame_embeddings(pixels[None, 2:])[0]
    torch.testing.assert_close(frames_TD, torch.cat([first, second[2:]]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(clips_ND, stan.embed_clips(pixels[clips_NF]), atol=1e-6, rtol=1e-5)
    one_a_pass = stan.embed_video(frames, clips_NF, frames_a_pass=1)
    torch.testing.assert_close(one_a_pass, (frames_TD, clips_ND), atol=1e-6, rtol=1e-5)
    none, clips_alone_ND = stan.embed_video(frames, clips_NF, frames_a_pass=8, single_frames=False)
    assert none.shape == (0, 16)
    assert torch.equal(clips_alone_ND, clips_ND)


@torch.no_grad()
def test_a_video_shorter_than_a_run_and_without_clips(stan):
    frames = make_frames(2)
    frames_TD, clips_ND = stan.embed_video(frames, np.zeros((0, 3), np.int64), frames_a_pass=8)
    torch.testing.assert_close(frames_TD, stan.frame_embeddings(stan.pixels(frames)[None])[0])
    assert clips_ND.shape == (0, 16)


@torch.no_grad()
def test_an_image_is_a_clip_of_one_frame(stan):
    pixels = make_pixels(clips=3, frames=1)
    torch.testing.assert_close(stan.embed_frames(pixels[:, 0]), stan.embed_clips(pixels), atol=1e-6, rtol=1e-5)


# Single tokens.


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
@torch.no_grad()
def test_the_end_token_of_a_clip_is_the_text_s_own_vector(kind):
    stan = make_stan(kind)
    tokens = stan.tokens(TEXTS)
    vectors_NLD, mask_NL = stan.token_embeddings(tokens)
    lengths = [5, 2 + 3 * 12, 3, 77]
    assert mask_NL.sum(1).tolist() == lengths
    assert [int(row.nonzero().max()) + 1 for row in mask_NL] == lengths
    torch.testing.assert_close(vectors_NLD.norm(dim=-1), torch.ones(4, 77))
    ends_ND = vectors_NLD[torch.arange(4), torch.tensor(lengths) - 1]
    torch.testing.assert_close(ends_ND, stan.embed_texts(tokens), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_token_s_vector_is_that_of_the_text_that_ends_there(stan):
    """Attention is causal, so a token in the middle is what an end token at its place would be but for its word."""
    tokens = stan.tokens(TEXTS[:1])
    vectors_NLD, _ = stan.token_embeddings(tokens)
    model = stan.model
    model_input = model.token_embedding(tokens[:, :3]) + model.positional_embedding[:3]
    states = model.transformer(model_input, attn_mask=model.attn_mask[:3, :3])
    expected = torch.nn.functional.normalize(model.ln_final(states[:, -1]) @ model.text_projection, dim=-1)
    torch.testing.assert_close(vectors_NLD[:, 2], expected, atol=1e-6, rtol=1e-5)


def test_a_word_with_the_number_of_padding_is_a_word(stan):
    tokens = stan.tokens(["!^"])
    assert tokens[0, 1] == tokens[0, -1] == 0
    _, mask_NL = stan.token_embeddings(tokens)
    assert mask_NL.tolist() == [[True] * 4]


@torch.no_grad()
def test_tokens_of_a_coca_are_those_before_its_class_token():
    stan = make_stan("CoCa")
    tokens = stan.tokens(TEXTS)
    vectors_NLD, mask_NL = stan.token_embeddings(tokens)
    assert mask_NL.sum(1).tolist() == [5, 2 + 3 * 12, 3, 76]
    text = stan.model.text
    states = text(tokens)[1]  # without the final norm
    expected = torch.nn.functional.normalize(text.ln_final(states) @ text.text_projection, dim=-1)
    torch.testing.assert_close(vectors_NLD, expected, atol=1e-6, rtol=1e-5)


def test_a_text_tower_whose_end_is_not_known_is_refused(stan):
    other = copy.deepcopy(stan)
    other.model.text_pool_type = "last"
    with pytest.raises(InputError, match="not for a CLIP that pools by 'last'; choose another backbone"):
        other.token_embeddings(stan.tokens(TEXTS))


# Freezing, patch dropout, memory.


def test_freezing_leaves_the_branch_and_computes_nothing_backward_below():
    stan = make_stan().train()
    names = set(freeze(stan, embeddings=True, blocks=2))
    assert names == set(freeze(make_clip(), embeddings=True, blocks=2))
    new = set(stan.branch_parameter_names())
    assert new == {name for name, _ in stan.named_parameters() if name.startswith("branch.")}
    assert not names & new
    seen = []
    for block in stan.model.visual.transformer.resblocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    videos = stan.embed_clips(make_pixels())
    assert seen == [False, False, True]
    (videos @ stan.embed_texts(stan.tokens(TEXTS[:2])).T * stan.logit_scale)[:, 0].sum().backward()
    without = {name for name, value in stan.named_parameters() if value.grad is None}
    assert without == names


def test_training_the_tower_reaches_all_of_it_and_of_the_branch():
    for kind in KINDS:
        stan = make_stan(kind).train()
        videos = stan.embed_clips(make_pixels())
        (videos @ stan.embed_texts(stan.tokens(TEXTS[:2])).T * stan.logit_scale)[:, 0].sum().backward()
        without = [name for name, value in stan.named_parameters() if value.grad is None]
        assert all(name.startswith("model.text_decoder.") for name in without), kind


def test_dropped_patches_reach_neither_tower_nor_branch_and_the_others_keep_their_places():
    stan = make_stan().train()
    dropout = PatchDropout(0.5, "tubelet")
    stan.set_patch_dropout(dropout)
    dropout.draw([5], 4)
    found = []
    stan.branch.register_forward_pre_hook(lambda module, inputs: found.extend(inputs))
    pixels = make_pixels()
    embedded = stan.frame_embeddings(pixels)
    levels, kept_BP = found
    assert kept_BP.shape == (2, 8)
    assert all(level.shape == (2, 4, 9, 32) for level in levels)
    # The tower alone, with the kept patches picked by hand.
    visual = stan.model.visual
    grid = visual.conv1(pixels.flatten(0, 1)).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    picked = torch.stack([grid[row, kept_BP[row // 4]] for row in range(8)])
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(8, 1, -1)
    tokens = visual.transformer.resblocks[0](visual.ln_pre(torch.cat([first, picked], dim=1)))
    tokens = visual.transformer.resblocks[1](tokens)
    torch.testing.assert_close(levels[0].flatten(0, 1), tokens, atol=1e-5, rtol=1e-5)
    # A branch whose table holds the kept places only is this branch.
    for row in range(2):
        small = copy.deepcopy(stan.branch)
        small.patch_positions = torch.nn.Parameter(stan.branch.patch_positions.detach()[kept_BP[row]])
        ours = stan.branch([level[row : row + 1] for level in levels], kept_BP[row : row + 1])
        for one, other in zip(ours, small([level[row : row + 1] for level in levels]), strict=True):
            torch.testing.assert_close(one, other)
    dropout.draw([6], 4)
    assert not torch.allclose(stan.frame_embeddings(pixels), embedded)


def test_patches_that_differ_between_frames_are_refused_with_the_mend():
    stan = make_stan().train()
    dropout = PatchDropout(0.5, "per_frame")
    stan.set_patch_dropout(dropout)
    dropout.draw([5], 4)
    with pytest.raises(InputError) as caught:
        stan.embed_clips(make_pixels())
    assert str(caught.value) == (
        "params.yaml: patch_sampling drops other patches in each frame, and STAN attends to the same patch of all "
        "frames; set patch_sampling: tubelet"
    )


@torch.no_grad()
def test_nothing_is_dropped_in_eval_mode_whatever_is_drawn():
    stan = make_stan(drop_path=0.9)
    pixels = make_pixels()
    expected = stan.embed_clips(pixels)
    dropout = PatchDropout(0.5, "tubelet")
    stan.set_patch_dropout(dropout.eval())
    dropout.draw([5], 4)
    stan.draw_paths([5])
    assert torch.equal(stan.embed_clips(pixels), expected)
    stan.set_patch_dropout(PatchDropout(1.0, "per_frame"))
    assert not torch.equal(stan.train().embed_clips(pixels), expected)  # what is drawn is of training


def test_places_beyond_what_bfloat16_holds_are_kept_exactly():
    dropout = PatchDropout(0.9, "tubelet")
    dropout.draw([0], 1)
    module = KeptPatches(dropout)
    tokens = torch.arange(1025, dtype=torch.float32)[None, :, None].expand(2, -1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        left = module(tokens)
    assert torch.equal(left[:, 1:, 0].long() - 1, module.kept)
    assert torch.equal(module.kept, module.kept.sort(dim=1).values)
    assert module.kept.max() > 256


@pytest.mark.parametrize("kind", ["CLIP", "CoCa"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    gradients = []
    for on in (False, True):
        stan = make_stan(kind, drop_path=0.5).train()
        stan.set_gradient_checkpointing(on)
        dropout = PatchDropout(0.5, "tubelet")
        stan.set_patch_dropout(dropout)
        dropout.draw([5], 4)
        stan.draw_paths([5])
        videos = stan.embed_clips(make_pixels())
        (videos @ stan.embed_texts(stan.tokens(TEXTS[:2])).T)[0, 1].backward()
        gradients.append({name: value.grad for name, value in stan.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, msg=name)


def test_it_runs_under_autocast(stan):
    with torch.no_grad():
        expected = stan.embed_clips(make_pixels())
        with torch.autocast("cpu", torch.bfloat16):
            found = stan.embed_clips(make_pixels())
    assert found.dtype == torch.float32
    assert (found * expected).sum(-1).min() > 0.99


def test_a_copy_drops_with_its_own_module(stan):
    copied = copy.deepcopy(stan)
    assert isinstance(copied, StanBackbone)
    assert copied.model.visual.patch_dropout is not stan.model.visual.patch_dropout


def test_the_branch_of_a_frozen_model_is_trained():
    clip = make_clip().requires_grad_(False)
    stan = expand_stan(clip, SETTINGS)
    trained = [name for name, value in stan.named_parameters() if value.requires_grad]
    assert trained == stan.branch_parameter_names()


@pytest.mark.slow
@pytest.mark.parametrize("temporal", TEMPORAL)
def test_it_learns_to_tell_a_clip_from_itself_backwards_which_the_mean_of_frames_cannot(temporal):
    clip = make_clip().requires_grad_(False)
    pixels = make_pixels(clips=3)
    both = torch.cat([pixels, pixels.flip(1)])
    torch.testing.assert_close(clip.embed_clips(both[:3]), clip.embed_clips(both[3:]), atol=1e-5, rtol=1e-5)
    stan = expand_stan(clip, StanSettings(**(asdict(SETTINGS) | {"temporal": temporal}))).train()
    texts_2D = torch.nn.functional.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(2)), dim=-1)
    wanted = torch.tensor([0, 0, 0, 1, 1, 1])
    optimizer = torch.optim.AdamW(stan.branch.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(10 * stan.embed_clips(both) @ texts_2D.T, wanted)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # 0.69 is what a guess has
