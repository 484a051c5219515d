"""What every block of params.yaml is made of."""

import re
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Batch = Annotated[int, Field(ge=2)]
"""Of pairs that are told apart from one another: one alone would teach nothing."""
Seed = Annotated[int, Field(ge=0)]


MAX_NAME = 100
"""Two of them stand in one name of a file, of which most file systems take 255 bytes."""
_NUMBER = re.compile(r"0[xX][0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9]+)?")


def _a_text(name: object) -> object:
    if not isinstance(name, str):
        kind = "a truth value" if isinstance(name, bool) else "a number" if isinstance(name, int | float) else "no text"
        raise ValueError(f"{name!r} is {kind} to YAML and no name; put another letter into it")
    return name


def _checked(name: str, *, allowed: str, besides: str) -> str:
    if len(name) > MAX_NAME or not name[:1].isalnum() or not re.fullmatch(allowed, name):
        shown = name if len(name) <= MAX_NAME else f"{name[:20]}…"
        raise ValueError(
            f"{shown!r} can't be a name, as it stands in paths and commands; take letters, digits{besides}, at most "
            f"{MAX_NAME} of them, and begin with a letter or digit"
        )
    if _NUMBER.fullmatch(name):
        raise ValueError(f"{name!r} is a number, which YAML does not read as a name; put a letter into it")
    return name


Name = Annotated[
    str, BeforeValidator(_a_text), AfterValidator(partial(_checked, allowed=r"[A-Za-z0-9_]+", besides=" and _"))
]
"""A key that dvc looks up among params."""
PathName = Annotated[
    str, BeforeValidator(_a_text), AfterValidator(partial(_checked, allowed=r"[A-Za-z0-9_.-]+", besides=", -, _ and ."))
]
"""What stands in paths and commands: the name of a dataset, a model or a system."""


class Section(BaseModel):
    """A block of params.yaml: frozen, with no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
