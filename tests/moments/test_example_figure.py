import matplotlib.pyplot as plt
import numpy as np
import pytest

from stillmotion.moments.example_figure import example_panels
from stillmotion.report.figures import save_figure


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def example(**changes):
    """Three clips of 2 s, the last of 1 s."""
    plain = {
        "query": "a red circle",
        "vid": "v1",
        "duration": 5.0,
        "place": "best",
        "top1_iou": 0.876,
        "clip_length_s": 2.0,
        "sc": [0.1, 0.5, 0.2],
        "processed": [0.0, 1.0, 0.25],
        "cfsc": [0.9, 0.4],
        "cuts": [2],
        "threshold": 0.6,
        "true_windows": [[2.0, 4.0]],
        "predicted_windows": [[2.0, 5.0, 0.5], [0.0, 2.0, 0.1]],
        "stored_frames": [0, 1, 2],
    }
    return plain | changes


STRIP = np.arange(4 * 12 * 3, dtype=np.uint8).reshape(4, 12, 3)


def panels(row, change=None):
    """Axes by place: picture, windows, Sc, CFSc, and the raw Sc where there is one."""
    part = example_panels([row], [STRIP], change)
    return part.axes


def lines_of(axes):
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in axes.lines]


def test_curves_are_drawn_where_their_frames_are():
    _, _, similarity, changes, raw = panels(example())
    # the middles of the clips, and the changes between them
    assert lines_of(similarity)[0] == ([1.0, 3.0, 4.5], [0.0, 1.0, 0.25])
    assert lines_of(raw) == [([1.0, 3.0, 4.5], [0.1, 0.5, 0.2])]
    assert lines_of(changes)[0] == ([2.0, 4.0], [0.9, 0.4])
    assert similarity.lines[1].get_ydata() == [0.6, 0.6]
    assert changes.get_xlim() == (0, 5)
    assert similarity.get_zorder() > raw.get_zorder()


def test_the_raw_curve_is_drawn_where_it_is_another():
    assert len(panels(example(processed=[0.1, 0.5, 0.2]))) == 4


def test_cuts_and_alpha_are_those_of_vc2():
    changes = panels(example(), 0.8)[3]
    assert [line.get_xdata()[0] for line in changes.lines[1:2]] == [4.0]
    assert changes.lines[2].get_ydata() == [0.8, 0.8]
    assert len(panels(example(cuts=[]))[3].lines) == 1


def test_true_windows_lie_above_the_chosen_ones_and_the_best_is_in_full_colour():
    bars = panels(example())[1].patches
    found = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_y() + 0.3, bar.get_alpha()) for bar in bars]
    assert found == [(2.0, 4.0, 1.0, None), (2.0, 5.0, 0.0, 1.0), (0.0, 2.0, 0.0, 0.35)]


def test_frames_fill_the_time_axis_as_they_are():
    (image,) = panels(example())[0].images
    assert list(image.get_extent()) == [0, 5.0, 0, 1]
    assert image.get_interpolation() == "none"
    assert np.array_equal(image.get_array(), STRIP)


def test_a_title_says_the_place_and_cuts_a_long_query():
    assert panels(example())[0].get_title(loc="left") == "best: “a red circle” in v1, IoU 0.88"
    title = panels(example(query="x" * 80))[0].get_title(loc="left")
    assert f"“{'x' * 69}…”" in title


def test_a_video_of_one_clip_has_no_changes():
    row = example(sc=[0.1], processed=[0.0], cfsc=[], cuts=[], stored_frames=[0], duration=1.0)
    similarity, changes = panels(row)[2:4]
    assert lines_of(similarity)[0] == ([0.5], [0.0])
    assert lines_of(changes)[0] == ([], [])


def test_a_query_about_money_is_no_formula_and_the_picture_is_embedded(tmp_path):
    rows = [example(query=r"it costs $5 \or $6 {"), example(place="worst")]
    save_figure(example_panels(rows, [STRIP, STRIP], 0.5), tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text(encoding="utf-8").count("data:image/png;base64,") == 2
