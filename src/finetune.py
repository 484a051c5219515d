"""Stage finetune: fine-tuning with frozen layers and patch dropout, contrastive, for recognition, or to write captions.

    python src/finetune.py --recipe patch_dropout --seed 0 --backbone models/backbones/small_clip \
        --raw data/raw/toy/tables --frames data/frames/toy --output models/backbones/small_clip-patch_dropout \
        --plot plots/finetune/small_clip-patch_dropout.json

Reads the captions or labelled spans of the train split (and of the validation split, to choose the epoch), the
stored frames and a backbone; writes a model folder like the backbone's and the training's history for `dvc plots`.
Without any captions the model stays as it was, and its source.json says so: the default run goes to its end on videos
alone. Interrupted, it goes on from its last checkpoint in the memo. With STILLMOTION_DEVICES=4, or as `torchrun
--nproc-per-node 4 src/finetune.py …`, four devices share each batch.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.backbones.family_files import read_source
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.processor import instructions
from stillmotion.config.training import seeded_recipe
from stillmotion.io.memo import folder_digest, open_memo
from stillmotion.io.records import Action, Caption, load_records
from stillmotion.io.tables import write_json
from stillmotion.provenance import code_version
from stillmotion.stage import importing, run_stage
from stillmotion.training.pairs import action_pairs, caption_pairs, class_texts, require_contrast
from stillmotion.video.packed import PackedFrames

_log = logging.getLogger("stillmotion")


def main(
    recipe: Annotated[str, typer.Option(help="key of `recipes` in params.yaml")],
    seed: Annotated[int, typer.Option(min=0, help="of the order of the pairs, the frames and the patches")],
    backbone: Annotated[Path, typer.Option(help="model folder to start from")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    output: Annotated[Path, typer.Option(help="folder of the model, which is called like it")],
    plot: Annotated[Path, typer.Option(help="history of the training")],
    pretraining: Annotated[str, typer.Option(help="the dataset's name, where another training is to follow")] = "",
) -> None:
    """Fine-tune a backbone on the captions or labelled spans of the train split."""
    params = load_params()
    template = params.embed.class_template
    chosen = seeded_recipe(**params.recipes[recipe].model_dump(), seed=seed)
    environment = read_environment()
    packed = PackedFrames(frames)
    durations: dict[str, dict[str, float]] = {"train": {}, "validation": {}, "test": {}}
    for video in packed.videos:
        durations[video.split][video.video_id] = video.duration or 0.0
    classes, stays = list[str](), False
    if chosen.captions == "class_names":
        actions = load_records(raw, Action)
        train, validation = (action_pairs(actions, durations[split], template) for split in ("train", "validation"))
        classes = class_texts(actions, template)
    else:
        captions = load_records(raw, Caption)
        stays = not captions and not pretraining  # who asks for that, which the default run has not, has to have texts
        train = caption_pairs(captions, durations["train"], chosen.captions)
        # Retrieval ranks whole videos, and so does the choice of the epoch.
        validation = caption_pairs(captions, durations["validation"], "paragraph")
    if not stays:
        require_contrast(train, chosen.captions, recipe, raw)
    with importing():
        import torch

        from stillmotion.backbones import lora, registry
        from stillmotion.training import tasks
        from stillmotion.training.finetuning import finetune
        from stillmotion.training.processes import join_processes
    processes = join_processes(environment, chosen.precision, params.threads)
    _log.info("%d training pairs, %d validation pairs", len(train), len(validation))
    if stays:
        _log.warning("%s: no captions to train on, so the model stays as it was", raw)

    key: dict[str, Any] = {}
    if processes.first:
        key = {
            "frames": folder_digest(frames),
            "pairs": [[pair.video_id, pair.text, pair.start, pair.end] for pair in (*train, *validation)],
            "classes": classes,
            "backbone": folder_digest(backbone),
            "code": [code_version(tasks.__file__), code_version(registry.__file__)],
            "torch": torch.__version__,
            "device": processes.device.type,
            "processes": processes.count,
            "threads": params.threads,
            "instructions": instructions(),
        }
    task = tasks.open_task(backbone, packed, train, validation, chosen, processes, classes)
    if not (stays or task.chooses_epoch):
        _log.warning("validation can't tell epochs apart, with no pairs or one video: the last epoch is kept")
    fitted = None if stays else finetune(task, memo=open_memo(environment.memo), key=key)
    if not processes.first:
        return
    selected_on = "validation" if task.chooses_epoch else "last epoch"
    before, training = read_source(backbone), {} if stays else {"recipe": recipe, "seed": seed}
    changed = {"pretraining": training | {"dataset": pretraining}} if pretraining else training
    source = {
        "system": before["system"] | {"model": output.name} | changed,
        "backbone": before,
        "recipe": chosen.model_dump(),
        "best_epoch": fitted and fitted.best_epoch,
        "selected_on": selected_on if fitted else "nothing: no captions to train on",
        "instructions": instructions(),
    }
    lora.save_finetuned(task.backbone, output, source, base=backbone)
    write_json(plot, fitted.history if fitted else [], digits=6)


if __name__ == "__main__":
    run_stage(main)
