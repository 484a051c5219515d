"""dvc.yaml and dvc.lock held to the code, without running dvc (DESIGN.md, rule 6).

What fails prints the lines to add to dvc.yaml or to remove from it.
"""

import ast
import hashlib
import importlib.util
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

ROOT = Path(__file__).resolve().parents[1]
MAX_SCRIPT_LINES = 120


@cache
def read_yaml(name: str) -> Any:
    return ruamel.yaml.YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))


PARAMS = read_yaml("params.yaml")
WRITTEN: dict[str, dict[str, Any]] = read_yaml("dvc.yaml")["stages"]
STAGES: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in WRITTEN.items()}
"""By name, those of a `foreach` without it."""


def param_value(dotted: str) -> Any:
    value = PARAMS
    for part in re.findall(r"[^.\[\]]+", dotted):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def fill_in(value: Any, scope: Mapping[str, Any]) -> Any:
    """`value` with each `${…}` replaced, as dvc does it; `scope` has what `item` and `key` are."""
    if isinstance(value, Mapping):
        return {fill_in(key, scope): fill_in(inner, scope) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_in(inner, scope) for inner in value]
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        first, _, rest = match[1].strip().partition(".")
        if first not in scope:
            return str(param_value(match[1].strip()))
        return str(scope[first][rest] if rest else scope[first])

    return re.sub(r"\$\{([^}]*)\}", one, value)


def paths(entries: list[Any]) -> list[str]:
    """The paths of deps, outs, metrics or plots, with or without settings below them."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def several(values: Any) -> Any:
    """What a foreach or a matrix goes over: a param, or a list that has params in it."""
    return param_value(values[2:-1]) if isinstance(values, str) else fill_in(values, {})


def resolved() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each stage of the DAG by its name in dvc.lock, foreach and matrices multiplied out."""
    for name, stage in WRITTEN.items():
        if "foreach" in stage:
            items = several(stage["foreach"])
            for key in items:
                scope = {"key": key, "item": items[key]} if isinstance(items, dict) else {"item": key}
                yield f"{name}@{key}", fill_in(stage["do"], scope)
        elif "matrix" in stage:
            matrix = {variable: several(values) for variable, values in stage["matrix"].items()}
            for chosen in itertools.product(*matrix.values()):
                yield f"{name}@{'-'.join(chosen)}", fill_in(stage, {"item": dict(zip(matrix, chosen, strict=True))})
        else:
            yield name, fill_in(stage, {})


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
    """Options and their values; that of a flag is empty."""
    words = shlex.split(cmd)[2:]
    options: dict[str, str] = {}
    while words:
        word = words.pop(0)
        assert word.startswith("--"), f"{word!r} is no option in {cmd}"
        options[word[2:]] = "" if not words or words[0].startswith("--") else words.pop(0)
    return options


def is_load_params(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_params"


@dataclass(frozen=True)
class Reads:
    """What a script reads of `params = load_params()`."""

    always: set[str]
    somewhere: set[str]
    """Those too that stand below an `if`, which another stage of the same script may come by."""
    faults: list[str]
    """What can't be followed."""


def params_read(script: Script, options: Mapping[str, str]) -> Reads:
    """What a script reads with the options of a cmd.

    `params.backbones[name]` becomes `backbones.${item}` where the cmd says `--name "${item}"`; an option that the cmd
    leaves out is not read by.
    """
    reads = Reads(set(), set(), [])
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
            if read == ["model_dump"] and isinstance(top, ast.Call):
                included = next(keyword.value for keyword in top.keywords if keyword.arg == "include")
                named = {node.value for node in ast.walk(included) if isinstance(node, ast.Constant)}
                named |= {
                    node.value
                    for name in ast.walk(included)
                    if isinstance(name, ast.Name)
                    for node in ast.walk(assigned_to(function, name.id))
                    if isinstance(node, ast.Constant)
                }
                reads.always.update(named)
                reads.somewhere.update(named)
            elif not read:
                reads.faults.append(
                    f"{script.path.name} line {node.lineno}: hands params on whole; read attributes of it"
                )
            elif not left_out:
                reads.somewhere.add(".".join(read))
                if not any(isinstance(above, (ast.If, ast.IfExp, ast.Match)) for above in ancestors(top, parents)):
                    reads.always.add(".".join(read))
    return reads


def assigned_to(function: ast.FunctionDef, name: str) -> ast.expr:
    """The expression that a name of a function stands for."""
    return next(
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
    )


def ancestors(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while True:
        yield node
        if node not in parents:
            return
        node = parents[node]


def declared_params(stage: Mapping[str, Any]) -> list[str]:
    declared = stage.get("params", [])
    assert all(isinstance(name, str) for name in declared), "params of another file than params.yaml"
    return declared


def covers(declared: str, read: str) -> bool:
    return read == declared or read.startswith(f"{declared}.")


def must_be_empty(lines: list[str]) -> None:
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"code"}))
def test_a_stage_depends_on_the_digest_of_its_script_and_on_no_module(stage):
    own = f"code/{script_of(stage).path.stem}.txt"
    declared = paths(STAGES[stage]["deps"])
    of_code = [path for path in declared if path.split("/")[0] in ("code", "src", "tests", "params.yaml")]
    # Templates are no modules, so that no digest tells of them.
    assert of_code == [own, *(["src/stillmotion/report/templates"] if stage == "report" else [])]
    assert sorted(set(declared)) == sorted(declared), "a dep stands there twice"


