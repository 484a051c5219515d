"""The `stillmotion mend` command: what a dvc that was killed has left half-written. `make repro` begins with it."""

import configparser
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ruamel.yaml
import typer

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file
from stillmotion.printed import one_line

LOCK = Path("dvc.lock")
BROKEN = Path(".dvc/tmp/dvc.lock.broken")
PROCESSES = Path(".dvc/tmp/rwlock")
"""Which files each running dvc reads and writes."""
DVC_CONFIGS = (Path(".dvc/config"), Path(".dvc/config.local"))
_WRITTEN_IN_S = 1.0
"""So long may a dvc that runs take to write the entry for which it has made a folder."""
_MD5_LENGTH = 32
_CUT = (ruamel.yaml.YAMLError, ValueError, RecursionError)
"""Of no UTF-8, of a date that is none and of brackets without end too."""


def mend() -> None:
    """Mend what a killed dvc has left, so that the next dvc repro goes on: dvc.lock, its list of what runs, its cache.

    dvc.lock is taken from the commit; dvc repro then takes from its cache what has run since. What is whole stays as
    it is.
    """
    for name, key in (("dvc.yaml", "stages"), ("params.yaml", "dataset")):
        _check(Path(name), key)
    if LOCK.is_file() and not _is_lock(_content(LOCK.read_bytes())):
        _restore_lock()
    if PROCESSES.is_file():
        with _guard() as is_ours:
            if is_ours:
                _mend_processes()
    _mend_run_cache()


def _check(path: Path, key: str) -> None:
    """Refuse a file that is not whole; it is written by hand, so nothing but its owner knows what it was."""
    try:
        content = _content(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run this from the root of the repository") from None
    if not (isinstance(content, dict) and key in content):
        raise InputError(
            f"{path}: cut short or no YAML; mend it, or take back the committed one: git checkout -- {path}"
        )


def _content(data: bytes) -> Any:
    """What YAML holds; None where it is none."""
    with contextlib.suppress(*_CUT):
        return ruamel.yaml.YAML(typ="safe").load(data.decode("utf-8"))
    return None


def _is_lock(content: Any) -> bool:
    """Whether dvc reads it, by the part of its schema that a cut may break: dvc itself takes a second to import."""
    if not isinstance(content, dict) or content.get("schema") != "2.0" or not content.keys() <= {"schema", "stages"}:
        return False
    stages = content.get("stages", {})
    return isinstance(stages, dict) and all(isinstance(stage, dict) and _is_entry(stage) for stage in stages.values())


def _is_entry(stage: dict[str, Any]) -> bool:
    files = [stage.get(name, []) for name in ("deps", "outs")]
    params = stage.get("params", {})
    return (
        isinstance(stage.get("cmd"), str | list)
        and all(isinstance(listed, list) for listed in files)
        and all(_is_file(file) for listed in files for file in listed)
        and isinstance(params, dict)
        and all(isinstance(values, dict) for values in params.values())
    )


def _is_file(file: Any) -> bool:
    if not isinstance(file, dict) or not isinstance(file.get("path"), str):
        return False
    md5 = file.get("md5", "0" * _MD5_LENGTH)  # of one that is cut, the rest may be a number
    return isinstance(md5, str) and len(md5) >= _MD5_LENGTH and not any(value is None for value in file.values())


def _restore_lock() -> None:
    if b"\n>>>>>>> " in LOCK.read_bytes():
        raise InputError(f"{LOCK}: holds both sides of a merge; take one: git checkout --ours {LOCK}, or --theirs")
    shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True, check=False)
    known = shown.returncode == 0 and _is_lock(_content(shown.stdout))
    BROKEN.parent.mkdir(parents=True, exist_ok=True)
    LOCK.replace(BROKEN)
    if known:
        with atomic_file(LOCK) as partial:
            partial.write_bytes(shown.stdout)
    fate = "taken from the commit" if known else "put aside, as the commit has none"
    _tell(f"{LOCK}: cut short, as by a dvc that was killed: {fate}; dvc repro takes from its cache what has run since")


@contextlib.contextmanager
def _guard() -> Iterator[bool]:
    """Hold dvc's own lock of the list; False where a dvc has it at this moment."""
    import fcntl  # of no use, and not there, on Windows

    with PROCESSES.with_name("rwlock.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _mend_processes() -> None:
    """Take those out that no longer run: dvc would wait for ever for another process that has got their number."""
    try:
        held = json.loads(PROCESSES.read_bytes())
        writers = {path: info for path, info in held.get("write", {}).items() if _is_dvc(info["pid"])}
        readers = {path: [info for info in held if _is_dvc(info["pid"])] for path, held in held.get("read", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        PROCESSES.unlink()
        _tell(f"{PROCESSES}: cut short, as by a dvc that was killed: removed")
        return
    kept = {"write": writers, "read": {path: infos for path, infos in readers.items() if infos}}
    if kept != held:
        with atomic_file(PROCESSES) as partial:
            partial.write_text(json.dumps(kept), encoding="utf-8")


def _mend_run_cache() -> None:
    """Remove folders that lack their entry, which dvc makes after them: it ends with a TypeError at such a one."""
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(DVC_CONFIGS, "utf-8")
    except (configparser.Error, UnicodeDecodeError):  # of which dvc tells itself
        return
    runs = Path(".dvc", settings.get("cache", "dir", fallback="cache"), "runs")
    empty = [folder for folder in runs.glob("??/*") if folder.is_dir() and not any(folder.iterdir())]
    if not empty:
        return
    time.sleep(_WRITTEN_IN_S)
    for folder in empty:
        with contextlib.suppress(OSError):  # it has its entry now
            folder.rmdir()
            _tell(f"{folder}: without its entry, as by a dvc that was killed: removed")


def _is_dvc(process: int) -> bool:
    command = Path(f"/proc/{process}/cmdline")
    if command.parent.parent.joinpath("self").exists():
        return command.exists() and b"dvc" in command.read_bytes()
    with contextlib.suppress(ProcessLookupError):  # no Linux: who it is can't be told
        os.kill(process, 0)
        return True
    return False


def _tell(line: str) -> None:
    typer.echo(one_line(line), err=True)
