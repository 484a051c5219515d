"""A person's files become a dataset, in a repository of git and dvc; tests/pipeline/test_folder_dataset.py goes on."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import ruamel.yaml

from stillmotion import cli

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
MINE = Path("data/sources/mine")


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def write_video(path, seconds=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=2)
        stream.width = stream.height = 32
        for number in range(2 * seconds):
            picture = np.full((32, 32, 3), 9 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def set_up(tmp_path_factory):
    """A commit of params.yaml where dvc is set up; read only."""
    root = tmp_path_factory.mktemp("set_up")
    with contextlib.chdir(root):
        git("init", "--quiet", "--initial-branch", "main")
        subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
        shutil.copyfile(PARAMS, "params.yaml")
        git("add", "--all")
        git("-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "commit", "--quiet", "--message", "Start")
    return root


@pytest.fixture
def project(set_up, tmp_path, monkeypatch):
    """A copy of it to be in."""
    root = tmp_path / "a project"
    shutil.copytree(set_up, root)
    (root / "data" / "sources").mkdir(parents=True)
    monkeypatch.chdir(root)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "nobody@localhost")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR"):
        monkeypatch.setenv(f"DVC_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("STILLMOTION_WORKERS", "1")
    return root


@pytest.fixture
def clips(tmp_path):
    """A folder as people have them."""
    folder = tmp_path / "My Clips (2024)"
    write_video(folder / "pan cake.MP4")
    write_video(folder / "sub" / "b.mov", seconds=4)
    write_video(tmp_path / "elsewhere" / "c.mp4")
    (folder / "linked.mp4").symlink_to(tmp_path / "elsewhere" / "c.mp4")
    for name in (".DS_Store", "._b.mov", "sub/b.srt", "notes.txt", "nothing.mp4"):
        (folder / name).touch()
    return folder


@pytest.fixture
def add(project, capfd):
    """Run the command; give what it printed, or its one line of error."""

    def run(*arguments, status=0):
        assert cli.run(["add", *map(str, arguments)]) == status
        captured = capfd.readouterr()
        if status == 0:
            return captured.out
        last = captured.err.splitlines()[-1]
        assert last.startswith("stillmotion: error: ")
        return last

    return run


def state(folder):
    """All that could be seen of a change: names, links, inodes, modes and contents."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_ino,
            path.lstat().st_mode,
            None if path.is_dir() else path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
    }