def test_the_digests_depend_on_all_code_and_on_the_params_that_are_checked():
    assert STAGES["code"]["deps"] == ["params.yaml", "src"]
    assert STAGES["code"]["outs"] == [{"code": {"cache": False}}]


def test_the_digests_in_git_are_those_of_the_code(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("digest_code", ROOT / "src" / "digest_code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path / "code")
    wanted = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "code").iterdir()}
    assert set(wanted) == {f"{path.stem}.txt" for path in (ROOT / "src").glob("*.py")}
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "code").glob("*")}
    must_be_empty(
        [
            f"code/{name} is not what `python src/digest_code.py --output code` writes: run dvc repro"
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name)
        ]
    )


def outside_quotes(cmd: str) -> list[str]:
    """Each `${…}` that the shell would see outside of double quotes."""
    pieces = re.split(r'("[^"]*")', cmd)
    return [found for piece in pieces if not piece.startswith('"') for found in re.findall(r"\$\{[^}]*\}", piece)]


def test_what_stands_outside_of_quotes_is_found():
    assert outside_quotes('python a.py --x "data/${item}" --y "${key}"') == []
    assert outside_quotes("""python a.py --x "data/${item}" --y ${key} --z '${item.a}' --w data/"b"/${c}""") == [
        "${key}",
        "${item.a}",
        "${c}",
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_every_param_of_a_cmd_stands_within_double_quotes(stage):
    must_be_empty([f'dvc.yaml, {stage}: "{found}" needs quotes' for found in outside_quotes(STAGES[stage]["cmd"])])


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_those_that_the_script_reads(stage):
    reads = params_read(script_of(stage), options_of(STAGES[stage]["cmd"]))
    declared = declared_params(STAGES[stage])
    must_be_empty(
        reads.faults
        + [
            f"dvc.yaml, {stage}: add to params:      - {read}"
            for read in sorted(reads.always)
            if not any(covers(name, read) for name in declared)
        ]
        + [
            f"dvc.yaml, {stage}: remove from params:      - {name}"
            for name in declared
            if not any(covers(name, read) or covers(read, name) for read in reads.somewhere)
        ]
    )


@pytest.mark.parametrize("script", sorted({script_of(stage).path.name for stage in STAGES}))
def test_what_a_script_reads_in_some_case_is_declared_by_a_stage_of_it(script):
    stages = [stage for stage in STAGES if script_of(stage).path.name == script]
    declared = [name for stage in stages for name in declared_params(STAGES[stage])]
    reads = {
        read for stage in stages for read in params_read(script_of(stage), options_of(STAGES[stage]["cmd"])).somewhere
    }
    must_be_empty(
        [
            f"dvc.yaml, {' or '.join(stages)}: add to params:      - {read}"
            for read in sorted(reads)
            if not any(covers(name, read) for name in declared)
        ]
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_the_cmd_is_a_dep_or_an_out(stage):
    declared = [path for kind in ("deps", "outs", "metrics", "plots") for path in paths(STAGES[stage].get(kind, []))]
    options, script = options_of(STAGES[stage]["cmd"]), script_of(stage)
    must_be_empty(
        [
            f"dvc.yaml, {stage}: --{name} {value} is neither a dep nor an out; declare it"
            for name, value in options.items()
            if name in script.path_options()
            # A folder stands for what is declared below it, and one that is declared for what it holds.
            and not any(
                path == value or path.startswith(f"{value}/") or value.startswith(f"{path}/") for path in declared
            )
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
            for kind in ("outs", "metrics", "plots")
            for entry in stage.get(kind, [])
            for path, settings in ([(entry, {})] if isinstance(entry, str) else entry.items())
            if path.split("/")[0] in ("metrics", "plots", "reports", "code") and settings.get("cache") is not False
        ]
    )


def test_metrics_of_systems_are_outs_as_dvc_lists_those_that_are_called_metrics():
    assert {name: stage["metrics"] for name, stage in STAGES.items() if "metrics" in stage} == {
        "report": [{"metrics/summary.json": {"cache": False}}]
    }
    of_systems = [path for stage in STAGES.values() for path in paths(stage.get("outs", []))]
    assert {path.split("/")[1] for path in of_systems if path.startswith("metrics/")} == {
        "actions",
        "assessment",
        "moments",
        "resources",
        "retrieval",
    }


def test_no_two_stages_write_one_path():
    """As dvc has it, too; by the templates, whatever params name."""
    places = [
        path
        for stage in RESOLVED.values()
        for kind in ("outs", "metrics", "plots")
        for path in paths(stage.get(kind, []))
    ]
    assert sorted(places) == sorted(set(places))


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
    ignored = {"__pycache__", "stillmotion.egg-info"}
    files = sorted(file for file in path.rglob("*") if file.is_file() and not ignored.intersection(file.parts))
    listing = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing.sort(key=lambda row: tuple(row["relpath"].split("/")))
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


IN_GIT = ("src", "code", "params.yaml", "metrics/", "plots/", "reports", "data/sources/toy")
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
