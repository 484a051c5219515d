"""The `stillmotion add` command: a folder of videos, one video or an address becomes a dataset."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.errors import InputError, fault_of_rows

if TYPE_CHECKING:
    from stillmotion.config.loading import Params
    from stillmotion.datasets.source import Annotations, Source
    from stillmotion.io.records import Video

SOURCES = Path("data") / "sources"
MAX_BROKEN = 20
"""How many files that can't be read are listed."""


def add(
    path: Annotated[str, typer.Argument(help="A folder of videos in any layout, or one video.")],
    name: Annotated[str, typer.Option(help="Of the dataset. Without it that of the folder.", show_default=False)] = "",
    captions: Annotated[
        Path | None,
        typer.Option(help="A captions.csv; without it that of the folder, where it has one.", show_default=False),
    ] = None,
    no_copy: Annotated[
        bool, typer.Option("--no-copy", help="Have git keep links to the files, instead of dvc copies of them.")
    ] = False,
) -> None:
    """Make a dataset of your videos, which `stillmotion run` and `stillmotion search` take by its name.

    Looks into each file and tells in a table what can be read, what can't and why, and how captions.csv fits. Captions
    are not needed: where there are none, a captions.csv is written that can be filled in.

    Nothing of yours is moved, changed or deleted. data/sources/NAME gets links to the files, and `dvc add` then keeps
    one copy of each in dvc's cache (none where the file system shares blocks, as Btrfs and XFS do), so that experiments
    and colleagues have them. With --no-copy git has the links alone: no room is needed, experiments on this machine
    work, and a colleague gets what is computed but not the videos. A folder that is data/sources/NAME itself stays as
    it is. What is added is committed, as experiments start from a commit.

    The same command again takes over what has changed.

    For example:

    stillmotion add ~/Videos/kitchen

    stillmotion add ~/Videos/kitchen --name mine --captions captions.csv
    """
    from stillmotion.config.loading import load_params
    from stillmotion.datasets import linking
    from stillmotion.datasets.captions_csv import FILE_NAME, write_template
    from stillmotion.datasets.folder import FolderSource
    from stillmotion.experiments import tracking

    params = load_params()
    origin = Path(path).expanduser()
    if "://" in path:
        raise InputError(f"{path}: addresses can't be added; fetch it, and add the file")
    if not origin.exists():
        raise InputError(f"{path}: no such file or folder")
    if captions is not None and not captions.is_file():
        raise InputError(f"--captions {captions}: no such file")
    word = origin.resolve().name if origin.is_dir() else origin.stem
    chosen = linking.dataset_name(name, word, params.download.generated)
    folder = SOURCES / chosen
    linking.require_no_links(folder)
    in_place = folder.is_dir() and origin.samefile(folder)
    if in_place and no_copy:
        raise InputError(f"{folder}: the files are in it, so that there is nothing to link; leave --no-copy out")

    source, files, origin = _read(origin, folder, captions, params)
    if not in_place:
        linking.require_same(folder, files, origin)
        kept = {FILE_NAME} - files.keys()
        lost = [relative for relative in tracking.only_here(folder) if relative not in kept]
        if lost:
            shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
            raise InputError(
                f"{folder}: has files that are nowhere else ({shown}); have them kept first, with stillmotion add "
                f"{folder}, or give another --name"
            )
    in_git = not in_place and (no_copy or (tracking.is_in_git(folder) and not Path(f"{folder}.dvc").exists()))
    videos = _look_into(source, chosen, origin, params.sample_frames.clip_length_s)
    if isinstance(source, FolderSource) and source.num_rows:
        typer.echo(f"{source.captions}: {source.num_rows} rows, {source.num_rows - source.num_unmatched} fit a video")
    if isinstance(source, FolderSource) and source.num_unmatched:
        raise fault_of_rows(source.captions, source.unmatched, source.num_unmatched)
    num_lost, most = sum(not video.ok for video in videos), params.sample_frames.max_skip_fraction
    if num_lost == len(videos):
        raise InputError(f"{origin}: none of its {len(videos)} videos can be read; nothing is added")
    num_bytes = sum(file.stat().st_size for file in files.values())
    if not in_git and not in_place:
        tracking.require_room(SOURCES, num_bytes, "make room, or add them with --no-copy")

    if not in_place:
        num_gone = linking.link_files(folder, files)
        if num_gone:
            typer.echo(f"{num_gone} files are no longer in {origin}, and went from {folder}")
    if isinstance(source, FolderSource) and not (folder / FILE_NAME).exists():
        write_template(folder / FILE_NAME, [name for name in files if name != FILE_NAME])
        typer.echo(f"{folder / FILE_NAME}: fill it in to have texts, then the same command again")
    if not in_git:
        typer.echo(f"dvc add {folder}: {len(files)} files, {num_bytes / 1e6:.1f} MB", err=True)
    message = tracking.track(folder, in_dvc=not in_git)
    typer.echo(f"{folder}: {'committed as ' + repr(message) if message else 'nothing has changed'}")
    if num_lost > most * len(videos):
        typer.echo(
            f"{num_lost} broken videos are more than sample_frames.max_skip_fraction ({most:g}) lets a run lose: mend "
            f"or remove them, or --set sample_frames.max_skip_fraction={num_lost / len(videos) + 0.005:.2f}"
        )
    typer.echo(f"Next: stillmotion search TEXT --dataset {chosen}, or stillmotion run NAME --set dataset={chosen}")


