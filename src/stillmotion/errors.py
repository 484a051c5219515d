"""What is no bug: a user's mistake, and what the machine refuses."""

import errno
import os
from collections.abc import Sequence

MAX_NAMED = 3
"""Faults of rows that one line names."""


class InputError(ValueError):
    """A file, a row or a param that the user can mend.

    Its message is one line that names the file, the row or the param, and the mend. Stage scripts and the
    `stillmotion` command print that line and exit with status 2, as for what `machine_refusal` knows; any other
    exception is a bug and keeps its traceback.
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


_MENDS = {
    errno.ENOSPC: "free some space there, or have it elsewhere (STILLMOTION_MEMO, TMPDIR, dvc's cache.dir)",
    errno.EDQUOT: "free some of your quota, or have it elsewhere (STILLMOTION_MEMO, TMPDIR, dvc's cache.dir)",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "allow writing there, or work elsewhere",
    errno.EACCES: "allow it, or work elsewhere",
    errno.EPERM: "allow it, or work elsewhere",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has no more open files to give",
    errno.EIO: "the disk or its connection is failing: look at the system's log",
    errno.ENOMEM: "close other programs, or take a smaller batch",
    errno.EAGAIN: "allow more processes (ulimit -u)",
}


def machine_refusal(error: OSError | MemoryError) -> str | None:
    """The line for what the machine refuses: a full disk, a folder that is read-only, too many open files.

    Returns:
        The file where one is known, the reason and the mend; None for errors that a bug would raise too.
    """
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({error})' if str(error) else ''}; {_MENDS[errno.ENOMEM]}"
    mend = _MENDS.get(error.errno or 0)
    if mend is None:
        return None
    where = f"{error.filename2 or error.filename}: " if error.filename else ""
    return f"{where}{os.strerror(error.errno or 0).lower()}; {mend}"
