"""Text from outside as it is printed: file names, captions, queries, ids, and what errors say of them.

A control character in a name would steer the terminal, turn the writing around or make two lines of one, and in a
figure no XML is left. What is printed, logged, drawn or written into a page goes through here.
"""

import html
import json
import logging
import re
from collections.abc import Iterable
from typing import Any

_BREAKS = r"\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029"
_CONTROLS = (
    r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    # Invisible ones and those that turn the writing around; the joiners U+200C and U+200D belong to words and emoji.
    r"\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    # No characters: halves of pairs, which stand for bytes of a file name that are not UTF-8, and what XML refuses.
    r"\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
)
_CONTROL = re.compile(f"[{_CONTROLS}]")
_NO_JSON = re.compile(rf"[{_CONTROLS}\x85\u2028\u2029]")
_BREAK = re.compile(f"[{_BREAKS}]")
_SPACES = re.compile(r"\s+")
_TERMINAL_CODE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
_MARKUP = re.compile(r"[|`*~$\[\]\\]|(?<![^\W_])_|_(?![^\W_])")


def one_line(text: object) -> str:
    r"""The text on one line: a line break is a space, another control character its escape.

    Example:
        A file that is named `a`, ESC, `[31m`, line break, `b` is printed as `a\x1b[31m b`.
    """
    spaced = _SPACES.sub(lambda run: " " if _BREAK.search(run[0]) else run[0], str(text))
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), spaced)


def one_per_line(rows: Iterable[object]) -> str:
    """Rows, each on one line of its own."""
    return "\n".join(map(one_line, rows))


def json_text(value: Any) -> str:
    """The value as JSON over several lines: what would steer a terminal is escaped as JSON escapes it."""
    return _NO_JSON.sub(lambda found: json.dumps(found[0])[1:-1], json.dumps(value, indent=2, ensure_ascii=False))


def markdown(text: object) -> str:
    """The text as it stands, within a paragraph or a cell of a table in Markdown: none of it is markup."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", html.escape(one_line(text), quote=False))


def without_controls(text: str) -> str:
    """The text without control characters and colour codes of terminals; its line breaks stay."""
    return _CONTROL.sub("", _TERMINAL_CODE.sub("", text))


class OneLine(logging.Formatter):
    """A record of a log as one line; a traceback keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102, N802 (of logging)
        return one_line(super().formatMessage(record))