def _read(
    origin: Path, folder: Path, captions: Path | None, params: "Params"
) -> tuple["Source", dict[str, Path], Path]:
    """The dataset, the files that it is made of by their path below `folder`, and the folder where they lie."""
    from stillmotion.datasets.captions_csv import FILE_NAME
    from stillmotion.datasets.folder import match_files
    from stillmotion.datasets.registry import benchmark_reader
    from stillmotion.datasets.video_files import list_files

    if not origin.is_dir():
        listed, origin = {origin.name: origin}, origin.parent
    else:
        listed = list_files(origin)
        read = benchmark_reader(origin) if captions is None else None
        if read is not None:
            return read(origin, params.download.benchmarks), listed, origin
    given = captions or listed.get(FILE_NAME)
    # One that was written for this dataset, and perhaps filled in since, stays.
    source = match_files(origin, listed, given or folder / FILE_NAME, params.download.folder)
    files = {file.relative_to(origin).as_posix(): file for file in source.files.values()}
    return source, files | ({FILE_NAME: given} if given else {}), origin


def _look_into(source: "Source", name: str, origin: Path, clip_length_s: float) -> list["Video"]:
    """Probe each video and tell what there is."""
    from stillmotion.config.environment import read_environment
    from stillmotion.datasets.probing import probe_videos
    from stillmotion.io.memo import Memo

    environment = read_environment()
    found = source.collect(Path(), workers=environment.workers, memo=Memo(None))
    videos = probe_videos(
        found,
        workers=environment.workers,
        timeout_s=environment.video_timeout_s,
        path_of=lambda file: file.relative_to(origin).as_posix(),
    )
    typer.echo(f"{name}: {len(videos)} videos in {origin}")
    broken = sorted((video.path or video.video_id, video.status) for video in videos if not video.ok)
    for path, reason in broken[:MAX_BROKEN]:
        typer.echo(f"  {path}: {reason}")
    if len(broken) > MAX_BROKEN:
        typer.echo(f"  … and {len(broken) - MAX_BROKEN} more that can't be read")
    annotations = source.annotate({video.video_id: video for video in videos}, clip_length_s=clip_length_s)
    typer.echo(_table(videos, annotations))
    for note in annotations.notes:
        typer.echo(note)
    return videos


def _table(videos: Sequence["Video"], annotations: "Annotations") -> str:
    """A row for each split and one for all, with numbers of videos and of what is said of them."""
    from stillmotion.io.records import SPLITS

    split_of = {video.video_id: video.split for video in videos}
    said = {
        "captions": [caption.video_id for caption in annotations.captions],
        "moments": [moment.vid for moment in annotations.moments],
        "actions": [action.video_id for action in annotations.actions],
    }
    columns = {
        "videos": list(split_of),
        "readable": [video.video_id for video in videos if video.ok],
        "broken": [video.video_id for video in videos if not video.ok],
        "with text": sorted({video_id for ids in said.values() for video_id in ids}),
        **said,
    }
    counts = {column: Counter(split_of[video_id] for video_id in ids) for column, ids in columns.items()}
    lines = [f"{'':10}  " + "  ".join(f"{column:>9}" for column in columns)]
    for split in (*SPLITS, "all"):
        numbers = (count.total() if split == "all" else count[split] for count in counts.values())
        lines.append(f"{split:10}  " + "  ".join(f"{number:9}" for number in numbers))
    return "\n".join(lines)
