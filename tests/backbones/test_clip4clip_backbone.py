"""CLIP4Clip's heads as backbones: what they embed, their folders, and the stage that makes them."""

import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.clip4clip_backbone import (
    Clip4ClipBackbone,
    Clip4ClipSettings,
    TightClip4Clip,
    expand_clip4clip,
)
from stillmotion.backbones.clip4clip_folder import load_clip4clip
from stillmotion.backbones.clip4clip_heads import HEADS
from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.models import Clip4ClipExpansionParams
from stillmotion.errors import InputError
from stillmotion.training.freezing import freeze

CPU = torch.device("cpu")
DIM, F = 32, 3
MEAN, LSTM, TRANSF, TIGHT = (Clip4ClipSettings(head, 2, 0) for head in HEADS)
TRAINED = pytest.mark.parametrize("settings", [LSTM, TRANSF], ids=lambda settings: settings.head)
FILES = {
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "source.json",
    "clip4clip.json",
    "clip4clip.safetensors",
}
SCRIPT = Path(__file__).resolve().parents[2] / "src" / "expand_backbone.py"


def make_clip(kind="CLIP", *, embed_dim=DIM):
    tower = {"width": 32, "layers": 2, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": DIM, "layers": 3, "heads": 2, "context_length": 77, "vocab_size": 49408}
    config = {"embed_dim": embed_dim, "vision_cfg": tower, "text_cfg": text}
    if kind == "CoCa":
        config["multimodal_cfg"] = text | {"layers": 1, "attn_pooler_heads": 2}
        tower |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        text |= {"embed_cls": True, "output_tokens": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(open_clip, kind)(**json.loads(json.dumps(config)))
    if kind != "CLIP":
        config["custom_text"] = True
    config = {"model_cfg": config, "preprocess_cfg": asdict(PreprocessCfg(size=32))}
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(), config).eval()


def make_model(settings, kind="CLIP"):
    """With weights that no model starts from, so that it tells where each of them goes."""
    model = expand_clip4clip(make_clip(kind), settings)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.2)
    return model


def make_pixels(num_frames=F):
    return torch.randn(2, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def make_frames(number=7):
    return np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def plain_frames(backbone, pixels):
    """Of open_clip's own function, before they are unit vectors."""
    with torch.no_grad():
        return torch.stack([backbone.model.encode_image(clip) for clip in pixels])


# What is embedded.


@torch.no_grad()
@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
def test_seq_transf_starts_as_the_text_tower_s_first_layers_over_frames_that_are_no_unit_vectors(kind):
    clip = make_clip(kind)
    model = expand_clip4clip(clip, TRANSF)
    text = clip.model if kind == "CLIP" else clip.model.text
    frames_BFD = plain_frames(clip, make_pixels())
    assert (frames_BFD.norm(dim=-1) - 1).abs().min() > 0.01
    changed = frames_BFD + text.positional_embedding[:F]
    for block in list(text.transformer.resblocks)[:2]:
        changed = block(changed)
    expected = unit(unit(frames_BFD + changed).mean(1))
    torch.testing.assert_close(model.embed_clips(make_pixels()), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_seq_lstm_goes_over_frames_that_are_no_unit_vectors():
    model = make_model(LSTM)
    weights = {name: value.double() for name, value in model.head.lstm.named_parameters()}
    expected = []
    for frames_FD in plain_frames(model, make_pixels()).double():
        h, c, states = torch.zeros(DIM).double(), torch.zeros(DIM).double(), []
        for frame in frames_FD:
            gates = weights["weight_ih_l0"] @ frame + weights["bias_ih_l0"]
            gates = gates + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
            i, f, g, o = gates.split(DIM)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        expected.append(unit(unit(frames_FD + torch.stack(states)).mean(0)))
    found = model.embed_clips(make_pixels())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), torch.stack(expected), atol=1e-6, rtol=0)


@torch.no_grad()
def test_mean_pooling_is_the_image_model_and_adds_nothing():
    clip = make_clip()
    model = expand_clip4clip(clip, MEAN)
    torch.testing.assert_close(model.embed_clips(make_pixels()), clip.embed_clips(make_pixels()), atol=1e-6, rtol=0)
    assert model.branch_parameter_names() == []
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in clip.named_parameters()]


@torch.no_grad()
@TRAINED
@pytest.mark.parametrize("frames_a_pass", [1, 5, 100])
def test_frames_of_a_video_are_the_image_model_s_and_clips_the_head_s(settings, frames_a_pass):
    model, frames = make_model(settings), make_frames()
    clips_NF = np.array([[0, 2, 4], [1, 1, 6], [3, 5, 6]])
    assert not model.clips_are_means
    found_TD, found_ND = model.embed_video(frames, clips_NF, frames_a_pass=frames_a_pass)
    pixels = model.pixels(frames)
    torch.testing.assert_close(found_TD, unit(model.model.encode_image(pixels)), atol=1e-6, rtol=0)
    torch.testing.assert_close(found_ND, model.embed_clips(pixels[torch.from_numpy(clips_NF)]), atol=1e-6, rtol=0)
    none, clips_ND = model.embed_video(frames, clips_NF, frames_a_pass=frames_a_pass, single_frames=False)
    assert none.shape == (0, DIM)
    assert torch.equal(clips_ND, found_ND)


