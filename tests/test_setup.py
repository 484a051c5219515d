"""What brings the environment to people says the same as the project itself."""

import json
import re
import tomllib
from pathlib import Path

import ruamel.yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(name):
    return ruamel.yaml.YAML(typ="safe").load(ROOT / name)


def test_the_citation_is_of_this_version_and_license():
    citation = read_yaml("CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_the_container_is_of_a_python_that_the_project_takes_and_its_user_is_not_root():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", "\n".join(lines), re.M)
    (version,) = re.findall(r"^python:(\d+\.\d+)-slim", stages[0][0])
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    assert [line for line in lines if line.startswith("USER")] == ["USER stillmotion"]
    opened = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert opened["build"]["target"] in [stage for _, stage in stages]
    assert opened["remoteUser"] == "stillmotion"


def test_the_hooks_are_what_make_lint_runs_and_fetch_nothing():
    (repo,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("lint: env")[1].split("\n\n")[0]
    programs = [re.match(r"(?:ruff \w+|mypy)", line.strip()).group() for line in lint.splitlines()[1:]]
    assert [re.match(r"\.venv/bin/((?:ruff \w+|mypy))", hook["entry"]).group(1) for hook in repo["hooks"]] == programs
