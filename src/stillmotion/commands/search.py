"""The `stillmotion search` command: moments of the dataset's videos for a text, an image or a span of a video."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillmotion.errors import InputError
from stillmotion.printed import json_text, one_line, one_per_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
    from stillmotion.search.artefacts import Artefacts
    from stillmotion.search.ranking import FoundMoment
    from stillmotion.search.wholes import Wholes

SCORE_DIGITS = 6


def search(
    text: Annotated[
        str | None, typer.Argument(help="What to look for; or give --image or --like.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="An image to look for instead of a text.", show_default=False)
    ] = None,
    like: Annotated[
        str, typer.Option(help="The id of a video, to look for moments of others that are like it.", show_default=False)
    ] = "",
    start: Annotated[float, typer.Option(min=0, help="Of the span of --like, in seconds.")] = 0.0,
    end: Annotated[
        float | None, typer.Option(min=0, help="Likewise; without it the video's.", show_default=False)
    ] = None,
    video: Annotated[str, typer.Option(help="Look in this video only.", show_default=False)] = "",
    top: Annotated[int, typer.Option(min=1, help="How many moments, at most.")] = 10,
    dataset: Annotated[str, typer.Option(help="Without it that of params.yaml.", show_default=False)] = "",
    model: Annotated[
        str,
        typer.Option(
            help="Without it the one of run.selected in params.yaml whose moments have the best R1@0.5, "
            "and for videos as wholes the one of the best R@1.",
            show_default=False,
        ),
    ] = "",
    selection: Annotated[
        str, typer.Option(help="Without it the one of run.selections, likewise.", show_default=False)
    ] = "",
    experiment: Annotated[
        str, typer.Option(help="Of experiments/: brings the model, as clip does.", show_default=False)
    ] = "",
    frames: Annotated[
        Path | None,
        typer.Option(help="A new folder for the stored frames of each moment, as PNG.", show_default=False),
    ] = None,
    root: Annotated[Path, typer.Option(help="The project, which holds params.yaml, data and models.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects, best first.")] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Search for texts of the test split; print how often a video is right.")
    ] = False,
) -> None:
    """Search the videos for the moments that show a text or an image, or that are like a span of a video.

    Uses the embeddings, the thresholds and the models that dvc repro has made. With another dataset than that of
    params.yaml, or an experiment, the embeddings come from the experiment, and are made beside the workspace where it
    has not run: that takes as long as to decode and embed the videos, once.

    A moment's score for a text is the mean of two cosines: that of the text and the frames within, and that of the text
    and the whole video by the best measured system of retrieval; without such a system, the first. For an image it is
    the cosine with the best frame, for a span that of its frames' mean and the frames within. What a text finds is
    doubted where it is further away than the best video of 95 % of the texts of the train split.

    For example:

    stillmotion search "a red circle moves left" --top 5 --frames found

    stillmotion search "a dog jumps" --dataset mine --experiment clip

    stillmotion search --like test-0012 --start 4 --end 10
    """
    if sum((text is not None, image is not None, bool(like), evaluate)) != 1:
        raise InputError("give one of a text, --image FILE, --like VIDEO and --evaluate")
    if not like and (start or end is not None):
        raise InputError("--start and --end are of the span of --like VIDEO; give that, or leave them out")
    if text is not None and not text.strip():
        raise InputError("the text is empty; say what to look for")

    from stillmotion.config.loading import load_params
    from stillmotion.experiments.index import build_index
    from stillmotion.search.artefacts import check_dataset, choose_artefacts, is_embedded
    from stillmotion.search.frames import check_folder, write_frames

    if frames is not None:
        check_folder(frames)
    params = load_params(root / "params.yaml")
    where = dataset or params.dataset
    if experiment or (where != params.dataset and not is_embedded(root, where, model)):
        check_dataset(root, params, where)
        with contextlib.chdir(root):
            model = build_index(where, experiment, model, with_frames=frames is not None)
    chosen = choose_artefacts(root, params, dataset, model, selection)

    from stillmotion.embedding.reader import Embeddings
    from stillmotion.search.known_texts import doubt, shares_found_first
    from stillmotion.search.ranking import UNTUNED, find_moments
    from stillmotion.search.wholes import open_wholes
    from stillmotion.video.packed import PackedFrames

    paths = {} if as_json else _paths(chosen)
    packed = None if frames is None else PackedFrames(chosen.frames)
    rule = chosen.rule()
    if rule is UNTUNED:
        threshold = rule.parameters["threshold"]
        typer.echo(
            f"{chosen.thresholds}: nothing to tune on, so windows are selected by {rule.method}, "
            f"{rule.post_processing}, threshold {threshold}",
            err=True,
        )
    embedded = Embeddings(chosen.embeddings)
    if not embedded.videos:
        raise InputError(f"{embedded.folder / 'index.jsonl'}: no videos; {chosen.build}")
    videos = [_find_video("--video", video, embedded, chosen)] if video else embedded.videos
    # What metrics/ has is of the active dataset.
    by_wholes = (text is not None or evaluate) and where == params.dataset
    wholes = open_wholes(root, params, chosen.dataset, model) if by_wholes else None
    clip_length_s = params.sample_frames.clip_length_s
    if evaluate:
        shares = shares_found_first(chosen.raw, embedded, wholes, rule, clip_length_s=clip_length_s)
        typer.echo(_as_shares(shares, chosen, wholes, len(embedded.videos), as_json=as_json))
        return
    cosines_V = None
    if like:
        query_D = _span(_find_video("--like", like, embedded, chosen), start, end, embedded, clip_length_s)
        videos = [each for each in videos if each.video_id != like]
        if not videos:
            raise InputError(f"--like {like}: there is no other video to look in")
    else:
        query_D, whole_D = _queries(text, image, chosen, embedded, wholes, params.threads)
        if wholes is not None and whole_D is not None:
            cosines_V = wholes.cosines(videos, whole_D)
            if not video and (reason := doubt(chosen.raw, embedded, wholes, query_D, cosines_V)):
                typer.echo(one_line(f"nothing may fit: {reason}"), err=True)
    found = find_moments(
        embedded.frames,
        videos,
        query_D,
        rule,
        clip_length_s=clip_length_s,
        top=top,
        wholes_V=cosines_V,
        by_best_frame=image is not None,
    )
    if frames is not None and packed is not None:
        num_files = write_frames(frames, found, packed)
        typer.echo(one_line(f"{frames}: {num_files} frames"), err=True)
    typer.echo(json_text(_as_objects(found)) if as_json else _as_text(found, chosen, wholes, len(videos), paths))


def _span(
    video: "EmbeddedVideo", start: float, end: float | None, embedded: "Embeddings", clip_length_s: float
) -> "NDArray[np.floating]":
    """Unit vector (D,) of the mean of the clips that begin in a span."""
    import math

    import numpy as np

    end = video.duration if end is None else end
    if not start < end or start >= video.duration:
        raise InputError(
            f"--start {start:g}, --end {end:g}: no span of {video.video_id}, which lasts {video.duration:g} s"
        )
    first = int(start // clip_length_s)
    rows = video.clips[first : max(first + 1, math.ceil(end / clip_length_s))]
    mean_D = embedded.video_frames(video)[rows].mean(0)
    return mean_D / np.linalg.norm(mean_D)


def _queries(
    text: str | None,
    image: Path | None,
    chosen: "Artefacts",
    embedded: "Embeddings",
    wholes: "Wholes | None",
    threads: int,
) -> "tuple[NDArray[np.float32], NDArray[np.float32] | None]":
    """The query's embedding by the model that made those of the frames, and by the one for whole videos."""
    query_D = _query(text, image, chosen, chosen.model, embedded, threads)
    if wholes is None:
        return query_D, None
    same = wholes.model == chosen.model
    return query_D, query_D if same else _query(text, image, chosen, wholes.model, wholes.embedded, threads)