@TRAINED
def test_a_video_without_clips_has_frames_alone(settings):
    found_TD, found_ND = make_model(settings).embed_video(make_frames(), np.zeros((0, 4), np.int64), frames_a_pass=4)
    assert (found_TD.shape, found_ND.shape) == ((7, DIM), (0, DIM))


@torch.no_grad()
@TRAINED
def test_the_order_of_frames_tells_and_texts_are_the_image_model_s(settings):
    model = make_model(settings)
    clip = OpenClipBackbone(model.model, model.tokenizer, model.config)
    pixels, tokens = make_pixels(), clip.tokens(["a red ball", "x"])
    assert (model.embed_clips(pixels) - model.embed_clips(pixels.flip(1))).abs().max() > 1e-3
    assert torch.equal(model.embed_texts(tokens), clip.embed_texts(tokens))


@TRAINED
def test_an_alignment_that_would_pass_the_head_by_is_refused(settings):
    model = make_model(settings)
    for embed, given in ((model.frame_embeddings, make_pixels()), (model.token_embeddings, model.tokens(["a"]))):
        with pytest.raises(InputError, match="which PoolingClip4Clip has not; set similarity: cosine"):
            embed(given)


def test_more_frames_than_the_text_tower_has_positions_are_an_error():
    with pytest.raises(InputError, match="input has 78 embeddings and the text tower 77 positions; sample fewer"):
        make_model(TRANSF).embed_clips(make_pixels(78))


# What is trained.


@TRAINED
def test_freezing_leaves_the_head_and_training_reaches_all_of_it(settings):
    model = make_model(settings).train()
    frozen = set(freeze(model, embeddings=True, blocks=2, texts=True))
    added = model.branch_parameter_names()
    assert added == [name for name, _ in model.named_parameters() if name.startswith("head.")]
    assert len(added) == (4 if settings is LSTM else 1 + 2 * 12)
    assert not frozen & set(added)
    (model.embed_clips(make_pixels()) @ model.embed_texts(model.tokens(["a", "b"])).T)[:, 0].sum().backward()
    reached = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    # The sum ignores the scale; the bias of keys moves all scores of a query alike.
    assert reached >= {name for name in added if not name.endswith("in_proj_bias")}
    assert not reached & frozen


def test_training_the_model_leaves_the_one_that_it_was_made_from():
    clip = make_clip()
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    model = expand_clip4clip(clip, TRANSF)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


# Folders.


@TRAINED
@pytest.mark.parametrize("kind", ["CLIP", "CoCa"])
def test_what_is_saved_and_loaded_gives_the_same_outputs_and_the_same_bytes(tmp_path, settings, kind):
    model = make_model(settings, kind)
    model.save(tmp_path / "one", {"from": "a test"})
    loaded = load_backbone(tmp_path / "one", CPU)
    assert isinstance(loaded, Clip4ClipBackbone)
    assert (loaded.settings, loaded.training) == (settings, False)
    with torch.no_grad():
        assert torch.equal(loaded.embed_clips(make_pixels()), model.embed_clips(make_pixels()))
        tokens = model.tokens(["a red ball", "x"])
        assert torch.equal(loaded.embed_texts(tokens), model.embed_texts(tokens))
    loaded.save(tmp_path / "two", {"from": "a test"})
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["CLIP", "CoCa"])
def test_a_tight_transformer_is_saved_and_loaded_beside_the_image_model_whose_frames_and_texts_it_has(tmp_path, kind):
    model = make_model(TIGHT, kind)
    model.save(tmp_path / "one", {"from": "a test"})
    loaded = load_backbone(tmp_path / "one", CPU)
    assert isinstance(loaded, TightClip4Clip)
    assert loaded.settings == TIGHT
    clip = OpenClipBackbone(model.model, model.tokenizer, model.config)
    tokens, frames, clips_NF = clip.tokens(["a red ball", "x"]), make_frames(), np.array([[0, 2, 4]])
    with torch.no_grad():
        frames_BFD, texts_BD = loaded.frame_embeddings(make_pixels()), loaded.embed_texts(tokens)
        assert torch.equal(frames_BFD, clip.frame_embeddings(make_pixels()))
        assert torch.equal(texts_BD, clip.embed_texts(tokens))
        mask = torch.ones(2, F, dtype=torch.bool)
        assert torch.equal(loaded.head(texts_BD, frames_BFD, mask), model.head(texts_BD, frames_BFD, mask))
    for found, expected in zip(
        loaded.embed_video(frames, clips_NF, frames_a_pass=4),
        clip.embed_video(frames, clips_NF, frames_a_pass=4),
        strict=True,
    ):
        assert torch.equal(found, expected)
    assert loaded.clips_are_means
    assert loaded.branch_parameter_names() == [f"head.{name}" for name, _ in model.head.named_parameters()]
    loaded.save(tmp_path / "two", {"from": "a test"})
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_mean_pooling_is_saved_and_loaded_too(tmp_path):
    make_model(MEAN).save(tmp_path / "one", {})
    assert load_backbone(tmp_path / "one", CPU).settings == MEAN


