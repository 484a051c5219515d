"""Full-size models with initial weights, for what depends on no weight, text or image: their cost.

On torch's meta device, where tensors have a shape and no content, a model of any size is there at once.

Source: Lindgren 2023, section 3.2.2 (X-CLIP); Liu et al. 2023 (papers/mug-stan.txt), section III-B (STAN).
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from transformers import CLIPTokenizer, XCLIPConfig, XCLIPModel

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.pretrained import open_clip_config
from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.backbones.xclip_backbone import PROCESSOR, XClipBackbone
from stillmotion.backbones.xclip_processor import read_preprocessing
from stillmotion.config.models import (
    ClipArchitectureParams,
    OpenClipBackboneParams,
    StanArchitectureParams,
    XClipArchitectureParams,
)
from stillmotion.errors import InputError

PARAMETER_RULES = {
    "xclip": "numbers in the published file as its hub counts them: with the position ids of both towers (older "
    "versions of transformers save them), without the one scalar, the logit scale; model_parameters has the parameters "
    "alone",
    "clip": "parameters of both towers and the logit scale",
    "stan": "parameters of both towers, the logit scale and the branch",
}
"""What `parameters` counts, by family."""


def architecture_config(architecture: XClipArchitectureParams) -> Any:
    """The XCLIPConfig of an architecture: transformers' own but for patch size and frames.

    Raises:
        InputError: the patches don't tile the image.
    """
    vision = {"patch_size": architecture.patch_size_px, "num_frames": architecture.num_frames}
    config: Any = XCLIPConfig(vision_config=vision)
    size_px = config.vision_config.image_size
    if size_px % architecture.patch_size_px:
        raise InputError(
            f"params.yaml: patch_size_px of an architecture is {architecture.patch_size_px} and does not divide "
            f"X-CLIP's {size_px} px; set 14, 16 or 32"
        )
    return config


def initial_xclip(config: Any, device: torch.device) -> XClipBackbone:
    """An X-CLIP with initial weights in train mode."""
    size_px = config.vision_config.image_size
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[])
    settings = {"size": size_px, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    preprocessing = read_preprocessing(settings, image_size_px=size_px, path=Path(PROCESSOR))
    with device:
        context = config.text_config.max_position_embeddings
        return XClipBackbone(XCLIPModel(config), tokenizer, preprocessing, max_tokens=context).train()


def initial_clip(config: dict[str, Any], device: torch.device) -> OpenClipBackbone:
    """A CLIP of open_clip with initial weights in train mode.

    Args:
        config: open_clip's own, with `model_cfg` and `preprocess_cfg`.
        device: to make it on.

    Raises:
        InputError: the model has a text tower of another kind.
    """
    names = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    if not names.issuperset(config["model_cfg"]):
        odd = ", ".join(sorted(config["model_cfg"].keys() - names))
        raise InputError(
            f"params.yaml: the cost of an architecture is known for CLIP's own two towers, and this one has {odd}; "
            "set an open_clip model such as ViT-B-32"
        )
    with device:
        model = open_clip.CLIP(**json.loads(json.dumps(config["model_cfg"])))
        open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
        return OpenClipBackbone(model, open_clip.SimpleTokenizer(), config).train()


def initial_stan(config: dict[str, Any], settings: StanSettings, device: torch.device) -> StanBackbone:
    """A STAN around `initial_clip`, in train mode.

    Raises:
        InputError: as there, or the tower has too few layers.
    """
    clip = initial_clip(config, device)
    with device:
        return StanBackbone(clip, settings).train()


def initial_model(
    architecture: XClipArchitectureParams | ClipArchitectureParams | StanArchitectureParams, device: torch.device
) -> XClipBackbone | OpenClipBackbone:
    """The model of an architecture with initial weights in train mode.

    Raises:
        InputError: a param does not fit the architecture, or open_clip has no such model.
    """
    if architecture.family == "xclip":
        return initial_xclip(architecture_config(architecture), device)
    named = OpenClipBackboneParams(
        family="open_clip", architecture=architecture.architecture, pretrained="random", revision="main", seed=0
    )
    config = open_clip_config(named)
    if architecture.family == "clip":
        return initial_clip(config, device)
    settings = architecture.model_dump(exclude={"family", "architecture", "num_frames"})
    return initial_stan(config, StanSettings(**settings), device)


def published_parameters(backbone: XClipBackbone | OpenClipBackbone) -> int:
    """The parameters of a model; of an X-CLIP, the number that the hub states for a checkpoint: see PARAMETER_RULES."""
    tensors = list(backbone.parameters())
    if isinstance(backbone, XClipBackbone):
        tensors += [part.embeddings.position_ids for part in (backbone.model.vision_model, backbone.model.text_model)]
        tensors = [tensor for tensor in tensors if tensor.ndim]
    return sum(tensor.numel() for tensor in tensors)


def context_length(backbone: XClipBackbone | OpenClipBackbone) -> int:
    """The most tokens of a text."""
    return backbone.max_tokens if isinstance(backbone, XClipBackbone) else backbone.model.context_length


def patch_size_px(backbone: XClipBackbone | OpenClipBackbone) -> int:
    """The side of a patch."""
    if isinstance(backbone, XClipBackbone):
        return backbone.model.config.vision_config.patch_size
    return backbone.model.visual.conv1.kernel_size[0]
