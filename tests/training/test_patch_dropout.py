import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from stillmotion.training.patch_dropout import PatchDropout, kept_patches

VISION = {"width": 32, "layers": 2, "image_size": 32, "patch_size": 8, "head_width": 16}
TEXT = {"width": 32, "layers": 1, "heads": 2, "context_length": 8, "vocab_size": 100}
CLIPS, FRAMES, PATCHES = 3, 4, 16


def make_tokens():
    """(CLIPS · FRAMES, 1 + PATCHES, 1): class token -1, then the number of the patch."""
    row = torch.arange(-1.0, PATCHES).view(1, -1, 1)
    return row.expand(CLIPS * FRAMES, -1, -1).clone()


def drop(keep_rate, sampling, seed=(0, 0)):
    module = PatchDropout(keep_rate, sampling).train()
    module.draw(list(seed), FRAMES)
    return module(make_tokens())[..., 0].view(CLIPS, FRAMES, -1)


def vision_tower(dropout):
    torch.manual_seed(0)
    visual = open_clip.CLIP(embed_dim=16, vision_cfg=dict(VISION), text_cfg=dict(TEXT)).visual
    visual.patch_dropout = dropout
    return visual


@given(
    num_clips=st.integers(1, 4),
    num_frames=st.integers(1, 4),
    num_patches=st.integers(1, 60),
    keep_rate=st.floats(0.01, 1.0),
    sampling=st.sampled_from(["tubelet", "per_frame"]),
    seed=st.integers(0, 99),
)
def test_a_row_holds_different_patches_in_rising_order(num_clips, num_frames, num_patches, keep_rate, sampling, seed):
    kept = kept_patches(
        num_clips,
        num_frames,
        num_patches,
        keep_rate=keep_rate,
        sampling=sampling,
        generator=torch.Generator().manual_seed(seed),
    )
    assert kept.shape == (num_clips * num_frames, max(1, int(keep_rate * num_patches)))
    assert kept.min() >= 0
    assert kept.max() < num_patches
    assert (kept.diff(dim=1) > 0).all()


# Lindgren 2023 keeps int(rate · N): of 49 patches (ViT-B/32) and of 196 (B/16), by hand.
@pytest.mark.parametrize(
    ("num_patches", "keep_rate", "num_kept"), [(49, 0.5, 24), (49, 0.05, 2), (196, 0.75, 147), (16, 0.05, 1), (4, 1, 4)]
)
def test_the_number_of_patches_is_rounded_down_and_at_least_one(num_patches, keep_rate, num_kept):
    generator = torch.Generator().manual_seed(0)
    kept = kept_patches(2, 3, num_patches, keep_rate=keep_rate, sampling="per_frame", generator=generator)
    assert kept.shape == (6, num_kept)


def test_every_patch_is_kept_as_often_as_any_other():
    generator = torch.Generator().manual_seed(0)
    kept = kept_patches(4000, 1, 8, keep_rate=0.5, sampling="per_frame", generator=generator)
    shares = kept.flatten().bincount(minlength=8) / 4000
    assert (shares - 0.5).abs().max() < 0.04  # five standard deviations of a share of 4,000


@pytest.mark.parametrize("sampling", ["tubelet", "per_frame"])
def test_the_class_token_stays_first(sampling):
    kept = drop(0.25, sampling)
    assert kept.shape == (CLIPS, FRAMES, 1 + 4)
    assert (kept[..., 0] == -1).all()
    assert (kept[..., 1:] >= 0).all()


def test_a_tubelet_is_the_same_in_all_frames_of_a_clip_and_differs_between_clips():
    kept = drop(0.5, "tubelet")
    assert all((kept[clip] == kept[clip, :1]).all() for clip in range(CLIPS))
    assert len({tuple(kept[clip, 0].tolist()) for clip in range(CLIPS)}) == CLIPS


def test_per_frame_sampling_differs_between_the_frames_of_a_clip():
    kept = drop(0.5, "per_frame")
    assert all(len({tuple(row) for row in kept[clip].tolist()}) > 1 for clip in range(CLIPS))


def test_the_same_seed_keeps_the_same_patches_and_another_others():
    assert torch.equal(drop(0.5, "tubelet", (0, 1, 2)), drop(0.5, "tubelet", (0, 1, 2)))
    assert not torch.equal(drop(0.5, "tubelet", (0, 1, 2)), drop(0.5, "tubelet", (0, 1, 3)))
    assert not torch.equal(drop(0.5, "tubelet", (0, 1, 2)), drop(0.5, "tubelet", (1, 1, 2)))


