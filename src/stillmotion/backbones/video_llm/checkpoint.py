"""Published video LLMs: from the hub, from a folder that was put in place by hand, or with initial weights."""

import importlib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download

from stillmotion.backbones.hub import try_hub
from stillmotion.backbones.registry import PUBLISHED_VIDEO_LLMS
from stillmotion.backbones.video_llm.model import VideoLLM
from stillmotion.backbones.video_llm.video_llama_checkpoint import is_released
from stillmotion.config.places import how_to_set
from stillmotion.config.video_llms import VideoLLMBackboneParams, VideoLLMSettings
from stillmotion.errors import InputError
from stillmotion.io.memo import folder_digest
from stillmotion.io.tables import read_json

FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
"""Of a repository: its configuration, weights, tokenizer, processors and chat template."""


def pretrained_video_llm(
    name: str, params: VideoLLMBackboneParams, weights_folder: Path
) -> tuple[VideoLLM, dict[str, Any]]:
    """A published video LLM and where it came from.

    Args:
        name: of the backbone; `<weights_folder>/<name>` is the folder of one put there by hand.
        params: which checkpoint, and its settings.
        weights_folder: of local weights.

    Raises:
        InputError: the hub can't be reached, which says the folder to fill, or the files do not fit one another.
    """
    folder = weights_folder / name
    source: dict[str, Any] = {"checkpoint": params.checkpoint}
    if params.checkpoint != "folder":
        try_hub()
        try:
            found = snapshot_download(params.checkpoint, revision=params.revision, allow_patterns=list(FILES))
        except (OSError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"backbone {name}: can't fetch {params.checkpoint} at {params.revision} ({reason}); on a machine with "
                f"a network download its files, put them in {folder.as_posix()} and "
                + how_to_set(f"backbones.{name}", "checkpoint", "folder")
            ) from None
        folder = Path(found)
        source["revision"] = folder.name
    family = "video_llama" if is_released(folder) else _model_type(folder / "config.json")
    settings = VideoLLMSettings(**params.model_dump(include=set(VideoLLMSettings.model_fields)))
    seed = params.seed if params.weights == "random" else None
    member = importlib.import_module(PUBLISHED_VIDEO_LLMS[family])
    model: VideoLLM = member.load(folder, settings, torch.device("cpu"), seed=seed)
    return model, source | ({"sha256": folder_digest(folder)} if seed is None else {"seed": seed})


def _model_type(path: Path) -> str:
    config = read_json(path)
    family = config.get("model_type") if isinstance(config, dict) else None
    if family not in PUBLISHED_VIDEO_LLMS:
        raise InputError(
            f"{path}: model_type is {family!r}, which is no video LLM here; take one of: "
            + ", ".join(PUBLISHED_VIDEO_LLMS)
        )
    return str(family)
