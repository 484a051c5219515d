"""What is known of a model folder without importing its family: the files that tell which one, and its source."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stillmotion.io.checked import STRICT, read_checked

OPEN_CLIP = "open_clip_config.json"
STAN = "stan.json"
CLIP4CLIP = "clip4clip.json"
XCLIP = "xclip.json"


class _Source(BaseModel):
    model_config = STRICT

    system: dict[str, Any]


def read_source(folder: Path) -> dict[str, Any]:
    """The content of source.json; InputError where it is damaged, or says nothing of the model's `system`."""
    source: dict[str, Any] = read_checked(folder / "source.json", _Source)
    return source
