"""A user's mistake is one line that names file, row and mend, status 2, and nothing half-written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.pipeline

DOWNLOAD = "download.py --source data/sources/mine --output data/raw/mine"


def check_refusal(run: Any, stage: str, *words: str) -> None:
    """One line of the stage's, with these words in it; nothing before it but progress."""
    *log, line = run.err.splitlines()
    assert line.startswith(f"{stage}: error: ")
    assert [before for before in log if not before.startswith("videos probed: ")] == []
    for word in words:
        assert word in line
    assert run.out == ""


def check_nothing_was_written(project: Any, *besides: str) -> None:
    """No out, no half of one; what git tracks is as it was but for params.yaml, the user's own, and what is named."""
    changed = {line[3:] for line in project.git("status", "--porcelain", "--ignored").splitlines()}
    assert {name for name in changed if not name.startswith(".dvc/")} <= {"params.yaml", "data/sources/mine/", *besides}
    assert project.leftovers() == []


@pytest.fixture
def mine(workplace: Any, make_clip: Callable[..., Path]) -> Path:
    """A folder dataset without captions.csv."""
    folder = workplace.root / "data" / "sources" / "mine"
    make_clip(folder / "a.mp4", seconds=2.0)
    return folder


CAPTIONS_FAULTS = {
    "no column": (b"video,start,end\na.mp4,0,1\n", "captions.csv row 1: column 'caption' is missing; add it"),
    "misspelt column": (b"video,captoin\na.mp4,x\n", "row 1: unknown column 'captoin'; did you mean 'caption'?"),
    "semicolons": (b"video;caption\na.mp4;x\n", "captions.csv row 1: separated by semicolons; save it with commas"),
    "unknown video": (b"video,caption\na.mp4,x\nb.mp4,y\n", "captions.csv row 3: no file 'b.mp4'"),
    "not a time": (
        b"video,caption,start,end\na.mp4,x,0,1:30\n",
        "captions.csv row 2: end '1:30' is not a number; write seconds such as 12.5",
    ),
    "end before start": (
        b"video,caption,start,end\na.mp4,x,1,0.5\n",
        "captions.csv row 2: end 0.5 is not after start 1",
    ),
    "time past the end": (
        b"video,caption,start,end\na.mp4,x,1,9\n",
        "captions.csv row 2: end 9 is past the video's end",
    ),
    "Latin-1": ("video,caption\na.mp4,x\na.mp4,Übung\n".encode("latin-1"), "captions.csv row 3: not UTF-8; save"),
    "UTF-16": ("video,caption\na.mp4,x\n".encode("utf-16"), "captions.csv row 1: not UTF-8; save"),
    "open quote": (b'video,caption\na.mp4,"x\n', "captions.csv row 2: not CSV"),
    "no rows": (b"video,caption\n", "captions.csv: a header but no rows"),
    "no split": (
        b"video,caption,split\na.mp4,x,val\n",
        "captions.csv row 2: unknown split 'val'; did you mean 'validation'?",
    ),
}


@pytest.mark.parametrize("fault", CAPTIONS_FAULTS)
def test_captions_csv_at_fault(workplace, mine, fault):
    content, message = CAPTIONS_FAULTS[fault]
    (mine / "captions.csv").write_bytes(content)
    check_refusal(workplace.stage(DOWNLOAD, status=2), "download", "data/sources/mine/captions.csv", message)
    check_nothing_was_written(workplace)


def test_a_folder_without_videos(workplace, mine):
    (mine / "a.mp4").unlink()
    (mine / "captions.csv").write_text("video,caption\na.mp4,x\n", encoding="utf-8")
    run = workplace.stage(DOWNLOAD, status=2)
    check_refusal(run, "download", "data/sources/mine: no video files; put some there")
    check_nothing_was_written(workplace)


def test_two_videos_of_one_id(workplace, mine, make_clip):
    # Composed and decomposed, as Linux and macOS write them.
    for name in ("\u00dcbung.mp4", "U\u0308bung.mp4"):
        make_clip(mine / name, seconds=1.0)
    (mine / "captions.csv").write_text("video,caption\na.mp4,x\n", encoding="utf-8")
    run = workplace.stage(DOWNLOAD, status=2)
    check_refusal(run, "download", "data/sources/mine: ", "is there twice", "rename one")
    check_nothing_was_written(workplace)


def test_an_unknown_dataset(workplace):
    run = workplace.stage("download.py --source data/sources/toi --output data/raw/toi", status=2)
    check_refusal(run, "download", "dataset 'toi' is unknown; did you mean 'toy'?")
    check_nothing_was_written(workplace)


