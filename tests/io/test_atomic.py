import os
import subprocess
import sys

import pytest

from stillmotion.io.atomic import atomic_file, atomic_folder, link_or_copy


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_with_its_parents_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.parent == path.parent  # the same file system, so that the rename is atomic
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]


def test_an_error_leaves_no_file_behind(tmp_path):
    def write(path):
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write(tmp_path / "new.txt")
    assert names(tmp_path) == []
    (tmp_path / "old.txt").write_text("old")
    with pytest.raises(RuntimeError, match="killed"):
        write(tmp_path / "old.txt")
    assert (tmp_path / "old.txt").read_text() == "old"
    assert names(tmp_path) == ["old.txt"]


def test_two_writers_of_a_file_do_not_share_their_half_written_parts(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_file(path) as first, atomic_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the block that ends last


def test_a_folder_appears_whole_and_replaces_the_one_that_was_there(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with atomic_folder(path) as partial:
        (partial / "new").write_text("new")
        assert names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


def test_an_error_leaves_the_folder_that_was_there(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")

    def fill():
        with atomic_folder(path) as partial:
            (partial / "new").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_what_a_killed_run_left_half_written_is_removed_and_what_a_living_one_writes_stays(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".folder.partial-{ended.pid}-abc").mkdir()
    (tmp_path / f".folder.partial-{ended.pid}-abc" / "half").write_text("half")
    (tmp_path / f".folder.partial-{os.getpid()}-abc").mkdir()
    (tmp_path / f".other.partial-{ended.pid}-abc").mkdir()
    with atomic_folder(tmp_path / "folder"):
        pass
    living = f".folder.partial-{os.getpid()}-abc"
    assert names(tmp_path) == sorted([living, f".other.partial-{ended.pid}-abc", "folder"])


def test_a_file_is_linked_where_it_can_be(tmp_path):
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(b"bytes")
    link_or_copy(source, target)
    assert target.samefile(source)


def test_a_file_is_copied_where_it_can_not_be_linked(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"bytes")
    link_or_copy(source, target)
    assert target.read_bytes() == b"bytes"
    assert not target.samefile(source)


def test_a_target_that_is_there_is_replaced_and_the_source_stays(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    link_or_copy(source, target)
    assert target.read_bytes() == source.read_bytes() == b"new"
