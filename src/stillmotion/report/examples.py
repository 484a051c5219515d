"""The examples that play on the results page: queries with the videos that were ranked first, and moments.

Source of what decides: `hardest_negatives` of ranks.jsonl are the other videos from the highest score down, so that
with the rank of the right one they are the ranking; examples.jsonl has the curves of moments.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.claims.systems import Rows
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Caption, Video
from stillmotion.report.first_videos import sentences
from stillmotion.report.moments import spread_out
from stillmotion.report.players import Player, Window, best_run, preview, video_source
from stillmotion.video.packed import PackedFrames

TOP = 3
"""Videos of a ranking that are shown; the right one stands below where it is not among them."""

USUAL = 0.5
"""Of the captions; a word that more of them have is not marked."""

Marked = Sequence[tuple[str, bool]]
"""Words in order, each with whether the query has it too."""


@dataclass(frozen=True)
class Hit:
    """A video of a ranking."""

    rank: float
    is_right: bool
    caption: Sequence[Marked]
    """Sentences of its first caption of the whole video."""
    fit: float | None
    """Mean cosine of its frames with the query."""
    player: Player


@dataclass(frozen=True)
class Ranking:
    """A query and what was found."""

    text: str
    rank: float
    """Of the right video; of several seeds of an aggregator, the first."""
    ranks: Mapping[str, float]
    """Likewise, by system."""
    shows: str
    """What the first video shows of the text: one of first_videos.SHOWN, empty where that is not known."""
    hits: Sequence[Hit]


@dataclass(frozen=True)
class Located:
    """A query of moments and the windows that were found."""

    text: str
    place: str
    iou: float
    score_found: float | None
    """The highest score within the first window; None without one."""
    score_true: float | None
    """Within the true windows."""
    player: Player


class Gallery:
    """The videos that players show: their frames, captions, and where they lie as seen from a page."""

    def __init__(
        self,
        videos: Sequence[Video],
        captions: Sequence[Caption],
        stored: PackedFrames,
        embedded: Embeddings,
        page: Path,
    ):
        self.stored, self.embedded, self.page = stored, embedded, page
        self.videos = {video.video_id: video for video in videos}
        self.row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
        self.captions_of: dict[str, list[Caption]] = {}
        for caption in captions:
            self.captions_of.setdefault(caption.video_id, []).append(caption)
        whole = [set(re.findall(r"\w+", c.text.casefold())) for c in captions if c.start is None]
        said_in = Counter(word for words in whole for word in words)
        self.usual = {word for word, num in said_in.items() if num > USUAL * len(whole)}
        """Words of most captions, which tell no video from another."""

    def player(self, video_id: str, moment: Window, **more: Any) -> Player:
        """The player of a video at a moment."""
        video, (strip, num) = self.videos[video_id], preview(self.stored, video_id)
        source = video_source(video.path, self.page)
        return Player(video_id, source, self.duration(video_id), moment, strip, num, **more)

    def duration(self, video_id: str) -> float:
        """Seconds; of a video with frames it is known."""
        return self.videos[video_id].duration or float(self.stored.timestamps(video_id)[-1])


@dataclass(frozen=True)
class Examples:
    """What examples are chosen from."""

    ranks: Mapping[str, Rows]
    """Rows of ranks.jsonl by system of retrieval."""
    located: Rows
    """Rows of examples.jsonl of the selection that is shown."""
    num: int
    """Of retrieval, beside one that is found at once."""


def rankings(gallery: Gallery, examples: Examples, shows: Mapping[str, Sequence[str]], best: str) -> list[Ranking]:
    """A query whose video the best system finds first, then others from the nearest miss to the worst.

    Args:
        gallery: what players are made of.
        examples: ranks, and how many misses.
        shows: of `first_videos.first_shows` by system.
        best: the system whose rankings are shown.
    """
    ranks = examples.ranks
    rows = ranks[best]
    order = sorted(range(len(rows)), key=lambda place: (rows[place]["rank"][0], rows[place]["caption_id"]))
    right = [place for place in order if rows[place]["rank"][0] <= 1]
    missed = [place for place in order if rows[place]["rank"][0] > 1]
    found = []
    for place in right[:1] + spread_out(missed, examples.num):
        row = rows[place]
        found.append(
            Ranking(
                text=row["text"],
                rank=row["rank"][0],
                ranks={key: of_system[place]["rank"][0] for key, of_system in ranks.items() if of_system},
                shows=shows[best][place] if shows.get(best) else "",
                hits=[_hit(gallery, row, *hit) for hit in ranked_videos(row)],
            )
        )
    return found


def ranked_videos(row: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Ranks and videos of a row of ranks.jsonl: the first of TOP, and the right one below where it is not among them.

    Example:
        With the right video r at 2 and the negatives a, b, c: 1 a, 2 r, 3 b. With r at 9: 1 a, 2 b, 3 c, 9 r.
    """
    rank = row["rank"][0]
    before = min(int(np.ceil(rank)) - 1, TOP)
    negatives = list(enumerate(row["hardest_negatives"], start=1))
    above = [(float(place), video_id) for place, video_id in negatives[:before]]
    below = [(float(place + 1), video_id) for place, video_id in negatives[before:] if place + 1 <= TOP]
    return [*above, (rank, row["video_id"]), *below]