@given(
    first=st.integers(0, 4),
    num_clips=st.integers(1, 3),
    num_frames=st.integers(1, 4),
    num_patches=st.integers(1, 70),
    sampling=st.sampled_from(["tubelet", "per_frame"]),
)
def test_a_part_of_a_batch_keeps_what_it_keeps_in_the_whole_batch(first, num_clips, num_frames, num_patches, sampling):
    tokens = torch.arange(-1.0, num_patches).view(1, -1, 1).expand(7 * num_frames, -1, -1)
    module = PatchDropout(0.5, sampling).train()
    module.draw([3, 1], num_frames)
    whole = module(tokens)
    rows = slice(first * num_frames, (first + num_clips) * num_frames)
    module.draw([3, 1], num_frames, first_clip=first)
    assert torch.equal(module(tokens[rows]), whole[rows])


def test_the_same_draw_keeps_the_same_patches_however_often_clips_pass():
    module = PatchDropout(0.5, "per_frame").train()
    module.draw([0], FRAMES)
    assert torch.equal(module(make_tokens()), module(make_tokens()))


def test_the_choice_does_not_touch_the_global_generator():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    drop(0.5, "per_frame")
    assert torch.equal(torch.rand(3), expected)


def test_nothing_is_dropped_in_eval_mode_at_rate_1_or_before_a_draw():
    tokens = make_tokens()
    drawn = PatchDropout(0.5, "tubelet")
    drawn.draw([0], FRAMES)
    assert torch.equal(drawn.eval()(tokens), tokens)
    all_kept = PatchDropout(1.0, "tubelet").train()
    all_kept.draw([0], FRAMES)
    assert torch.equal(all_kept(tokens), tokens)
    assert torch.equal(PatchDropout(0.5, "tubelet").train()(tokens), tokens)


def test_in_eval_mode_the_tower_gives_what_it_gave_without_the_module():
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    module = PatchDropout(0.5, "tubelet")
    module.draw([0], 2)
    with torch.no_grad():
        expected = vision_tower(torch.nn.Identity()).eval()(images)
        assert torch.equal(vision_tower(module).eval()(images), expected)
        assert not torch.allclose(vision_tower(module).train()(images), expected)


def test_patches_are_dropped_after_positions_are_added_and_before_the_first_norm():
    module = PatchDropout(0.5, "tubelet")
    visual = vision_tower(module).train()
    seen = {}
    visual.ln_pre.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    module.draw([5], 2)
    with torch.no_grad():
        visual(images)
        # The embedding of Dosovitskiy et al. 2021, eq. 1, in full: patch i of a frame gets position i + 1.
        patches = torch.nn.functional.conv2d(images, visual.conv1.weight, stride=8).flatten(2).transpose(1, 2)
        full = torch.cat([visual.class_embedding.expand(4, 1, -1), patches], 1) + visual.positional_embedding
    tokens = seen["tokens"]
    assert tokens.shape == (4, 1 + 8, 32)
    distances = torch.cdist(tokens, full)  # of each kept token to each token of its own frame
    assert distances.min(dim=2).values.max() < 1e-4
    places = distances.argmin(dim=2)
    assert (places[:, 0] == 0).all()
    assert (places.diff(dim=1) > 0).all()
    assert torch.equal(places[0], places[1])
    assert torch.equal(places[2], places[3])


def test_the_forward_pass_costs_less_with_fewer_patches():
    images = torch.randn(4, 3, 32, 32)
    costs = []
    for keep_rate in (0.05, 0.25, 0.5, 0.75, 1.0):
        module = PatchDropout(keep_rate, "tubelet")
        module.draw([0], 2)
        visual = vision_tower(module).train()
        with FlopCounterMode(display=False) as counter:
            visual(images)
        costs.append(counter.get_total_flops())
    # By hand for N images of t tokens, width 32, 2 layers: patches 2·16·192·32, then a layer has 2·t·32·(96 + 32)
    # for attention's matrices, 2·2·t·32·128 for the MLP, 2·2·t²·32 for attention itself; projection 2·32·16.
    expected = [
        4 * (2 * 16 * 192 * 32 + 2 * (2 * t * 32 * 128 + 4 * t * 32 * 128 + 4 * t * t * 32) + 2 * 32 * 16)
        for t in (2, 5, 9, 13, 17)
    ]
    assert costs == expected
