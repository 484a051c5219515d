"""Texts of the page that lead to the files that their numbers come from."""

import re
from collections.abc import Sequence

from stillmotion.claims.systems import Origin


class Linked(str):
    """A text that keeps the files that the numbers beside it come from."""

    origins: Sequence[Origin]


def linked(text: str, origins: Sequence[Origin]) -> Linked:
    """The text with its files."""
    found = Linked(text)
    found.origins = origins
    return found


def parts_of(text: str, origins: Sequence[Origin]) -> tuple[list[str | Origin], list[Origin]]:
    """The text in parts, where it names the key of a file that file, and the files that it does not name.

    Example:
        `a − b (R@1)` with the files of a and c is `[a, " − b (R@1)"]`, and c is not named.
    """
    by_key = {origin.key: origin for origin in origins}
    longest_first = sorted(by_key, key=len, reverse=True)
    names = rf"(?<![\w-])({'|'.join(map(re.escape, longest_first))})(?![\w-])"
    found = re.split(names, text) if by_key else [text]
    parts: list[str | Origin] = [by_key[part] if place % 2 else part for place, part in enumerate(found)]
    return [part for part in parts if part], [origin for origin in dict.fromkeys(origins) if origin not in parts]
