"""From a model folder to its backbone: the one place that knows which families there are.

To add a family, write a module beside this one with a subclass of `Backbone`, and an entry of FAMILIES; a video LLM
goes into PUBLISHED_VIDEO_LLMS. A family is imported when a folder of it is opened, as transformers takes seconds.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path

import torch

from stillmotion.backbones import family_files
from stillmotion.backbones.backbone import Backbone, Embeds
from stillmotion.errors import InputError, machine_refusal
from stillmotion.stage import importing

FAMILIES: Mapping[str, tuple[str, str]] = {
    family_files.STAN: ("stillmotion.backbones.stan_folder", "load_stan"),
    family_files.CLIP4CLIP: ("stillmotion.backbones.clip4clip_folder", "load_clip4clip"),
    family_files.OPEN_CLIP: ("stillmotion.backbones.open_clip_backbone", "load_open_clip"),
    family_files.XCLIP: ("stillmotion.backbones.xclip_folder", "load_xclip"),
}
"""By the file that tells a folder, a module and its function of a folder and a device; the first that is there counts,
as the folders of the first two hold that of an open_clip model."""
PUBLISHED_VIDEO_LLMS = {
    "video_llama_3": "stillmotion.backbones.video_llm.video_llama_3",
    "qwen2_vl": "stillmotion.backbones.video_llm.qwen2_vl",
    "qwen3_vl": "stillmotion.backbones.video_llm.qwen3_vl",
    "smolvlm": "stillmotion.backbones.video_llm.smolvlm",
    "llava_onevision": "stillmotion.backbones.video_llm.llava_onevision",
    "llava_next": "stillmotion.backbones.video_llm.llava_next",
    "instructblipvideo": "stillmotion.backbones.video_llm.instruct_blip_video",
    "video_llama": "stillmotion.backbones.video_llm.video_llama",
}
"""Members by the model_type of a checkpoint in the hub's layout."""
VIDEO_LLMS = {"builtin": "stillmotion.backbones.video_llm.builtin", **PUBLISHED_VIDEO_LLMS}
"""Members by `family` in their video_llm.json, and the modules whose `load(folder, settings, device)` opens one."""


def load_backbone(folder: Path, device: torch.device) -> Backbone:
    """Load a model folder of a family that can be fine-tuned, ready for inference.

    Raises:
        InputError: see `load_embeds`, or it is of a video LLM.
    """
    if (folder / family_files.VIDEO_LLM).is_file():
        raise InputError(
            f"{folder}: a video LLM, which embeds and is not fine-tuned; take it out here, or align it by a scorer "
            "that is trained on its hidden states"
        )
    backbone = load_embeds(folder, device)
    assert isinstance(backbone, Backbone)
    return backbone


def load_embeds(folder: Path, device: torch.device) -> Embeds:
    """Load a model folder of any family, ready for inference.

    Raises:
        InputError: the folder or one of its files is missing, damaged or does not fit.
    """
    try:
        return _load(folder, device)
    except (InputError, ImportError, torch.OutOfMemoryError):  # of what is no fault of the folder
        raise
    except Exception as error:  # damaged files make torch, safetensors, open_clip and transformers raise a dozen kinds
        if isinstance(error, OSError | MemoryError) and machine_refusal(error):
            raise
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(f"{folder}: damaged ({reason:.150}); remove it, and run `dvc repro` or `dvc pull`") from error


def _load(folder: Path, device: torch.device) -> Embeds:
    if (folder / family_files.VIDEO_LLM).is_file():
        family, _, settings = family_files.read_video_llm(folder)
        if family not in VIDEO_LLMS:
            known = ", ".join(VIDEO_LLMS)
            raise InputError(f"{folder / family_files.VIDEO_LLM}: family {family!r} is none of: {known}; mend it")
        with importing():
            member = importlib.import_module(VIDEO_LLMS[family])
        video_llm: Embeds = member.load(folder, settings, device)
        return video_llm
    if (folder / family_files.LORA).is_file():
        with importing():
            from stillmotion.backbones.lora import BASE, merge_adapters
        return merge_adapters(load_backbone(folder / BASE, torch.device("cpu")), folder).to(device).eval()
    for file, (module, function) in FAMILIES.items():
        if (folder / file).is_file():
            with importing():
                load = getattr(importlib.import_module(module), function)
            backbone: Embeds = load(folder, device)
            return backbone
    raise InputError(f"{folder}: no model there; run `dvc repro` or `dvc pull` for {folder.as_posix()}")
