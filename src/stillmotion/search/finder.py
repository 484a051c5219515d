"""A search in one dataset: what it needs is opened when it is first asked for, and stays open for the next question.

Shapes: V videos, D embedding dimensions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import Params
from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.errors import InputError
from stillmotion.io.checked import read_checked_rows
from stillmotion.io.memo import folder_digest
from stillmotion.io.records import Video, load_records
from stillmotion.search.artefacts import Artefacts, nearest
from stillmotion.search.known_texts import KnownTexts
from stillmotion.search.ranking import UNTUNED, FoundMoment, find_moments
from stillmotion.search.wholes import Wholes, choose_wholes, open_wholes
from stillmotion.stage import importing
from stillmotion.video.packed import SkippedRow

if TYPE_CHECKING:
    from PIL import Image

    from stillmotion.backbones.backbone import Embeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to look for: a text, an image, or a span of a video; and where."""

    text: str | None = None
    image: "Image.Image | None" = None
    like: str = ""
    """The id of the video of the span."""
    start: float = 0.0
    end: float | None = None
    """Of the span, in seconds; None: with the video."""
    video: str = ""
    """Look in this one only."""
    split: str = ""
    """Look in the videos of this one only."""
    top: int = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found."""

    moments: list[FoundMoment]
    """Best first."""
    num_videos: int
    """That were looked in."""
    system: str | None
    """That ranks videos as wholes, for a text on the active dataset."""
    notes: list[str] = field(default_factory=list)


class Models:
    """Models that embed a question, each loaded once."""

    def __init__(self, threads: int):
        self._threads = threads
        self._loaded: dict[Path, tuple[Embeds, str]] = {}

    def load(self, folder: Path) -> "tuple[Embeds, str]":
        """The model of a folder, and the digest of its files.

        Raises:
            InputError: there is none, or it is damaged.
        """
        if folder not in self._loaded:
            from rich.console import Console

            with Console(stderr=True).status(f"loading {folder.name}"):
                with importing():
                    from stillmotion.backbones.compute import prepare_torch
                    from stillmotion.backbones.registry import load_embeds
                backbone = load_embeds(folder, prepare_torch(read_environment(), self._threads))
            self._loaded[folder] = backbone, folder_digest(folder)
        return self._loaded[folder]


class Finder:
    """Answers questions about one dataset by one model and selection; not by two threads at once."""

    def __init__(self, params: Params, chosen: Artefacts, models: Models, *, model: str = ""):
        """Read the index of the embeddings.

        Args:
            params: of the project.
            chosen: what is searched.
            models: may be shared with other finders.
            model: the only one that may rank videos as wholes; "" for any.

        Raises:
            InputError: a file is missing or damaged, or there is no video.
        """
        self.chosen, self.rule = chosen, chosen.rule()
        self.embedded = Embeddings(chosen.embeddings)
        if not self.embedded.videos:
            raise InputError(f"{self.embedded.folder / 'index.jsonl'}: no videos; {chosen.build}")
        self.clip_length_s = params.sample_frames.clip_length_s
        self._params, self._models = params, models
        # What metrics/ has is of the active dataset.
        is_active = chosen.dataset == params.dataset
        self.system = choose_wholes(chosen.root, params, chosen.dataset, model) if is_active else None

    @cached_property
    def wholes(self) -> Wholes | None:
        """What ranks videos as wholes for a text."""
        return (
            None
            if self.system is None
            else open_wholes(self.chosen.root, self._params, self.chosen.dataset, self.system)
        )

    @cached_property
    def _known(self) -> KnownTexts | None:
        return None if self.wholes is None else KnownTexts(self.chosen.raw, self.embedded, self.wholes)

    @property
    def untuned(self) -> list[str]:
        """A note where windows are selected by what nothing has tuned."""
        if self.rule is not UNTUNED:
            return []
        threshold = self.rule.parameters["threshold"]
        return [
            f"{self.chosen.thresholds}: nothing to tune on, so windows are selected by {self.rule.method}, "
            f"{self.rule.post_processing}, threshold {threshold}"
        ]

    def find(self, question: Question) -> Answer:
        """The moments that fit best.

        Raises:
            InputError: the question names what is not there, or a file is missing or damaged.
        """
        notes = self.untuned
        videos: Sequence[EmbeddedVideo] = self.embedded.videos
        if question.video:
            videos = [self._video("--video", question.video)]
        if question.split:
            videos = [each for each in videos if each.split == question.split]
        cosines_V, system = None, None
        if question.like:
            query_D = self._span(question)
            videos = [each for each in videos if each.video_id != question.like]
            if not videos:
                raise InputError(f"--like {question.like}: there is no other video to look in")
        elif question.image is not None:
            query_D = self._embed(question, self.chosen.model, self.embedded, notes)
        else:
            wholes, system = self.wholes, self.system
            query_D = self._embed(question, self.chosen.model, self.embedded, notes)
            if wholes is not None and self._known is not None and videos:
                is_same = wholes.model == self.chosen.model
                whole_D = query_D if is_same else self._embed(question, wholes.model, wholes.embedded, notes)
                cosines_V = wholes.cosines(videos, whole_D)
                looks_everywhere = not question.video and not question.split
                if looks_everywhere and (reason := self._known.doubt(query_D, cosines_V)):
                    notes.append(f"nothing may fit: {reason}")
        found = find_moments(
            self.embedded.frames,
            videos,
            query_D,
            self.rule,
            clip_length_s=self.clip_length_s,
            top=question.top,
            wholes_V=cosines_V,
            by_best_frame=question.image is not None,
        )
        return Answer(found, len(videos), system, notes)

    def _span(self, question: Question) -> NDArray[np.floating]:
        """Unit vector (D,) of the mean of the clips that begin in a span."""
        video = self._video("--like", question.like)
        start, end = question.start, video.duration if question.end is None else question.end
        if not start < end or start >= video.duration:
            raise InputError(
                f"--start {start:g}, --end {end:g}: no span of {video.video_id}, which lasts {video.duration:g} s"
            )
        first = int(start // self.clip_length_s)
        rows = video.clips[first : max(first + 1, math.ceil(min(end, video.duration) / self.clip_length_s))]
        mean_D = self.embedded.video_frames(video)[rows].mean(0)
        return mean_D / np.linalg.norm(mean_D)

    def _embed(self, question: Question, model: str, embedded: Embeddings, notes: list[str]) -> NDArray[np.float32]:
        """The question's vector (D,) by the model that made the embeddings."""
        folder = self.chosen.model_folder(model)
        backbone, digest = self._models.load(folder)
        if digest != embedded.model["model"]:
            raise InputError(f"{embedded.folder}: made by another model than {folder} holds; {self.chosen.build}")
        from stillmotion.search.query import embed_image, embed_text

        if question.image is not None:
            return embed_image(backbone, question.image)
        assert question.text is not None
        note = "the text is longer than the model reads; its end is left out"
        if backbone.truncated([question.text])[0] and note not in notes:  # by two models it is
            notes.append(note)
        return embed_text(backbone, question.text)

    def _video(self, option: str, video_id: str) -> EmbeddedVideo:
        row = self.embedded.row_of.get(video_id)
        if row is not None:
            return self.embedded.videos[row]
        skipped = self.chosen.root / "data" / "frames" / self.chosen.dataset / "skipped.jsonl"
        for lost in read_checked_rows(skipped, SkippedRow) if skipped.is_file() else []:
            if lost["video_id"] == video_id:
                raise InputError(f"{option} {video_id}: has no frames: {lost['reason']} ({skipped})")
        for video in load_records(self.chosen.raw, Video):
            if video.video_id == video_id:
                raise InputError(f"{option} {video_id}: not embedded; add its split, {video.split}, to embed.splits")
        hint = nearest(video_id, sorted(self.embedded.row_of))
        raise InputError(f"{option} {video_id}: {self.chosen.dataset} has no such video; {hint}")
