"""The `stillmotion search` command: moments of the dataset's videos for a text or an image."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
    from stillmotion.search.artefacts import Artefacts
    from stillmotion.search.ranking import FoundMoment

SCORE_DIGITS = 6


def search(
    text: Annotated[str | None, typer.Argument(help="What to look for; or give --image.", show_default=False)] = None,
    image: Annotated[
        Path | None, typer.Option(help="An image to look for instead of a text.", show_default=False)
    ] = None,
    video: Annotated[str, typer.Option(help="Look in this video only.", show_default=False)] = "",
    top: Annotated[int, typer.Option(min=1, help="How many moments, at most.")] = 10,
    dataset: Annotated[str, typer.Option(help="Without it that of params.yaml.", show_default=False)] = "",
    model: Annotated[
        str,
        typer.Option(
            help="Without it the one of run.selected in params.yaml whose moments have the best R1@0.5.",
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
) -> None:
    """Search the videos for the moments that show a text or an image.

    Uses the embeddings, the thresholds and the model that dvc repro has made. With another dataset than that of
    params.yaml, or an experiment, the embeddings come from the experiment, and are made beside the workspace where it
    has not run: that takes as long as to decode and embed the videos, once. A moment's score is the mean cosine of the
    query and the frames within.

    For example:

    stillmotion search "a red circle moves left" --top 5 --frames found

    stillmotion search "a dog jumps" --dataset mine --experiment clip
    """
    if (text is None) == (image is None):
        raise InputError("give either a text or --image FILE" + ("" if text is None else ", not both"))
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
    from stillmotion.search.ranking import UNTUNED, find_moments
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
    videos = [_find_video(video, embedded, chosen)] if video else embedded.videos
    found = find_moments(
        embedded.frames,
        videos,
        _query(text, image, chosen, embedded, params.threads),
        rule,
        clip_length_s=params.sample_frames.clip_length_s,
        top=top,
    )
    if frames is not None and packed is not None:
        num_files = write_frames(frames, found, packed)
        typer.echo(f"{frames}: {num_files} frames", err=True)
    typer.echo(_as_json(found) if as_json else _as_text(found, chosen, len(videos), paths))


def _query(
    text: str | None, image: Path | None, chosen: "Artefacts", embedded: "Embeddings", threads: int
) -> "NDArray[np.float32]":
    """The query's embedding, by the model that made the embeddings of the frames."""
    from rich.console import Console

    from stillmotion.config.environment import read_environment
    from stillmotion.io.memo import folder_digest
    from stillmotion.stage import importing

    with Console(stderr=True).status(f"loading {chosen.model}"):
        with importing():
            from stillmotion.backbones.compute import prepare_torch
            from stillmotion.backbones.registry import load_backbone
            from stillmotion.search.query import embed_image, embed_text, read_image

        picture = None if image is None else read_image(image)
        backbone = load_backbone(chosen.model_folder, prepare_torch(read_environment(), threads))
        if folder_digest(chosen.model_folder) != embedded.model["model"]:
            raise InputError(
                f"{chosen.embeddings}: made by another model than {chosen.model_folder} holds; {chosen.build}"
            )
        if picture is not None:
            query_D = embed_image(backbone, picture)
        else:
            assert text is not None
            if backbone.truncated([text])[0]:
                typer.echo("the text is longer than the model reads; its end is left out", err=True)
            query_D = embed_text(backbone, text)
        return query_D


def _find_video(video_id: str, embedded: "Embeddings", chosen: "Artefacts") -> "EmbeddedVideo":
    from stillmotion.io.records import Video, load_records
    from stillmotion.io.tables import read_rows
    from stillmotion.search.artefacts import nearest

    row = embedded.row_of.get(video_id)
    if row is not None:
        return embedded.videos[row]
    skipped = chosen.root / "data" / "frames" / chosen.dataset / "skipped.jsonl"
    for lost in read_rows(skipped) if skipped.is_file() else []:
        if lost["video_id"] == video_id:
            raise InputError(f"--video {video_id}: has no frames: {lost['reason']} ({skipped})")
    for video in load_records(chosen.raw, Video):
        if video.video_id == video_id:
            raise InputError(f"--video {video_id}: not embedded; add its split, {video.split}, to embed.splits")
    hint = nearest(video_id, sorted(embedded.row_of))
    raise InputError(f"--video {video_id}: {chosen.dataset} has no such video; {hint}")


def _paths(chosen: "Artefacts") -> dict[str, str]:
    from stillmotion.io.records import Video, load_records

    return {video.video_id: str(chosen.root / video.path) for video in load_records(chosen.raw, Video)}


def _as_json(found: list["FoundMoment"]) -> str:
    objects = [
        {
            "video_id": moment.video_id,
            "start": moment.start,
            "end": moment.end,
            "score": round(moment.score, SCORE_DIGITS),
        }
        for moment in found
    ]
    return json.dumps(objects, indent=2, ensure_ascii=False)


def _as_text(found: list["FoundMoment"], chosen: "Artefacts", num_videos: int, paths: dict[str, str]) -> str:
    counted = f"{num_videos} video" + ("" if num_videos == 1 else "s")
    lines = [f"{chosen.model} and {chosen.selection} on {chosen.dataset}, {counted}"]
    lines.append(f"{'':>4}  {'score':>6}  {'start':>8}  {'end':>8}  video")
    width = max(len(moment.video_id) for moment in found)
    for rank, moment in enumerate(found, start=1):
        times = f"{moment.start:7.1f}s  {moment.end:7.1f}s"
        path = paths.get(moment.video_id, "")
        lines.append(f"{rank:4}  {moment.score:6.3f}  {times}  {moment.video_id:{width}}  {path}".rstrip())
    return "\n".join(lines)
