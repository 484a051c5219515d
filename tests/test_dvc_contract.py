"""dvc.yaml and dvc.lock held to the code, without running dvc (DESIGN.md, rule 6).

What fails prints the lines to add to dvc.yaml or to remove from it.
"""

import ast
import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ruamel.yaml

from stillmotion.provenance import first_party_sources

ROOT = Path(__file__).resolve().parents[1]
MAX_SCRIPT_LINES = 120


@cache
def read_yaml(name: str) -> Any:
    return ruamel.yaml.YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))


PARAMS = read_yaml("params.yaml")
STAGES: dict[str, dict[str, Any]] = read_yaml("dvc.yaml")["stages"]


def param_value(dotted: str) -> Any:
    value = PARAMS
    for part in re.findall(r"[^.\[\]]+", dotted):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def fill_in(value: Any, item: Mapping[str, str]) -> Any:
    """`value` with each `${…}` replaced, as dvc does it."""
    if isinstance(value, Mapping):
        return {fill_in(key, item): fill_in(inner, item) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_in(inner, item) for inner in value]
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        name = match[1].strip()
        return item[name[len("item.") :]] if name.startswith("item.") else str(param_value(name))

    return re.sub(r"\$\{([^}]*)\}", one, value)


def paths(entries: list[Any]) -> list[str]:
    """The paths of deps, outs, metrics or plots, with or without settings below them."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def resolved() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each stage of the DAG by its name in dvc.lock, matrices multiplied out."""
    for name, stage in STAGES.items():
        matrix = {variable: param_value(values[2:-1]) for variable, values in stage.get("matrix", {}).items()}
        for chosen in itertools.product(*matrix.values()):
            suffix = f"@{'-'.join(chosen)}" if matrix else ""
            yield name + suffix, fill_in(stage, dict(zip(matrix, chosen, strict=True)))


RESOLVED = dict(resolved())
LOCK: dict[str, dict[str, Any]] = read_yaml("dvc.lock")["stages"]


