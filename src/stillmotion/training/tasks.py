"""What stage finetune trains of a model folder: videos and texts to be told apart, classes to be named, or captions."""

from collections.abc import Sequence
from pathlib import Path

from stillmotion.backbones import family_files, registry
from stillmotion.config.training import SeededRecipe
from stillmotion.stage import importing
from stillmotion.training.finetuning import FineTuning
from stillmotion.training.pairs import Pair
from stillmotion.training.processes import Processes
from stillmotion.training.recognition import Recognition
from stillmotion.video.packed import PackedFrames


def open_task(
    folder: Path,
    frames: PackedFrames,
    train: Sequence[Pair],
    validation: Sequence[Pair],
    recipe: SeededRecipe,
    processes: Processes,
    classes: Sequence[str],
) -> FineTuning:
    """The training of a model: of the built-in video LLM to write captions, of another with classes to name them.

    Raises:
        InputError: the folder is damaged, or of a video LLM that is not trained here.
    """
    if (folder / family_files.VIDEO_LLM).is_file():
        with importing():  # transformers, which other families have no use for
            from stillmotion.training.captioning import Captioning, load_writer
        return Captioning(load_writer(folder, processes.device), frames, train, validation, recipe, processes)
    model = registry.load_backbone(folder, processes.device)
    if classes:
        return Recognition(model, frames, train, validation, recipe, processes, classes)
    return FineTuning(model, frames, train, validation, recipe, processes)
