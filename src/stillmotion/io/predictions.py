"""Where the evaluate stages keep what each system made of each query."""

from typing import Literal

TaskName = Literal["retrieval", "moments"]
FOLDER = "data/predictions"
FILE_OF_TASK: dict[TaskName, str] = {"retrieval": "ranks.jsonl", "moments": "queries.jsonl"}


def predictions_path(task: TaskName, system: str) -> str:
    """The file of a system's predictions, from the project's root."""
    return f"{FOLDER}/{task}/{system}/{FILE_OF_TASK[task]}"