@dataclass(frozen=True)
class Script:
    """A stage script as its syntax tree shows it."""

    path: Path
    tree: ast.Module

    @property
    def main(self) -> ast.FunctionDef:
        (found,) = [node for node in self.tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        return found

    def path_options(self) -> set[str]:
        """The options of `main` that are annotated as paths."""
        arguments = self.main.args
        return {
            argument.arg.replace("_", "-")
            for argument in (*arguments.args, *arguments.kwonlyargs)
            if argument.annotation is not None
            and any(isinstance(node, ast.Name) and node.id == "Path" for node in ast.walk(argument.annotation))
        }


@cache
def script_of(stage: str) -> Script:
    path = ROOT / shlex.split(STAGES[stage]["cmd"])[1]
    return Script(path, ast.parse(path.read_text(encoding="utf-8"), str(path)))


def options_of(cmd: str) -> dict[str, str]:
    words = shlex.split(cmd)[2:]
    assert len(words) % 2 == 0, cmd
    assert all(word.startswith("--") for word in words[::2]), cmd
    return {word[2:]: value for word, value in zip(words[::2], words[1::2], strict=True)}


def is_load_params(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_params"


def params_read(script: Script, options: Mapping[str, str]) -> tuple[set[str], list[str]]:
    """What a script reads of `params = load_params()`, and what can't be followed.

    `params.backbones[name]` becomes `backbones.${item.backbone}` where the cmd says `--name ${item.backbone}`;
    an option that the cmd leaves out is not read by.
    """
    reads: set[str] = set()
    faults: list[str] = []
    for function in ast.walk(script.tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and is_load_params(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(function):
            if not (isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)):
                continue
            read, left_out, top = [], False, parents[node]
            while True:
                if isinstance(top, ast.Attribute):
                    read.append(top.attr)
                elif isinstance(top, ast.Subscript) and top is not node and isinstance(top.slice, ast.Name) and read:
                    option = top.slice.id.replace("_", "-")
                    left_out = left_out or option not in options
                    read.append(options.get(option, ""))
                else:
                    break
                top = parents[top]
            if not read:
                faults.append(f"{script.path.name} line {node.lineno}: hands params on whole; read attributes of it")
            elif not left_out:
                reads.add(".".join(read))
    return reads, faults


def declared_params(stage: Mapping[str, Any]) -> list[str]:
    declared = stage.get("params", [])
    assert all(isinstance(name, str) for name in declared), "params of another file than params.yaml"
    return declared


def covers(declared: str, read: str) -> bool:
    return read == declared or read.startswith(f"{declared}.")


def must_be_empty(lines: list[str]) -> None:
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_are_the_modules_that_the_script_imports(stage):
    imported = {path.relative_to(ROOT).as_posix() for path in first_party_sources(script_of(stage).path, ROOT / "src")}
    declared = [path for path in paths(STAGES[stage]["deps"]) if path.startswith("src/")]
    must_be_empty(
        [f"dvc.yaml, {stage}: add to deps:      - {path}" for path in sorted(imported - set(declared))]
        + [f"dvc.yaml, {stage}: remove from deps:      - {path}" for path in sorted(set(declared) - imported)]
        + [
            f"dvc.yaml, {stage}: twice in deps:      - {path}"
            for path in sorted(set(declared))
            if declared.count(path) > 1
        ]
    )


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_those_that_the_script_reads(stage):
    reads, faults = params_read(script_of(stage), options_of(STAGES[stage]["cmd"]))
    declared = declared_params(STAGES[stage])
    faults += [
        f"dvc.yaml, {stage}: add to params:      - {read}"
        for read in sorted(reads)
        if not any(covers(name, read) for name in declared)
    ]
    faults += [
        f"dvc.yaml, {stage}: remove from params:      - {name}"
        for name in declared
        if not any(covers(name, read) or covers(read, name) for read in reads)
    ]
    must_be_empty(faults)


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_the_cmd_is_a_dep_or_an_out(stage):
    declared = [path for kind in ("deps", "outs", "metrics", "plots") for path in paths(STAGES[stage].get(kind, []))]
    options, script = options_of(STAGES[stage]["cmd"]), script_of(stage)
    must_be_empty(
        [
            f"dvc.yaml, {stage}: --{name} {value} is neither a dep nor an out; declare it"
            for name, value in {"script": script.path.relative_to(ROOT).as_posix(), **options}.items()
            if name in {"script"} | script.path_options()
            # A folder stands for what is declared below it.
            and not any(path == value or path.startswith(f"{value}/") for path in declared)
        ]
        + [f"dvc.yaml, {stage}: {script.path.name} has no option --{name}" for name in options if not has(script, name)]
    )


def has(script: Script, option: str) -> bool:
    arguments = script.main.args
    return option in {argument.arg.replace("_", "-") for argument in (*arguments.args, *arguments.kwonlyargs)}


def test_every_stage_says_what_it_does():
    must_be_empty([f"dvc.yaml, {name}: add a desc" for name, stage in STAGES.items() if not stage.get("desc")])


def test_nothing_persists_which_would_turn_the_run_cache_off():
    lines = (ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    must_be_empty([f"dvc.yaml line {number}: {line}" for number, line in enumerate(lines, 1) if "persist:" in line])


def test_metrics_and_plots_are_files_in_git():
    must_be_empty(
        [
            f"dvc.yaml, {name}: {path} needs cache: false"
            for name, stage in STAGES.items()
            for kind in ("metrics", "plots")
            for entry in stage.get(kind, [])
            for path, settings in ([(entry, {})] if isinstance(entry, str) else entry.items())
            if settings.get("cache") is not False
        ]
    )


def test_dvc_reads_yaml_in_c():
    """Python alone takes three to seven times as long over params.yaml, which dvc reads for each stage."""
    assert ruamel.yaml.YAML(typ="safe").Parser is not ruamel.yaml.YAML(typ="safe", pure=True).Parser


def test_scripts_are_short():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "src").glob("*.py")}
    must_be_empty(
        [
            f"src/{name}: {length} lines, {length - MAX_SCRIPT_LINES} too many; move what is no reading or writing"
            for name, length in sorted(lengths.items())
            if length > MAX_SCRIPT_LINES
        ]
    )


def test_every_script_is_a_stage():
    scripts = {script_of(stage).path for stage in STAGES}
    must_be_empty([f"{path}: no stage runs it" for path in sorted(set((ROOT / "src").glob("*.py")) - scripts)])


def test_package_files_are_empty():
    packages = (ROOT / "src" / "stillmotion").rglob("__init__.py")
    must_be_empty([f"{path.relative_to(ROOT)}: must be empty" for path in packages if path.read_bytes()])


def test_dvc_lock_has_the_stages_of_dvc_yaml():
    must_be_empty(
        [f"dvc.lock lacks {name}: run dvc repro" for name in RESOLVED if name not in LOCK]
        + [f"dvc.lock: remove the entry {name}, which dvc.yaml has no more" for name in LOCK if name not in RESOLVED]
    )


def md5(path: Path) -> str:
    """What dvc calls a file or folder by."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    listing = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing.sort(key=lambda row: tuple(row["relpath"].split("/")))
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


IN_GIT = ("src/", "metrics/", "plots/", "reports", "data/sources/toy")
"""Deps and outs that are files of the repository begin so; the others are in the cache of dvc."""


@pytest.mark.parametrize("name", RESOLVED)
def test_dvc_lock_is_current(name):
    stage, lock = RESOLVED[name], LOCK.get(name)
    if lock is None:
        pytest.fail(f"dvc.lock lacks {name}: run dvc repro")
    faults = []
    if lock["cmd"] != stage["cmd"].strip():
        faults.append(f"cmd is {stage['cmd'].strip()!r}, in dvc.lock {lock['cmd']!r}")
    for kind, declared in (("deps", ("deps",)), ("outs", ("outs", "metrics", "plots"))):
        stated = {path for key in declared for path in paths(stage.get(key, []))}
        locked = {row["path"]: row["md5"] for row in lock.get(kind, [])}
        faults += [f"{path} is among the {kind} of one and not of the other" for path in sorted(stated ^ set(locked))]
        faults += [
            f"{path} is not the one of dvc.lock"
            for path in sorted(stated & set(locked))
            if path.startswith(IN_GIT) and (not (ROOT / path).exists() or md5(ROOT / path) != locked[path])
        ]
    locked_params = lock.get("params", {}).get("params.yaml", {})
    faults += [
        f"param {param} is {param_value(param)!r}, in dvc.lock {locked_params.get(param, 'not there')!r}"
        for param in declared_params(stage)
        if param not in locked_params or param_value(param) != locked_params[param]
    ]
    must_be_empty([f"{name}: {fault}; run dvc repro" for fault in faults])
