"""What the dataset's own texts tell of a search: how near a text comes where something fits, and what is found first.

Shapes: T texts, V videos, D embedding dimensions.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Caption, Moment, Video, load_records
from stillmotion.search.ranking import SelectionRule, best_cosines, find_moments
from stillmotion.search.wholes import Wholes

MAX_TEXTS = 300
"""Texts of a kind that are looked at, evenly spaced: a share of them has a standard error of 3 points at most."""
DOUBTED = 0.05
"""Share of the texts of the train split that would be doubted too."""
_TEXTS_A_PASS = 64


@dataclass(frozen=True)
class _Texts:
    """Texts of a kind and a split."""

    rows: list[int]
    """In the embeddings' arrays."""
    video_ids: list[set[str]]
    """The videos of any split that each is said of."""


def _texts(raw: Path, split: str, *embeddings: Embeddings) -> tuple[_Texts, _Texts]:
    """Captions of whole videos, and queries of moments; InputError where the embeddings are not of them."""
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    said, asked = load_records(raw, Caption), load_records(raw, Moment)
    for embedded in embeddings:
        embedded.require_dataset(splits, len(said), raw, num_queries=len(asked))
    captions = [(row, each.text, each.video_id) for row, each in enumerate(said) if each.start is None]
    queries = [(row, each.query, each.vid) for row, each in enumerate(asked)]
    return _evenly(captions, splits, split), _evenly(queries, splits, split)


def _evenly(texts: list[tuple[int, str, str]], splits: dict[str, str], split: str) -> _Texts:
    videos_of: dict[str, set[str]] = {}
    for _, text, video_id in texts:
        videos_of.setdefault(text, set()).add(video_id)
    of_split = [(row, videos_of[text]) for row, text, video_id in texts if splits.get(video_id) == split]
    places = np.unique(np.linspace(0, len(of_split) - 1, min(MAX_TEXTS, len(of_split))).round().astype(int))
    return _Texts([of_split[place][0] for place in places], [of_split[place][1] for place in places])


class KnownTexts:
    """How near the texts of the train split come to what fits them, counted when it is first asked for."""

    def __init__(self, raw: Path, embedded: Embeddings, wholes: Wholes):
        """Take what is searched.

        Args:
            raw: tables of the dataset.
            embedded: frames that are looked in, and the queries for moments.
            wholes: whole videos, and the captions.
        """
        self._raw, self._embedded, self._wholes = raw, embedded, wholes

    @cached_property
    def _least(self) -> dict[str, float]:
        """Cosine that all but `DOUBTED` of the texts find, for those that there are."""
        if "train" not in {video.split for video in self._embedded.videos}:
            return {}
        captions, queries = _texts(self._raw, "train", self._embedded, self._wholes.embedded)
        captions_TD = np.asarray(self._wholes.embedded.captions[captions.rows])
        wholes_T = (captions_TD @ self._wholes.vectors_VD.T).max(1, initial=-1.0)
        frames_T = _best_frames(self._embedded, np.asarray(self._embedded.queries[queries.rows]))
        known = {"video": wholes_T, "frame": frames_T}
        return {what: float(np.quantile(known_T, DOUBTED)) for what, known_T in known.items() if len(known_T)}

    def doubt(self, query_D: NDArray[np.floating], cosines_V: NDArray[np.floating]) -> str:
        """Why nothing may fit a text: no frame and no whole video is as near as most texts of the train split find.

        Args:
            query_D: the text by the model of the frames.
            cosines_V: of the text and the whole videos by theirs.

        Returns:
            "" where something does, or where the split has no such texts.
        """
        if not self._least or cosines_V.max() >= self._least.get("video", np.inf):
            return ""
        best = {"video": float(cosines_V.max())}
        if "frame" in self._least:
            best["frame"] = float(_best_frames(self._embedded, query_D[None])[0])
        if any(best[what] >= least for what, least in self._least.items()):
            return ""
        return ", ".join(
            f"the nearest {what} has a cosine of {best[what]:.2f}, where {1 - DOUBTED:.0%} of the train split's texts "
            f"find {least:.2f} or more"
            for what, least in self._least.items()
        )


def _best_frames(embedded: Embeddings, texts_TD: NDArray[np.floating]) -> NDArray[np.floating]:
    """Cosine (T,) of each text with the best clip's frame of all videos."""
    blocks = [texts_TD[first : first + _TEXTS_A_PASS] for first in range(0, len(texts_TD), _TEXTS_A_PASS)]
    return np.concatenate(
        [np.empty(0), *(best_cosines(embedded.frames, embedded.videos, block).max(1) for block in blocks)]
    )


def shares_found_first(
    raw: Path, embedded: Embeddings, wholes: Wholes | None, rule: SelectionRule, *, clip_length_s: float
) -> dict[str, tuple[int, float | None]]:
    """How often what is found first for a text of the test split is in a video that the text is said of.

    Args:
        raw: tables of the dataset.
        embedded: what moments are looked for in, all its videos, and the texts by that model.
        wholes: what ranks whole videos, and the texts by its model.
        rule: selects windows.
        clip_length_s: seconds a clip.

    Returns:
        By the kind of text: how many there are, and the share in percent, None where there are none.
    """
    captions, queries = _texts(raw, "test", embedded, *([] if wholes is None else [wholes.embedded]))
    shares: dict[str, tuple[int, float | None]] = {}
    for name, texts, vectors, of_wholes in (
        ("captions of videos", captions, embedded.captions, None if wholes is None else wholes.embedded.captions),
        ("queries for moments", queries, embedded.queries, None if wholes is None else wholes.embedded.queries),
    ):
        hits = []
        for row, video_ids in zip(texts.rows, texts.video_ids, strict=True):
            cosines_V = None
            if wholes is not None and of_wholes is not None:
                cosines_V = wholes.cosines(embedded.videos, of_wholes[row])
            (first,) = find_moments(
                embedded.frames,
                embedded.videos,
                vectors[row],
                rule,
                clip_length_s=clip_length_s,
                top=1,
                wholes_V=cosines_V,
            )
            hits.append(first.video_id in video_ids)
        shares[name] = (len(hits), round(100 * sum(hits) / len(hits), 4) if hits else None)
    return shares
