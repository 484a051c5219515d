import math

import numpy as np
import open_clip
import pytest
import torch

from stillmotion.backbones.clip4clip_heads import HEADS, build_head, copy_text_layers, score_all
from stillmotion.errors import InputError

DIM, ATTENTION_HEADS, CONTEXT = 16, 2, 9
MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])
erf = np.vectorize(math.erf)


def make_model(kind=open_clip.CLIP, width=DIM):
    vision = {"width": 16, "layers": 1, "image_size": 16, "patch_size": 8, "head_width": 8}
    text = {"width": width, "layers": 3, "heads": ATTENTION_HEADS, "context_length": CONTEXT, "vocab_size": 50}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(embed_dim=DIM, vision_cfg=vision, text_cfg=text)


@pytest.fixture(scope="module")
def model():
    return make_model()


def make_head(kind, model, num_layers=2):
    head = build_head(kind, model, dim=DIM, num_layers=num_layers, seed=0).eval()
    with torch.no_grad():  # weights that start alike, at zero or tiny would hide where they go
        for number, (name, parameter) in enumerate(head.named_parameters()):
            if "layers." not in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(number))
    return head


def make_frames(num=3, length=4):
    return torch.randn(num, length, DIM, generator=torch.Generator().manual_seed(1))


def weights_of(module):
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def clip_block(x, w, prefix):
    """A layer of CLIP's text transformer in float64 without a mask (Radford et al. 2021), (T, D)."""
    y = layer_norm(x, w[f"{prefix}.ln_1.weight"], w[f"{prefix}.ln_1.bias"])
    q, k, v = np.split(y @ w[f"{prefix}.attn.in_proj_weight"].T + w[f"{prefix}.attn.in_proj_bias"], 3, axis=-1)
    heads = []
    for h in range(ATTENTION_HEADS):
        own = slice(h * DIM // ATTENTION_HEADS, (h + 1) * DIM // ATTENTION_HEADS)
        e = np.exp(q[:, own] @ k[:, own].T / math.sqrt(DIM / ATTENTION_HEADS))
        heads.append(e / e.sum(-1, keepdims=True) @ v[:, own])
    x = x + np.concatenate(heads, -1) @ w[f"{prefix}.attn.out_proj.weight"].T + w[f"{prefix}.attn.out_proj.bias"]
    y = layer_norm(x, w[f"{prefix}.ln_2.weight"], w[f"{prefix}.ln_2.bias"])
    hidden = y @ w[f"{prefix}.mlp.c_fc.weight"].T + w[f"{prefix}.mlp.c_fc.bias"]
    hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
    return x + hidden @ w[f"{prefix}.mlp.c_proj.weight"].T + w[f"{prefix}.mlp.c_proj.bias"]


def text_layers(x, w, num_layers):
    x = x + w["layers.positions"][: len(x)]
    for number in range(num_layers):
        x = clip_block(x, w, f"layers.blocks.{number}")
    return x


def lstm(x, w):
    """Hochreiter and Schmidhuber's cell with a forget gate, in float64, gates in the order i, f, g, o."""
    h, c, states = np.zeros(DIM), np.zeros(DIM), []
    for row in x:
        gates = w["lstm.weight_ih_l0"] @ row + w["lstm.bias_ih_l0"] + w["lstm.weight_hh_l0"] @ h + w["lstm.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        states.append(h)
    return np.array(states)


CHANGES = {
    "seq_lstm": lambda x, w, num_layers: lstm(x, w),
    "seq_transf": text_layers,
}


def test_the_mean_is_worked_by_hand():
    frames = torch.zeros(2, 2, DIM)
    frames[:, 0, 0], frames[:, 1, 1] = 3.0, 4.0
    mask = torch.tensor([[True, True], [True, False]])
    head = build_head("mean_pooling", None, dim=DIM, num_layers=0, seed=0)
    expected = torch.zeros(2, DIM)
    expected[0, :2], expected[1, 0] = math.sqrt(0.5), 1.0  # frames weigh alike, whatever their length
    torch.testing.assert_close(head(frames, mask), expected)
    assert list(head.parameters()) == []


@pytest.mark.parametrize("num_layers", [0, 2])
@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_sequential_heads_are_the_mean_of_frames_and_what_is_added_to_them(kind, num_layers, model):
    head, frames = make_head(kind, model, num_layers), make_frames()
    w, x = weights_of(head), frames.double().numpy()
    expected = []
    for video, mask in zip(x, MASK.numpy(), strict=True):
        counted = video[mask]
        expected.append(unit(unit(counted + CHANGES[kind](counted, w, num_layers)).mean(0)))
    with torch.no_grad():
        np.testing.assert_allclose(head(frames, MASK), expected, atol=1e-6)


@pytest.mark.parametrize("num_layers", [0, 2])
def test_the_tight_transformer_reads_the_score_at_the_text(num_layers, model):
    head, frames, texts = make_head("tight_transformer", model, num_layers), make_frames(), make_frames()[:, 1]
    w = weights_of(head)
    expected = []
    for text, video, mask in zip(texts.double().numpy(), frames.double().numpy(), MASK.numpy(), strict=True):
        x = np.concatenate([text[None] + w["types"][0], video[mask] + w["types"][1]])
        x = layer_norm(text_layers(x, w, num_layers)[0], w["norm.weight"], w["norm.bias"])
        hidden = np.maximum(w["readout.0.weight"] @ x + w["readout.0.bias"], 0)
        expected.append((w["readout.2.weight"] @ hidden + w["readout.2.bias"])[0])
    with torch.no_grad():
        np.testing.assert_allclose(head(texts, frames, MASK), expected, atol=1e-5)


@pytest.mark.parametrize("tokens_a_pass", [1, 15, 500])
def test_the_tight_transformer_scores_all_pairs_as_it_does_each(tokens_a_pass, model):
    head, frames, texts = make_head("tight_transformer", model), make_frames(), make_frames(2)[:, 1]
    with torch.no_grad():
        scores = score_all(head, texts, frames, MASK, tokens_a_pass=tokens_a_pass)
        alone = [
            [head(texts[n : n + 1], frames[m : m + 1], MASK[m : m + 1]).item() for m in range(3)] for n in range(2)
        ]
    np.testing.assert_allclose(scores, alone, atol=1e-5)


def test_passes_of_a_tight_transformer_have_the_gradients_of_one(model):
    gradients = []
    for tokens_a_pass in (500, 10):
        head = make_head("tight_transformer", model).double()
        texts, frames = make_frames(2)[:, 1].double().requires_grad_(), make_frames().double().requires_grad_()
        scores = score_all(head, texts, frames, MASK, tokens_a_pass=tokens_a_pass)
        (scores * torch.arange(6.0).view(2, 3)).sum().backward()
        gradients.append([value.grad for value in (texts, frames, *head.parameters())])
    for one, several in zip(*gradients, strict=True):
        assert one.any()
        torch.testing.assert_close(several, one, atol=1e-12, rtol=1e-10)


def test_a_tight_transformer_learns_which_text_belongs_to_which_video(model):
    head = build_head("tight_transformer", model, dim=DIM, num_layers=2, seed=0)
    texts, frames = make_frames(6)[:, 0], make_frames(6)
    mask, right = torch.ones(6, 4, dtype=torch.bool), torch.arange(6)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        loss = torch.nn.functional.cross_entropy(score_all(head, texts, frames, mask), right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(6), abs=0.01)  # it starts knowing nothing
    assert losses[-1] < 0.1


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_transformers_start_as_copies_of_the_first_layers_of_the_text_tower(kind):
    model = make_model(kind)
    tower = model.text if kind is open_clip.CustomTextCLIP else model
    model.requires_grad_(False)
    for name in ("seq_transf", "tight_transformer"):
        head = build_head(name, model, dim=DIM, num_layers=2, seed=0)
        torch.testing.assert_close(head.layers.positions, tower.positional_embedding, rtol=0, atol=0)
        blocks = tower.transformer.resblocks
        for copied, block in zip(head.layers.blocks, blocks[:2], strict=True):
            for mine, theirs in zip(copied.parameters(), block.parameters(), strict=True):
                assert torch.equal(mine, theirs)
                assert mine.requires_grad
                assert mine.data_ptr() != theirs.data_ptr()


def test_the_order_of_frames_matters_to_all_but_the_mean(model):
    frames, texts, mask = make_frames(), make_frames()[:, 1], torch.ones_like(MASK)
    with torch.no_grad():
        for kind in HEADS:
            head = make_head(kind, model)
            inputs = [texts] if kind == "tight_transformer" else []
            change = (head(*inputs, frames, mask) - head(*inputs, frames.flip(1), mask)).abs().max()
            assert change < 1e-6 if kind == "mean_pooling" else change > 1e-4


@pytest.mark.parametrize("kind", HEADS[1:])
def test_every_parameter_is_trained(kind, model):
    head = make_head(kind, model).train()
    inputs = [make_frames()[:, 1]] if kind == "tight_transformer" else []
    head(*inputs, make_frames(), MASK).sum(0).flatten()[0].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@pytest.mark.parametrize("kind", ["seq_lstm", "tight_transformer"])
def test_the_seed_decides_what_is_not_copied_and_the_global_generator_is_left_alone(kind, model):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, same, other = (build_head(kind, model, dim=DIM, num_layers=1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_towers_that_do_not_fit_are_errors_that_name_the_mend(model):
    with pytest.raises(InputError, match="a head has 4 layers to copy and the text tower 3; set fewer"):
        copy_text_layers(model, num_layers=4, dim=DIM)
    with pytest.raises(InputError, match="the text tower is 32 wide and the embeddings have 16 dimensions; set"):
        copy_text_layers(make_model(width=32), num_layers=1, dim=DIM)
    with pytest.raises(InputError, match="open_clip's own text transformer, not NoneType; set another head"):
        copy_text_layers(torch.nn.Linear(2, 2), num_layers=1, dim=DIM)


def test_more_frames_than_positions_are_an_error(model):
    head = make_head("seq_transf", model)
    frames = make_frames(1, CONTEXT + 1)
    with pytest.raises(InputError, match="input has 10 embeddings and the text tower 9 positions; sample fewer"):
        head(frames, torch.ones(1, CONTEXT + 1, dtype=torch.bool))
