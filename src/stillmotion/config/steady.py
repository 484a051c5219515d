"""That the params of a stage are at its end what they were when it began.

dvc writes down those of its end (issue 11058 of dvc): what came of the ones before an edit would pass for what the new
ones give, in dvc.lock and in dvc's cache, for good.
"""

import contextlib
import os
import re
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
    before = FILE.read_text(encoding="utf-8-sig") if "DVC_STAGE" in os.environ and FILE.is_file() else None
    yield
    if before is None or (after := FILE.read_text(encoding="utf-8-sig")) == before:
        return
    from stillmotion.config.yaml_files import parse_yaml  # which takes its time, for what is rare

    old, new, code = parse_yaml(before, FILE), parse_yaml(after, FILE), script.read_text(encoding="utf-8")
    for name in old | new:
        if old.get(name) != new.get(name) and re.search(rf"\b{re.escape(name)}\b", code):
            raise InputError(
                f"{FILE}: {name} was edited while this ran, and dvc would take what came of the params before for what "
                "the new ones give; run dvc repro again"
            )
