"""The one exception that a user's mistake raises."""


class InputError(ValueError):
    """A file, a row or a param that the user can mend.

    Its message is one line that names the file, the row or the param, and the mend. Stage scripts and the
    `stillmotion` command print that line and exit with status 2; any other exception is a bug and keeps its
    traceback.
    """
