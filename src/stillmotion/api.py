"""The front door from Python: open a model, embed videos and texts, rank, find moments, score.

    from stillmotion.api import open_model, score_retrieval

It needs no repository, params.yaml or dvc: a model is a folder, of models/backbones/ or one that `stillmotion export`
wrote. Import it before numpy and torch, whose instructions it caps, so that the same video gives the same bytes on
every machine (STILLMOTION_INSTRUCTIONS=native takes that off). What you can mend is raised as an `InputError`.

What is embedded here is not kept: for thousands of videos, or for results that are compared, run the pipeline.

Shapes: T texts, V videos, N stored frames of all videos, D embedding dimensions.
"""

import stillmotion.config.capped

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillmotion.backbones.compute import prepare_torch
from stillmotion.backbones.registry import load_embeds
from stillmotion.config.environment import read_environment
from stillmotion.config.interrupts import leave_to_python
from stillmotion.embedding.embedder import Embedder
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.export.layout import AGGREGATOR, Sampling, check_sampling, read_sampling
from stillmotion.io.arrays import load_array
from stillmotion.io.memo import Memo, folder_digest
from stillmotion.io.tables import read_rows
from stillmotion.metrics import moments as moment_metrics
from stillmotion.metrics import retrieval_summary
from stillmotion.metrics.retrieval import TieRule, check_scores
from stillmotion.retrieval.aggregated import Aggregated, read_aggregators
from stillmotion.retrieval.distinct import distinct
from stillmotion.search.artefacts import read_rule
from stillmotion.search.ranking import UNTUNED, FoundMoment, find_moments
from stillmotion.video.packing import PackingTask, SamplingPlan, pack_video
from stillmotion.video.probe import VideoError
from stillmotion.video.sampling import clip_layout

__all__ = ["InputError", "Model", "Sampling", "Videos", "open_model", "score_moments", "score_retrieval"]

Floats = NDArray[np.float32]

leave_to_python()


@dataclass(frozen=True)
class Videos:
    """Embedded videos, in the order in which they were given."""

    ids: list[str]
    """Their paths, as they were given."""
    vectors: Floats
    """(V, D) a unit vector for each."""
    frames: Floats
    """(N, D) unit vectors of their stored frames, video after video."""
    rows: list[EmbeddedVideo]
    """Where the frames of each are, and how long it lasts."""
    skipped: dict[str, str]
    """Those that could not be decoded, which have no rows, and why."""
    clip_length_s: float

    def only(self, *ids: str) -> "Videos":
        """Some of them, to look in these alone.

        >>> videos = open_model("clip").embed_videos(["pan.mp4", "ball.mp4"])
        >>> videos.only("ball.mp4").ids
        ['ball.mp4']

        Raises:
            InputError: one of them is not there.
        """
        unknown = next((name for name in ids if name not in self.ids), None)
        if unknown is not None:
            raise InputError(f"{unknown}: none of these {len(self.ids)} videos; give paths as in ids")
        places = [self.ids.index(name) for name in ids]
        return replace(self, ids=list(ids), vectors=self.vectors[places], rows=[self.rows[place] for place in places])


