"""MTEB evaluates a model folder: on a task that is made here, R@K is that of our own evaluation."""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.errors import InputError
from stillmotion.io.records import Action, Caption, Moment, Video, save_records

pytestmark = pytest.mark.slow  # MTEB takes ten seconds to import
NUM_VIDEOS, RECALLS = 12, (1, 2, 5, 10)
TEXTS = [f"a {color} {thing} {doing}" for color in ("red", "dark blue") for thing in ("ball", "pan", "small dog")
         for doing in ("spins", "falls down", "moves left", "is put away")]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, make_video):
    """A folder with twelve videos, two captions each, and their tables."""
    root = tmp_path_factory.mktemp("dataset")
    videos, captions = [], []
    for number in range(NUM_VIDEOS):
        name = f"v{number:02}"
        make_video(root / f"{name}.mp4", number)
        videos.append(Video(name, f"{name}.mp4", "test", None, None, None, None, None, None, "ok"))
        captions += [
            Caption(f"{name}#{k}", name, TEXTS[2 * number + k], None, None) for k in range(2)
        ]  # fmt: skip
    for kind, rows in ((Video, videos), (Caption, captions), (Moment, []), (Action, [])):
        save_records(root / "raw", kind, rows)
    return root


@pytest.fixture(scope="module")
def own(dataset, project, run_script):
    """The metrics of our own evaluation: stages sample_frames, embed, train_aggregator and evaluate_retrieval."""
    yaml = ruamel.yaml.YAML()
    params = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"] |= {"size_px": 32}
    params["embed"] |= {"clip_counts": [1, 8]}
    with (dataset / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    model = project / "models" / "backbones" / "small_clip"
    env = os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu", "STILLMOTION_WORKERS": "1"}
    embedded = ["--raw", "raw", "--embeddings", "embedded"]
    scored = ["--metrics", "metrics.json", "--predictions", "predictions", "--aggregator", "mean"]
    for script, *options in (
        ("sample_frames", "--raw", "raw", "--output", "frames"),
        ("embed", "--model", model, "--raw", "raw", "--frames", "frames", "--output", "embedded"),
        ("train_aggregator", "--scorer", "mean", *embedded, "--output", "mean", "--plot", "plot.json"),
        ("evaluate_retrieval", "--scorer", "mean", "--model", model, *embedded, *scored),
    ):
        done = run_script(script, *options, cwd=dataset, env=env)
        assert done.returncode == 0, done.stderr
    return json.loads((dataset / "metrics.json").read_text())["by_num_clips"]


@pytest.fixture(scope="module")
def make_task(dataset):
    """A video retrieval task of MTEB from the same files; of every other one it has the bytes, as the hub's have."""
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    files = sorted(dataset.glob("*.mp4"))
    held = [
        {"path": None, "bytes": file.read_bytes()} if n % 2 else {"path": str(file)} for n, file in enumerate(files)
    ]
    videos = datasets.Dataset.from_dict({"id": [file.stem for file in files], "video": held}).cast_column(
        "video", datasets.Video()
    )
    ids = [f"t{number:02}" for number in range(len(TEXTS))]
    texts = datasets.Dataset.from_dict({"id": ids, "text": TEXTS})
    t2v = {name: {files[number // 2].stem: 1} for number, name in enumerate(ids)}
    v2t = {file.stem: {ids[2 * n]: 1, ids[2 * n + 1]: 1} for n, file in enumerate(files)}

    def make(category):
        described = TaskMetadata(
            name=f"Tiny{category.upper()}", description="made in a test", dataset={"path": "none", "revision": "1"},
            type="Any2AnyRetrieval", eval_langs=["eng-Latn"], eval_splits=["test"], main_score="ndcg_at_10",
            reference=None, category=category, modalities=["video", "text"], date=None, domains=None,
            task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
            bibtex_citation=None,
        )  # fmt: skip

        class Tiny(AbsTaskRetrieval):
            metadata = described
            k_values = RECALLS

            def load_data(self, **_):
                parts = (texts, videos, t2v) if category == "t2v" else (videos, texts, v2t)
                queries, corpus, relevant = parts
                split = RetrievalSplitData(corpus=corpus, queries=queries, relevant_docs=relevant, top_ranked=None)
                self.dataset, self.data_loaded = {"default": {"test": split}}, True

        return Tiny()

    return make


@pytest.mark.parametrize("num_clips", [1, 8])
@pytest.mark.parametrize("direction", ["t2v", "v2t"])
def test_recall_by_mteb_is_that_of_our_own_evaluation(direction, num_clips, own, project, make_task, monkeypatch):
    import mteb

    from stillmotion.api import Sampling
    from stillmotion.mteb import FolderEncoder

    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")
    encoder = FolderEncoder(project / "models" / "backbones" / "small_clip", sampling=Sampling(num_clips=num_clips))
    task = make_task(direction)
    (result,) = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False).task_results
    (scores,) = result.scores["test"]
    expected = own[str(num_clips)][direction]
    assert 0 < expected["R@1"] < expected["R@10"] <= 100
    # R@K asks whether any relevant one is among the first K, which MTEB calls a hit rate
    found = {f"R@{k}": 100 * scores[f"hit_rate_at_{k}"] for k in RECALLS}
    assert found == pytest.approx({f"R@{k}": expected[f"R@{k}"] for k in RECALLS}, abs=1e-2)


def test_mtebs_own_command_takes_a_folder_as_a_model(project, make_task, monkeypatch, tmp_path):
    import mteb

    from stillmotion.mteb import main

    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")
    monkeypatch.setattr(mteb, "get_tasks", lambda **_: [make_task("t2v")])
    monkeypatch.setattr(sys, "argv", ["mteb"])
    folder = project / "models" / "backbones" / "small_clip"
    main(["run", "-m", str(folder), "-t", "TinyT2V", "--output-folder", str(tmp_path)])
    (written,) = tmp_path.rglob("TinyT2V.json")
    assert "stillmotion__small_clip" in written.parts
    assert json.loads(written.read_text())["scores"]["test"][0]["hit_rate_at_10"] > 0


def test_a_video_that_can_not_be_decoded_and_rows_of_another_kind_are_told(project, make_task, tmp_path):
    import datasets
    from torch.utils.data import DataLoader

    from stillmotion.mteb import FolderEncoder

    encoder = FolderEncoder(project / "models" / "backbones" / "small_clip")
    named = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
    broken = datasets.Dataset.from_dict({"video": [{"path": "a.mp4", "bytes": b"no video"}]})
    broken = broken.cast_column("video", datasets.Video())
    with pytest.raises(InputError, match="none of 1 videos can be decoded"):
        encoder.encode(DataLoader(broken), **named)
    with pytest.raises(InputError, match="image: neither text nor video; choose a task that has one"):
        encoder.encode(DataLoader(datasets.Dataset.from_dict({"image": [1]})), **named)


def test_without_mteb_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    monkeypatch.delitem(sys.modules, "stillmotion.mteb", raising=False)
    with pytest.raises(InputError, match=r"mteb(\.cli)? is not installed; pip install 'stillmotion\[mteb\]' brings it"):
        importlib.import_module("stillmotion.mteb")


def test_a_mistake_of_the_command_is_one_line_and_status_2(tmp_path):
    (tmp_path / "mteb.py").write_text("raise ModuleNotFoundError('gone', name='mteb')\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, "-m", "stillmotion.mteb", "run"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    told = "stillmotion.mteb: error: mteb is not installed; pip install 'stillmotion[mteb]' brings it\n"
    assert done.stderr == told


def test_rows_with_a_text_and_a_video_are_along_the_sum_of_both(project, dataset):
    import datasets
    from torch.utils.data import DataLoader

    from stillmotion.mteb import FolderEncoder

    encoder = FolderEncoder(project / "models" / "backbones" / "small_clip")
    named = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
    rows = datasets.Dataset.from_dict({"text": ["a ball"], "video": [str(dataset / "v00.mp4")]})
    both = encoder.encode(DataLoader(rows.cast_column("video", datasets.Video())), **named)
    text = encoder.model.embed_texts(["a ball"])
    video = encoder.model.embed_videos([dataset / "v00.mp4"]).vectors
    np.testing.assert_allclose(both * np.linalg.norm(text + video), text + video, atol=1e-6)
