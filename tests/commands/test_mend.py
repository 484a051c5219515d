"""What a killed dvc leaves, and the command that mends it; tests/pipeline has a real dvc go on from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillmotion import cli

ROOT = Path(__file__).resolve().parents[2]
WHOLE = (ROOT / "dvc.lock").read_bytes()


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A committed project in the working folder: files of dvc without its stages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages:\n  a:\n    cmd: x\n", encoding="utf-8")
    (tmp_path / "params.yaml").write_text("dataset: toy\n", encoding="utf-8")
    (tmp_path / "dvc.lock").write_bytes(WHOLE)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / ".dvc/.gitignore").write_text("/tmp\n", encoding="utf-8")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "a")
    return tmp_path


def test_what_is_whole_stays_as_it_is_and_nothing_is_said(project, capsys):
    before = (project / "dvc.lock").stat()
    assert cli.run(["mend"]) == 0
    assert (project / "dvc.lock").stat() == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("length", [0, 8192, 16384, len(WHOLE) // 2, len(WHOLE) - 300])
def test_a_cut_lock_is_taken_from_the_commit_and_kept_aside(project, capsys, length):
    # within a digest, of which a number is left
    cut = WHOLE[:length].rpartition(b"md5: ")[0] + b"md5: 12" * bool(length)
    (project / "dvc.lock").write_bytes(cut)
    assert cli.run(["mend"]) == 0
    assert (project / "dvc.lock").read_bytes() == WHOLE
    assert (project / ".dvc/tmp/dvc.lock.broken").read_bytes() == cut
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dvc.lock: cut short, as by a dvc that was killed: taken from the commit; dvc repro")
    assert subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=True).stdout == b""


@pytest.mark.slow
def test_every_cut_that_dvc_refuses_is_seen(project):
    """By dvc's own schema, for all cuts of the lock's first stages and some of the others."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
    from voluptuous import Invalid

    from stillmotion.commands.mend import _content, _is_lock

    seen = {True: 0, False: 0}
    for length in [*range(3000), *range(3000, len(WHOLE), 997), len(WHOLE)]:
        try:
            COMPILED_LOCKFILE_SCHEMA(parse_yaml(WHOLE[:length].decode(), "dvc.lock"))
        except (YAMLFileCorruptedError, Invalid):
            assert not _is_lock(_content(WHOLE[:length])), WHOLE[:length][-40:]
            seen[False] += 1
        else:
            seen[True] += 1
    assert _is_lock(_content(WHOLE))
    assert min(seen.values()) > 100


def test_a_cut_lock_that_no_commit_has_is_put_aside(project, capsys):
    git("rm", "-q", "--cached", "dvc.lock")
    git("commit", "-q", "-m", "b")
    (project / "dvc.lock").write_bytes(WHOLE[:99])
    assert cli.run(["mend"]) == 0
    assert not (project / "dvc.lock").exists()
    assert "put aside, as the commit has none" in capsys.readouterr().err


def test_a_lock_in_a_merge_is_left_to_its_owner(project, capsys):
    both = b"schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\nstages:\n>>>>>>> other\n"
    (project / "dvc.lock").write_bytes(both)
    assert cli.run(["mend"]) == 2
    assert "git checkout --ours dvc.lock" in capsys.readouterr().err
    assert (project / "dvc.lock").read_bytes() == both


@pytest.mark.parametrize("name", ["dvc.yaml", "params.yaml"])
@pytest.mark.parametrize("content", [b"", b"stag", b"dataset: [toy\n", b"a: \xff\n", b"day: 2026-13-01\n"])
def test_a_cut_file_of_the_users_is_told_and_left(project, capsys, name, content):
    (project / name).write_bytes(content)
    assert cli.run(["mend"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"stillmotion: error: {name}: cut short or no YAML; mend it, or take back the committed one: "
        f"git checkout -- {name}"
    )
    assert (project / name).read_bytes() == content


def test_outside_of_a_project_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["mend"]) == 2
    assert "run this from the root of the repository" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", '{"write": {"a', "[]", '{"read": {"a": [{"cmd": "dvc repro"}]}}', "[" * 99999])
def test_a_cut_list_of_processes_is_removed(project, capsys, content):
    (project / ".dvc/tmp/rwlock").write_text(content, encoding="utf-8")
    assert cli.run(["mend"]) == 0
    assert not (project / ".dvc/tmp/rwlock").exists()
    assert capsys.readouterr().err == ".dvc/tmp/rwlock: cut short, as by a dvc that was killed: removed\n"


@pytest.mark.skipif(sys.platform != "linux", reason="what a process is can be told on Linux alone")
def test_a_process_that_is_no_dvc_holds_nothing_and_one_that_is_keeps_what_it_holds(project):
    ended = subprocess.Popen(["true"])
    ended.wait()
    # `sh` waits for a line that nobody writes, with dvc among its words
    waiting = ["sh", "-c", "read x", "dvc", "repro"]
    with subprocess.Popen(["sleep", "60"]) as other, subprocess.Popen(waiting, stdin=subprocess.PIPE) as dvc:
        try:
            infos = [{"pid": process.pid, "cmd": "dvc repro"} for process in (ended, other, dvc)]
            held = {"write": {"a": infos[0], "b": infos[1], "c": infos[2]}, "read": {"d": infos, "e": infos[:2]}}
            (project / ".dvc/tmp/rwlock").write_text(json.dumps(held), encoding="utf-8")
            assert cli.run(["mend"]) == 0
        finally:
            other.kill()
            dvc.kill()
    kept = json.loads((project / ".dvc/tmp/rwlock").read_text(encoding="utf-8"))
    assert kept == {"write": {"c": infos[2]}, "read": {"d": infos[2:]}}


def test_a_list_that_a_dvc_is_at_is_left(project):
    import fcntl

    (project / ".dvc/tmp/rwlock").write_text("{", encoding="utf-8")
    with (project / ".dvc/tmp/rwlock.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cli.run(["mend"]) == 0
    assert (project / ".dvc/tmp/rwlock").read_text(encoding="utf-8") == "{"


@pytest.mark.parametrize("config", ["", "[cache]\n    type = copy\n    dir = ../elsewhere\n"])
def test_a_folder_of_the_run_cache_without_its_entry_is_removed(project, capsys, config):
    (project / ".dvc/config.local").write_text(config, encoding="utf-8")
    runs = project / ("elsewhere" if config else ".dvc/cache") / "runs"
    empty, whole = runs / "ab" / ("ab" + 62 * "0"), runs / "ab" / ("ab" + 62 * "1")
    empty.mkdir(parents=True)
    whole.mkdir()
    (whole / "entry").touch()
    assert cli.run(["mend"]) == 0
    assert [path.name for path in (runs / "ab").iterdir()] == [whole.name]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{empty.name}: without its entry, as by a dvc that was killed: removed")


def test_a_configuration_that_cannot_be_read_is_left_to_dvc(project):
    (project / ".dvc/config").write_text("[cache]\n    dir = a\n    dir = b\n", encoding="utf-8")
    assert cli.run(["mend"]) == 0


def test_it_imports_nothing_that_is_slow(project):
    code = "import sys; from stillmotion import cli; cli.run(['mend']); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not {"torch", "numpy", "dvc", "transformers"} & set(found.stdout.split())