class Model:
    """A model that embeds videos and texts in one space; `open_model` makes it."""

    def __init__(self, embedder: Embedder, sampling: Sampling, aggregator: Aggregated | None):
        self.sampling = sampling
        self._embedder, self._aggregator = embedder, aggregator

    @property
    def dim(self) -> int:
        """D."""
        return int(self._embedder.backbone.dim)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (T, D) of texts.

        >>> model = open_model("clip")
        >>> model.embed_texts(["a red circle moves left", "a dog jumps"]).shape
        (2, 16)
        """
        if isinstance(texts, str):
            raise InputError("embed_texts takes a list of texts; write [text] for one")
        texts = list(texts)
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str):
                raise InputError(f"text {number} is {text!r}; give texts alone, without an empty cell of a table")
        return self._embedder.texts(texts, "texts")

    def embed_videos(self, paths: Sequence[str | Path], *, frames: bool = True) -> Videos:
        """Embed video files, one after the other.

        Args:
            paths: of the files.
            frames: whether single frames are wanted, which `find_moments` looks at; without them some models are
                faster.

        Raises:
            InputError: not one can be decoded. One that can't be among others is in `skipped`.

        >>> videos = open_model("clip").embed_videos(["pan.mp4", "ball.mp4", "notes.txt"])
        >>> videos.ids
        ['pan.mp4', 'ball.mp4']
        >>> videos.vectors.shape
        (2, 16)
        >>> videos.skipped
        {'notes.txt': 'not a video (FFmpeg reads it as tty)'}
        """
        if isinstance(paths, str | Path):
            raise InputError("embed_videos takes a list of files; write [path] for one")
        kept: list[str] = []
        vectors, singles, rows = [], [], []
        skipped: dict[str, str] = {}
        offset = 0
        for path in map(str, paths):
            try:
                vector_D, frames_ND, row = self._embed_video(path, frames)
            except VideoError as error:
                skipped[path] = error.reason
                continue
            kept.append(path)
            vectors.append(vector_D)
            singles.append(frames_ND)
            rows.append(replace(row, offset=offset))
            offset += len(frames_ND)
        if not kept:
            first = next((f" ({path}: {reason})" for path, reason in skipped.items()), "")
            raise InputError(f"none of {len(skipped)} videos can be decoded{first}; give files that a player plays")
        return Videos(kept, np.stack(vectors), np.concatenate(singles), rows, skipped, self.sampling.clip_length_s)

    def _embed_video(self, path: str, frames: bool) -> tuple[Floats, Floats, EmbeddedVideo]:
        settings, backbone = self.sampling, self._embedder.backbone
        plan = SamplingPlan(
            settings.size_px,
            settings.geometry,
            settings.num_uniform,
            settings.clip_length_s,
            settings.clip_position,
            "raw",
        )
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "frames.npy"
            packed = pack_video(PackingTask(path, Path(path), target, plan, self._embedder.memo, ""))
            clips_CF = packed.uniform[
                clip_layout(
                    len(packed.uniform),
                    num_clips=settings.num_clips,
                    clip_frames=backbone.clip_frames or settings.clip_frames,
                )
            ]
            frames_ND, clips_CD, _ = self._embedder.video(
                load_array(target), "", clips_CF, single_frames=frames, times_T=packed.timestamps
            )
        row = EmbeddedVideo(
            path, "", packed.probed["duration"], 0, len(frames_ND), packed.uniform.tolist(), packed.clips.tolist()
        )
        return self._fuse(clips_CD), frames_ND, row

    def _fuse(self, clips_CD: Floats) -> Floats:
        if self._aggregator is not None:
            return self._aggregator.videos(clips_CD[None])[0][0]  # that of the first seed, as in a search
        mean_D = clips_CD.mean(axis=0)
        return clips_CD[0] if len(clips_CD) == 1 else mean_D / np.linalg.norm(mean_D)

    def rank(self, texts: Sequence[str], videos: Videos, *, top: int = 10) -> list[list[tuple[str, float]]]:
        """The best videos of each text with their cosines, best first; of equal ones the first given.

        >>> model = open_model("clip")
        >>> videos = model.embed_videos(["pan.mp4", "ball.mp4"])
        >>> (best, cosine), second = model.rank(["a dog jumps"], videos)[0]
        >>> best in videos.ids and -1 <= second[1] <= cosine <= 1
        True
        """
        _check_count("top", top)
        kept, kind_of_V = distinct([vector_D.tobytes() for vector_D in videos.vectors])
        scores_TV = (self.embed_texts(texts) @ videos.vectors[kept].T)[:, kind_of_V]
        return [
            [(videos.ids[place], float(scores_V[place])) for place in np.argsort(-scores_V, kind="stable")[:top]]
            for scores_V in scores_TV
        ]

    def find_moments(
        self, text: str, videos: Videos, *, top: int = 10, thresholds: str | Path | None = None
    ) -> list[FoundMoment]:
        """The moments of all videos that show a text, best first.

        A score is the mean of two cosines, as in `stillmotion search`: of the text with the frames within, and with
        the video.

        Args:
            text: what to look for.
            videos: with their frames.
            top: how many, at most.
            thresholds: a thresholds.json of models/thresholds/; without it VC1 with a threshold of 0.75.

        >>> model = open_model("clip")
        >>> best = model.find_moments("a red circle", model.embed_videos(["pan.mp4", "ball.mp4"]))[0]
        >>> 0 <= best.start < best.end <= 3 and best.video_id.endswith(".mp4")
        True
        """
        _check_count("top", top)
        if not len(videos.frames):
            raise InputError("the videos have no frames to find moments in; embed them with frames=True")
        (query_D,) = self.embed_texts([text])
        rule = UNTUNED if thresholds is None else read_rule(Path(thresholds))
        wholes_V = np.einsum("vd,d->v", videos.vectors, query_D)  # as in `Wholes.cosines`
        return find_moments(
            videos.frames,
            videos.rows,
            query_D,
            rule,
            clip_length_s=videos.clip_length_s,
            top=top,
            wholes_V=wholes_V,
        )


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{name} is {value}; give 1 or more")


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(f"{name}: the rows are not of one length; give each as many values") from None


def open_model(
    folder: str | Path,
    *,
    aggregator: str | Path | None = None,
    sampling: Sampling | None = None,
    threads: int = 2,
) -> Model:
    """Open a model folder: a backbone, a fine-tuned or an expanded one, or an export.

    Args:
        folder: of the model.
        aggregator: a folder of models/aggregators/ that was trained on this model; an export may bring one.
        sampling: of videos; an export says how it was evaluated, others are sampled as in the default run.
        threads: of torch in this process, which decide last digits.

    Raises:
        InputError: a file is missing or damaged, or the aggregator is of another model.

    >>> open_model("clip").dim
    16
    >>> open_model("no/such/folder")
    Traceback (most recent call last):
    stillmotion.errors.InputError: no/such/folder: no model there; run `dvc repro` or `dvc pull` for no/such/folder
    """
    _check_count("threads", threads)
    folder = Path(folder)
    if sampling is not None:
        check_sampling(sampling)
    sampling = sampling or read_sampling(folder)
    fused = None
    if aggregator is not None:
        fused, digest = read_aggregators(Path(aggregator))
        if digest != folder_digest(folder):
            raise InputError(f"{aggregator}: trained on the embeddings of another model than {folder}; train it again")
    elif (folder / AGGREGATOR).is_dir():
        fused, _ = read_aggregators(folder / AGGREGATOR)
    if fused is not None:
        sampling = replace(sampling, num_clips=fused.clip_counts[-1])
    try:
        backbone = load_embeds(folder, prepare_torch(read_environment(), threads))
    finally:
        leave_to_python()
    size_px = sampling.size_px or getattr(backbone, "image_size_px", 0)
    if not size_px:
        raise InputError(f"{folder}: takes frames of any size; choose one with Sampling(size_px=…)")
    sampling = replace(sampling, size_px=size_px)
    frames = backbone.clip_frames or sampling.clip_frames
    if frames * sampling.num_clips > sampling.num_uniform:
        raise InputError(
            f"{sampling.num_clips} clips of {frames} frames are more than num_uniform, {sampling.num_uniform}; "
            f"set that to {frames * sampling.num_clips} or more"
        )
    return Model(Embedder(backbone, Memo(None), {}, "fp32"), sampling, fused)


def score_retrieval(
    scores: ArrayLike, relevance: ArrayLike | None = None, *, ties: TieRule = "average"
) -> dict[str, Any]:
    """Score a similarity matrix as `stillmotion score retrieval` does.

    Args:
        scores: (T, V), higher is more similar.
        relevance: (P, 2) pairs of text and video that belong together; without it the diagonal.
        ties: how items of equal score share their ranks.

    Returns:
        `t2v` and `v2t`, each with R@1, R@2, R@5, R@10, MRR, mAP in percent, MedR, MeanR, and `ci95`.

    Raises:
        InputError: a score is not finite, a text has no video, or a matrix without relevance is not square.

    >>> score_retrieval([[0.9, 0.1], [0.8, 0.7]])["t2v"]["R@1"]
    50.0
    """
    scores_TV = check_scores(_array("scores", scores))
    if relevance is None:
        if scores_TV.shape[0] != scores_TV.shape[1]:
            raise InputError(f"{scores_TV.shape[0]} texts and {scores_TV.shape[1]} videos; give relevance: the pairs")
        relevance = np.stack([np.arange(len(scores_TV))] * 2, axis=1)
    pairs_P2 = _array("relevance", relevance)
    return retrieval_summary.score_retrieval(scores_TV, pairs_P2, ties=ties, rng=np.random.default_rng(0))


def score_moments(
    predictions: str | Path | Sequence[dict[str, Any]], ground_truth: str | Path | Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Score moments by the official protocol of QVHighlights, as `stillmotion score moments` does.

    Args:
        predictions: rows with qid and pred_relevant_windows ([start, end, score], best first), or their file.
        ground_truth: rows with qid, duration, relevant_windows, relevant_clip_ids and saliency_scores, or their file.

    Raises:
        InputError: a row is not what it has to be, or they are not of the same queries.

    >>> truth = {"qid": 1, "duration": 10, "relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1]}
    >>> truth |= {"saliency_scores": [[4, 4, 4], [4, 4, 4]]}
    >>> found = {"qid": 1, "pred_relevant_windows": [[0, 3, 0.9]], "pred_saliency_scores": [1, 1, 0, 0, 0]}
    >>> score_moments([found], [truth])["brief"]["MR-full-R1@0.7"]
    100.0
    """
    rows = [read_rows(each) if isinstance(each, str | Path) else list(each) for each in (predictions, ground_truth)]
    names = [
        str(each) if isinstance(each, str | Path) else word
        for each, word in ((predictions, "predictions"), (ground_truth, "ground_truth"))
    ]
    values = moment_metrics.moment_values(*rows, predictions_name=names[0], truth_name=names[1])
    return moment_metrics.official_metrics(values) | moment_metrics.newer_metrics(values)