def listed(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_a_folder_without_captions_becomes_a_dataset_and_stays_as_it_was(add, clips, project):
    before = state(clips)
    out = add(clips, "--name", "mine")
    assert state(clips) == before
    assert f"mine: 4 videos in {clips}\n  nothing.mp4: empty file\n" in out
    assert re.search(r"^all +4 +3 +1 +0 +0 +0 +0$", out, re.MULTILINE)
    assert "1 subtitles were left out" in out
    assert "1 files are no videos by their name and were left out: notes.txt" in out
    assert "1 broken videos are more than sample_frames.max_skip_fraction (0.1) lets a run lose" in out
    assert "--set sample_frames.max_skip_fraction=0.26" in out
    names = ["captions.csv", "linked.mp4", "nothing.mp4", "pan cake.MP4", "sub/b.mov"]
    assert listed(MINE) == names
    # dvc's own copies by now, so that experiments have them.
    assert not any(path.is_symlink() for path in MINE.rglob("*"))
    assert (MINE / "linked.mp4").read_bytes() == (clips / "linked.mp4").read_bytes()
    assert git("log", "-1", "--format=%s", "--name-only").split("\n") == [
        "Add the dataset mine",
        "",
        "data/sources/.gitignore",
        "data/sources/mine.dvc",
        "",
    ]
    assert git("status", "--porcelain") == ""
    assert (MINE / "captions.csv").read_text().splitlines() == [
        "video,caption,start,end,split,action",
        *(f"{name},,,,," for name in names[1:]),
    ]


@pytest.mark.slow
def test_adding_again_takes_over_what_has_changed_and_keeps_what_was_filled_in(add, clips):
    add(clips, "--name", "mine")
    text = "video,caption,split\nsub/b.mov,a dog jumps,test\n"
    (MINE / "captions.csv").write_text(text)
    assert "nothing has changed" not in add(clips, "--name", "mine")
    assert "nothing has changed" in add(clips, "--name", "mine")
    write_video(clips / "new.mp4")
    write_video(clips / "pan cake.MP4", seconds=5)
    (clips / "nothing.mp4").unlink()
    out = add(clips, "--name", "mine")
    assert re.search(r"^test +. +. +. +1 +1 +0 +0$", out, re.MULTILINE)
    assert f"1 files are no longer in {clips}, and went from data/sources/mine" in out
    assert listed(MINE) == ["captions.csv", "linked.mp4", "new.mp4", "pan cake.MP4", "sub/b.mov"]
    assert (MINE / "pan cake.MP4").read_bytes() == (clips / "pan cake.MP4").read_bytes()
    assert (MINE / "captions.csv").read_text() == text
    assert git("status", "--porcelain") == ""


def test_links_alone_need_no_room_and_are_in_git(add, clips):
    add(clips, "--name", "mine", "--no-copy")
    assert not Path("data/sources/mine.dvc").exists()
    links = {path.relative_to(MINE).as_posix(): path.resolve() for path in MINE.rglob("*") if path.is_symlink()}
    assert set(links) == {"linked.mp4", "nothing.mp4", "pan cake.MP4", "sub/b.mov"}
    assert links["sub/b.mov"] == clips / "sub" / "b.mov"
    assert git("ls-files", "data/sources").split("\n")[:2] == [
        "data/sources/mine/captions.csv",
        "data/sources/mine/linked.mp4",
    ]
    write_video(clips / "new.mp4")
    # Once links, they stay links.
    add(clips, "--name", "mine")
    assert (MINE / "new.mp4").is_symlink()
    (MINE / "captions.csv").write_text("video,caption\nnew.mp4,a dog\n")
    add(MINE)
    assert git("log", "-1", "--format=", "--name-only") == "data/sources/mine/captions.csv\n"
    assert git("status", "--porcelain") == ""


def test_what_dvc_has_already_is_not_lost_for_links_or_as_it_is_not_here(add, clips, tmp_path):
    add(clips, "--name", "mine")
    assert "mine.dvc: dvc has a dataset of this name; leave --no-copy out" in add(
        clips, "--name", "mine", "--no-copy", status=2
    )
    assert "its files stay in it" in add(MINE, "--no-copy", status=2)
    MINE.rename(tmp_path / "away")
    assert "dvc pull data/sources/mine.dvc first" in add(clips, "--name", "mine", status=2)
    assert not MINE.exists()


def test_captions_may_lie_elsewhere(add, clips, tmp_path):
    captions = tmp_path / "texts.csv"
    captions.write_text("video,caption,start,end\nb.mov,a dog,,\nb.mov,it jumps,1,2\n")
    out = add(clips, "--name", "mine", "--captions", captions)
    assert f"{captions}: 2 rows, 2 fit a video" in out
    assert re.search(r"^all +4 +3 +1 +1 +2 +1 +0$", out, re.MULTILINE)
    assert (MINE / "captions.csv").read_bytes() == captions.read_bytes()


def test_one_video_is_a_dataset_too(add, clips):
    add(clips / "pan cake.MP4")
    assert listed(Path("data/sources/pan_cake")) == ["captions.csv", "pan cake.MP4"]


def test_a_folder_in_its_place_stays_there(add, clips):
    shutil.copytree(clips, MINE)
    add(MINE)
    assert (MINE / "captions.csv").exists()
    assert {"notes.txt", "pan cake.MP4", "sub/b.srt"} <= set(listed(MINE))
    assert Path("data/sources/mine.dvc").exists()
    assert git("status", "--porcelain") == ""


def test_rows_that_fit_no_video_are_told_and_nothing_is_added(add, clips, project, capfd):
    (clips / "captions.csv").write_text("video,caption\nsub/b.mov,a dog\nPAN CAKE.mp4,a pan\nq.mp4,x\n")
    assert cli.run(["add", str(clips), "--name", "mine"]) == 2
    out, err = capfd.readouterr()
    assert f"{clips / 'captions.csv'}: 3 rows, 1 fit a video" in out
    assert "captions.csv: 2 rows are at fault: row 3: no file 'PAN CAKE.mp4'" in err
    assert "did you mean 'pan cake.MP4'?" in err
    assert list((project / "data" / "sources").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent: no such file or folder"),
        ([""], "the path is empty; name a folder of videos"),
        (["."], "no video files"),
        (["https://me:secret@host/a.mp4"], "https://host/a.mp4: a password or a query would stand in git for good"),
        (["nowhere://host/a.mp4"], "'nowhere://host/a.mp4' is no address; write http://, https://"),
        (["s3:///"], "'' makes no name for a dataset"),
        (["params.yaml"], "1 files, of which none is a video by its name"),
        (["CLIPS", "--captions", "absent.csv"], "--captions absent.csv: no such file"),
        (["CLIPS", "--name", "my videos"], "--name 'my videos' can't be a name"),
        (["CLIPS", "--name", "2024"], "--name '2024' is a number"),
        (["CLIPS", "--name", "toy"], "--name toy: is a dataset that is drawn; give another"),
        (["CLIPS/nothing.mp4"], "none of its 1 videos can be read; nothing is added"),
    ],
)
def test_what_cannot_be_added_is_one_line_with_the_mend(add, clips, project, arguments, message):
    before = state(project / "data")
    words = [word.replace("CLIPS", str(clips)) for word in arguments]
    if arguments == ["."]:
        (project / "empty").mkdir()
        words = ["empty"]
    assert message in add(*words, status=2)
    assert state(project / "data") == before


