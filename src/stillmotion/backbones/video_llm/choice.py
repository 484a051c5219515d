"""The same video LLM with another layer and pooling as its embedding: the same files, linked, and another choice."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stillmotion.backbones import family_files
from stillmotion.backbones.video_llm.layers import kept_layers, kept_row
from stillmotion.config.video_llms import VideoLLMLayerParams
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder, link_or_copy
from stillmotion.io.tables import write_json

OWN_FILES = (family_files.VIDEO_LLM, "source.json")
"""What a choice changes of a folder; the others decide the hidden states."""


def choose_layer(model: Path, params: VideoLLMLayerParams, output: Path, source: dict[str, Any]) -> None:
    """Write the folder of a video LLM once more, with another choice.

    Raises:
        InputError: it is no video LLM, or keeps no such layer or pooling.
    """
    if not (model / family_files.VIDEO_LLM).is_file():
        raise InputError(f"{model}: no video LLM, whose layers alone can be chosen; take this one out of `expanded`")
    family, num_layers, before = family_files.read_video_llm(model)
    kept_row(params.layer, kept_layers(before.layers, num_layers), num_layers)
    try:
        settings = type(before).model_validate(before.model_dump() | params.model_dump(exclude={"family"}))
    except ValidationError as error:
        raise InputError(f"params.yaml: {error.errors()[0]['ctx']['error']}") from None
    with atomic_folder(output) as partial:
        for path in sorted(model.rglob("*")):
            target = partial / path.relative_to(model)
            if path.is_file() and path.name not in OWN_FILES:
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, target)
        family_files.write_video_llm(partial, family, num_layers, settings)
        write_json(partial / "source.json", source)
