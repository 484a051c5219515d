"""The experiments of the Makefile fit params.yaml, so that none stops at its first stage."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import ruamel.yaml

from stillmotion.config.loading import load_params

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXPERIMENTS = re.findall(r"^(\w+): env .*\n\tdvc exp run", MAKEFILE, flags=re.MULTILINE)


def settings_of(target):
    """What `make TARGET` sets: pairs of a param and its value, as text."""
    shown = subprocess.run(["make", "-n", "-o", "env", target], cwd=ROOT, capture_output=True, text=True, check=True)
    (command,) = re.findall(r"dvc exp run (?:.*\\\n)*.*", shown.stdout)
    words = shlex.split(command.replace("\\\n", " "))
    return [words[place + 1].split("=", 1) for place, word in enumerate(words) if word == "-S"]


def test_the_experiments_are_those_that_the_help_lists():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r'make (\w+) .*as the experiment "(\w+)"', shown)
    assert listed == [(name, name) for name in EXPERIMENTS]
    assert set(EXPERIMENTS) == {
        "retrieval",
        "moments",
        "alignment",
        "guided",
        "pretraining",
        "heads",
        "recognition",
        "resources",
        "full",
    }


@pytest.mark.parametrize("target", EXPERIMENTS)
def test_what_an_experiment_sets_fits_the_params(target, tmp_path):
    yaml = ruamel.yaml.YAML()
    params = yaml.load(ROOT / "params.yaml")
    settings = settings_of(target)
    assert settings
    for name, value in settings:
        *sections, key = name.split(".")
        section = params
        for part in sections:
            section = section[part]
        assert key in section
        section[key] = yaml.load(value)
    path = tmp_path / "params.yaml"
    yaml.dump(params, path)
    run = load_params(path).run
    assert len({*run.models, *run.aligned}) > 1
