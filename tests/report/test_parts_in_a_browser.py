"""What the page shows beside the systems, as a reader has it: shaded tables, and figures on paper."""

import io
import json

import numpy as np
import pytest
from browser import chromium, seen
from PIL import Image

from stillmotion.io.records import Video, save_records

MODEL, QUERIES = "small_clip", 20


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(browser, make_workplace, tmp_path_factory):
    """The page of a run with hidden states, a head, an attended model and a video left out."""
    workplace = make_workplace(tmp_path_factory.mktemp("run"))
    workplace.add_retrieval(MODEL, 2.0, 1.0)
    name = f"metrics/retrieval/{MODEL}-mean.json"
    found = json.loads((workplace.root / name).read_text())
    values = {("max", "last_token"): 2.0, ("max", "mean"): 5.0, ("mean", "last_token"): 3.0, ("mean", "mean"): 1.0}
    poolings = [
        {"layer": "last", "video_pooling": video, "text_pooling": text, "MRR": value}
        for (video, text), value in values.items()
    ]
    head = {"layer": "last", "loss": "mse"}
    workplace.write(name, found | {"poolings": poolings, "protocol": found["protocol"] | {"head": head}})
    epochs = [{"seed": 0, "epoch": epoch, "loss": 1.0, "validation_loss": 2.0} for epoch in (0, 1)]
    workplace.write(f"plots/train_aggregator/{MODEL}-mean.json", epochs)
    workplace.params["run"]["attended"] = [MODEL]
    row = {"video_id": "v3", "text": "a ball", "tokens": ["<start_of_text>", "<end_of_text>"], "stored_frames": [0, 1]}
    row |= {"text_to_frame": [0.5, 0.5], "video_to_token": [0.5, 0.5], "cosines": [[0.1, 0.2], [0.3, 0.4]]}
    workplace.write_rows(f"predictions/attention/{MODEL}/examples.jsonl", [row])
    videos = [Video(f"v{v}", f"v{v}.mp4", "test", 4.0, 8.0, 32, 64, 64, "h264", "ok") for v in range(QUERIES)]
    lost = Video("lost", "lost.mp4", "train", None, None, None, None, None, None, "no stream of pictures")
    save_records(workplace.root / "frames", Video, [*videos, lost])
    workplace.run()
    return (workplace.root / "out" / "index.html").as_uri()


def edge_of(visit):
    """Colour of the edge of the figure, where nothing is drawn."""
    figure = visit.page.locator("#attention .paper")
    figure.scroll_into_view_if_needed()
    pixels = np.asarray(Image.open(io.BytesIO(figure.screenshot())).convert("RGB"))
    # two places of the picture, which has the white ground of matplotlib
    return {tuple(pixels[20, 20].tolist()), tuple(pixels[-20, 20].tolist())}


@pytest.mark.slow
@pytest.mark.parametrize(("dark", "paper"), [(False, (255, 255, 255)), (True, (214, 208, 195))])
def test_a_figure_lies_on_paper_that_is_white_in_light_alone(browser, page, dark, paper):
    with seen(browser, page, dark=dark) as visit:
        assert edge_of(visit) == {paper}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_shaded_numbers_can_be_read_wide_and_narrow_light_and_dark_and_nothing_runs_over(browser, page, width, dark):
    with seen(browser, page, width=width, dark=dark) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert visit.overflow_px() <= 0
        assert visit.accessibility_faults() == []
        assert not [told for told in visit.complaints if "ERR_FILE_NOT_FOUND" not in told]
        ground = "cells => cells.map(cell => getComputedStyle(cell).backgroundColor)"
        grounds = visit.page.locator("#retrieval .heat td").evaluate_all(ground)
        color = "47, 90, 138" if dark else "125, 170, 220"
        # 1 to 5: 2, 5, 3 and 1 are 25, 100, 50 and 0 % of the way
        assert grounds == [f"rgba({color}, 0.25)", f"rgb({color})", f"rgba({color}, 0.5)", f"rgba({color}, 0)"]
        visit.page.locator("#retrieval .heat").get_by_role("button", name="last_token").click()
        rows = visit.page.locator("#retrieval .heat tbody tr:not(.group) th")
        assert rows.all_text_contents() == ["mean", "max"]
