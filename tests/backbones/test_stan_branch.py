import math

import numpy as np
import open_clip
import pytest
import torch

from stillmotion.backbones.stan_branch import StanBranch
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError

WIDTH, HEADS, GRID = 16, 2, 4
TEMPORAL = ["self_attention", "conv", "joint"]
BUILT = [*((temporal, "clip") for temporal in TEMPORAL), ("self_attention", "frame"), ("conv", "frame")]
"""Kinds of layers, by their temporal module and what has a class token."""
STRUCTURES = ["branch", "last_level_branch", "posterior"]


def make_settings(**change):
    values = {
        "num_layers": 2,
        "skipped_layers": 0,
        "interval": 1,
        "structure": "branch",
        "temporal": "self_attention",
        "inter_proj": "linear",
        "class_token": "clip",
        "class_token_mean": "after_attention",
        "max_frames": 6,
        "context_frames": 4,
        "drop_path": 0.0,
        "seed": 0,
    }
    return StanSettings(**(values | change))


def make_tower(depth=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = open_clip.transformer.VisionTransformer(
            image_size=8, patch_size=4, width=WIDTH, layers=depth, heads=HEADS, mlp_ratio=2, output_dim=8
        )
        for value in tower.parameters():  # norms and biases that do nothing would hide what is left out
            torch.nn.init.normal_(value, std=0.3)
    return tower


def make_branch(**change):
    return StanBranch(make_tower(), make_settings(**change)).eval()


@torch.no_grad()
def randomise(module):
    """Weights as after training: nothing is zero and no two are equal."""
    generator = torch.Generator().manual_seed(7)
    for value in module.parameters():
        value.normal_(0, 0.4, generator=generator)


def make_levels(num, frames=3, clips=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(clips, frames, 1 + GRID, WIDTH, generator=generator) for _ in range(num)]


def shuffled(levels, order):
    return [level[:, order] for level in levels]


# A literal float64 transcription of one layer, over single vectors: METHODS.md section 6.


def to_numpy(module):
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def layer_norm(x, weights, name):
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(value):
    return 0.5 * value * (1 + math.erf(value / math.sqrt(2)))


def attention(rows, weights, name):
    """Each of `rows` attends to all of them, head by head."""
    projected = [weights[f"{name}.in_proj_weight"] @ row + weights[f"{name}.in_proj_bias"] for row in rows]
    size = WIDTH // HEADS
    results = []
    for asking in projected:
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            query = asking[:WIDTH][part]
            energies = [math.exp(query @ row[WIDTH : 2 * WIDTH][part] / math.sqrt(size)) for row in projected]
            values = [row[2 * WIDTH :][part] for row in projected]
            total = sum(energies)
            heads.append(sum(energy / total * value for energy, value in zip(energies, values, strict=True)))
        joined = np.concatenate(heads)
        results.append(weights[f"{name}.out_proj.weight"] @ joined + weights[f"{name}.out_proj.bias"])
    return results


def mlp(x, weights):
    hidden = weights["spatial.mlp.c_fc.weight"] @ layer_norm(x, weights, "spatial.ln_2")
    hidden = np.array([gelu(value) for value in hidden + weights["spatial.mlp.c_fc.bias"]])
    return weights["spatial.mlp.c_proj.weight"] @ hidden + weights["spatial.mlp.c_proj.bias"]


def silent(x, weights):
    return weights["temporal.out.weight"] @ x + weights["temporal.out.bias"]


def within_frames(classes_CW, patches_FPW, weights, mean):
    """The spatial module: each frame has its own copy of the clip's class token, which are averaged before the MLP
    (the released code) or after it; frames that had one each keep it."""
    is_clip, classes, frames = len(classes_CW) == 1, [], []
    for class_W, patches_PW in zip(
        [*classes_CW] * len(patches_FPW) if is_clip else classes_CW, patches_FPW, strict=True
    ):
        tokens = [class_W, *patches_PW]
        changes = attention([layer_norm(token, weights, "spatial.ln_1") for token in tokens], weights, "spatial.attn")
        class_W, *patches = (token + change for token, change in zip(tokens, changes, strict=True))
        classes.append(class_W)
        frames.append([patch + mlp(patch, weights) for patch in patches])
    if is_clip and mean == "after_attention":
        classes = [sum(classes) / len(classes)]
    classes = [class_W + mlp(class_W, weights) for class_W in classes]
    if is_clip and mean == "after_mlp":
        classes = [sum(classes) / len(classes)]
    return np.array(classes), np.array(frames)


def self_attention_layer(classes_CW, patches_FPW, weights, mean="after_attention"):
    patches_FPW = patches_FPW.copy()
    for place in range(patches_FPW.shape[1]):
        sequence = [layer_norm(patch, weights, "temporal.norm") for patch in patches_FPW[:, place]]
        for time, change in enumerate(attention(sequence, weights, "temporal.attn")):
            patches_FPW[time, place] += silent(change, weights)
    return within_frames(classes_CW, patches_FPW, weights, mean)


def conv_layer(classes_CW, patches_FPW, weights, mean="after_attention"):
    changed = patches_FPW.copy()
    for place in range(patches_FPW.shape[1]):
        sequence = [layer_norm(patch, weights, "temporal.norm") for patch in patches_FPW[:, place]]
        for time in range(len(sequence)):
            total = weights["temporal.conv.bias"].copy()
            for tap in range(3):
                if 0 <= time + tap - 1 < len(sequence):
                    total += weights["temporal.conv.weight"][:, :, tap] @ sequence[time + tap - 1]
            changed[time, place] += silent(total, weights)
    return within_frames(classes_CW, changed, weights, mean)


def joint_layer(classes_CW, patches_FPW, weights, mean="after_attention"):
    tokens = [*classes_CW, *patches_FPW.reshape(-1, WIDTH)]
    changes = attention([layer_norm(token, weights, "temporal.norm") for token in tokens], weights, "temporal.attn")
    tokens = [token + silent(change, weights) for token, change in zip(tokens, changes, strict=True)]
    tokens = [token + mlp(token, weights) for token in tokens]
    return tokens[0][None], np.array(tokens[1:]).reshape(patches_FPW.shape)


LAYERS = {"self_attention": self_attention_layer, "conv": conv_layer, "joint": joint_layer}


@pytest.mark.parametrize("mean", ["after_attention", "after_mlp"])
@pytest.mark.parametrize(("temporal", "class_token"), BUILT)
@torch.no_grad()
def test_a_layer_is_what_its_formula_says_in_float64(temporal, class_token, mean):
    layer = make_branch(temporal=temporal, class_token=class_token, class_token_mean=mean, num_layers=1).layers[0]
    randomise(layer)
    layer.double()
    tokens = make_levels(1)[0].double()
    classes_BCW = tokens[:, :, 0] if class_token == "frame" else tokens[:, :1, 0]
    found_classes, found_patches = layer(classes_BCW, tokens[:, :, 1:])
    for clip in range(2):
        wanted = LAYERS[temporal](classes_BCW[clip].numpy(), tokens[clip, :, 1:].numpy(), to_numpy(layer), mean)
        np.testing.assert_allclose(found_classes[clip].numpy(), wanted[0], atol=1e-12, rtol=1e-10)
        np.testing.assert_allclose(found_patches[clip].numpy(), wanted[1], atol=1e-12, rtol=1e-10)


STORED_CLASS = [0.146400809822276, 1.0635294653877687, -1.9320082747911462, -0.10359065693813374]
STORED_PATCHES = [[-0.6601591841545332, 2.7955142277483485], [0.19555628912431677, 2.0463485344640557]]


def wave(shape, phase):
    """Numbers that anyone can make again, and that do not repeat."""
    return np.cos(0.7 * np.arange(1, 1 + math.prod(shape)) ** 1.5 + phase).reshape(shape)


@torch.no_grad()
def test_a_layer_in_the_released_order_is_at_stored_numbers():
    """They were computed by the transcription above, which has no line in common with the module."""
    layer = make_branch(num_layers=1).layers[0].double()
    for phase, (_, value) in enumerate(sorted(layer.named_parameters())):
        value.copy_(torch.from_numpy(wave(value.shape, phase) / 2))
    level = wave((1, 3, 1 + GRID, WIDTH), 0.3)
    classes_CW, patches_FPW = level[0, :1, 0], level[0, :, 1:]
    found_classes, found_patches = layer(*(torch.from_numpy(value)[None] for value in (classes_CW, patches_FPW)))
    np.testing.assert_allclose(found_classes[0, 0, :4].numpy(), STORED_CLASS, rtol=1e-9)
    np.testing.assert_allclose(found_patches[0, [0, 2], [0, 3], :2].numpy(), STORED_PATCHES, rtol=1e-9)


@pytest.mark.parametrize("class_token", ["clip", "frame"])
@pytest.mark.parametrize("structure", STRUCTURES)
@torch.no_grad()
def test_a_branch_feeds_its_layers_as_the_equations_say(structure, class_token):
    branch = make_branch(structure=structure, class_token=class_token).double()
    randomise(branch)
    levels = [level.double() for level in make_levels(1 if structure == "posterior" else 2)]
    found_classes, found_patches = branch(levels)
    weights = to_numpy(branch)
    first, second = (to_numpy(layer) for layer in branch.layers)

    def read_classes(level):
        return level[:, 0] if class_token == "frame" else level[:, 0].mean(0, keepdims=True)

    for clip in range(2):
        level = levels[0][clip].numpy()
        patches_FPW = level[:, 1:] + weights["patch_positions"] + weights["times"][:3, None]
        classes_CW, patches_FPW = self_attention_layer(read_classes(level), patches_FPW, first)
        if structure != "posterior":
            projection, level = second["inter_proj.weight"], levels[1][clip].numpy()
            classes_CW = classes_CW + read_classes(level) @ projection.T
            patches_FPW = patches_FPW + level[:, 1:] @ projection.T
        classes_CW, patches_FPW = self_attention_layer(classes_CW, patches_FPW, second)
        np.testing.assert_allclose(found_classes[clip].numpy(), classes_CW, atol=1e-12, rtol=1e-10)
        np.testing.assert_allclose(found_patches[clip].numpy(), patches_FPW, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("temporal", ["self_attention", "conv"])
@torch.no_grad()
def test_frames_with_class_tokens_of_their_own_are_apart_until_the_temporal_module_is_trained(temporal):
    branch, levels = make_branch(temporal=temporal, class_token="frame"), make_levels(2)
    classes_BFW, patches_BFPW = branch(levels)
    for frame in range(3):
        alone = branch([level[:, frame : frame + 1] for level in levels])
        torch.testing.assert_close(classes_BFW[:, frame : frame + 1], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(patches_BFPW[:, frame : frame + 1], alone[1], atol=1e-5, rtol=1e-5)
    randomise(branch)
    others = [torch.cat([level[:, :1], level[:, [2, 1]]], dim=1) for level in levels]
    assert (branch(others)[0][:, 0] - branch(levels)[0][:, 0]).abs().max() > 1e-2


def as_the_tower_alone(tower, levels):
    """The start of a branch without temporal modules, from the tower's own blocks and its table of positions."""
    clips, frames = levels[0].shape[:2]
    tokens = None
    for level, block in zip(levels, tower.transformer.resblocks[-len(levels) :], strict=True):
        mean = level[:, :, :1].mean(1, keepdim=True).expand(-1, frames, -1, -1)
        read = torch.cat([mean, level[:, :, 1:]], dim=2)
        if tokens is None:
            tokens = read + torch.cat([torch.zeros(1, WIDTH), tower.positional_embedding[1:]])
        else:
            tokens = tokens + read
        tokens = block(tokens.flatten(0, 1)).unflatten(0, (clips, frames))
        mean = tokens[:, :, :1].mean(1, keepdim=True).expand(-1, frames, -1, -1)
        tokens = torch.cat([mean, tokens[:, :, 1:]], dim=2)
    return tokens[:, :1, 0], tokens[:, :, 1:]


@pytest.mark.parametrize("inter_proj", ["linear", "none"])
@pytest.mark.parametrize("temporal", ["self_attention", "conv"])
@torch.no_grad()
def test_at_the_start_there_are_only_the_tower_s_own_blocks(temporal, inter_proj):
    levels = make_levels(2)
    found = make_branch(temporal=temporal, inter_proj=inter_proj, class_token_mean="after_mlp")(levels)
    for one, other in zip(found, as_the_tower_alone(make_tower(), levels), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temporal", TEMPORAL)
@torch.no_grad()
def test_the_temporal_module_changes_nothing_until_it_is_trained(temporal):
    branch, levels = make_branch(temporal=temporal), make_levels(2)
    before = branch(levels)
    order = [2, 0, 1]
    torch.testing.assert_close(branch(shuffled(levels, order))[0], before[0], atol=1e-5, rtol=1e-5)
    for layer in branch.layers:
        layer.temporal.forward = torch.zeros_like
    for one, other in zip(branch(levels), before, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("temporal", TEMPORAL)
@torch.no_grad()
def test_once_trained_the_order_of_frames_matters(temporal):
    branch, levels = make_branch(temporal=temporal), make_levels(2)
    randomise(branch)
    changed = branch(shuffled(levels, [2, 0, 1]))[0] - branch(levels)[0]
    assert changed.abs().max() > 1e-2


@torch.no_grad()
def test_without_times_self_attention_does_not_know_the_order():
    branch, levels = make_branch(), make_levels(2)
    randomise(branch)
    branch.times.zero_()
    torch.testing.assert_close(branch(shuffled(levels, [2, 0, 1]))[0], branch(levels)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(("temporal", "class_token"), BUILT)
def test_everything_new_can_learn(structure, temporal, class_token):
    branch = make_branch(structure=structure, temporal=temporal, class_token=class_token)
    randomise(branch)
    classes_BCW, _ = branch(make_levels(1 if structure == "posterior" else 2))
    classes_BCW.square().sum().backward()
    assert [name for name, value in branch.named_parameters() if value.grad is None] == []
    assert branch.times.grad[3:].abs().max() == 0  # no clip has so many frames
    assert all(value.grad.abs().max() > 0 for value in branch.parameters())


def test_what_is_silent_at_first_can_learn():
    branch = make_branch()
    branch(make_levels(2))[0].square().sum().backward()
    assert all(layer.temporal.out.weight.grad.abs().max() > 0 for layer in branch.layers)
    assert branch.times.grad[:3].abs().min() > 0


def test_layers_are_aligned_with_the_last_of_the_tower_unless_some_are_skipped():
    assert make_settings(num_layers=4).aligned_layers(12) == [8, 9, 10, 11]
    assert make_settings(num_layers=4, interval=2).aligned_layers(12) == [5, 7, 9, 11]
    assert make_settings(num_layers=4, skipped_layers=4).aligned_layers(12) == [4, 5, 6, 7]
    assert make_settings(num_layers=4, skipped_layers=8).aligned_layers(12) == [0, 1, 2, 3]


def test_the_layers_that_are_read_depend_on_the_structure():
    assert make_settings(num_layers=3).read_layers(12) == [9, 10, 11]
    assert make_settings(num_layers=3, structure="last_level_branch").read_layers(12) == [11, 11, 11]
    assert make_settings(num_layers=3, structure="posterior", skipped_layers=1).read_layers(12) == [10]


def test_spatial_modules_start_as_the_layers_they_are_aligned_with():
    tower = make_tower(depth=5)
    branch = StanBranch(tower, make_settings(interval=2, skipped_layers=1))
    for layer, beside in zip(branch.layers, (1, 3), strict=True):
        own, theirs = layer.spatial.state_dict(), tower.transformer.resblocks[beside].state_dict()
        assert own.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in own.items())
    with torch.no_grad():
        branch.layers[0].spatial.ln_1.weight.add_(1)
    assert not torch.equal(branch.layers[0].spatial.ln_1.weight, tower.transformer.resblocks[1].ln_1.weight)


def test_joint_attention_is_in_the_place_of_the_one_within_frames():
    names = {name.split(".")[0] for name, _ in make_branch(temporal="joint").layers[0].spatial.named_parameters()}
    assert names == {"ln_2", "mlp"}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_only_layers_that_read_beside_another_one_have_a_projection(structure):
    names = [name for name, _ in make_branch(structure=structure).named_parameters() if "inter_proj" in name]
    assert names == ([] if structure == "posterior" else ["layers.1.inter_proj.weight"])


def test_too_few_layers_in_the_tower_are_named_with_the_number_it_takes():
    with pytest.raises(InputError) as caught:
        StanBranch(make_tower(), make_settings(num_layers=3, skipped_layers=1))
    assert str(caught.value) == (
        "a STAN of num_layers 3 at interval 1 with skipped_layers 1 needs a tower of 4 layers and this one has 3; "
        "set fewer"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"temporal": "lstm"}, "a STAN's temporal is 'lstm'; set one of self_attention, conv, joint"),
        ({"num_layers": 0}, "a STAN's num_layers is 0; set 1 or more"),
        (
            {"context_frames": 7},
            "a STAN's context_frames is 7 and its max_frames 6; set context_frames to that or fewer",
        ),
        ({"class_token": "video"}, "a STAN's class_token is 'video'; set one of clip, frame"),
        (
            {"class_token_mean": "before"},
            "a STAN's class_token_mean is 'before'; set one of after_attention, after_mlp",
        ),
        (
            {"class_token": "frame", "temporal": "joint"},
            "a STAN's temporal is 'joint', which attends to all tokens of a clip beside one class token, and its "
            "class_token is 'frame'; set class_token: clip",
        ),
        ({"drop_path": 1.0}, "a STAN's drop_path is 1.0; set 0 or more and less than 1"),
    ],
)
def test_settings_that_no_branch_has_are_refused(change, reason):
    with pytest.raises(InputError) as caught:
        make_settings(**change)
    assert str(caught.value) == reason


def test_the_new_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    one = make_branch().state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    same, other = make_branch().state_dict(), make_branch(seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    name = "layers.0.temporal.attn.in_proj_weight"
    assert not torch.equal(one[name], other[name])


def test_checkpoints_change_neither_outputs_nor_gradients():
    results = []
    for uses in (False, True):
        branch = make_branch(drop_path=0.5).train()
        randomise(branch)
        branch.uses_checkpoints = uses
        branch.draw([0, 1])
        output = branch(make_levels(2))[0]
        output.square().sum().backward()
        results.append([output.detach(), *(value.grad for value in branch.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


# Residuals that training passes by.


def scales_of(branch, num_clips):
    return torch.stack(branch._scales(num_clips, torch.device("cpu")))


def test_the_chance_to_pass_by_a_residual_rises_linearly_and_its_mean_stays():
    branch = make_branch(num_layers=3, drop_path=0.4).train()
    branch.draw([0])
    scales = scales_of(branch, 20_000)
    assert torch.unique(scales[0]).tolist() == [1.0]
    for layer, rate in ((1, 0.2), (2, 0.4)):
        torch.testing.assert_close(torch.unique(scales[layer]), torch.tensor([0.0, 1 / (1 - rate)]))
        assert (scales[layer] == 0).double().mean().item() == pytest.approx(rate, abs=0.01)
        assert scales[layer].mean().item() == pytest.approx(1, abs=0.02)


def test_a_clip_passes_by_the_same_residuals_in_a_part_of_its_batch():
    branch = make_branch(drop_path=0.5).train()
    branch.draw([3, 1, 4])
    whole = scales_of(branch, 8)
    branch.draw([3, 1, 4], first_clip=5)
    assert torch.equal(scales_of(branch, 3), whole[:, 5:])
    branch.draw([3, 1, 5])
    assert not torch.equal(scales_of(branch, 8), whole)


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_a_clip_that_passes_by_a_layer_leaves_it_as_it_came(temporal):
    layer = make_branch(temporal=temporal).layers[0]
    randomise(layer)
    tokens = make_levels(1)[0]
    classes_B1W, patches_BFPW = tokens[:, :1, 0], tokens[:, :, 1:]
    scales_B3 = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found_classes, found_patches = layer(classes_B1W, patches_BFPW, scales_B3)
    torch.testing.assert_close(found_classes[0], classes_B1W[0])
    assert torch.equal(found_patches[0], patches_BFPW[0])
    plain_classes, plain_patches = layer(classes_B1W, patches_BFPW)
    torch.testing.assert_close(found_classes[1], plain_classes[1])
    torch.testing.assert_close(found_patches[1], plain_patches[1])
    assert (plain_classes[0] - classes_B1W[0]).abs().max() > 0.1


def test_nothing_is_passed_by_in_eval_mode_or_without_a_draw():
    branch = make_branch(drop_path=0.9).train()
    assert branch._scales(2, torch.device("cpu")) == [None, None]
    branch.draw([0])
    assert None not in branch._scales(2, torch.device("cpu"))
    assert branch.eval()._scales(2, torch.device("cpu")) == [None, None]
