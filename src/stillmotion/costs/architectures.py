"""Architectures at full size: what a training step of theirs costs, counted without running it, and how long it takes.

Tensors of torch's meta device have a shape and no content, so weights of any size are there at once, and every run
gives the same numbers. Seconds, and the memory that a process really takes, are measured on the machine at hand.

Source: Lindgren 2023, sections 3.2.2, 4.4 and 4.5.4; METHODS.md sections 3, 4 and 6.

Shapes: B pairs, L tokens.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.xclip_backbone import XClipBackbone
from stillmotion.config.evaluation import MeasureArchitecturesParams
from stillmotion.config.models import ClipArchitectureParams, StanArchitectureParams, XClipArchitectureParams
from stillmotion.costs.counting import FLOP_RULE, MEMORY_RULE, CountedStep, count_step
from stillmotion.costs.initial_models import (
    PARAMETER_RULES,
    context_length,
    initial_model,
    patch_size_px,
    published_parameters,
)
from stillmotion.costs.resources import count_parameters, measure_passes
from stillmotion.errors import InputError
from stillmotion.training.contrastive import contrastive_loss
from stillmotion.training.freezing import freeze
from stillmotion.training.patch_dropout import PatchDropout

META = torch.device("meta")
MEASURED_RULE = (
    "measured with initial weights, embeddings frozen and all patches kept, on clips with a text each; seconds are "
    "medians without the optimizer's step, forward without what a backward pass needs; peak_memory_mib is what the "
    "process grew by beside the parameters, and counted_memory_mib what was counted of the same"
)

Architecture = XClipArchitectureParams | ClipArchitectureParams | StanArchitectureParams


class SameContent(TorchDispatchMode):
    """Takes tensors of one shape for equal, and what is asked of all for true, where there is no content to look at.

    So transformers takes masks for full, and positions for those of one sequence, as they are here.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.equal.default:
            return args[0].shape == args[1].shape
        if func is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return True
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def without_content() -> Iterator[None]:
    """Lets models run on the meta device as they do on one that computes.

    Left to itself, torch takes attention apart there, and would count scores that fused kernels never keep. It asks
    no mode which kernel to take, so its function is replaced for the time being.
    """
    with mock.patch.object(functional, "scaled_dot_product_attention", _fused_attention), SameContent():
        yield


def _fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    if enable_gqa:  # several heads share keys and values
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in (key, value))
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def contrastive_step(
    backbone: XClipBackbone | OpenClipBackbone, *, batch_size: int, num_frames: int, num_tokens: int, keep_rate: float
) -> Callable[[], torch.Tensor]:
    """What gives the loss of a training step on empty clips and texts that do not depend on one another.

    Args:
        backbone: its patch dropout is replaced.
        batch_size: B.
        num_frames: of a clip.
        num_tokens: L.
        keep_rate: of patches, the same ones in all frames of a clip.
    """
    dropout = PatchDropout(keep_rate, "tubelet")
    backbone.set_patch_dropout(dropout)
    size_px, device = backbone.image_size_px, backbone.device
    # Where a text ends is in its content: the end token has the highest number.
    token_device = torch.device("cpu") if device.type == "meta" else device

    def loss_of() -> torch.Tensor:
        dropout.draw([0], num_frames)
        backbone.draw_paths([0], first_clip=0)
        pixels = torch.zeros(batch_size, num_frames, 3, size_px, size_px, device=device)
        tokens = torch.arange(num_tokens, device=token_device).expand(batch_size, -1)
        return contrastive_loss(backbone.embed_clips(pixels), backbone.embed_texts(tokens), backbone.logit_scale)

    return loss_of


