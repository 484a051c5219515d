import matplotlib.pyplot as plt
import numpy as np
import pytest

from stillmotion.attention.figure import attended_strip, attention_panels, drawn_attention
from stillmotion.attention.store import AttendedExamples
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Video, save_records
from stillmotion.io.tables import write_rows
from stillmotion.report.figures import save_figure
from stillmotion.video.packed import PackedFrames
from stillmotion.video.shards import shard_file


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


ROW = {
    "caption_id": "v1#0",
    "video_id": "v1",
    "text": r"costs $5 \or {",
    "tokens": ["<start_of_text>", "$", "{", "<end_of_text>"],
    "stored_frames": [0, 2],
    "text_to_frame": [0.25, 0.75],
    "video_to_token": [0.1, 0.2, 0.3, 0.4],
    "cosines": [[0.0, 0.5], [0.1, 0.2], [-0.25, 0.3], [0.1, 0.1]],
}
STRIP = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
ATTENTION = np.full((1, 2, 4, 4), 1 / 16, np.float32)


def panels(attention=None):
    part = attention_panels(AttendedExamples([ROW], attention), [STRIP])
    return part.axes


def test_frames_and_words_have_their_weights():
    frames, strip, cosines, words = panels()
    assert [bar.get_height() for bar in frames.patches] == [0.25, 0.75]
    assert [bar.get_x() + bar.get_width() / 2 for bar in frames.patches] == pytest.approx([0, 1])
    assert [bar.get_height() for bar in words.patches] == [0.1, 0.2, 0.3, 0.4]
    assert [label.get_text() for label in words.get_xticklabels()] == ["<start>", "$", "{", "<end>"]
    # what all would have alike
    assert (frames.lines[0].get_ydata(), words.lines[0].get_ydata()) == ([0.5, 0.5], [0.25, 0.25])
    assert np.array_equal(strip.images[0].get_array(), STRIP)
    # tokens from left to right over their bars, frames from the top
    assert np.array_equal(cosines.images[0].get_array(), np.array(ROW["cosines"]).T)
    assert cosines.get_xlim() == words.get_xlim() == (-0.5, 3.5)
    assert cosines.get_title(loc="right") == "-0.25 (dark) to 0.50 (bright)"


def test_frames_stand_below_their_bars():
    frames, strip, *_ = panels()
    # both fill the same width: the bars' from half a frame before the first to half a frame behind the last
    assert frames.get_xlim() == (-0.5, 1.5)
    assert strip.get_xlim() == (0, 1)


def test_a_stan_has_a_second_row_of_frames():
    assert len(panels(ATTENTION)) == 5
    assert np.array_equal(panels(ATTENTION)[2].images[0].get_array(), attended_strip(STRIP, ATTENTION[0]))


def test_what_is_attended_to_most_is_reddest_and_the_rest_is_grey():
    attention = np.zeros((2, 2, 2), np.float32)
    attention[0, 0, 1], attention[1] = 0.8, 0.2
    found = attended_strip(np.full((8, 16, 3), 100, np.uint8), attention)
    assert found.shape == (8, 16, 3)
    # three quarters of (214, 39, 40), the rest grey
    assert found[0, 7].tolist() == [round(0.25 * 100 + 0.75 * value) for value in (214, 39, 40)]
    assert found[7, 0].tolist() == [100, 100, 100]
    # the second frame has a quarter of that everywhere
    share = 0.75 * 0.25
    wanted = [round((1 - share) * 100 + share * value) for value in (214, 39, 40)]
    assert np.array_equal(found[:, 8:], np.broadcast_to(wanted, (8, 8, 3)))


def test_a_figure_for_each_model_with_examples_has_their_frames(tmp_path):
    save_records(tmp_path, Video, [Video("v1", "v1.mp4", "test", 4.0, 8.0, 3, 8, 8, "h264", "ok")])
    levels = np.array([10, 20, 30], np.uint8)
    save_array(tmp_path / shard_file("v1"), np.broadcast_to(levels[:, None, None, None], (3, 8, 8, 3)))
    row = {"video_id": "v1", "file": shard_file("v1"), "first": 0, "length": 3, "timestamps": [0.0, 1.0, 2.0]}
    write_rows(tmp_path / "frames.jsonl", [row | {"uniform": [0], "clips": [0]}])
    found = {"clip": AttendedExamples([ROW], None), "none": AttendedExamples([], None)}
    found["stan"] = AttendedExamples([ROW], ATTENTION)
    figures = drawn_attention(found, PackedFrames(tmp_path))
    assert list(figures) == ["attention-clip", "attention-stan"]
    strip = figures["attention-clip"].axes[1].images[0].get_array()
    assert [int(strip[0, 0, 0]), int(strip[0, -1, 0])] == [10, 30]
    for name in ("first", "second"):
        figures = drawn_attention(found, PackedFrames(tmp_path))
        save_figure(figures["attention-stan"], tmp_path / f"{name}.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    # frames, red frames, cosines
    assert (tmp_path / "first.svg").read_text(encoding="utf-8").count("data:image/png;base64,") == 3
