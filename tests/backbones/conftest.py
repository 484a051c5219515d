"""A small X-CLIP with random weights in every module, for the tests of its parts."""

from collections.abc import Callable

import open_clip
import pytest
import torch
from transformers import XCLIPConfig, XCLIPModel

from stillmotion.backbones.xclip_backbone import XClipBackbone
from stillmotion.backbones.xclip_expansion import clip_tokenizer
from stillmotion.backbones.xclip_processor import read_preprocessing

PROCESSOR = {
    "image_processor_type": "VideoMAEImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 32},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def make_xclip(*, num_frames: int = 4, hidden_act: str = "quick_gelu", max_tokens: int = 20) -> XClipBackbone:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    integration = {"mit_hidden_size": 16, "mit_intermediate_size": 32, "mit_num_attention_heads": 2}
    images = {"image_size": 32, "patch_size": 8, "num_frames": num_frames}
    config = XCLIPConfig(
        text_config=tower | {"hidden_act": hidden_act},
        vision_config=tower | integration | images | {"hidden_act": hidden_act},
        projection_dim=16,
        prompt_num_attention_heads=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = XCLIPModel(config)
    preprocessing = read_preprocessing(PROCESSOR, image_size_px=32, path="preprocessor_config.json")
    tokenizer = clip_tokenizer(open_clip.SimpleTokenizer(), 77)
    return XClipBackbone(model, tokenizer, preprocessing, max_tokens=max_tokens).eval()


@pytest.fixture(scope="session")
def new_xclip() -> Callable[..., XClipBackbone]:
    """Makes one, with settings of `make_xclip`."""
    return make_xclip


@pytest.fixture(scope="session")
def xclip(new_xclip: Callable[..., XClipBackbone]) -> XClipBackbone:
    """One for tests that leave it as it is."""
    return new_xclip()
