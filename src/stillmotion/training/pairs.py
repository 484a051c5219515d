"""Training pairs: a video, or a span of one, and its text."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stillmotion.errors import InputError
from stillmotion.io.records import Action, Caption


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and the span of a video that it speaks of."""

    video_id: str
    text: str
    start: float
    end: float


def caption_pairs(
    captions: Sequence[Caption],
    durations: dict[str, float],
    kind: Literal["paragraph", "dense", "both"],
) -> list[Pair]:
    """Pairs from the captions of the videos in `durations` (seconds by video_id), in the captions' order.

    `paragraph` takes the captions of whole videos, `dense` those of spans.
    """
    pairs = []
    for caption in captions:
        whole = caption.start is None or caption.end is None
        if caption.video_id not in durations or kind == ("dense" if whole else "paragraph"):
            continue
        duration = durations[caption.video_id]
        start = 0.0 if caption.start is None else caption.start
        end = duration if caption.end is None else caption.end
        pairs.append(Pair(caption.video_id, caption.text, start, end))
    return pairs


def action_pairs(actions: Sequence[Action], video_ids: Collection[str], template: str) -> list[Pair]:
    """Pairs from the labelled spans of the videos in `video_ids`, in the spans' order, each with its class's text."""
    return [
        Pair(action.video_id, template.format(action.label), action.start, action.end)
        for action in actions
        if action.video_id in video_ids
    ]


def class_texts(actions: Sequence[Action], template: str) -> list[str]:
    """The text of each class, in the order of their names.

    Of all spans, as in the embeddings' classes.json: that a split lacks a class must not make the task easier.

    Args:
        actions: the labelled spans of all splits.
        template: holds `{}` once, where the class name goes.
    """
    return [template.format(label) for label in sorted({action.label for action in actions})]


def require_contrast(train: Sequence[Pair], kind: str, recipe: str, raw: Path) -> None:
    """Raise InputError where there is nothing to tell a pair from: fewer than two pairs, or for recognition classes.

    Args:
        train: the pairs to train on.
        kind: `captions` of the recipe.
        recipe: its name.
        raw: tables of the dataset.
    """
    classes = len({pair.text for pair in train})
    if kind == "class_names" and classes < 2:
        raise InputError(
            f"{raw / 'actions.jsonl'}: {classes} classes in the train split with captions: {kind}; recognition needs "
            f"two or more: add labelled spans, or set recipes.{recipe}.captions: paragraph"
        )
    if len(train) < 2:
        raise InputError(
            f"{raw / 'captions.jsonl'}: {len(train)} training pairs with captions: {kind}; contrastive training needs "
            f"two or more: add captions, or set recipes.{recipe}.captions: both"
        )
