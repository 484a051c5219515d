"""What is known of a model folder without importing its family: the files that tell which one, and its source."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.errors import InputError
from stillmotion.io.checked import STRICT, read_checked
from stillmotion.io.tables import read_json, write_json

OPEN_CLIP = "open_clip_config.json"
STAN = "stan.json"
CLIP4CLIP = "clip4clip.json"
XCLIP = "xclip.json"
LORA = "adapter_config.json"
VIDEO_LLM = "video_llm.json"


class _Source(BaseModel):
    model_config = STRICT

    system: dict[str, Any]


def read_source(folder: Path) -> dict[str, Any]:
    """The content of source.json; InputError where it is damaged, or says nothing of the model's `system`."""
    source: dict[str, Any] = read_checked(folder / "source.json", _Source)
    return source


def write_video_llm(folder: Path, family: str, num_layers: int, settings: VideoLLMSettings) -> None:
    """Write video_llm.json: the member, its number of layers, and its settings."""
    write_json(folder / VIDEO_LLM, {"family": family, "num_layers": num_layers} | settings.model_dump())


def read_video_llm(folder: Path) -> tuple[str, int, VideoLLMSettings]:
    """The member, its number of layers and the settings of video_llm.json; InputError where it is damaged."""
    path = folder / VIDEO_LLM
    found = read_json(path)
    try:
        family, num_layers = str(found.pop("family")), int(found.pop("num_layers"))
        return family, num_layers, VideoLLMSettings.model_validate(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"lacks {error}"
        raise InputError(f"{path}: not the settings of a video LLM ({reason}); run the stage that wrote it") from None
