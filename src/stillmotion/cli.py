"""The `stillmotion` command.

A command is a function with typer's annotations, added to `app` or to a group such as `score`. It raises
`InputError` for what the user can mend; `run` alone turns errors into one line and an exit status. numpy and
the metrics are imported inside the commands, so that `--help` answers at once.
"""

import stillmotion.config.capped

import csv
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stillmotion.commands.add import add
from stillmotion.commands.compare import compare
from stillmotion.commands.export import export
from stillmotion.commands.mend import mend
from stillmotion.commands.plots import plots
from stillmotion.commands.run import run as run_experiment
from stillmotion.commands.search import search
from stillmotion.commands.serve import serve
from stillmotion.config.interrupts import LINES, Terminated, raise_instead, status_of
from stillmotion.errors import InputError, machine_refusal
from stillmotion.io.atomic import atomic_file, writable_place
from stillmotion.printed import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

USER_ERROR_STATUS = 2
BOOTSTRAP_SEED = 0

Ties = Literal["average", "expected", "optimistic", "pessimistic"]

app = typer.Typer(
    name="stillmotion",
    help="Add videos to the Stillmotion pipeline, run experiments, search videos, compare systems, score predictions, "
    "hand on models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
score = typer.Typer(
    help="Score a similarity matrix or a QVHighlights submission; write the metrics as JSON.",
    rich_markup_mode=None,
)
app.add_typer(score, name="score")
app.command("run")(run_experiment)
app.command("ablate", hidden=True)(run_experiment)
app.command()(add)
app.command()(export)
app.command(hidden=True)(mend)
app.command()(compare)
app.command()(plots)
app.command()(search)
app.command()(serve)


@app.callback(invoke_without_command=True)
def _top(context: typer.Context) -> None:
    _help_without_command(context)


@score.callback(invoke_without_command=True)
def _score(context: typer.Context) -> None:
    _help_without_command(context)


def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USER_ERROR_STATUS)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a user's mistake becomes one line on stderr and exit status 2.

    Args:
        arguments: of the command line; those of the process where None.
    """
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """As `main`, but return the exit status."""
    raise_instead()
    try:
        status = app(args=arguments, standalone_mode=False)
    except typer.TyperException as error:  # an unknown option, a missing argument, a bad value
        return _fail(getattr(error, "format_message", error.__str__)())
    except InputError as error:
        return _fail(str(error))
    except typer.Abort:
        return _interrupted(signal.SIGINT)
    except Terminated:
        return _interrupted(signal.SIGTERM)
    except (OSError, MemoryError) as error:
        refused = machine_refusal(error)
        if refused is None and isinstance(error, OSError) and error.filename:
            refused = f"{error.filename}: {error.strerror}"
        return _fail(refused or str(error))
    if status == status_of(signal.SIGINT):  # which typer has made of it
        return _interrupted(signal.SIGINT)
    return status if isinstance(status, int) else 0


def _interrupted(number: signal.Signals) -> int:
    print(f"stillmotion: {LINES[number]}", file=sys.stderr)
    return status_of(number)


def _fail(message: str) -> int:
    print(one_line(f"stillmotion: error: {message.strip()}"), file=sys.stderr)
    return USER_ERROR_STATUS


@score.command()
def retrieval(
    scores: Annotated[
        Path,
        typer.Option(help="Similarity matrix (.npy): rows are texts, columns videos."),
    ],
    output: Annotated[Path, typer.Option(help="JSON file to write.")],
    relevance: Annotated[
        Path | None,
        typer.Option(
            help="CSV with columns text,video: row and column (from 0) of each pair that belongs together. "
            "Without it the matrix is square and its diagonal is relevant."
        ),
    ] = None,
    ties: Annotated[
        Ties, typer.Option(help="How items of equal score share their ranks; expected: over all their orders.")
    ] = "average",
) -> None:
    """Score a similarity matrix: R@1, R@2, R@5, R@10, MedR, MeanR, MRR, mAP in both directions.

    Rates are percentages; ci95 holds 95 % bootstrap intervals.

    For example:

    stillmotion score retrieval --scores S.npy --output OUT.json
    """
    import numpy as np

    from stillmotion.metrics import retrieval_summary as metrics

    _check_output(output)
    matrix = _read_matrix(scores)
    if relevance is not None:
        pairs = _read_relevance(relevance, matrix.shape)
    elif matrix.shape[0] == matrix.shape[1]:
        pairs = np.stack([np.arange(len(matrix))] * 2, axis=1)
    else:
        raise InputError(
            f"{scores}: {matrix.shape[0]} rows and {matrix.shape[1]} columns; name the pairs with --relevance"
        )
    result = metrics.score_retrieval(matrix, pairs, ties=ties, rng=np.random.default_rng(BOOTSTRAP_SEED))
    num_videos_with_text = len(np.unique(pairs[:, 1]))
    result["protocol"] = {
        "num_texts": matrix.shape[0],
        "num_videos": matrix.shape[1],
        "num_videos_without_text": matrix.shape[1] - num_videos_with_text,
        "relevance": "diagonal" if relevance is None else "pairs",
        "num_relevant_pairs": len(pairs),
        "ties": ties,
        **({"MedR": "median of the queries' expected ranks"} if ties == "expected" else {}),
        "v2t": "any_caption",
        "bootstrap": {"resamples": metrics.NUM_RESAMPLES, "seed": BOOTSTRAP_SEED},
    }
    _write_json(output, result, indent=2)
    for direction in ("t2v", "v2t"):
        values = ", ".join(f"{name} {result[direction][name]:.2f}" for name in metrics.METRICS)
        typer.echo(f"{direction}: {values}")


@score.command()
def moments(
    predictions: Annotated[
        Path,
        typer.Option(help="JSON Lines with qid, pred_relevant_windows, pred_saliency_scores (a submission)."),
    ],
    ground_truth: Annotated[
        Path,
        typer.Option(help="JSON Lines with qid, duration, relevant_windows, relevant_clip_ids, saliency_scores."),
    ],
    output: Annotated[Path, typer.Option(help="JSON file to write: the official result, and R1@0.3 and mIoU.")],
) -> None:
    """Score a QVHighlights submission with the official protocol.

    For example:

    stillmotion score moments --predictions P.jsonl --ground-truth G.jsonl --output OUT.json
    """
    from stillmotion.metrics import moments as metrics

    _check_output(output)
    values = metrics.moment_values(
        _read_rows(predictions),
        _read_rows(ground_truth),
        predictions_name=str(predictions),
        truth_name=str(ground_truth),
    )
    result = metrics.official_metrics(values) | metrics.newer_metrics(values)
    _write_json(output, result, indent=4)
    brief, extra = result["brief"], metrics.additions(values)
    typer.echo(
        f"R1@0.5 {brief['MR-full-R1@0.5']:.2f}, R1@0.7 {brief['MR-full-R1@0.7']:.2f}, "
        f"mAP {brief['MR-full-mAP']:.2f}, mIoU {extra['mIoU']:.2f}, "
        f"{len(values.qids)} queries, {extra['num_empty']} without a window"
    )


def _check_output(path: Path) -> None:
    """Refuse an output that could not be written, before any work is done."""
    if not path.parent.exists():
        raise InputError(f"{path}: its folder {path.parent} does not exist; make it first")
    writable_place(path)


def _write_json(path: Path, value: dict[str, Any], *, indent: int) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=indent, allow_nan=False), encoding="utf-8")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    from stillmotion.io.tables import read_rows

    return read_rows(path)


def _read_matrix(path: Path) -> "NDArray[Any]":
    """The scores, memory-mapped; never unpickled."""
    import numpy as np

    from stillmotion.metrics.retrieval import check_scores

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(6) != np.lib.format.MAGIC_PREFIX:
            raise InputError(f"{path}: not a .npy file; save the matrix with numpy.save")
    try:
        return check_scores(np.lib.format.open_memmap(path, mode="r"))
    except OSError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged header makes numpy raise half a dozen kinds
        raise InputError(f"{path}: {error}; save it with numpy.save as numbers, not objects") from None


def _read_relevance(path: Path, shape: tuple[int, ...]) -> "NDArray[np.int64]":
    """Pairs (P, 2) of text and video; rows are counted as a spreadsheet does, the header is row 1."""
    import numpy as np

    num_texts, num_videos = shape
    row_of_pair: dict[tuple[int, int], int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in ("text", "video") if name not in (reader.fieldnames or [])]
            if missing:
                raise InputError(f"{path} row 1: no column {' and '.join(missing)}; its header is text,video")
            for record in reader:
                row = reader.line_num
                pair = (
                    _index(record["text"], num_texts, f"{path} row {row}: text", "rows"),
                    _index(record["video"], num_videos, f"{path} row {row}: video", "columns"),
                )
                if pair in row_of_pair:
                    raise InputError(f"{path} row {row}: the same pair as row {row_of_pair[pair]}; remove it")
                row_of_pair[pair] = row
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not CSV in UTF-8 ({error}); save it again as such") from None
    without = set(range(num_texts)) - {text for text, _ in row_of_pair}
    if without:
        raise InputError(f"{path}: text {min(without)} has no relevant video; add a row for it")
    return np.array(sorted(row_of_pair), dtype=np.int64)


def _index(value: str | None, count: int, where: str, axis: str) -> int:
    text = (value or "").strip()
    if not text.isascii() or not text.removeprefix("-").isdigit():
        raise InputError(f"{where} is {text[:40]!r}; give a whole number from 0 to {count - 1}")
    if len(text) > 18 or not 0 <= int(text) < count:
        raise InputError(f"{where} is {text[:40]}, but the matrix has {count} {axis}; count from 0")
    return int(text)
