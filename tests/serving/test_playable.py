"""Which links may lead out of a dataset: those of dvc's cache, and those that git records as they are."""

import os
import subprocess

import pytest
from search_project import PROBED

from stillmotion.io.records import Video
from stillmotion.serving.playable import playable


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project"
    (folder / "data/sources/mine").mkdir(parents=True)
    (folder / "data/raw/mine/videos").mkdir(parents=True)
    (folder / ".dvc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.mp4").write_bytes(b"video")
    (tmp_path / "elsewhere/secret").write_bytes(b"secret")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def found(root, path, dataset="mine", status="ok"):
    return playable(root, dataset, Video("a", path, "test", **PROBED, status=status))


def record(root, path):
    subprocess.run(["git", "add", path], cwd=root, check=True)


def test_a_file_of_the_dataset_is_played(root):
    file = root / "data/raw/mine/videos/a.mp4"
    file.write_bytes(b"video")
    assert found(root, "data/raw/mine/videos/a.mp4") == file


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "data/raw/mine/../../../elsewhere/secret",
        "params.yaml",
        "data/raw/mine",
        "data/raw/mine/videos",
        "data/raw/mine/absent",
    ],
)
def test_a_path_that_is_no_file_of_the_dataset_is_not(root, path):
    (root / "params.yaml").write_text("x")
    assert found(root, path) is None


def test_a_file_of_another_dataset_or_a_broken_video_is_not(root):
    (root / "data/raw/mine/videos/a.mp4").write_bytes(b"video")
    assert found(root, "data/raw/mine/videos/a.mp4", dataset="other") is None
    assert found(root, "data/raw/mine/videos/a.mp4", status="no frame can be decoded") is None


def test_a_link_out_of_the_dataset_is_refused_until_git_records_it(root):
    path, target = "data/sources/mine/a.mp4", root.parent / "elsewhere/a.mp4"
    (root / path).symlink_to(target)
    assert found(root, path) is None
    record(root, path)
    assert found(root, path) == target
    (root / path).unlink()
    (root / path).symlink_to(root.parent / "elsewhere/secret")
    assert found(root, path) is None


def test_what_a_recorded_link_leads_to_must_be_no_link(root):
    path, target = "data/sources/mine/a.mp4", root.parent / "elsewhere/a.mp4"
    (root / path).symlink_to(target)
    record(root, path)
    target.unlink()
    target.symlink_to(root.parent / "elsewhere/secret")
    assert found(root, path) is None


def test_a_folder_that_is_a_recorded_link_holds_files_and_no_links_out_of_it(root):
    (root / "data/sources/mine/more").symlink_to(root.parent / "elsewhere")
    (root.parent / "elsewhere/out.mp4").symlink_to("/etc/passwd")
    assert found(root, "data/sources/mine/more/a.mp4") is None
    record(root, "data/sources/mine/more")
    assert found(root, "data/sources/mine/more/a.mp4") == root.parent / "elsewhere/a.mp4"
    assert found(root, "data/sources/mine/more/out.mp4") is None


def test_a_link_within_the_dataset_or_into_dvcs_cache_is_followed(root):
    (root / "data/sources/mine/a.mp4").write_bytes(b"video")
    (root / "data/sources/mine/b.mp4").symlink_to("a.mp4")
    assert found(root, "data/sources/mine/b.mp4") == root / "data/sources/mine/a.mp4"
    cached = root / ".dvc/cache/files/md5/ab/cdef"
    shared = root.parent / "shared/files/md5/ab/cdef"
    for file in (cached, shared):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"video")
    (root / "data/raw/mine/videos/c.mp4").symlink_to(cached)
    (root / "data/raw/mine/videos/d.mp4").symlink_to(shared)
    assert found(root, "data/raw/mine/videos/c.mp4") == cached
    assert found(root, "data/raw/mine/videos/d.mp4") is None
    (root / ".dvc/config.local").write_text(
        f"[cache]\n    dir = {root.parent / 'shared'}\n['remote \"x\"']\n    url = s3://x\n"
    )
    assert found(root, "data/raw/mine/videos/d.mp4") == shared


def test_circles_pipes_and_folders_are_no_videos(root):
    (root / "data/sources/mine/a.mp4").symlink_to("a.mp4")
    os.mkfifo(root / "data/sources/mine/b.mp4")
    assert found(root, "data/sources/mine/a.mp4") is None
    assert found(root, "data/sources/mine/b.mp4") is None