def test_an_address_is_written_down_for_the_run_that_fetches_it(add, tmp_path):
    address = "s3://bucket/some%20videos.zip"
    add(address)
    listed = Path("data/sources/some_videos/source.yaml")
    assert ruamel.yaml.YAML(typ="safe").load(listed.read_text()) == {"files": [{"url": address, "unpack": True}]}
    assert git("status", "--porcelain") == ""
    assert "nothing has changed" in add(address)
    assert "names other addresses" in add("s3://bucket/other.mp4", "--name", "some_videos", status=2)
    written = listed.read_bytes()
    listed.write_bytes(b"\xff")
    assert "names other addresses" in add(address, status=2)
    listed.write_bytes(written)
    (tmp_path / "texts.csv").write_text("video,caption\na.mp4,a dog\n")
    add(address, "--captions", tmp_path / "texts.csv")
    assert (listed.parent / "captions.csv").read_text() == "video,caption\na.mp4,a dog\n"


def test_a_name_that_leaves_nothing_has_to_be_said(add, clips, tmp_path):
    clips.rename(tmp_path / "видео")
    assert "'видео' makes no name for a dataset; say one with --name" in add(tmp_path / "видео", status=2)


def test_another_folder_does_not_take_over_a_dataset(add, clips, tmp_path):
    add(clips, "--name", "mine")
    before = state(MINE)
    write_video(tmp_path / "other" / "z.mp4")
    error = add(tmp_path / "other", "--name", "mine", status=2)
    assert "data/sources/mine: there is a dataset of this name, and of its 4 files 0 are in" in error
    assert state(MINE) == before


def test_files_that_are_nowhere_else_are_never_replaced(add, clips):
    shutil.copytree(clips, MINE)
    before = state(MINE)
    error = add(clips, "--name", "mine", status=2)
    assert "data/sources/mine: has files that are nowhere else" in error
    assert "stillmotion add data/sources/mine" in error
    assert state(MINE) == before
    add(MINE)
    write_video(MINE / "only here.mp4")
    assert "has files that are nowhere else (only here.mp4)" in add(clips, "--name", "mine", status=2)
    assert (MINE / "only here.mp4").exists()


@pytest.mark.parametrize("inner", ["", "videos"])
def test_a_link_to_a_folder_is_refused_as_dvc_sees_nothing_behind_it(add, clips, inner):
    before = state(clips)
    (MINE / inner).parent.mkdir(exist_ok=True)
    (MINE / inner).symlink_to(clips)
    for path in (MINE, clips):
        error = add(path, "--name", "mine", status=2)
        assert f"{MINE / inner}: is a link to a folder" in error
        assert f"stillmotion add {clips} --name mine" in error
    assert state(clips) == before


@pytest.mark.parametrize("no_copy", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_links_to_nowhere_and_pipes_are_told_and_left_out(add, clips, no_copy):
    (clips / "gone.mp4").symlink_to("nowhere.mp4")
    (clips / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(clips / "pipe.mp4")
    told = add(clips, "--name", "mine", *["--no-copy"] * no_copy)
    assert "  gone.mp4: no such file\n" in told
    assert "  loop.mp4: not a readable file (too many levels of symbolic links)\n" in told
    assert "  pipe.mp4: not a regular file (a pipe, a socket or a device)\n" in told
    names = ["captions.csv", "linked.mp4", "nothing.mp4", "pan cake.MP4", "sub/b.mov"]
    assert [name for name in listed(MINE) if not name.startswith(".")] == names
    assert "gone" not in (MINE / "captions.csv").read_text()


def test_a_link_to_nowhere_that_captions_name_is_refused_with_the_mend(add, clips):
    (clips / "gone.mp4").symlink_to("nowhere.mp4")
    (clips / "captions.csv").write_text("video,caption\ngone.mp4,a cat\nlinked.mp4,a dog\n")
    line = add(clips, "--name", "mine", status=2)
    assert line.endswith(
        "gone.mp4: leads to no file that could be kept; mend or remove it, and its rows of captions.csv"
    )
    assert not MINE.exists()


@pytest.mark.real
def test_real_files_are_told_apart(add, real_material):
    out = add(real_material / "awkward", "--name", "mine")
    assert "mine: 12 videos" in out
    assert "5 files are no videos by their name and were left out" in out
    assert len(listed(MINE)) == 13
