import csv
import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from stillmotion.datasets import probing
from stillmotion.io.records import Action, Caption, Moment, Video, load_records
from stillmotion.io.tables import read_rows

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A root of a repository with small params."""
    text = (REPOSITORY / "params.yaml").read_text()
    small = {"fps": 8, "num_train": 3, "num_validation": 1, "num_test": 2, "min_duration": 8.0, "max_duration": 9.0}
    for name, value in small.items():
        text, found = re.subn(rf"{name}: [\d.]+", f"{name}: {value}", text, count=1)
        assert found
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLMOTION_WORKERS", "2")
    monkeypatch.setenv("STILLMOTION_MEMO", str(tmp_path / "memo"))
    return tmp_path


@pytest.fixture
def download(run_script, workplace) -> Callable[[str], subprocess.CompletedProcess[str]]:
    def run(name: str) -> subprocess.CompletedProcess[str]:
        options = ("--source", f"data/sources/{name}", "--output", f"data/raw/{name}")
        return run_script("download", *options, cwd=workplace)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def make_video(path: Path, *, num_frames: int = 50) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame(96, 64, "yuv420p")))
        container.mux(stream.encode())


def test_toy_becomes_tables_and_videos_and_the_same_bytes_with_and_without_the_memo(workplace, download, monkeypatch):
    raw = workplace / "data" / "raw" / "toy" / "tables"
    result = download("toy")
    assert result.returncode == 0, result.stderr
    assert "videos: 3 train, 1 validation, 2 test" in result.stderr
    first = contents(raw.parent)
    videos = load_records(raw, Video)
    assert [video.video_id for video in videos] == sorted(video.video_id for video in videos)
    assert {video.video_id for video in videos} == {
        *("train-0000", "train-0001", "train-0002", "validation-0000", "test-0000", "test-0001")
    }
    for video in videos:
        assert video.path == f"data/raw/toy/videos/{video.video_id}.mp4"
        assert Path(video.path).is_file()
        assert (video.codec, video.width, video.height, video.fps, video.status) == ("h264", 64, 64, 8.0, "ok")
        assert video.num_frames == round(video.duration * 8)
    durations = {video.video_id: video.duration for video in videos}
    moments, captions = load_records(raw, Moment), load_records(raw, Caption)
    assert {moment.vid for moment in moments} == durations.keys()
    for moment in moments:
        assert moment.duration == durations[moment.vid]
        assert all(0 <= start < end <= moment.duration for start, end in moment.relevant_windows)
    for video_id in durations:
        assert [caption.start for caption in captions if caption.video_id == video_id][0] is None
    assert all(0 <= action.start < action.end <= durations[action.video_id] for action in load_records(raw, Action))
    assert len(list((workplace / "memo").rglob("*.mp4"))) == 6
    monkeypatch.setenv("STILLMOTION_MEMO", "off")
    assert download("toy").returncode == 0
    assert contents(raw.parent) == first


def test_a_folder_is_read_where_it_lies_and_what_cannot_be_read_keeps_its_row(workplace, download):
    source = workplace / "data" / "sources" / "mine"
    make_video(source / "sub dir" / "good.MP4")
    (source / "text.mp4").write_text("no video at all\n" * 20)
    (source / "empty.mp4").touch()
    (source / "captions.csv").write_text(
        "video,caption,start,end,split,action\n"
        "good.MP4,a green field,0,3,test,stand\ntext.mp4,words,0,1,train,\nempty.mp4,nothing,,,train,\n"
    )
    result = download("mine")
    assert result.returncode == 0, result.stderr
    raw = workplace / "data" / "raw" / "mine" / "tables"
    rows = {row["video_id"]: row for row in read_rows(raw / "videos.jsonl")}
    assert rows["sub dir/good"] == {
        "video_id": "sub dir/good", "path": "data/sources/mine/sub dir/good.MP4", "split": "test", "duration": 5.0,
        "fps": 10.0, "num_frames": 50, "width": 96, "height": 64, "codec": "h264", "status": "ok",
    }  # fmt: skip
    assert rows["empty"]["status"] == "empty file"
    for name in ("empty", "text"):
        assert rows[name]["status"] != "ok"
        assert f"  {name}: {rows[name]['status']}" in result.stderr
        assert {rows[name][key] for key in ("duration", "fps", "num_frames", "width", "height", "codec")} == {None}
    assert {caption.video_id for caption in load_records(raw, Caption)} == rows.keys()
    assert [moment.vid for moment in load_records(raw, Moment)] == ["sub dir/good"]
    assert [action.label for action in load_records(raw, Action)] == ["stand"]
    assert "1 moments and actions left out" in result.stderr
    assert sorted(path.name for path in raw.parent.iterdir()) == ["digests.jsonl", "tables"]
    digest = hashlib.sha256((source / "sub dir" / "good.MP4").read_bytes()).hexdigest()
    assert read_rows(raw.parent / "digests.jsonl") == [{"video_id": "sub dir/good", "sha256": digest}]


@pytest.mark.parametrize("fate", ["comes", "goes", "is edited"])
def test_a_folder_that_does_not_stay_as_it_is_meanwhile_is_one_line_and_nothing_is_written(
    workplace, download, monkeypatch, fate
):
    source = workplace / "data" / "sources" / "mine"
    make_video(source / "a.mp4")
    (source / "captions.csv").write_text("video,caption\na.mp4,x\n")
    names = {"comes": "b.mp4", "goes": "a.mp4", "is edited": "captions.csv"}
    digest_videos = probing.digest_videos

    def touched(*arguments, **options):
        file = source / names[fate]
        if fate == "goes":
            file.unlink()
        else:
            with file.open("ab") as out:
                out.write(b"a.mp4,y\n")
        return digest_videos(*arguments, **options)

    monkeypatch.setattr(probing, "digest_videos", touched)
    result = download("mine")
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        2,
        f"download: error: data/sources/mine/{names[fate]}: came, changed or went while this folder was read; run this "
        "again once nothing writes there",
    )
    assert list((workplace / "data" / "raw").iterdir()) == []


def test_empty_tables_are_written_and_said(workplace, download):
    make_video(workplace / "data" / "sources" / "mine" / "a.mp4")
    (workplace / "data" / "sources" / "mine" / "captions.csv").write_text("video,caption\na.mp4,x\n")
    result = download("mine")
    assert "moments.jsonl: empty, which is allowed" in result.stderr
    assert "actions.jsonl: empty, which is allowed" in result.stderr
    assert load_records(workplace / "data" / "raw" / "mine" / "tables", Moment) == []


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ("video,caption\nb.mp4,x\n", "row 2: no file 'b.mp4'"),
        ("video,caption,start,end\na.mp4,x,1,9\n", "row 2: end 9 is past the video's end at 5.00 s; mend it"),
    ],
)
def test_a_users_mistake_ends_in_one_line_and_status_2_and_leaves_what_was_there(
    workplace, download, captions, message
):
    make_video(workplace / "data" / "sources" / "mine" / "a.mp4")
    (workplace / "data" / "sources" / "mine" / "captions.csv").write_text(captions)
    (workplace / "data" / "raw" / "mine").mkdir(parents=True)
    (workplace / "data" / "raw" / "mine" / "old").touch()
    result = download("mine")
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("download: error: data/sources/mine/captions.csv")
    assert message in last
    assert "Traceback" not in result.stderr
    assert [file.name for file in (workplace / "data" / "raw").rglob("*")] == ["mine", "old"]


def test_an_unknown_dataset_ends_in_one_line_and_status_2(workplace, download):
    result = download("tay")
    assert result.returncode == 2
    assert result.stderr.startswith("download: error: dataset 'tay' is unknown; did you mean 'toy'?; there are toy; ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.real
def test_real_clips_become_a_dataset(workplace, download, real_material):
    source = workplace / "data" / "sources" / "natural"
    source.mkdir(parents=True)
    (source / "videos").symlink_to(real_material / "videos")
    (source / "captions.csv").write_bytes((real_material / "captions.csv").read_bytes())
    result = download("natural")
    assert result.returncode == 0, result.stderr
    raw = workplace / "data" / "raw" / "natural" / "tables"
    with (real_material / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    videos = {video.video_id: video for video in load_records(raw, Video)}
    assert len(videos) == 63
    captions = load_records(raw, Caption)
    assert sorted(caption.text for caption in captions) == sorted(row["caption"] for row in rows)
    assert all(videos[caption.video_id].ok for caption in captions)
    actions = load_records(raw, Action)
    assert sorted(action.label for action in actions) == sorted(row["action"] for row in rows if row["action"])
    assert all(action.end == videos[action.video_id].duration for action in actions)
    # As its name says: the container holds the frames turned.
    assert videos["videos/decord__video_90"].ok


@pytest.mark.real
def test_captions_are_on_the_clock_of_the_player(workplace, download, real_material):
    source = workplace / "data" / "sources" / "awkward"
    source.mkdir(parents=True)
    for name in ("late.mp4", "cat.ts"):
        (source / name).write_bytes((real_material / "awkward" / name).read_bytes())
    (source / "captions.csv").write_text(
        "video,caption,start,end\nlate.mp4,near the end,6.5,7.8\ncat.ts,of the second part,10,11.5\n"
    )
    result = download("awkward")
    assert result.returncode == 0, result.stderr
    assert "time stamps start again or jump in cat: taken as going on" in result.stderr
    moments = load_records(workplace / "data" / "raw" / "awkward" / "tables", Moment)
    assert [(moment.vid, moment.relevant_windows) for moment in moments] == [
        ("cat", [[10.0, 11.5]]),
        ("late", [[6.5, 7.8]]),
    ]
