import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array
from stillmotion.io.memo import Memo, file_digest, folder_digest

KEY = {"frames": "abc", "seed": 1}
keys = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.booleans()), max_size=5)


def writes(content):
    return lambda path: path.write_bytes(content)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_stored_is_found_under_its_kind_its_key_and_its_suffix(tmp_path):
    memo = Memo(tmp_path)
    assert memo.find("frames", KEY, suffix=".npy") is None
    memo.store("frames", KEY, writes(b"pixels"), suffix=".npy")
    found = memo.find("frames", KEY, suffix=".npy")
    assert found is not None
    assert found.read_bytes() == b"pixels"
    assert found.suffix == ".npy"
    assert memo.find("frames", KEY | {"seed": 2}, suffix=".npy") is None
    assert memo.find("embeddings", KEY, suffix=".npy") is None
    assert memo.find("frames", KEY, suffix=".bin") is None


def test_storing_again_replaces_the_entry(tmp_path):
    memo = Memo(tmp_path)
    memo.store("checkpoints", KEY, writes(b"step 1"), suffix=".bin")
    memo.store("checkpoints", KEY, writes(b"step 2"), suffix=".bin")
    found = memo.find("checkpoints", KEY, suffix=".bin")
    assert found is not None
    assert found.read_bytes() == b"step 2"
    assert len(files(tmp_path)) == 1


@given(keys)
def test_the_order_of_a_key_does_not_matter(tmp_path_factory, key):
    memo = Memo(tmp_path_factory.mktemp("memo"))
    memo.store("kind", key, writes(b"x"), suffix=".bin")
    assert memo.find("kind", dict(reversed(key.items())), suffix=".bin") is not None


@given(keys, keys)
def test_different_keys_are_different_entries(tmp_path_factory, first, second):
    memo = Memo(tmp_path_factory.mktemp("memo"))
    memo.store("kind", first, writes(b"x"), suffix=".bin")
    same = {(name, type(value), value) for name, value in first.items()} == {
        (name, type(value), value) for name, value in second.items()
    }
    assert (memo.find("kind", second, suffix=".bin") is not None) == same


def test_a_key_with_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Memo(tmp_path).store("kind", {"value": float("nan")}, writes(b"x"), suffix=".bin")


def test_fetch_makes_an_entry_once_and_gives_the_same_bytes_with_a_memo_and_without(tmp_path):
    calls = []

    def make(path):
        calls.append(path)
        path.write_bytes(b"bytes")

    memo = Memo(tmp_path / "memo")
    targets = [tmp_path / name / "out.bin" for name in ("first", "second", "third")]
    found = [memo.fetch("kind", KEY, target, make, suffix=".bin") for target in targets[:2]]
    found.append(Memo(None).fetch("kind", KEY, targets[2], make, suffix=".bin"))
    assert found == [False, True, False]
    assert len(calls) == 2
    assert [target.read_bytes() for target in targets] == [b"bytes"] * 3


def test_fetch_replaces_a_target_that_is_there(tmp_path):
    target = tmp_path / "out.bin"
    for memo in (Memo(tmp_path / "memo"), Memo(None)):
        target.write_bytes(b"old")
        memo.fetch("kind", KEY, target, writes(b"new"), suffix=".bin")
        assert target.read_bytes() == b"new"


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    memo = Memo(None)
    memo.store("kind", KEY, lambda path: pytest.fail("there is nowhere to write to"), suffix=".bin")
    assert memo.find("kind", KEY, suffix=".bin") is None
    assert memo.size_bytes() == 0
    memo.clear()
    assert files(tmp_path) == []


def test_a_half_written_entry_is_never_seen(tmp_path):
    memo = Memo(tmp_path)

    def fail(path):
        path.write_bytes(b"half")
        assert memo.find("kind", KEY, suffix=".bin") is None
        raise OSError("disk full")

    memo.store("kind", KEY, fail, suffix=".bin")
    with pytest.raises(OSError, match="disk full"):
        memo.fetch("kind", KEY, tmp_path / "out.bin", fail, suffix=".bin")
    assert memo.find("kind", KEY, suffix=".bin") is None
    assert files(tmp_path) == []


