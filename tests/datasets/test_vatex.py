import pytest

from stillmotion.datasets.vatex import read_vatex

TRAIN, VALIDATION = "vatex_training_v1.0.json", "vatex_validation_v1.0.json"
TEST = "vatex_public_test_english_v1.1.json"


def clip(video_id: str, *captions: str) -> dict:
    return {"videoID": video_id, "enCap": list(captions), "chCap": ["一个人"]}


FILES = {
    TRAIN: [clip("-a_b_000001_000011", "A man  runs.", "Someone runs.")],
    VALIDATION: [clip("c_000122_000132", "x", "")],
    TEST: [clip("d_000002_000012", "y", "y")],
}


def test_the_english_captions_of_the_three_files_count(make_source, benchmark_params, annotate):
    root = make_source(FILES, ["-a_b_000001_000011.mp4"])
    source = read_vatex(root, benchmark_params(validation_fraction=0.99))
    videos, annotations = annotate(source, **{"-a_b_000001_000011": 10.0})
    assert {video.video_id: video.split for video in videos.values()} == {
        "-a_b_000001_000011": "train", "c_000122_000132": "validation", "d_000002_000012": "test"
    }  # fmt: skip
    assert [caption.text for caption in annotations.captions] == ["A man runs.", "Someone runs.", "x", "y", "y"]
    assert annotations.notes == [
        "1 captions hold spaces at an end or several in a row: one between words",
        "1 captions have no text: left out",
    ]


def test_without_the_test_file_the_validation_file_is_tested(make_source, benchmark_params):
    root = make_source({name: FILES[name] for name in (TRAIN, VALIDATION)}, ["c_000122_000132.mp4"])
    entries = read_vatex(root, benchmark_params(validation_fraction=0.999)).entries
    assert [entry.split for entry in entries.values()] == ["validation", "test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({TRAIN: {}}, f"{TRAIN}: no list of videos; get the file again"),
        ({TEST: [{"videoID": "d"}]}, f"{TEST} row 1: needs videoID and enCap, a list of English captions; mend it"),
        ({TEST: [{"videoID": "d", "enCap": "text"}]}, f"{TEST} row 1: needs videoID and enCap, a list"),
        ({TEST: [clip("", "x")]}, f"{TEST} row 1: needs videoID"),
        ({TEST: [clip("c_000122_000132", "x")]}, f"{TEST} row 1: video 'c_000122_000132' is there twice; remove one"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(fault_of, benchmark_params, changes, message):
    assert message in fault_of(read_vatex, FILES | changes, benchmark_params())