def _query(
    text: str | None, image: Path | None, chosen: "Artefacts", model: str, embedded: "Embeddings", threads: int
) -> "NDArray[np.float32]":
    """The query's embedding, by the model that made the embeddings."""
    from rich.console import Console

    from stillmotion.config.environment import read_environment
    from stillmotion.io.memo import folder_digest
    from stillmotion.stage import importing

    folder = chosen.model_folder(model)
    with Console(stderr=True).status(f"loading {model}"):
        with importing():
            from stillmotion.backbones.compute import prepare_torch
            from stillmotion.backbones.registry import load_embeds
            from stillmotion.search.query import embed_image, embed_text, read_image

        picture = None if image is None else read_image(image)
        backbone = load_embeds(folder, prepare_torch(read_environment(), threads))
        if folder_digest(folder) != embedded.model["model"]:
            raise InputError(f"{embedded.folder}: made by another model than {folder} holds; {chosen.build}")
        if picture is not None:
            query_D = embed_image(backbone, picture)
        else:
            assert text is not None
            if backbone.truncated([text])[0]:
                typer.echo("the text is longer than the model reads; its end is left out", err=True)
            query_D = embed_text(backbone, text)
        return query_D


def _find_video(option: str, video_id: str, embedded: "Embeddings", chosen: "Artefacts") -> "EmbeddedVideo":
    from stillmotion.io.checked import read_checked_rows
    from stillmotion.io.records import Video, load_records
    from stillmotion.search.artefacts import nearest
    from stillmotion.video.packed import SkippedRow

    row = embedded.row_of.get(video_id)
    if row is not None:
        return embedded.videos[row]
    skipped = chosen.root / "data" / "frames" / chosen.dataset / "skipped.jsonl"
    for lost in read_checked_rows(skipped, SkippedRow) if skipped.is_file() else []:
        if lost["video_id"] == video_id:
            raise InputError(f"{option} {video_id}: has no frames: {lost['reason']} ({skipped})")
    for video in load_records(chosen.raw, Video):
        if video.video_id == video_id:
            raise InputError(f"{option} {video_id}: not embedded; add its split, {video.split}, to embed.splits")
    hint = nearest(video_id, sorted(embedded.row_of))
    raise InputError(f"{option} {video_id}: {chosen.dataset} has no such video; {hint}")


