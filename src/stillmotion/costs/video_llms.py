"""Published video LLMs at full size with initial weights: what the two passes that embed a video cost.

A vision pass makes the visual tokens of one video, a language pass reads them with the tokens of a prompt. What fits
the memory below is run; the others are counted on torch's meta device.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from stillmotion.backbones.registry import PUBLISHED_VIDEO_LLMS
from stillmotion.config.evaluation import MeasureArchitecturesParams
from stillmotion.config.video_llms import VideoLLMArchitectureParams
from stillmotion.costs.architectures import META, without_content
from stillmotion.costs.counting import FLOP_RULE, StepCounter
from stillmotion.costs.resources import measure_inference
from stillmotion.errors import InputError

RUN_BELOW_BYTES = 20 * 2**30
"""Of parameters in 32-bit floats: more is counted, not run."""
PARAMETER_RULE = "parameters, each once where two names share it, with the head that writes words"
MEASURED_RULE = (
    "measured with initial weights in 32-bit floats on one video: seconds are medians of both passes, without decoding "
    "and the processor; peak_memory_mib is what the process grew by beside the parameters"
)


def _member(architecture: VideoLLMArchitectureParams) -> Any:
    family = architecture.config.get("model_type")
    if family not in PUBLISHED_VIDEO_LLMS:
        raise InputError(
            f"params.yaml: model_type of an architecture is {family!r}; set one of: {', '.join(PUBLISHED_VIDEO_LLMS)}"
        )
    return importlib.import_module(PUBLISHED_VIDEO_LLMS[family]).load.__self__


def initial_video_llm(architecture: VideoLLMArchitectureParams, device: torch.device) -> tuple[Any, Any]:
    """The member, and a model of its class with initial weights.

    Raises:
        InputError: its configuration is none of a video LLM.
    """
    member = _member(architecture)
    try:
        config = member.model_class.config_class.from_dict(architecture.config)
    except (TypeError, ValueError) as error:
        raise InputError(f"params.yaml: config of an architecture: {' '.join(str(error).split()):.160}") from None
    with device:
        return member, member.model_class(config).eval()


def both_passes(
    architecture: VideoLLMArchitectureParams, num_tokens: int, device: torch.device
) -> tuple[Any, Callable[[], int]]:
    """A model, and what embeds one video with it and tells the number of its visual tokens.

    Args:
        architecture: which model, and its video.
        num_tokens: of the prompt around the video.
        device: to make it on.
    """
    member, model = initial_video_llm(architecture, device)
    language = member.decoder(model)

    @torch.no_grad()
    def embed() -> int:
        found = member.empty_video(model, architecture.num_frames, architecture.size_px, num_tokens)
        width = language.config.hidden_size
        count = sum(each.numel() for each in (found if isinstance(found, tuple | list) else [found])) // width
        embedded = torch.zeros(1, count + num_tokens, width, device=device)
        language(inputs_embeds=embedded, output_hidden_states=True, use_cache=False)
        return int(count)

    return model, embed


def measure_video_llm(
    name: str, architecture: VideoLLMArchitectureParams, setting: MeasureArchitecturesParams, device: torch.device
) -> dict[str, Any]:
    """The content of metrics/resources/<architecture>.json.

    Raises:
        InputError: a param does not fit the architecture.
    """
    empty, count_empty = both_passes(architecture, setting.num_tokens, META)
    parameters = sum(each.numel() for each in empty.parameters())
    content: dict[str, Any] = {
        "architecture": name,
        "settings": architecture.model_dump(),
        "parameters": parameters,
        "parameter_rule": PARAMETER_RULE,
        "num_frames": architecture.num_frames,
        "num_tokens": setting.num_tokens,
        "parameters_mib": round(4 * parameters / 2**20, 1),
        "flop_rule": FLOP_RULE,
        "steps": [],
    }
    if 4 * parameters > RUN_BELOW_BYTES:
        with without_content(), StepCounter(list(empty.parameters())) as counter:
            tokens = count_empty()
        counted = {"visual_tokens": tokens, "forward_flops": counter.flops, "measured": None}
        return content | counted | {"counted_memory_mib": round(counter.peak_bytes / 2**20, 1)}
    _, embed = both_passes(architecture, setting.num_tokens, device)
    tokens = embed()
    cost = measure_inference(embed, device, repeats=setting.timed_repeats)
    measured = {
        "rule": MEASURED_RULE,
        "repeats": setting.timed_repeats,
        "seconds_a_video": round(cost.seconds, 4),
        "peak_memory_mib": round(cost.peak_memory_mib, 1),
        "device": device.type,
    }
    return content | {"visual_tokens": tokens, "forward_flops": cost.forward_flops, "measured": measured}
