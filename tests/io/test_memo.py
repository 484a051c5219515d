import multiprocessing
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

    with pytest.raises(OSError, match="disk full"):
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
    assert [path.read_bytes() in whole for path in files(tmp_path / "memo")] == [True]


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
