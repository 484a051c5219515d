import json
import re
import zipfile
from pathlib import Path

import pytest

from stillmotion.config.data import DownloadParams, FolderParams
from stillmotion.datasets.benchmark import CaptionedBenchmark
from stillmotion.datasets.folder import FolderSource
from stillmotion.datasets.qvhighlights import QueriedBenchmark
from stillmotion.datasets.registry import BENCHMARKS, open_source
from stillmotion.datasets.toy import ToySource
from stillmotion.errors import InputError
from stillmotion.io.memo import file_digest

README = Path(__file__).resolve().parents[2] / "data" / "sources" / "README.md"

CAPTIONS = {"v_a": {"duration": 9.0, "timestamps": [[0, 4]], "sentences": ["x"]}}
QUERY = {"qid": 1, "query": "x", "vid": "v_a", "duration": 9, "relevant_windows": [[0, 4]]}
HEADER = "video-name,t-start,t-end,action-label,video-duration,temporal-region-label\n"


@pytest.fixture
def params(toy_params, benchmark_params):
    return DownloadParams(
        generated={"toy": toy_params(), "clips": toy_params(seed=1, narration_shift_s=2.0)},
        folder=FolderParams(validation_fraction=0.2, test_fraction=0.3),
        benchmarks=benchmark_params(),
    )


@pytest.fixture
def folder(tmp_path):
    """Make a folder with annotation files and one empty video."""

    def make(files: dict[str, str]) -> Path:
        root = tmp_path / "mine"
        (root / "videos").mkdir(parents=True)
        (root / "videos" / "v_a.mp4").touch()
        for name, text in files.items():
            (root / name).write_text(text)
        return root

    return make


@pytest.mark.parametrize("name", ["toy", "clips"])
def test_a_generated_dataset_is_drawn_whatever_its_folder_holds(params, tmp_path, name):
    assert open_source(tmp_path / name, params) == ToySource(params.generated[name])
    (tmp_path / name).mkdir()
    (tmp_path / name / "captions.csv").write_text("video,caption\na.mp4,x\n")
    assert open_source(tmp_path / name, params) == ToySource(params.generated[name])


def test_any_other_folder_is_read(params, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.mp4").touch()
    (tmp_path / "mine" / "captions.csv").write_text("video,caption\na.mp4,x\n")
    assert isinstance(open_source(tmp_path / "mine", params), FolderSource)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"train.json": json.dumps(CAPTIONS), "val_1.json": "{}"}, CaptionedBenchmark),
        (
            {
                "activitynet_v1-3_train_tsp_groundtruth.csv": HEADER + "a,0,4,Jump,9,Action\n",
                "activitynet_v1-3_valid_tsp_groundtruth.csv": HEADER,
            },
            CaptionedBenchmark,
        ),
        (
            {"highlight_train_release.jsonl": json.dumps(QUERY), "highlight_val_release.jsonl": ""},
            QueriedBenchmark,
        ),
        ({"charades_train_release.jsonl": json.dumps(QUERY), "charades_test_release.jsonl": ""}, QueriedBenchmark),
    ],
)
def test_the_annotation_files_say_which_benchmark_a_folder_is_whatever_its_name(params, folder, files, kind):
    source = open_source(folder(files), params)
    assert isinstance(source, kind)
    assert [video.video_id for video in source.collect(None, workers=1, memo=None)] == ["v_a"]


def test_the_zip_files_of_msrvtt_are_one_of_them(params, folder):
    root = folder({})
    video = {"video_id": "v_a", "split": "test", "start time": 0, "end time": 9}
    for name in ("train_val_annotation.zip", "test_videodatainfo.json.zip"):
        with zipfile.ZipFile(root / name, "w") as archive:
            member = "test_videodatainfo.json" if name.startswith("test") else "train_val_videodatainfo.json"
            archive.writestr(member, json.dumps({"videos": [video], "sentences": []}))
    assert isinstance(open_source(root, params), CaptionedBenchmark)


def test_a_captions_csv_counts_before_the_files_of_a_benchmark(params, folder):
    root = folder({"captions.csv": "video,caption\nv_a.mp4,x\n", "train.json": json.dumps(CAPTIONS)})
    assert isinstance(open_source(root, params), FolderSource)


def test_a_file_of_a_set_without_the_others_is_no_folder_of_ones_own(params, folder):
    with pytest.raises(InputError, match="train.json: no such file, and ActivityNet Captions needs it"):
        open_source(folder({"val_1.json": "{}"}), params)


def test_the_files_of_two_benchmarks_in_one_folder_are_an_error(params, folder):
    root = folder({"train.json": "{}", "highlight_val_release.jsonl": "", "highlight_train_release.jsonl": ""})
    with pytest.raises(InputError) as caught:
        open_source(root, params)
    assert str(caught.value) == (
        f"{root}: annotation files of several benchmarks (train.json, highlight_train_release.jsonl); "
        "give each a folder of its own"
    )


def test_an_unknown_name_lists_the_known_ones_and_where_to_put_a_folder(params, tmp_path):
    for name, file in (("mine", "a.mp4"), ("activitynet", "val_2.json"), ("other", "notes.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    with pytest.raises(InputError) as caught:
        open_source(tmp_path / "mime", params)
    message = str(caught.value)
    known = "activitynet, clips, mine, toy"
    assert message.startswith(f"dataset 'mime' is unknown; did you mean 'mine'?; there are {known}; ")
    assert "for videos of your own, `stillmotion add FOLDER --name mime`" in message
    assert message.endswith(f"for a public benchmark see {tmp_path / 'README.md'}")


def test_an_empty_folder_says_so(params, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine: no video files; put some there"):
        open_source(tmp_path / "mine", params)


def test_a_file_belongs_to_one_benchmark_alone():
    names = [name for benchmark, _ in BENCHMARKS for files in benchmark for name in files.origins]
    assert len(set(names)) == len(names)


def test_the_page_of_sources_names_every_annotation_file_and_where_it_comes_from():
    page = README.read_text(encoding="utf-8")
    told = {
        word
        for benchmark, _ in BENCHMARKS
        for files in benchmark
        for word in (files.title, *files.origins.values(), *(f"\n| `{name}` |" for name in files.origins))
    }
    assert [word for word in sorted(told) if word not in page] == [], f"not in {README.name} of data/sources; add it"


@pytest.mark.real
def test_the_page_of_sources_has_the_digests_of_the_real_files(real_material):
    stated = dict(re.findall(r"^\| `([^`]+)` \| .* \| `([0-9a-f]{64})` \|$", README.read_text("utf-8"), re.MULTILINE))
    assert len(stated) >= 15
    for name, digest in stated.items():
        (file,) = real_material.glob(f"*/*{name}")
        assert file_digest(file) == digest, name
