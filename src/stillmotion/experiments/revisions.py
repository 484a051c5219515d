"""What a commit, an experiment or the workspace has of the pipeline, read through dvc without a checkout.

A revision is whatever git resolves, the name of an experiment of `dvc exp`, or `workspace`.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.fs import DVCFileSystem, LocalFileSystem
from dvc.repo import Repo
from dvc.repo.experiments.utils import AmbiguousExpRefInfo, exp_refs
from dvc.scm import SCM, RevError, SCMError, resolve_rev
from scmrepo.exceptions import SCMError as DamagedError

from stillmotion.errors import InputError
from stillmotion.io.predictions import FILE_OF_TASK, FOLDER, TaskName, predictions_path
from stillmotion.io.tables import parse_rows
from stillmotion.metrics.answers import answers_of_rows
from stillmotion.metrics.comparison import Answers

WORKSPACE = "workspace"
RESOURCES = "metrics/resources"


class PredictionsMissingError(InputError):
    """A system was evaluated, and its predictions are neither in dvc's cache nor in its remote."""


@dataclass(frozen=True)
class RevisionName:
    """A name that stands for a state of the pipeline."""

    name: str
    """As the user gave it."""
    commit: str | None
    """None for the workspace."""

    def __str__(self) -> str:
        """The name and, where it says something new, the commit."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name
        return f"{self.name} ({self.commit[:7]})"


@dataclass(frozen=True)
class Revision:
    """A state of the pipeline, open to be read."""

    of: RevisionName
    digests: dict[TaskName, dict[str, str]]
    """Of the predictions of each system, by its task."""
    processors: dict[str, str]
    """On which a model's training step was measured, and most likely everything else, by model."""
    files: DVCFileSystem
    """Those of git and those of dvc."""

    def answers(self, task: TaskName, system: str) -> Answers:
        """What a system made of each query.

        Raises:
            PredictionsMissingError: neither the cache nor the remote has its predictions.
            InputError: names the row that is damaged, or of another version of the pipeline.
        """
        path = predictions_path(task, system)
        where = f"{self.of.name}:{path}"
        try:
            content = self.files.read_bytes(path)
        except Exception as error:  # a remote fails in as many ways as there are kinds of them
            place = f"in a checkout of {self.of.commit[:7]}" if self.of.commit else "here"
            reason = _reason(error)
            raise PredictionsMissingError(
                f"{where} is neither in dvc's cache nor in its remote{reason}; "
                f"fetch it with dvc pull {place}, or make it again there with dvc repro"
            ) from None
        return answers_of_rows(parse_rows(content.decode("utf-8", errors="replace"), where), task, where)


def _reason(error: BaseException) -> str:
    """What dvc's error stems from, in brackets; nothing where files are just not there."""
    while error.__cause__ is not None:
        error = error.__cause__
    return "" if isinstance(error, FileNotFoundError) else f" ({' '.join(str(error).split())})"


def find_revision(root: Path, name: str) -> RevisionName | None:
    """What a name stands for, None where that is nothing or no commit.

    Raises:
        InputError: several experiments have the name.
    """
    if name == WORKSPACE:
        return RevisionName(name, None)
    try:
        with closing(SCM(str(root))) as scm:
            commit = resolve_rev(scm, name)
            scm.resolve_commit(commit)
            return RevisionName(name, commit)
    except RevError as error:
        if isinstance(error.__context__, AmbiguousExpRefInfo):
            raise InputError(
                f"{name}: several experiments have this name; give the commit of one, see git for-each-ref refs/exps"
            ) from None
        return None
    except (SCMError, DamagedError, AttributeError):  # no git repository; a tree or a file, which have no author
        return None


def close_name(root: Path, name: str, others: Sequence[str]) -> str | None:
    """The branch, tag, experiment or other that is much like `name`; empty for none, None outside of git."""
    try:
        with closing(SCM(str(root))) as scm:
            names = [*scm.list_branches(), *scm.list_tags(), *(ref.name for ref in exp_refs(scm))]
    except (SCMError, DamagedError):
        return None
    return next(iter(difflib.get_close_matches(name, [WORKSPACE, *map(str, names), *others], n=1)), "")


@contextmanager
def open_revision(root: Path, of: RevisionName) -> Iterator[Revision]:
    """Open a revision to read its predictions.

    Raises:
        InputError: it has no dvc project, or dvc can't read its pipeline.
    """
    try:
        repo = Repo.open(str(root), rev=of.commit, uninitialized=True, config=_remote(root))
    except DvcException as error:
        raise InputError(f"{of.name}: dvc can't open it ({error}); give a commit of this project") from None
    except SyntaxError as error:  # configobj's, of %(x)s, which dvc does not catch
        reason = str(error).rstrip(".")
        raise InputError(f"{of.name}: dvc can't read .dvc/config ({reason}); take %(...)s out of it") from None
    with closing(repo):
        if repo.dvc_dir is None:
            raise InputError(f"{of.name}: it has no .dvc folder; give a revision of a dvc project")
        try:
            digests = _digests(repo)
        except DvcException as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{of.name}: dvc can't read its pipeline ({reason}); mend dvc.yaml or params.yaml"
            ) from None
        files = DVCFileSystem(repo=repo)
        yield Revision(of, digests, _processors(files, of.name), files)


def _remote(root: Path) -> dict[str, Any]:
    """The configuration of today's default remote, which an old commit need not know."""
    with closing(Repo(str(root))) as repo:
        name = repo.config["core"].get("remote")
        return {"core": {"remote": name}, "remote": {name: repo.config["remote"][name]}} if name else {}


def _digests(repo: Repo) -> dict[TaskName, dict[str, str]]:
    """Those of dvc.lock; in the workspace those of what lies there, where it does."""
    digests: dict[TaskName, dict[str, str]] = {task: {} for task in FILE_OF_TASK}
    in_workspace = isinstance(repo.fs, LocalFileSystem)
    for out in repo.index.outs:
        parts = repo.fs.relparts(out.fs_path, repo.root_dir)
        task, system = parts[-2:] if len(parts) == 4 else ("", "")
        if task not in digests or "/".join(parts[:2]) != FOLDER:
            continue
        found = out.get_hash() if in_workspace and out.exists else out.hash_info
        if found:
            digests[task][system] = found.value
    return digests


def _processors(files: DVCFileSystem, name: str) -> dict[str, str]:
    """Processor, and device where it is no CPU, of each model that was measured."""
    if not files.isdir(RESOURCES):
        return {}
    found = {}
    for path in sorted(files.ls(RESOURCES, detail=False)):
        if not path.endswith(".json"):
            continue
        try:
            measured: Any = json.loads(files.read_bytes(path))
        except ValueError as error:
            raise InputError(f"{name}:{path}: not JSON ({error}); make it again with dvc repro") from None
        if isinstance(measured, dict) and "processor" in measured:
            device = measured.get("device", "cpu")
            found[Path(path).stem] = str(measured["processor"]) + ("" if device == "cpu" else f", {device}")
    return found
