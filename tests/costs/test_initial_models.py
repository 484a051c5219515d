import pytest
import torch

from stillmotion.config.models import ClipArchitectureParams, StanArchitectureParams, XClipArchitectureParams
from stillmotion.costs.architectures import META
from stillmotion.costs.initial_models import (
    architecture_config,
    context_length,
    initial_model,
    initial_xclip,
    patch_size_px,
    published_parameters,
)
from stillmotion.errors import InputError


def xclip_of(patch_size):
    return XClipArchitectureParams(family="xclip", patch_size_px=patch_size, num_frames=8)


def clip_of(name):
    return ClipArchitectureParams(family="clip", architecture=name, num_frames=8)


@pytest.mark.parametrize(("patch_size", "published"), [(32, 196_585_855), (16, 194_929_426)])
def test_parameters_of_an_xclip_are_those_of_the_published_files(patch_size, published):
    model = initial_xclip(architecture_config(xclip_of(patch_size)), META)
    assert published_parameters(model) == published


@pytest.mark.parametrize(
    ("name", "patch_size", "published"), [("ViT-B-32", 32, 151_277_313), ("ViT-B-16", 16, 149_620_737)]
)
def test_a_clip_is_as_large_as_openai_s(name, patch_size, published):
    # Radford et al. 2021: what their released models have.
    model = initial_model(clip_of(name), META)
    assert published_parameters(model) == published
    assert (patch_size_px(model), context_length(model), model.image_size_px, model.dim) == (patch_size, 77, 224, 512)


@pytest.mark.parametrize("architecture", [xclip_of(32), clip_of("ViT-B-32")])
def test_a_model_without_content_trains_and_takes_no_memory(architecture):
    model = initial_model(architecture, META)
    assert model.training
    assert {value.device.type for value in (*model.parameters(), *model.buffers())} == {"meta"}


def test_a_stan_has_the_settings_of_its_block():
    settings = {
        "num_layers": 3,
        "skipped_layers": 1,
        "interval": 2,
        "structure": "last_level_branch",
        "temporal": "conv",
        "inter_proj": "none",
        "class_token": "clip",
        "class_token_mean": "after_attention",
        "max_frames": 9,
        "context_frames": 4,
        "drop_path": 0.2,
        "seed": 5,
    }
    params = StanArchitectureParams(family="stan", architecture="ViT-B-32", num_frames=8, **settings)
    model = initial_model(params, META)
    assert vars(model.settings) == settings
    assert model.branch.times.shape == (9, 768)
    assert model.branch.times.device == torch.device("meta")


def test_models_of_which_no_cost_is_known_are_one_line_each():
    with pytest.raises(InputError, match="architecture 'ViT-B-33' is none of open_clip's"):
        initial_model(clip_of("ViT-B-33"), META)
    with pytest.raises(InputError) as caught:
        initial_model(clip_of("coca_ViT-B-32"), META)
    assert str(caught.value) == (
        "params.yaml: the cost of an architecture is known for CLIP's own two towers, and this one has custom_text, "
        "multimodal_cfg; set an open_clip model such as ViT-B-32"
    )
    with pytest.raises(InputError, match="patch_size_px of an architecture is 30 and does not divide X-CLIP's 224 px"):
        initial_model(xclip_of(30), META)
