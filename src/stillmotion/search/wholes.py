"""What ranks videos as wholes for a text: the best measured system of retrieval that gives a video one vector.

Shapes: V videos, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from stillmotion.config.loading import Params
from stillmotion.config.scorers import MeanParams, TrainedParams
from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.errors import InputError
from stillmotion.io.checked import STRICT, read_checked
from stillmotion.stage import importing

METRIC = "R@1"


class _Recalls(BaseModel):
    model_config = STRICT

    first: float | None = Field(default=None, alias="R@1")


class _Measured(BaseModel):
    model_config = STRICT

    t2v: _Recalls = _Recalls()


@dataclass(frozen=True)
class Wholes:
    """The videos of a dataset by a system of retrieval."""

    system: str
    """Key of `retrieval`."""
    model: str
    recall: float
    """T2V R@1 in percent that its metrics file has."""
    embedded: Embeddings
    vectors_VD: NDArray[np.float32]
    """Unit vectors, in the order of the embeddings."""

    def cosines(self, videos: Sequence[EmbeddedVideo], query_D: NDArray[np.floating]) -> NDArray[np.floating]:
        """Cosine (V,) of a text's unit vector with each of these videos, which may be of other embeddings.

        Raises:
            InputError: one of them is not embedded by this model.
        """
        unknown = next((video.video_id for video in videos if video.video_id not in self.embedded.row_of), None)
        if unknown is not None:
            raise InputError(f"{self.embedded.folder}: lacks video {unknown!r}; run `dvc repro`")
        rows_V = [self.embedded.row_of[video.video_id] for video in videos]
        # not `@`, which gives equal videos another last digit, and so no order
        return np.einsum("vd,d->v", self.vectors_VD[rows_V], query_D.astype(np.float32))


def choose_wholes(root: Path, params: Params, dataset: str, model: str) -> str | None:
    """Key of the best system that is measured and built; None where there is none, as for a dataset without captions.

    Scorers that take more of a text and a video than a vector are left out: what they need is not stored for a new
    text.

    Args:
        root: of the project.
        params: of the project.
        dataset: that is searched.
        model: the only one to take; "" for any.

    Raises:
        InputError: a metrics file is damaged.
    """
    best: tuple[float, str] | None = None
    for key, system in params.retrieval.items():
        built = (root / "data" / "embeddings" / f"{dataset}-{system.model}", root / "models" / "aggregators" / key)
        if (
            isinstance(params.scorers[system.scorer], MeanParams | TrainedParams)
            and model in ("", system.model)
            and _metrics(root, key).is_file()
            and all(folder.is_dir() for folder in built)
        ):
            recall = _recall(root, key)
            if recall is not None and (best is None or recall > best[0]):
                best = recall, key
    return None if best is None else best[1]


def open_wholes(root: Path, params: Params, dataset: str, key: str) -> Wholes:
    """The videos of a dataset by a system that `choose_wholes` has named.

    Raises:
        InputError: a file of the system is missing or damaged.
    """
    system = params.retrieval[key]
    embedded = Embeddings(root / "data" / "embeddings" / f"{dataset}-{system.model}")
    with importing():
        from stillmotion.retrieval.aggregated import open_aggregators
    scorer = params.scorers[system.scorer]
    assert isinstance(scorer, MeanParams | TrainedParams)
    aggregators = open_aggregators(scorer, embedded, root / "models" / "aggregators" / key)
    # That of the first seed, as in the predictions of evaluate_retrieval.
    vectors_VD = aggregators.videos(np.asarray(embedded.clips(aggregators.clip_counts[-1])))[0]
    return Wholes(key, system.model, _recall(root, key) or 0.0, embedded, vectors_VD)


def _metrics(root: Path, key: str) -> Path:
    return root / "metrics" / "retrieval" / f"{key}.json"


def _recall(root: Path, key: str) -> float | None:
    recall: float | None = read_checked(_metrics(root, key), _Measured).get("t2v", {}).get(METRIC)
    return recall
