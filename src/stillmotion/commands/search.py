"""The `stillmotion search` command: moments of the dataset's videos for a text, an image or a span of a video."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillmotion.errors import InputError
from stillmotion.printed import json_text, one_line, one_per_line

if TYPE_CHECKING:
    from stillmotion.search.artefacts import Artefacts
    from stillmotion.search.finder import Answer, Finder
    from stillmotion.search.ranking import FoundMoment

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
    from stillmotion.experiments.index import build_index, is_outdated
    from stillmotion.search.artefacts import check_dataset, choose_artefacts, is_embedded
    from stillmotion.search.frames import check_folder, write_frames
    from stillmotion.stage import importing
    from stillmotion.video.packed import PackedFrames

    if frames is not None:
        check_folder(frames)
    params = load_params(root / "params.yaml")
    where = dataset or params.dataset
    if experiment or (where != params.dataset and not is_embedded(root, where, model)):
        check_dataset(root, params, where)
        with contextlib.chdir(root):
            model = build_index(where, experiment, model, with_frames=frames is not None)
    chosen = choose_artefacts(root, params, dataset, model, selection)
    with contextlib.chdir(root):
        outdated = where != params.dataset and is_outdated(where, chosen.model)
    _tell([f"{chosen.embeddings}: made before {where} was last added; remove it to have it made anew"] * outdated)

    from stillmotion.search.finder import Finder, Models, Question
    from stillmotion.search.identity import identity
    from stillmotion.serving.running import ask

    paths = {} if as_json else _paths(chosen)
    packed = None if frames is None else PackedFrames(chosen.frames)
    if evaluate:
        finder = Finder(params, chosen, Models(params.threads), model=model)
        _tell(finder.untuned)
        typer.echo(_as_shares(finder, as_json=as_json))
        return
    asked_for: dict[str, object] = {
        "q": text,
        "like": like or None,
        "dataset": where,
        "model": model,
        "selection": selection,
    }
    asked_for |= {"start": start if like else None, "end": end, "video": video, "top": top}
    sent = image.read_bytes() if image is not None and image.is_file() else None
    asked = ask(root, identity(root), asked_for, sent) if image is None or sent is not None else None
    if asked is None:
        if image is not None:
            with importing():
                from stillmotion.search.query import read_image
        picture = None if image is None else read_image(image)
        question = Question(text=text, image=picture, like=like, start=start, end=end, video=video, top=top)
        answer = Finder(params, chosen, Models(params.threads), model=model).find(question)
    else:
        answer, server = asked
        typer.echo(one_line(f"answered by {server}, where stillmotion serve runs"), err=True)
    _tell(answer.notes)
    if frames is not None and packed is not None:
        num_files = write_frames(frames, answer.moments, packed)
        typer.echo(one_line(f"{frames}: {num_files} frames"), err=True)
    typer.echo(json_text(_as_objects(answer.moments)) if as_json else _as_text(answer, chosen, paths))


def _tell(notes: list[str]) -> None:
    for note in notes:
        typer.echo(one_line(note), err=True)


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


def _as_shares(finder: "Finder", *, as_json: bool) -> str:
    from stillmotion.search.known_texts import shares_found_first

    wholes, chosen = finder.wholes, finder.chosen
    shares = shares_found_first(chosen.raw, finder.embedded, wholes, finder.rule, clip_length_s=finder.clip_length_s)
    recall = None if wholes is None else {"system": wholes.system, "t2v R@1": wholes.recall}
    if as_json:
        found = {name: {"texts": num, "found_first": share} for name, (num, share) in shares.items()}
        return json_text(found | {"retrieval": recall})
    lines = [f"{_made_by(chosen, finder.system)}, {len(finder.embedded.videos)} videos"]
    for name, (num, share) in shares.items():
        first = "-" if share is None else f"{share:.1f} %"
        lines.append(f"{first:>7}  of {num} {name} of the test split find a right video first")
    if wholes is not None:
        lines.append(f"{wholes.recall:5.1f} %  is the R@1 of {wholes.system}, among the test videos alone")
    return "\n".join(lines)


def _made_by(chosen: "Artefacts", system: str | None) -> str:
    videos = "" if system is None else f" for moments, {system} for videos,"
    return f"{chosen.model} and {chosen.selection}{videos} on {chosen.dataset}"


def _as_text(answer: "Answer", chosen: "Artefacts", paths: dict[str, str]) -> str:
    from stillmotion.io.tables import read_rows

    counted = f"{answer.num_videos} video" + ("" if answer.num_videos == 1 else "s")
    listed = Path("data", "frames", chosen.dataset, "skipped.jsonl")
    if (chosen.root / listed).is_file() and (lost := read_rows(chosen.root / listed)):
        counted += f" ({len(lost)} left out: {listed} says why)"
    rows = [f"{_made_by(chosen, answer.system)}, {counted}"]
    rows.append(f"{'':>4}  {'score':>6}  {'start':>8}  {'end':>8}  video")
    width = max((len(one_line(moment.video_id)) for moment in answer.moments), default=0)
    for rank, moment in enumerate(answer.moments, start=1):
        times = f"{moment.start:7.1f}s  {moment.end:7.1f}s"
        path = paths.get(moment.video_id, "")
        rows.append(f"{rank:4}  {moment.score:6.3f}  {times}  {one_line(moment.video_id):{width}}  {path}".rstrip())
    return one_per_line(rows)
