"""The `stillmotion add` command: a folder of videos, one video or an address becomes a dataset."""

import json
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

from stillmotion.errors import InputError, fault_of_rows
from stillmotion.printed import one_line

if TYPE_CHECKING:
    from stillmotion.config.loading import Params
    from stillmotion.datasets.source import Annotations, Source
    from stillmotion.io.records import Video

SOURCES = Path("data") / "sources"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_BROKEN = 20
"""How many files that can't be read are listed."""


def add(
    path: Annotated[str, typer.Argument(help="A folder of videos in any layout, one video, or its address.")],
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

    The same command again takes over what has changed. An address (https://, s3://, hf://datasets/…) goes into
    data/sources/NAME/source.yaml, and is fetched in a run.

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
    if captions is not None and not captions.is_file():
        raise InputError(f"--captions {captions}: no such file")
    if not path.strip():  # of a variable that is not set: pathlib would take it for this folder
        raise InputError("the path is empty; name a folder of videos, one video or its address")
    if "://" in path:
        _add_address(path, name, captions, params.download.generated)
        return
    origin = Path(path).expanduser()
    if not origin.exists():
        raise InputError(f"{path}: no such file or folder")
    word = origin.resolve().name if origin.is_dir() else origin.stem
    chosen = linking.dataset_name(name, word, params.download.generated)
    folder = SOURCES / chosen
    linking.require_no_links(folder)
    in_place = folder.is_dir() and origin.samefile(folder)
    if in_place and (no_copy or captions):
        raise InputError(f"{folder}: its files stay in it: leave --no-copy out, and put a {FILE_NAME} beside them")
    tracked = Path(f"{folder}.dvc")
    if tracked.exists() and (no_copy or not folder.exists()):
        mend = "leave --no-copy out" if folder.exists() else f"dvc pull {tracked} first"
        raise InputError(f"{tracked}: dvc has a dataset of this name; {mend}, or give another --name")

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
    # Once links, they stay links.
    in_git = no_copy or (tracking.is_in_git(folder) and linking.holds_links(folder))
    videos = _look_into(source, chosen, origin, params.sample_frames.clip_length_s)
    if isinstance(source, FolderSource) and source.num_rows:
        typer.echo(
            one_line(f"{source.captions}: {source.num_rows} rows, {source.num_rows - source.num_unmatched} fit a video")
        )
    if isinstance(source, FolderSource) and source.num_unmatched:
        raise fault_of_rows(source.captions, source.unmatched, source.num_unmatched)
    num_lost, most = sum(not video.ok for video in videos), params.sample_frames.max_skip_fraction
    if num_lost == len(videos):
        raise InputError(f"{origin}: none of its {len(videos)} videos can be read; nothing is added")
    # Links to nowhere and pipes, which dvc keeps no more than git; a run looks for what captions.csv names.
    gone = {relative: file for relative, file in files.items() if not file.is_file()}
    named = {source.files[video_id] for video_id in source.rows} if isinstance(source, FolderSource) else set()
    for relative, file in gone.items():
        if in_place or file in named:
            raise InputError(
                f"{origin / relative}: leads to no file that could be kept; mend or remove it, and its rows of "
                f"{FILE_NAME}"
            )
        del files[relative]
    num_bytes = sum(file.stat().st_size for file in files.values())
    if not in_git and not in_place:
        tracking.require_room(SOURCES, num_bytes, "make room, or add them with --no-copy")

    if not in_place:
        num_gone = linking.link_files(folder, files)
        if num_gone:
            typer.echo(one_line(f"{num_gone} files are no longer in {origin}, and went from {folder}"))
    if isinstance(source, FolderSource) and not (folder / FILE_NAME).exists():
        write_template(folder / FILE_NAME, [name for name in files if name != FILE_NAME])
        typer.echo(one_line(f"{folder / FILE_NAME}: fill it in to have texts, then the same command again"))
    if not in_git:
        typer.echo(f"dvc add {folder}: {len(files)} files, {num_bytes / 1e6:.1f} MB", err=True)
    message = tracking.track(folder, in_dvc=not in_git)
    _tell_commit(folder, message)
    if num_lost > most * len(videos):
        typer.echo(
            f"{num_lost} broken videos are more than sample_frames.max_skip_fraction ({most:g}) lets a run lose: mend "
            f"or remove them, or --set sample_frames.max_skip_fraction={num_lost / len(videos) + 0.005:.2f}"
        )


def _tell_commit(folder: Path, message: str) -> None:
    typer.echo(one_line(f"{folder}: {'committed as ' + repr(message) if message else 'nothing has changed'}"))
    name = folder.name
    typer.echo(
        one_line(f"Next: stillmotion search TEXT --dataset {name}, or stillmotion run NAME --set dataset={name}")
    )


def _add_address(address: str, name: str, captions: Path | None, taken: Collection[str]) -> None:
    """Write the source.yaml that names an address; git has it, as it is small."""
    from stillmotion.datasets import source_list
    from stillmotion.datasets.captions_csv import FILE_NAME, read_captions
    from stillmotion.datasets.linking import dataset_name
    from stillmotion.experiments.tracking import track
    from stillmotion.io.addresses import check_address, shown
    from stillmotion.io.atomic import atomic_file

    try:
        check_address(address)
    except ValueError as error:
        raise InputError(str(error)) from None
    parts = urlsplit(address)
    if parts.username or parts.query:
        raise InputError(
            f"{shown(address)}: a password or a query would stand in git for good; give an address without, or write "
            f"{SOURCES}/NAME/source.yaml by hand"
        )
    folder = SOURCES / dataset_name(name, Path(unquote(parts.path)).stem or parts.hostname or "", taken)
    listed = folder / source_list.FILE_NAME
    if Path(f"{folder}.dvc").exists() or (folder.exists() and not listed.exists()):
        raise InputError(f"{folder}: there is a dataset of this name, with files; give another --name")
    unpack = "    unpack: true\n" if parts.path.endswith(ARCHIVES) else ""
    text = f"files:\n  - url: {json.dumps(address)}\n{unpack}"
    if listed.exists() and listed.read_bytes() != text.encode():
        raise InputError(f"{listed}: names other addresses; add a line there, or give another --name")
    if captions is not None:
        read_captions(captions)
        with atomic_file(folder / FILE_NAME) as partial:
            shutil.copyfile(captions, partial)
    with atomic_file(listed) as partial:
        partial.write_text(text, encoding="utf-8")
    typer.echo(one_line(f"{listed}: fetched and looked into when the dataset is first run or searched"))
    _tell_commit(folder, track(folder, in_dvc=False))


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
    typer.echo(one_line(f"{name}: {len(videos)} videos in {origin}"))
    broken = sorted((video.path or video.video_id, video.status) for video in videos if not video.ok)
    for path, reason in broken[:MAX_BROKEN]:
        typer.echo(one_line(f"  {path}: {reason}"))
    if len(broken) > MAX_BROKEN:
        typer.echo(one_line(f"  … and {len(broken) - MAX_BROKEN} more that can't be read"))
    annotations = source.annotate({video.video_id: video for video in videos}, clip_length_s=clip_length_s)
    typer.echo(_table(videos, annotations))
    for note in annotations.notes:
        typer.echo(one_line(note))
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
