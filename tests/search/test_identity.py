import os

import pytest

from stillmotion.search.identity import identity

READ = ("params.yaml", "data/embeddings/toy-clip/frames.npy", "metrics/moments/a.json")


@pytest.fixture
def root(tmp_path):
    for name in (
        "params.yaml",
        "data/embeddings/toy-clip/frames.npy",
        "metrics/moments/a.json",
        "data/raw/toy/videos/a.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", READ)
def test_what_a_search_reads_and_is_written_anew_changes_it(root, name):
    before = identity(root)
    assert identity(root) == before
    state = (root / name).stat()
    (root / name).unlink()
    (root / name).write_text(name)
    os.utime(root / name, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert identity(root) != before


def test_files_that_come_and_go_change_it_and_videos_do_not(root):
    before = identity(root)
    (root / "data/raw/toy/videos/b.mp4").write_text("b")
    assert identity(root) == before
    (root / "metrics/moments/b.json").write_text("b")
    assert identity(root) != before


def test_another_place_or_setting_is_another(root, tmp_path_factory, monkeypatch):
    before = identity(root)
    monkeypatch.setenv("STILLMOTION_DEVICE", "cuda")
    assert identity(root) != before
    monkeypatch.delenv("STILLMOTION_DEVICE")
    moved = tmp_path_factory.mktemp("moved") / "project"
    root.rename(moved)
    assert identity(moved) != before
