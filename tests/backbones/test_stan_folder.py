import json
from dataclasses import asdict, replace

import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_folder import load_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError

CPU = torch.device("cpu")
SETTINGS = StanSettings(
    num_layers=2,
    skipped_layers=0,
    interval=1,
    structure="branch",
    temporal="conv",
    inter_proj="linear",
    class_token="clip",
    class_token_mean="after_attention",
    max_frames=6,
    context_frames=4,
    drop_path=0.1,
    seed=0,
)
FILES = {"open_clip_config.json", "open_clip_model.safetensors", "source.json", "stan.json", "stan.safetensors"}


def make_clip(kind="CLIP", *, vision=(), size_px=32):
    tower = {"width": 32, "layers": 2, "image_size": size_px, "patch_size": 8, "head_width": 16} | dict(vision)
    text = {"width": 32, "layers": 2, "heads": 2, "context_length": 77, "vocab_size": 49408}
    config = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}
    if kind == "CoCa":
        tower |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        text |= {"embed_cls": True, "output_tokens": True}
        config["multimodal_cfg"] = text | {"layers": 1, "attn_pooler_heads": 2}
        del config["multimodal_cfg"]["embed_cls"], config["multimodal_cfg"]["output_tokens"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(open_clip, kind)(**json.loads(json.dumps(config)))
    if kind != "CLIP":
        config["custom_text"] = True
    config = {"model_cfg": config, "preprocess_cfg": asdict(PreprocessCfg(size=size_px))}
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(), config).eval()


def make_trained(kind="CLIP", settings=SETTINGS):
    stan = expand_stan(make_clip(kind), settings)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in stan.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.2)
    return stan


def make_pixels():
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path):
    make_trained().save(tmp_path / "model", {})
    return tmp_path / "model"


def message_of(folder):
    with pytest.raises(InputError) as caught:
        load_backbone(folder, CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_json(path, **change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    ("kind", "class_token"), [("CLIP", "clip"), ("CLIP", "frame"), ("CustomTextCLIP", "clip"), ("CoCa", "frame")]
)
def test_what_is_saved_and_loaded_gives_the_same_outputs_and_the_same_bytes(tmp_path, kind, class_token):
    settings = replace(SETTINGS, class_token=class_token)
    stan = make_trained(kind, settings)
    stan.save(tmp_path / "one", {"from": "a test"})
    loaded = load_backbone(tmp_path / "one", CPU)
    assert isinstance(loaded, StanBackbone)
    assert loaded.settings == settings
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded.frame_embeddings(make_pixels()), stan.frame_embeddings(make_pixels()))
        tokens = stan.tokens(["a red ball", "x"])
        assert torch.equal(loaded.tokens(["a red ball", "x"]), tokens)
        assert torch.equal(loaded.embed_texts(tokens), stan.embed_texts(tokens))
    loaded.save(tmp_path / "two", {"from": "a test"})
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_branch_alone(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        expand_stan(make_clip(), replace(SETTINGS, seed=seed)).save(tmp_path / name, {})
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    differing = {n for n in FILES if (tmp_path / "one" / n).read_bytes() != (tmp_path / "other" / n).read_bytes()}
    assert differing == {"stan.json", "stan.safetensors"}


def test_the_image_model_in_it_loads_in_plain_open_clip(folder):
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    own = load_stan(folder, CPU).model.state_dict()
    assert own.keys() == model.state_dict().keys()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", sorted(FILES - {"source.json", "stan.json"}))
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert message_of(folder).startswith(f"{folder / name}: no such file")


def test_settings_of_another_version_are_named(folder):
    change_json(folder / "stan.json", networks=2)
    assert message_of(folder) == (
        f"{folder / 'stan.json'}: not the settings of a STAN (networks missing or unknown); expand it again"
    )


def test_a_setting_that_no_branch_has_is_named_with_its_file(folder):
    change_json(folder / "stan.json", temporal="lstm")
    assert message_of(folder) == (
        f"{folder / 'stan.json'}: a STAN's temporal is 'lstm'; set one of self_attention, conv, joint"
    )


def test_settings_of_another_tower_are_named_with_their_file(folder):
    change_json(folder / "stan.json", num_layers=3)
    assert message_of(folder).startswith(f"{folder / 'stan.json'}: a STAN of num_layers 3 at interval 1")


@pytest.mark.parametrize(("change", "first"), [({"max_frames": 8}, "times"), ({"temporal": "joint"}, "layers.0.")])
def test_weights_of_another_branch_are_named(folder, change, first):
    change_json(folder / "stan.json", **change)
    message = message_of(folder)
    assert message.startswith(f"{folder / 'stan.safetensors'}: does not fit stan.json and the image model beside it")
    assert f"'{first}" in message


def test_a_tensor_too_few_is_named(folder):
    tensors = safetensors.torch.load_file(folder / "stan.safetensors")
    del tensors["layers.1.inter_proj.weight"]
    safetensors.torch.save_file(tensors, folder / "stan.safetensors")
    assert "(1 tensors, 'layers.1.inter_proj.weight' first); take all files from one model" in message_of(folder)


# What can be expanded.


@pytest.mark.parametrize(
    ("vision", "reason"),
    [
        ({"block_type": "custom"}, "its vision blocks are CustomResidualAttentionBlock"),
        (
            {"attentional_pool": "parallel", "attn_pooler_heads": 2},
            "it has a pooler of its own for the contrastive vector",
        ),
        ({"layers": [1, 1, 1, 1], "width": 16}, "its vision is ModifiedResNet"),
    ],
)
def test_a_tower_that_stan_has_no_place_for_is_refused_in_one_line(vision, reason):
    with pytest.raises(InputError) as caught:
        expand_stan(make_clip(vision=vision), SETTINGS)
    assert str(caught.value) == (
        f"STAN can't be built around this model: {reason}; expand a CLIP or CoCa of open_clip's ViT"
    )


def test_a_stan_is_not_expanded_again():
    with pytest.raises(InputError, match="it is one"):
        expand_stan(make_trained(), SETTINGS)


def test_a_tower_whose_blocks_scale_their_layers_can_be_expanded():
    stan = expand_stan(make_clip(vision={"ls_init_value": 0.1}), SETTINGS)
    with torch.no_grad():
        assert stan.embed_clips(make_pixels()).shape == (2, 16)
    assert stan.branch.layers[0].spatial.ls_1.gamma[0].item() == pytest.approx(0.1)
