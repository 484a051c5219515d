import pytest

from stillmotion.datasets.lsmdc import read_lsmdc

TRAIN, VAL, TEST = "LSMDC16_annos_training.csv", "LSMDC16_annos_val.csv", "LSMDC16_challenge_1000_publictect.csv"
CLIP = "0001_American_Beauty_00.00.51.926-00.00.54.129"


def line(clip: str, sentence: str) -> str:
    return "\t".join([clip, *["00.00.51.926", "00.00.54.129"] * 2, sentence]) + "\n"


FILES = {
    TRAIN: line(CLIP, "SOMEONE  waits.") + line(CLIP, "He says \"no,' and leaves."),
    VAL: line("0011_b", "A street."),
    TEST: line("1012_c", "SOMEONE\u2019s hand."),
}


def test_a_clip_has_all_its_lines_as_captions(make_source, benchmark_params, annotate):
    root = make_source(FILES, [f"0001_American_Beauty/{CLIP}.avi"])
    videos, annotations = annotate(read_lsmdc(root, benchmark_params()), **{CLIP: 2.2})
    assert [(video.split, video.status) for video in videos.values()] == [
        ("train", "ok"), ("validation", "missing"), ("test", "missing")
    ]  # fmt: skip
    assert [(caption.video_id, caption.text, caption.start) for caption in annotations.captions] == [
        (CLIP, "SOMEONE waits.", None),
        (CLIP, "He says \"no,' and leaves.", None),
        ("0011_b", "A street.", None),
        ("1012_c", "SOMEONE\u2019s hand.", None),
    ]
    assert annotations.notes == ["1 captions hold spaces at an end or several in a row: one between words"]


def test_a_line_without_a_sentence_leaves_its_clip_without_a_caption(make_source, benchmark_params, annotate):
    root = make_source(FILES | {VAL: line("0011_b", "")}, [f"{CLIP}.mp4"])
    videos, annotations = annotate(read_lsmdc(root, benchmark_params()))
    assert "0011_b" in videos
    assert "0011_b" not in {caption.video_id for caption in annotations.captions}
    assert "1 captions have no text: left out" in annotations.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({VAL: "0011_b\tA street.\n"}, f"{VAL} row 1: 2 cells between tabs, not a clip, 4 times, a sentence; mend it"),
        ({VAL: "\n" + line("", "A street.")}, f"{VAL} row 2: 6 cells between tabs, not a clip"),
        ({TEST: line(CLIP, "x")}, f"{TEST} row 1: clip '{CLIP}' is in the train split too; remove one"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(fault_of, benchmark_params, changes, message):
    assert message in fault_of(read_lsmdc, FILES | changes, benchmark_params())


def test_a_list_that_is_missing_is_named(fault_of, benchmark_params):
    assert f"{VAL}: no such file, and LSMDC needs it" in fault_of(read_lsmdc, {TRAIN: ""}, benchmark_params())
