"""What a search has made for it, with dvc in memory; tests/pipeline/test_folder_dataset.py makes it."""

import shutil
from pathlib import Path

import pytest

from stillmotion.errors import InputError
from stillmotion.experiments import dvc_queue, index
from stillmotion.experiments.definition import Layer, load_experiment, read_mapping
from stillmotion.experiments.plan import planned_runs

ROOT = Path(__file__).resolve().parents[2]
OUTS = ["data/raw/mine", "models/backbones/small_clip", "data/embeddings/mine-small_clip"]


class Beside:
    """Experiments that are done at once but for those that fail."""

    def __init__(self):
        self.done = {}
        self.ran = []
        self.brought = []
        self.fails = False

    def run_beside(self, run, targets, *, silent):
        assert silent
        self.ran.append((run.overrides, targets))
        if not self.fails:
            self.done[run.name] = "abc"
        return int(self.fails)

    def bring(self, revision, outs):
        self.brought.append((revision, [str(out) for out in outs]))
        for out in outs:
            out.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    Path("experiments").mkdir()
    Path("experiments/plain.yaml").write_text("about: Few threads; not timed\nset:\n  threads: 1\n")
    study = "about: Threads; not timed\nvary:\n  key: threads\n  values:\n    - 1\n    - 2\n"
    Path("experiments/study.yaml").write_text(study)
    made = Beside()
    monkeypatch.setattr(dvc_queue, "current_commit", lambda dataset: "c0ffee")
    monkeypatch.setattr(dvc_queue, "finished_experiments", lambda commit: dict(made.done))
    monkeypatch.setattr(dvc_queue, "run_beside", made.run_beside)
    monkeypatch.setattr(dvc_queue, "_untracked", lambda folder: [])
    monkeypatch.setattr(index, "_bring", made.bring)
    return made


def test_only_the_embeddings_are_made_whatever_can_be_read_of_the_videos(beside, capsys):
    assert index.build_index("mine", "", "", with_frames=False) == "small_clip"
    overrides = ("dataset=mine", "sample_frames.max_skip_fraction=1.0")
    assert beside.ran == [(overrides, ["embed@small_clip"])]
    assert beside.brought == [("abc", OUTS)]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dvc exp run --temp --name params-search-")


def test_what_is_there_is_not_made_again_and_what_has_run_is_brought(beside):
    index.build_index("mine", "plain", "", with_frames=False)
    index.build_index("mine", "plain", "", with_frames=False)
    assert len(beside.ran) == len(beside.brought) == 1
    made = ("dataset=mine", "threads=1", "+run.experiment=plain", "sample_frames.max_skip_fraction=1.0")
    assert beside.ran[0][0] == made
    # Frames are brought where they are asked for.
    for out in OUTS:
        Path(out).rmdir()
    index.build_index("mine", "plain", "", with_frames=True)
    assert len(beside.ran) == 1
    assert beside.brought[1] == ("abc", [*OUTS, "data/frames/mine"])


def test_a_dataset_that_has_been_added_to_since_is_embedded_anew(beside, monkeypatch):
    versions = {"mine": "100644 aaa 0\tdata/sources/mine.dvc\n"}
    monkeypatch.setattr(dvc_queue, "_git", lambda *arguments: versions[Path(arguments[3]).name])
    index.build_index("mine", "plain", "", with_frames=False)
    assert not index.is_outdated("mine", "small_clip")
    versions["mine"] = "100644 bbb 0\tdata/sources/mine.dvc\n"
    assert index.is_outdated("mine", "small_clip")
    beside.done.clear()  # another commit
    index.build_index("mine", "plain", "", with_frames=False)
    assert len(beside.ran) == len(beside.brought) == 2
    assert not index.is_outdated("mine", "small_clip")


def test_what_nobody_made_for_a_search_is_not_called_outdated(beside):
    assert not index.is_outdated("mine", "small_clip")


def test_an_experiment_that_has_run_on_the_dataset_is_used(beside):
    # As `stillmotion run plain --set dataset=mine` calls it.
    options = Layer("--set", {"dataset": "mine"})
    (run,), _ = planned_runs(load_experiment("plain"), read_mapping(Path("params.yaml")), options)
    beside.done[run.name] = "def"
    index.build_index("mine", "plain", "", with_frames=False)
    assert beside.ran == []
    assert beside.brought == [("def", OUTS)]


def test_what_cannot_be_made_is_one_line(beside):
    beside.fails = True
    with pytest.raises(InputError, match="mine-small_clip: not built, as a stage has failed"):
        index.build_index("mine", "", "", with_frames=False)
    with pytest.raises(InputError, match="--experiment study: a study, of several runs"):
        index.build_index("mine", "study", "", with_frames=False)
    with pytest.raises(InputError, match="--model vit_b_32: is not embedded there; there are small_clip, "):
        index.build_index("mine", "", "vit_b_32", with_frames=False)
    assert beside.brought == []