def _paths(chosen: "Artefacts") -> dict[str, str]:
    from stillmotion.io.records import Video, load_records

    return {video.video_id: str(chosen.root / video.path) for video in load_records(chosen.raw, Video)}


def _as_objects(found: list["FoundMoment"]) -> list[dict[str, Any]]:
    return [
        {
            "video_id": moment.video_id,
            "start": moment.start,
            "end": moment.end,
            "score": round(moment.score, SCORE_DIGITS),
        }
        for moment in found
    ]


def _as_shares(
    shares: dict[str, tuple[int, float | None]],
    chosen: "Artefacts",
    wholes: "Wholes | None",
    num_videos: int,
    *,
    as_json: bool,
) -> str:
    recall = None if wholes is None else {"system": wholes.system, "t2v R@1": wholes.recall}
    if as_json:
        found = {name: {"texts": num, "found_first": share} for name, (num, share) in shares.items()}
        return json_text(found | {"retrieval": recall})
    lines = [f"{_made_by(chosen, wholes)}, {num_videos} videos"]
    for name, (num, share) in shares.items():
        first = "-" if share is None else f"{share:.1f} %"
        lines.append(f"{first:>7}  of {num} {name} of the test split find a right video first")
    if wholes is not None:
        lines.append(f"{wholes.recall:5.1f} %  is the R@1 of {wholes.system}, among the test videos alone")
    return "\n".join(lines)


def _made_by(chosen: "Artefacts", wholes: "Wholes | None") -> str:
    videos = "" if wholes is None else f" for moments, {wholes.system} for videos,"
    return f"{chosen.model} and {chosen.selection}{videos} on {chosen.dataset}"


def _as_text(
    found: list["FoundMoment"], chosen: "Artefacts", wholes: "Wholes | None", num_videos: int, paths: dict[str, str]
) -> str:
    counted = f"{num_videos} video" + ("" if num_videos == 1 else "s")
    rows = [f"{_made_by(chosen, wholes)}, {counted}"]
    rows.append(f"{'':>4}  {'score':>6}  {'start':>8}  {'end':>8}  video")
    width = max((len(one_line(moment.video_id)) for moment in found), default=0)
    for rank, moment in enumerate(found, start=1):
        times = f"{moment.start:7.1f}s  {moment.end:7.1f}s"
        path = paths.get(moment.video_id, "")
        rows.append(f"{rank:4}  {moment.score:6.3f}  {times}  {one_line(moment.video_id):{width}}  {path}".rstrip())
    return one_per_line(rows)