def test_a_write_that_fails_leaves_the_entry_that_was_there(tmp_path):
    memo = Memo(tmp_path)
    memo.store("kind", KEY, writes(b"whole"), suffix=".bin")

    def fail(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memo.store("kind", KEY, fail, suffix=".bin")
    found = memo.find("kind", KEY, suffix=".bin")
    assert found is not None
    assert found.read_bytes() == b"whole"


def _fetch_slowly(root, target, letter, barrier, results):
    def make(path):
        with path.open("wb") as file:
            for _ in range(20):
                file.write(letter * 1000)
                file.flush()
                time.sleep(0.005)

    barrier.wait()
    results.put(Memo(root).fetch("kind", KEY, target, make, suffix=".bin"))


def test_two_processes_that_make_the_same_entry_at_once_both_succeed_and_it_is_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    letters = {b"a": tmp_path / "first.bin", b"b": tmp_path / "second.bin"}
    processes = [
        context.Process(target=_fetch_slowly, args=(tmp_path / "memo", target, letter, barrier, results))
        for letter, target in letters.items()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    whole = {b"a" * 20_000, b"b" * 20_000}
    assert all(target.read_bytes() in whole for target in letters.values())
    # Two where each had looked for the other's before it was there: both are whole, and the newest is read.
    entries = [path.read_bytes() for path in files(tmp_path / "memo")]
    assert len(entries) in (1, 2)
    assert set(entries) <= whole


def test_what_is_recalled_is_made_once_and_without_a_memo_each_time(tmp_path):
    made = []

    def make():
        made.append(len(made))
        return f"made {len(made)}"

    def recall(memo):
        return memo.recall(
            "kind", KEY, make, load=Path.read_text, save=lambda path, text: path.write_text(text), suffix=".x"
        )

    memo = Memo(tmp_path / "memo")
    assert [recall(memo), recall(memo)] == [("made 1", False), ("made 1", True)]
    assert [recall(Memo(None)), recall(Memo(None))] == [("made 2", False), ("made 3", False)]


def test_deleting_the_folder_loses_nothing_but_time(tmp_path):
    memo, target = Memo(tmp_path / "memo"), tmp_path / "out.bin"
    memo.fetch("kind", KEY, target, writes(b"bytes"), suffix=".bin")
    shutil.rmtree(tmp_path / "memo")
    assert target.read_bytes() == b"bytes"
    assert memo.fetch("kind", KEY, tmp_path / "again.bin", writes(b"bytes"), suffix=".bin") is False
    assert (tmp_path / "again.bin").read_bytes() == b"bytes"


def test_size_counts_the_entries_and_clear_removes_them(tmp_path):
    memo = Memo(tmp_path / "memo")
    memo.store("one", KEY, writes(b"12345"), suffix=".bin")
    memo.store("two", KEY, writes(b"678"), suffix=".bin")
    assert memo.size_bytes() == 8
    memo.clear()
    assert memo.size_bytes() == 0
    assert memo.find("one", KEY, suffix=".bin") is None


def test_the_digest_of_a_file_is_the_sha_256_of_its_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_digest_of_a_folder_changes_with_names_and_contents_and_not_with_times(tmp_path):
    def digest(name, **contents):
        folder = tmp_path / name
        for file, content in contents.items():
            path = folder / file.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return folder_digest(folder)

    base = digest("one", a="1", sub__b="2")
    assert digest("two", sub__b="2", a="1") == base
    others = [
        digest("three", a="1", sub__b="3"),
        digest("four", a="1", sub__c="2"),
        digest("five", a="1", b="2"),
        digest("six", a="1"),
        digest("seven", a="2", sub__b="1"),
    ]
    assert len({base, *others}) == 6


CONTENT = bytes(range(256)) * 4096  # 1 MiB


def entry_of(folder):
    (entry,) = files(folder)
    return entry


def flip(entry, place):
    """One bit of one byte, as a bad disk would."""
    entry.chmod(0o644)
    content = bytearray(entry.read_bytes())
    content[place] ^= 1
    entry.write_bytes(content)


def cut(entry, place):
    entry.chmod(0o644)
    os.truncate(entry, place)


@pytest.mark.parametrize("place", [0, 1000, 300_001, 524_288, 1_000_000, len(CONTENT) - 1])
@pytest.mark.parametrize("damage", [flip, cut])
def test_an_entry_whose_bytes_have_changed_anywhere_is_told_removed_and_made_anew(tmp_path, caplog, damage, place):
    memo, calls = Memo(tmp_path / "memo"), []

    def make(path):
        calls.append(path)
        path.write_bytes(CONTENT)

    memo.fetch("kind", KEY, tmp_path / "first.bin", make, suffix=".bin")
    entry = entry_of(tmp_path / "memo")
    (tmp_path / "first.bin").unlink()
    damage(entry, place)
    assert memo.find("kind", KEY, suffix=".bin") is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{entry}: not the bytes that were stored there; removed, and made anew"
    ]
    assert not entry.exists()
    assert memo.fetch("kind", KEY, tmp_path / "second.bin", make, suffix=".bin") is False
    assert memo.fetch("kind", KEY, tmp_path / "third.bin", make, suffix=".bin") is True
    assert (tmp_path / "second.bin").read_bytes() == (tmp_path / "third.bin").read_bytes() == CONTENT
    assert len(calls) == 2
    assert len(caplog.records) == 1


def test_what_a_power_cut_left_empty_is_no_entry(tmp_path):
    memo = Memo(tmp_path)
    memo.store("kind", KEY, writes(b"whole"), suffix=".bin")
    cut(entry_of(tmp_path), 0)
    assert memo.read("kind", KEY, Path.read_bytes, suffix=".bin") is None
    assert files(tmp_path) == []


def test_an_entry_that_can_not_be_read_is_told_and_does_not_stop_the_run(tmp_path, caplog):
    memo = Memo(tmp_path)
    memo.store("kind", KEY, writes(b"whole"), suffix=".bin")
    entry = entry_of(tmp_path)
    entry.unlink()
    entry.mkdir()  # reading it is an error, as of a bad block
    assert memo.find("kind", KEY, suffix=".bin") is None
    assert "can't be read (Is a directory)" in caplog.text


def test_a_folder_in_the_memo_that_another_user_has_made_is_one_warning_and_no_end(tmp_path, monkeypatch, caplog):
    memo = Memo(tmp_path / "memo")
    kind = memo.root / "frames"
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *rest, **more: kind not in Path(path).parents and access(path, *rest)
    )

    def refused(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", source)

    monkeypatch.setattr(os, "link", refused)
    for seed in (1, 2):
        assert not memo.fetch("frames", KEY | {"seed": seed}, tmp_path / "out", writes(b"pixels"), suffix=".npy")
        assert (tmp_path / "out").read_bytes() == b"pixels"
    assert [f"{memo.root}: the memo can't be used (permission denied)" in line for line in caplog.messages] == [True]


def test_an_entry_of_the_layout_without_a_digest_is_absent_and_goes_when_its_key_is_stored(tmp_path):
    memo = Memo(tmp_path)
    memo.store("kind", KEY, writes(b"new"), suffix=".bin")
    entry = entry_of(tmp_path)
    old = entry.with_name(f"{hashlib.sha256(json.dumps(KEY, sort_keys=True).encode()).hexdigest()}.bin")
    entry.rename(old)
    assert memo.find("kind", KEY, suffix=".bin") is None
    assert old.exists()
    memo.store("kind", KEY, writes(b"new"), suffix=".bin")
    assert files(tmp_path) == [entry]


def test_nobody_writes_through_an_entry_or_an_out_that_is_a_link_to_it_and_both_can_be_removed(tmp_path):
    memo = Memo(tmp_path / "memo")
    targets = [tmp_path / name for name in ("first.bin", "second.bin")]
    for target in targets:
        memo.fetch("kind", KEY, target, writes(b"bytes"), suffix=".bin")
    entry = entry_of(tmp_path / "memo")
    memo.store("other", KEY, writes(b"bytes"), suffix=".bin")
    for file in (entry, *targets, *files(tmp_path / "memo" / "other")):
        assert file.stat().st_mode & 0o777 == 0o444
        assert file.samefile(entry) or "other" in file.parts
    targets[0].unlink()
    memo.clear()
    assert files(tmp_path) == [targets[1]]
    assert targets[1].read_bytes() == b"bytes"


def test_what_is_replaced_goes_once_the_new_one_would_survive_a_power_cut(tmp_path, monkeypatch):
    memo, synced = Memo(tmp_path), []

    def fsync(descriptor):
        synced.append((Path(f"/proc/self/fd/{descriptor}").resolve(), sorted(map(Path.read_bytes, files(tmp_path)))))

    monkeypatch.setattr(os, "fsync", fsync)
    memo.store("checkpoints", KEY, writes(b"step 1"), suffix=".bin")
    shard = entry_of(tmp_path).parent
    assert synced == []  # nothing to lose
    memo.store("checkpoints", KEY, writes(b"step 2"), suffix=".bin")
    assert [path.parent if path != shard else path for path, _ in synced] == [shard, shard]
    assert [path == shard for path, _ in synced] == [False, True]
    assert [contents for _, contents in synced] == [[b"step 1", b"step 2"]] * 2
    assert entry_of(tmp_path).read_bytes() == b"step 2"


def test_an_entry_that_another_process_replaces_between_the_look_and_the_reading_is_absent(tmp_path):
    memo = Memo(tmp_path)
    memo.store("checkpoints", KEY, writes(b"step 1"), suffix=".bin")

    def load(path):
        Memo(tmp_path).store("checkpoints", KEY, writes(b"step 2"), suffix=".bin")
        return path.read_bytes()

    assert memo.read("checkpoints", KEY, load, suffix=".bin") is None
    assert memo.read("checkpoints", KEY, Path.read_bytes, suffix=".bin") == b"step 2"


def test_a_mistake_in_what_is_read_is_raised(tmp_path):
    memo = Memo(tmp_path)
    memo.store("kind", KEY, writes(b"no array"), suffix=".npy")
    with pytest.raises(InputError, match="not a .npy array"):
        memo.read("kind", KEY, load_array, suffix=".npy")


def _store_often(root, letter, barrier):
    memo = Memo(root)
    barrier.wait()
    for number in range(20):
        memo.store("checkpoints", KEY, writes(letter * (number + 1)), suffix=".bin")
        memo.read("checkpoints", KEY, Path.read_bytes, suffix=".bin")


def test_of_two_processes_that_store_other_bytes_at_once_one_s_last_stays(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_store_often, args=(tmp_path, letter, barrier)) for letter in (b"a", b"b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    found = Memo(tmp_path).read("checkpoints", KEY, Path.read_bytes, suffix=".bin")
    assert found in {b"a" * 20, b"b" * 20}
    assert len(files(tmp_path)) <= 2


def test_what_a_killed_process_left_half_written_goes_when_its_key_is_stored(tmp_path):
    for write in ("partial.write_bytes(b'half'); os._exit(9)", "save_array(partial, Killer())"):
        code = f"""
import os
import numpy as np
from pathlib import Path
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import Memo
class Killer:
    def __array__(self, *arguments, **options):
        os._exit(9)
def write(partial):
    {write}
Memo(Path({str(tmp_path)!r})).store("kind", {KEY!r}, write, suffix=".npy")
"""
        assert subprocess.run([sys.executable, "-c", code]).returncode == 9
        assert len(files(tmp_path)) == 1  # what the one before left is gone
    Memo(tmp_path).store("kind", KEY, writes(b"whole"), suffix=".npy")
    assert entry_of(tmp_path).read_bytes() == b"whole"


def test_a_folder_that_its_file_system_can_not_sync_stops_no_training(tmp_path, monkeypatch):
    def fsync(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")

    memo = Memo(tmp_path)
    memo.store("checkpoints", KEY, writes(b"step 1"), suffix=".bin")
    monkeypatch.setattr(os, "fsync", fsync)
    memo.store("checkpoints", KEY, writes(b"step 2"), suffix=".bin")
    assert entry_of(tmp_path).read_bytes() == b"step 2"


@pytest.mark.real
def test_a_real_video_whose_entry_lost_a_bit_comes_back_whole(tmp_path, real_material, caplog):
    video = sorted((real_material / "videos").glob("*.mp4"))[0]
    memo = Memo(tmp_path / "memo")

    def make(path):
        shutil.copyfile(video, path)

    memo.fetch("videos", KEY, tmp_path / "first.mp4", make, suffix=".mp4")
    (tmp_path / "first.mp4").unlink()
    flip(entry_of(tmp_path / "memo"), video.stat().st_size * 2 // 3)
    assert memo.fetch("videos", KEY, tmp_path / "second.mp4", make, suffix=".mp4") is False
    assert file_digest(tmp_path / "second.mp4") == file_digest(video)
    assert "not the bytes that were stored there" in caplog.text
