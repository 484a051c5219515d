"""The one exception that a user's mistake raises."""

from collections.abc import Sequence

MAX_NAMED = 3
"""Faults of rows that one line names."""


class InputError(ValueError):
    """A file, a row or a param that the user can mend.

    Its message is one line that names the file, the row or the param, and the mend. Stage scripts and the
    `stillmotion` command print that line and exit with status 2; any other exception is a bug and keeps its
    traceback.
    """


def fault_of_rows(where: object, faults: Sequence[str], total: int) -> InputError:
    """One line for the faults of rows, which names the first few and says how many there are.

    Args:
        where: the file.
        faults: `row 3: …`, at least the first `MAX_NAMED`.
        total: how many there are.
    """
    if total == 1:
        return InputError(f"{where} {faults[0]}")
    rest = f"; and {total - MAX_NAMED} more" if total > MAX_NAMED else ""
    return InputError(f"{where}: {total} rows are at fault: {'; '.join(faults[:MAX_NAMED])}{rest}")
