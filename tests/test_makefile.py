"""The Makefile names experiments and defines none, and works in any folder."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stillmotion.experiments.definition import experiment_names

ROOT = Path(__file__).resolve().parents[1]
ALIASES = ("retrieval", "moments", "alignment", "guided", "pretraining", "heads", "recognition", "resources", "full")


def make(*arguments, folder=ROOT):
    """What make prints."""
    # Of a make that runs these tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_help_lists_the_targets_and_the_experiments():
    lines = make()
    targets = [line.split()[1] for line in lines[:-1]]
    assert targets == ["help", "env", "repro", "test", "check", "lint", "bench", "torture", "lock"]
    assert lines[-1].split(" in ")[-1].split() == list(ALIASES)


@pytest.mark.parametrize("name", ALIASES)
def test_a_target_is_an_alias_of_an_experiment_of_that_name(name):
    assert make("-n", "-o", "env", name) == [f"stillmotion run {name}"]
    assert name in experiment_names(ROOT / "experiments")


def test_the_quick_tests_leave_out_what_is_slow_and_the_pipeline():
    (command,) = make("-n", "-o", "env", "check")
    assert command == 'python -m pytest -n 2 --dist loadfile -m "not slow and not pipeline"'


def test_the_environment_is_made_and_used_in_a_folder_with_spaces_in_its_path(tmp_path):
    folder = tmp_path / "two spaces in"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    made = folder / ".venv" / "bin"
    made.mkdir(parents=True)
    # Stand-ins for what an environment holds: they say where they lie, and what they were asked for.
    for name in ("python", "uv", "stillmotion", "dvc"):
        (made / name).write_text(f'#!/bin/sh\necho "{name} of $0: $*" >> log\n', encoding="utf-8")
        (made / name).chmod(0o755)
    make("repro", folder=folder)
    log = (folder / "log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" of ")[0] for line in log] == ["python", "uv", "uv", "stillmotion", "dvc"]
    assert log[-1] == f"dvc of {made / 'dvc'}: repro"
    # What is up to date is not made again.
    make("repro", folder=folder)
    again = (folder / "log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" of ")[0] for line in again[len(log) :]] == ["stillmotion", "dvc"]