def test_the_image_model_in_it_loads_in_plain_open_clip(tmp_path):
    model = make_model(LSTM)
    model.save(tmp_path / "model", {})
    plain = open_clip.create_model(f"local-dir:{tmp_path / 'model'}").eval()
    own = model.model.state_dict()
    assert own.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, own[name]) for name, value in plain.state_dict().items())


def test_the_seed_decides_the_lstm_and_nothing_of_what_is_copied(tmp_path):
    def weights(settings):
        return expand_clip4clip(make_clip(), settings).head.state_dict()

    for settings, depends in ((LSTM, True), (TRANSF, False)):
        first, same, other = weights(settings), weights(settings), weights(replace(settings, seed=1))
        assert all(torch.equal(value, same[name]) for name, value in first.items())
        assert any(not torch.equal(value, other[name]) for name, value in first.items()) == depends


@pytest.fixture
def folder(tmp_path):
    make_model(TRANSF).save(tmp_path / "model", {})
    return tmp_path / "model"


def message_of(folder):
    with pytest.raises(InputError) as caught:
        load_clip4clip(folder, CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_settings(folder, **change):
    path = folder / "clip4clip.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return path


@pytest.mark.parametrize("name", ["clip4clip.json", "clip4clip.safetensors", "open_clip_model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert message_of(folder).startswith(f"{folder / name}: no such file")


def test_settings_that_no_head_has_are_named_with_their_file(folder):
    path = change_settings(folder, head="loose_transformer")
    assert message_of(folder) == (
        f"{path}: the head of a CLIP4Clip is 'loose_transformer'; set one of mean_pooling, seq_lstm, seq_transf, "
        "tight_transformer"
    )
    change_settings(folder, head="seq_transf", num_layers=4)
    assert message_of(folder) == f"{path}: a head has 4 layers to copy and the text tower 3; set fewer"
    change_settings(folder, networks=2)
    assert message_of(folder) == (
        f"{path}: not the settings of a CLIP4Clip (networks missing or unknown); expand it again"
    )


@pytest.mark.parametrize(
    ("change", "counted"), [({"num_layers": 1}, "12 tensors"), ({"head": "seq_lstm"}, "29 tensors")]
)
def test_weights_of_another_head_are_named(folder, change, counted):
    change_settings(folder, **change)
    message = message_of(folder)
    assert message.startswith(f"{folder / 'clip4clip.safetensors'}: does not fit clip4clip.json and the image model")
    assert counted in message


def test_weights_of_another_size_are_named(folder):
    tensors = safetensors.torch.load_file(folder / "clip4clip.safetensors")
    tensors["layers.positions"] = tensors["layers.positions"][:9].clone()
    safetensors.torch.save_file(tensors, folder / "clip4clip.safetensors")
    assert "(1 tensors, 'layers.positions' first); take all files from one model" in message_of(folder)


# The stage that makes it.


@pytest.fixture
def stage(monkeypatch):
    """expand_backbone as a module, with the head's params."""
    spec = importlib.util.spec_from_file_location("expand_backbone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    chosen = Clip4ClipExpansionParams(family="clip4clip", head="seq_transf", num_layers=2, seed=3)
    monkeypatch.setattr(module, "load_params", lambda: SimpleNamespace(expansions={"seq_transf": chosen}))
    return module


def test_the_stage_makes_one_and_makes_none_of_one(stage, tmp_path):
    system = {"base": "small", "expansion": None, "recipe": None, "seed": None, "pretraining": None}
    before = {"system": system | {"model": "clip"}, "from": "a test"}
    make_clip().save(tmp_path / "clip", before)
    stage.main("seq_transf", tmp_path / "clip", tmp_path / "expanded")
    assert load_backbone(tmp_path / "expanded", CPU).settings == replace(TRANSF, seed=3)
    source = json.loads((tmp_path / "expanded" / "source.json").read_text())
    made = system | {"model": "expanded", "expansion": "seq_transf"}
    assert source == {"system": made, "backbone": before, "expansion": "seq_transf", "seed": 3}
    with pytest.raises(InputError, match="only models of open_clip can be expanded; take this one out"):
        stage.main("seq_transf", tmp_path / "expanded", tmp_path / "again")


def test_a_text_tower_that_is_not_as_wide_as_the_embeddings_is_refused_for_the_transformer_alone():
    clip = make_clip(embed_dim=16)
    with pytest.raises(InputError, match="the text tower is 32 wide and the embeddings have 16 dimensions; set"):
        expand_clip4clip(clip, TRANSF)
    assert expand_clip4clip(clip, LSTM).dim == 16


def test_a_head_has_no_fewer_than_no_layers():
    with pytest.raises(InputError, match="num_layers of a CLIP4Clip is -1; set 0 or more"):
        Clip4ClipSettings("seq_transf", -1, 0)