STAGES = {
    "download": DOWNLOAD,
    "linear_probe": "linear_probe.py --embeddings data/embeddings/x --output models/probes/x",
    "report": "report.py --raw data/raw/x/tables --frames data/frames/x --metrics metrics --plots plots "
    "--predictions data/predictions --embeddings data/embeddings/x "
    "--coverage-model x --published data --studies reports/ablations --summary metrics/summary.json "
    "--output reports/results",
}
PARAMS_FAULTS: dict[str, tuple[Any, str]] = {
    "misspelt": (
        ("num_train:", "num_tarin:"),
        "unknown param download.generated.toy.num_tarin; did you mean 'num_train'?",
    ),
    "missing": (("class_template:", "# class_template:"), "param embed.class_template is missing; add it"),
    "unknown backbone": ({"run.backbones": ["small_klip"]}, "run.backbones: unknown 'small_klip'; did you mean"),
    "no number": ({"download.generated.toy.fps": "many"}, "param download.generated.toy.fps is 'many'"),
    "not YAML": (("dataset: toy", "dataset: [toy"), "not YAML"),
}


@pytest.mark.parametrize(
    ("stage", "fault"),
    [*(("download", fault) for fault in PARAMS_FAULTS), ("linear_probe", "missing"), ("report", "misspelt")],
)
def test_params_at_fault(workplace, stage, fault):
    change, message = PARAMS_FAULTS[fault]
    if isinstance(change, dict):
        workplace.set_params(change)
    else:
        replace_in_params(workplace, *change)
    check_refusal(workplace.stage(STAGES[stage], status=2), stage, "params.yaml: ", message)
    check_nothing_was_written(workplace)


def replace_in_params(project: Any, before: str, after: str) -> None:
    path = project.root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("cmd", "stage", "message"),
    [
        (
            "backbone.py --name small_klip --weights data/weights --output models/backbones/x",
            "backbone",
            "backbones has no",
        ),
        (
            "optimise_thresholds.py --selection vc9 --raw r --embeddings e --output o",
            "optimise_thresholds",
            "selections has",
        ),
    ],
)
def test_a_variant_that_params_do_not_have(workplace, cmd, stage, message):
    check_refusal(workplace.stage(cmd, status=2), stage, "params.yaml: ", message)
    check_nothing_was_written(workplace)


def test_inputs_that_are_not_there_yet(workplace):
    for stage in ("linear_probe", "report"):
        run = workplace.stage(STAGES[stage], status=2)
        (line,) = run.err.splitlines()
        assert line.startswith(f"{stage}: error: ")
    check_nothing_was_written(workplace)


def test_an_environment_variable_at_fault(workplace):
    run = workplace.stage(DOWNLOAD, status=2, STILLMOTION_WORKERS="two")
    check_refusal(run, "download", "STILLMOTION_WORKERS is 'two'; set it to a whole number of 1 or more")


def check_dvc_refusal(run: Any, *words: str) -> None:
    """Through dvc: no traceback, and one line with these words beside dvc's own."""
    assert run.status != 0
    assert "Traceback" not in run.text
    assert [line for line in run.err.splitlines() if all(word in line for word in words)], run.err


@pytest.mark.slow
def test_what_a_user_of_dvc_sees(workplace, mine):
    (mine / "captions.csv").write_text("video,caption\na.mp4,x\nb.mp4,y\n", encoding="utf-8")
    workplace.set_params({"dataset": "mine"})
    run = workplace.dvc("repro", "download", status=None)
    check_dvc_refusal(run, "download: error: data/sources/mine/captions.csv row 3: no file 'b.mp4'")
    assert "exited with 2" in run.err

    workplace.set_params({"dataset": "toi"})
    check_dvc_refusal(workplace.dvc("repro", status=None), "data/sources/toi")

    workplace.set_params({"dataset": "toy", "run.backbones": ["small_klip"]})
    check_dvc_refusal(
        workplace.dvc("repro", "backbone", status=None),
        "digest_code: error: params.yaml: run.backbones: unknown 'small_klip'; did you mean 'small_clip'?",
    )

    workplace.git("checkout", "--quiet", "params.yaml")
    run = workplace.dvc("exp", "run", "--set-param", "train_aggregator.learning_rat=1", status=None)
    check_dvc_refusal(run, "learning_rat")

    replace_in_params(workplace, "num_train:", "num_tarin:")
    run = workplace.dvc("repro", "download", status=None)
    check_dvc_refusal(
        run,
        "digest_code: error: params.yaml: unknown param download.generated.toy.num_tarin; did you mean 'num_train'?",
    )

    workplace.git("checkout", "--quiet", "params.yaml")
    # The digests of the code, which are made before anything is.
    check_nothing_was_written(workplace, "dvc.lock", "code/")
