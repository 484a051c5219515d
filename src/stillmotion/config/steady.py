"""That the params of a stage are at its end what they were when it began.

dvc writes down those of its end (issue 11058 of dvc): what came of the ones before an edit would pass for what the new
ones give, in dvc.lock and in dvc's cache, for good.
"""

import ast
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stillmotion.errors import InputError

FILE = Path("params.yaml")


@contextlib.contextmanager
def steady_params(script: Path) -> Iterator[None]:
    """Hold the sections of params.yaml that a script names to what they are, where dvc runs it as a stage.

    Raises:
        InputError: one was edited meanwhile.
    """
    before = FILE.read_bytes() if "DVC_STAGE" in os.environ and FILE.is_file() else None
    yield
    if before is None or (FILE.is_file() and FILE.read_bytes() == before):
        return
    from stillmotion.config.yaml_files import parse_yaml, read_yaml  # which takes its time, for what is rare

    old, new = parse_yaml(before.decode("utf-8-sig"), FILE), read_yaml(FILE)
    nodes = list(ast.walk(ast.parse(script.read_bytes())))
    named = {getattr(node, field, None) for field in ("attr", "value") for node in nodes}  # params.embed, or "embed"
    for name in old:
        if name in named and (not isinstance(new, dict) or new.get(name) != old[name]):
            raise InputError(
                f"{FILE}: {name} was edited while this ran, and dvc would take what came of the params before for what "
                "the new ones give; run dvc repro again"
            )