def count_empty(
    build: Callable[[torch.device], XClipBackbone | OpenClipBackbone],
    *,
    batch_size: int,
    num_frames: int,
    num_tokens: int,
    keep_rate: float,
    frozen_blocks: int,
) -> tuple[CountedStep, int]:
    """Count a contrastive training step of a model that is never made, with frozen embeddings.

    Args:
        build: makes the model, in train mode, on a device.
        batch_size: B.
        num_frames: of a clip.
        num_tokens: L.
        keep_rate: of patches.
        frozen_blocks: of both towers.

    Returns:
        The step, and how many parameters it trains.

    Raises:
        InputError: a tower has fewer blocks than `frozen_blocks`.
    """
    model = build(META)
    freeze(model, embeddings=True, blocks=frozen_blocks)
    loss_of = contrastive_step(
        model, batch_size=batch_size, num_frames=num_frames, num_tokens=num_tokens, keep_rate=keep_rate
    )
    with without_content():
        return count_step(loss_of, model), count_parameters(model)["trainable_parameters"]


def measure_architecture(name: str, architecture: Architecture, setting: MeasureArchitecturesParams) -> dict[str, Any]:
    """The content of metrics/resources/<architecture>.json, as far as it is counted.

    Embeddings are frozen in every step: keep rates vary with no block frozen, frozen blocks with all patches kept.

    Raises:
        InputError: a param does not fit the architecture.
    """
    whole = initial_model(architecture, META)
    if setting.num_tokens > context_length(whole):
        raise InputError(
            f"params.yaml: measure_architectures.num_tokens is {setting.num_tokens} and the context of {name} "
            f"{context_length(whole)}; set fewer"
        )
    settings = [(keep_rate, 0) for keep_rate in setting.keep_rates] + [
        (1.0, blocks) for blocks in setting.frozen_blocks
    ]
    steps = []
    for keep_rate, frozen_blocks in dict.fromkeys(settings):
        counted, trained = count_empty(
            lambda device: initial_model(architecture, device),
            batch_size=setting.batch_size,
            num_frames=architecture.num_frames,
            num_tokens=setting.num_tokens,
            keep_rate=keep_rate,
            frozen_blocks=frozen_blocks,
        )
        chosen = {"keep_rate": keep_rate, "frozen_blocks": frozen_blocks, "freeze_embeddings": True}
        steps.append(chosen | {"trainable_parameters": trained} | counted.row())
    forward_flops = {step["keep_rate"]: step["forward_flops"] for step in steps}
    return {
        "architecture": name,
        "settings": architecture.model_dump(),
        "parameters": published_parameters(whole),
        "parameter_rule": PARAMETER_RULES[architecture.family],
        "model_parameters": count_parameters(whole)["parameters"],
        "batch_size": setting.batch_size,
        "num_frames": architecture.num_frames,
        "patch_size_px": patch_size_px(whole),
        "num_tokens": setting.num_tokens,
        "flop_rule": FLOP_RULE,
        "memory_rule": MEMORY_RULE,
        "steps": steps,
        "forward_flops_ratios": {
            str(keep_rate): round(forward_flops[keep_rate] / forward_flops[1.0], 4) for keep_rate in setting.keep_rates
        },
    }


def time_architecture(
    architecture: Architecture, setting: MeasureArchitecturesParams, device: torch.device
) -> dict[str, Any]:
    """What forward and backward passes of a few clips take on this machine, see MEASURED_RULE.

    The process should not have held much memory before.

    Raises:
        InputError: a param does not fit the architecture.
    """
    size: dict[str, Any] = {
        "batch_size": setting.timed_batch_size,
        "num_frames": architecture.num_frames,
        "num_tokens": setting.num_tokens,
        "keep_rate": 1.0,
    }
    counted, _ = count_empty(lambda where: initial_model(architecture, where), frozen_blocks=0, **size)
    model = initial_model(architecture, device)
    freeze(model, embeddings=True, blocks=0)
    cost = measure_passes(contrastive_step(model, **size), model, device, repeats=setting.timed_repeats)
    return {
        "rule": MEASURED_RULE,
        "batch_size": setting.timed_batch_size,
        "repeats": setting.timed_repeats,
        "forward_seconds_a_clip": round(cost.forward_seconds / setting.timed_batch_size, 4),
        "forward_backward_seconds_a_clip": round(cost.forward_backward_seconds / setting.timed_batch_size, 4),
        "peak_memory_mib": round(cost.peak_memory_mib, 1),
        "counted_memory_mib": round((counted.gradient_bytes + counted.activation_bytes) / 2**20, 1),
    }
