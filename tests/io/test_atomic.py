import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from stillmotion.errors import InputError
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


def test_what_a_killed_worker_left_half_written_in_a_folder_does_not_come_with_it(tmp_path):
    script = (
        "import os, sys; from stillmotion.io.atomic import atomic_file\n"
        "with atomic_file(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    with atomic_folder(tmp_path / "out") as partial:
        subprocess.run([sys.executable, "-c", script, partial / "below" / "file"], check=False)
        assert len(names(partial / "below")) == 1
        (partial / "below" / ".mine.partial-").write_text("of the user")
    assert names(tmp_path / "out" / "below") == [".mine.partial-"]


def test_what_a_killed_process_left_half_written_of_a_file_is_removed_and_of_a_living_one_stays(tmp_path):
    for name in ("file", "other"):
        run(f"""
            with atomic_file({str(tmp_path / name)!r}) as partial:
                partial.write_text("half")
                os._exit(9)
            """)
    with atomic_file(tmp_path / "file") as living:
        living.touch()
        with atomic_file(tmp_path / "file") as partial:
            partial.touch()
        assert living.exists()
    assert [name.split("-")[0] for name in names(tmp_path)] == [".other.partial", "file"]


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
    for name in ("folder", "other"):
        run(f"""
            with atomic_folder({str(tmp_path / name)!r}) as partial:
                (partial / "half").write_text("half")
                os._exit(9)
            """)
    with atomic_folder(tmp_path / "folder") as living:
        with atomic_folder(tmp_path / "folder"):
            pass
        assert living.exists()
    left = names(tmp_path)
    assert [name.split("-")[0] for name in left] == [".other.partial", "folder"]


def run(code):
    """Python in another process, which imports what this module does."""
    imports = "import os, pathlib\nfrom stillmotion.io.atomic import atomic_file, atomic_folder\n"
    subprocess.run([sys.executable, "-c", imports + textwrap.dedent(code)])


def partial_of_another_host(folder):
    """A name as it would be there, with the number of a process that has ended here."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with atomic_folder(folder) as partial:
        name = partial.name
    host, _, random = name.removeprefix(f".{folder.name}.partial-").split("-")
    other = ("0" if host[0] != "0" else "1") + host[1:]
    path = folder.with_name(f".{folder.name}.partial-{other}-{ended.pid}-{random}")
    (path / "frames").mkdir(parents=True)
    return path


def age(path, days):
    past = time.time() - days * 86400
    os.utime(path, (past, past))


def test_what_another_host_writes_stays_until_nothing_in_it_has_changed_for_a_week(tmp_path):
    theirs = partial_of_another_host(tmp_path / "folder")
    (theirs / "frames" / "video").write_text("half")
    for path, days in ((theirs, 30), (theirs / "frames", 30), (theirs / "frames" / "video", 6)):
        age(path, days)
    with atomic_folder(tmp_path / "folder"):
        pass
    assert (theirs / "frames" / "video").exists()
    age(theirs / "frames" / "video", 8)
    with atomic_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("end", ["", "1", "x-y", "99999999999999999999-abc", "²-abc"])
def test_a_name_that_says_no_process_is_left_alone_until_it_is_old(tmp_path, end):
    odd = tmp_path / f".folder.partial-{end}"
    odd.mkdir()
    with atomic_folder(tmp_path / "folder"):
        pass
    assert odd.exists()
    age(odd, 8)
    with atomic_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["folder"]


def test_a_name_that_a_shell_would_expand_is_taken_as_it_is(tmp_path):
    run(f"""
        with atomic_folder({str(tmp_path / "a[b]*")!r}) as partial:
            os._exit(9)
        """)
    assert len(names(tmp_path)) == 1
    with atomic_folder(tmp_path / "a[b]*"):
        pass
    assert names(tmp_path) == ["a[b]*"]


def fill(path, content="new"):
    with atomic_folder(path) as partial:
        (partial / "file").write_text(content)


def test_a_folder_that_can_not_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    fill(path, "old")
    rename_it = Path.rename

    def rename(self, target):
        if ".partial-" in self.name and Path(target) == path:
            raise OSError(errno.EIO, "Input/output error")
        return rename_it(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Path, "replace", rename)
    with pytest.raises(InputError, match="folder: can't be replaced"):
        fill(path)
    assert (path / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_swap_that_is_killed_after_any_step_is_healed_by_the_next_run(tmp_path, step):
    path = tmp_path / "folder"
    fill(path, "old")
    run(f"""
        import shutil
        steps = []
        def killed_after(function):
            def call(*arguments, **options):
                result = function(*arguments, **options)
                steps.append(function)
                if len(steps) == {step}:
                    os._exit(9)
                return result
            return call
        with atomic_folder({str(path)!r}) as partial:
            (partial / "file").write_text("new")
            for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
                setattr(owner, name, killed_after(getattr(owner, name)))
        """)
    assert len(names(tmp_path)) > 1 or step == 3

    def fails():
        with atomic_folder(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert names(tmp_path) == ["folder"]
    assert (path / "file").read_text() == ("old" if step == 1 else "new")


def test_half_of_a_former_folder_never_comes_back(tmp_path):
    path = tmp_path / "folder"
    fill(path, "old")
    run(f"""
        import shutil
        shutil.rmtree = lambda *arguments, **options: os._exit(9)
        with atomic_folder({str(path)!r}) as partial:
            (partial / "file").write_text("new")
        """)
    shutil.rmtree(path)  # as dvc does before a stage

    def fails():
        with atomic_folder(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert names(tmp_path) == []


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def make_device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("root alone may make a device")


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(("make", "kind"), [(make_pipe, "pipe"), (make_socket, "socket"), (make_device, "device")])
def test_what_is_no_file_and_no_folder_is_refused_and_stays(tmp_path, make, kind, linked):
    path = tmp_path / "odd"
    make(path)
    mode = path.lstat().st_mode
    if linked:
        path = tmp_path / "link"
        path.symlink_to("odd")
    before = names(tmp_path)
    for write in (atomic_file, atomic_folder):
        with pytest.raises(InputError, match=f"{path}: is a {kind}; name a"), write(path):
            pytest.fail("nothing shall be written")
    assert (tmp_path / "odd").lstat().st_mode == mode
    assert names(tmp_path) == before


def test_a_folder_for_a_file_and_a_file_for_a_folder_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match="folder: is a folder; name a file in it"), atomic_file(tmp_path / "folder"):
        pytest.fail("nothing shall be written")
    with pytest.raises(InputError, match="file: is a file; name a folder"), atomic_folder(tmp_path / "file"):
        pytest.fail("nothing shall be written")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_file_stays_and_what_it_leads_to_is_written(tmp_path, there):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/file")
    if there:
        (tmp_path / "disk" / "file").write_text("old")
    with atomic_file(tmp_path / "link") as partial:
        assert partial.parent == tmp_path / "disk"
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "new"
    assert names(tmp_path / "disk") == ["file"]


def test_a_link_to_a_folder_stays_and_what_it_leads_to_is_replaced(tmp_path):
    fill(tmp_path / "disk" / "folder", "old")
    (tmp_path / "link").symlink_to("disk/folder")
    fill(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "folder" / "file").read_text() == "new"
    assert names(tmp_path / "disk") == ["folder"]


def test_a_link_that_leads_to_what_can_not_be_written_is_refused(tmp_path):
    (tmp_path / "cached").write_text("cached")
    (tmp_path / "cached").chmod(0o444)
    targets = {"cached": "read-only", "not_mounted/file": "in no folder", "link": "too many levels"}
    for target, message in targets.items():
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(InputError, match=f"(?i)link: .*{message}"), atomic_file(link):
            pytest.fail("nothing shall be written")
    assert (tmp_path / "cached").read_text() == "cached"


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_parent_that_is_a_file_is_one_line(tmp_path, write):
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(InputError, match=f"{path}: a folder on the way there is a file"), write(path):
            pytest.fail("nothing shall be written")


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_parent_that_nobody_may_write_to_is_one_line(write):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            # a folder would have to be made, or is there
            for path, message in ((folder / "deep" / "out", "can't be written"), (folder / "out", "is read-only")):
                with pytest.raises(InputError, match=f"{path}: .*{message}"), write(path):
                    pytest.fail("nothing shall be written")
        finally:
            if root:
                os.seteuid(0)


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