def _hit(gallery: Gallery, row: Mapping[str, Any], rank: float, video_id: str) -> Hit:
    embedded, duration = gallery.embedded, gallery.duration(video_id)
    said = {part.casefold() for part in sentences(row["text"])}
    own = gallery.captions_of.get(video_id, ())
    true = [(c.start, c.end) for c in own if c.start is not None and c.end is not None and _is_said(c.text, said)]
    curve, moment, fit = [], (0.0, duration), None
    if embedded.has_frames and video_id in embedded.row_of:
        video = embedded.videos[embedded.row_of[video_id]]
        text_D = embedded.captions[gallery.row_of[row["caption_id"]]].astype(np.float64)
        scores_T = embedded.video_frames(video)[video.clips].astype(np.float64) @ text_D
        times_T = gallery.stored.timestamps(video_id)[gallery.stored.clip_indices(video_id)]
        first, last = best_run(scores_T)
        edges = np.concatenate([[0.0], (times_T[1:] + times_T[:-1]) / 2, [duration]])
        moment = (float(edges[first]), float(edges[last + 1]))
        curve = [(float(time), float(score)) for time, score in zip(times_T, scores_T, strict=True)]
        fit = float(scores_T.mean())
    whole = next((caption.text for caption in own if caption.start is None), "")
    player = gallery.player(video_id, moment, curve=curve, threshold=None, true=true, found=[moment] if curve else [])
    return Hit(rank, video_id == row["video_id"], marked(whole, row["text"], gallery.usual), fit, player)


def _is_said(text: str, said: set[str]) -> bool:
    return all(part.casefold() in said for part in sentences(text))


def marked(caption: str, query: str, usual: Collection[str] = ()) -> list[Marked]:
    """The sentences of a caption, each word with whether the sentence of the query that is most alike has it too.

    Example:
        Beside `A man runs. He falls`, `A man sits` has `man` marked, and not `sits`, nor `A` where that is usual.

    Args:
        caption: of a video.
        query: what was asked for.
        usual: words that tell nothing.
    """
    asked = [set(part.casefold().split()) - set(usual) for part in sentences(query)]
    found: list[Marked] = []
    for part in sentences(caption):
        words = part.split()
        alike = max(asked, key=lambda other: len(other & {word.casefold() for word in words}), default=set())
        found.append([(word, word.casefold() in alike) for word in words])
    return found


def moments_located(gallery: Gallery, examples: Rows) -> list[Located]:
    """The examples of moments, with the curve by which they were selected."""
    found = []
    for row in examples:
        length, duration, scores = row["clip_length_s"], row["duration"], row["processed"]
        starts = [length * place for place in range(len(scores))]
        middles = [(start + min(start + length, duration)) / 2 for start in starts]
        true = [(start, end) for start, end in row["true_windows"]]
        chosen = [(start, end) for start, end, _ in row["predicted_windows"]]
        moment = (chosen or true or [(0.0, duration)])[0]
        curve = list(zip(middles, scores, strict=True))
        player = gallery.player(row["vid"], moment, curve=curve, threshold=row["threshold"], true=true, found=chosen)
        best_found, best_true = _highest(curve, chosen[:1]), _highest(curve, true)
        found.append(Located(row["query"], row["place"], row["top1_iou"], best_found, best_true, player))
    return found


def _highest(curve: Sequence[tuple[float, float]], windows: Sequence[Window]) -> float | None:
    inside = [score for time, score in curve if any(start <= time <= end for start, end in windows)]
    return max(inside, default=None)
