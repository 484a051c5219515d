"""Published X-CLIP architectures at full size: what a training step of theirs costs, counted without running it.

Tensors of torch's meta device have a shape and no content, so weights of any size are there at once, and every run
gives the same numbers.

Source: Lindgren 2023, sections 3.2.2, 4.4 and 4.5.4; METHODS.md sections 3 and 4.

Shapes: B pairs, L tokens.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import CLIPTokenizer, XCLIPConfig, XCLIPModel

from stillmotion.adaptation.counting import FLOP_RULE, MEMORY_RULE, CountedStep, count_step
from stillmotion.adaptation.freezing import freeze
from stillmotion.adaptation.patch_dropout import PatchDropout
from stillmotion.adaptation.resources import count_parameters
from stillmotion.backbones.xclip_backbone import PROCESSOR, XClipBackbone
from stillmotion.backbones.xclip_processor import read_preprocessing
from stillmotion.errors import InputError
from stillmotion.params.evaluation import MeasureArchitecturesParams
from stillmotion.params.models import ArchitectureParams
from stillmotion.training.contrastive import contrastive_loss

META = torch.device("meta")
PARAMETER_RULE = (
    "numbers in the published file as its hub counts them: with the position ids of both towers (older versions of "
    "transformers save them), without the one scalar, the logit scale; model_parameters has the parameters alone"
)


class FusedAttention(TorchFunctionMode):
    """Makes attention on the meta device one operation, as it is on every device that computes.

    Left to itself, torch takes it apart there, and would count scores that fused kernels never keep.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _fused_attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def architecture_config(architecture: ArchitectureParams) -> Any:
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
    """An X-CLIP with initial weights in train mode, for what depends on no weight, text or image."""
    size_px = config.vision_config.image_size
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[])
    settings = {"size": size_px, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    preprocessing = read_preprocessing(settings, image_size_px=size_px, path=Path(PROCESSOR))
    with device:
        context = config.text_config.max_position_embeddings
        return XClipBackbone(XCLIPModel(config), tokenizer, preprocessing, max_tokens=context).train()


def published_parameters(backbone: XClipBackbone) -> int:
    """The number that the hub states for a checkpoint: see PARAMETER_RULE."""
    vision, text = backbone.model.vision_model.embeddings, backbone.model.text_model.embeddings
    tensors = [*backbone.parameters(), vision.position_ids, text.position_ids]
    return sum(tensor.numel() for tensor in tensors if tensor.ndim)


def contrastive_step(
    backbone: XClipBackbone, *, batch_size: int, num_tokens: int, keep_rate: float
) -> Callable[[], torch.Tensor]:
    """What gives the loss of a training step on empty clips and texts that do not depend on one another.

    Args:
        backbone: its patch dropout is replaced.
        batch_size: B.
        num_tokens: L.
        keep_rate: of patches, the same ones in all frames of a clip.
    """
    dropout = PatchDropout(keep_rate, "tubelet")
    backbone.set_patch_dropout(dropout)
    num_frames, size_px, device = backbone.clip_frames, backbone.image_size_px, backbone.device

    def loss_of() -> torch.Tensor:
        dropout.draw([0], num_frames)
        pixels = torch.zeros(batch_size, num_frames, 3, size_px, size_px, device=device)
        tokens = torch.zeros(batch_size, num_tokens, dtype=torch.int64, device=device)
        return contrastive_loss(backbone.embed_clips(pixels), backbone.embed_texts(tokens), backbone.logit_scale)

    return loss_of


def count_empty(
    config: Any, *, batch_size: int, num_tokens: int, keep_rate: float, frozen_blocks: int
) -> tuple[CountedStep, int]:
    """Count a contrastive training step of an X-CLIP that is never made, with frozen embeddings.

    Returns:
        The step, and how many parameters it trains.

    Raises:
        InputError: a tower has fewer blocks than `frozen_blocks`.
    """
    model = initial_xclip(config, META)
    freeze(model, embeddings=True, blocks=frozen_blocks)
    loss_of = contrastive_step(model, batch_size=batch_size, num_tokens=num_tokens, keep_rate=keep_rate)
    with FusedAttention():
        return count_step(loss_of, model), count_parameters(model)["trainable_parameters"]


def measure_architecture(
    name: str, architecture: ArchitectureParams, setting: MeasureArchitecturesParams
) -> dict[str, Any]:
    """The content of metrics/resources/<architecture>.json.

    Embeddings are frozen in every step: keep rates vary with no block frozen, frozen blocks with all patches kept.

    Raises:
        InputError: a param does not fit the architecture.
    """
    config = architecture_config(architecture)
    whole = initial_xclip(config, META)
    if setting.num_tokens > whole.max_tokens:
        raise InputError(
            f"params.yaml: measure_architectures.num_tokens is {setting.num_tokens} and X-CLIP's context "
            f"{whole.max_tokens}; set fewer"
        )
    settings = [(keep_rate, 0) for keep_rate in setting.keep_rates] + [
        (1.0, blocks) for blocks in setting.frozen_blocks
    ]
    steps = []
    for keep_rate, frozen_blocks in dict.fromkeys(settings):
        counted, trained = count_empty(
            config,
            batch_size=setting.batch_size,
            num_tokens=setting.num_tokens,
            keep_rate=keep_rate,
            frozen_blocks=frozen_blocks,
        )
        chosen = {"keep_rate": keep_rate, "frozen_blocks": frozen_blocks, "freeze_embeddings": True}
        steps.append(chosen | {"trainable_parameters": trained} | counted.row())
    forward_flops = {step["keep_rate"]: step["forward_flops"] for step in steps}
    return {
        "architecture": name,
        "parameters": published_parameters(whole),
        "parameter_rule": PARAMETER_RULE,
        "model_parameters": count_parameters(whole)["parameters"],
        "batch_size": setting.batch_size,
        "num_frames": architecture.num_frames,
        "patch_size_px": architecture.patch_size_px,
        "num_tokens": setting.num_tokens,
        "flop_rule": FLOP_RULE,
        "memory_rule": MEMORY_RULE,
        "steps": steps,
        "forward_flops_ratios": {
            str(keep_rate): round(forward_flops[keep_rate] / forward_flops[1.0], 4) for keep_rate in setting.keep_rates
        },
    }
