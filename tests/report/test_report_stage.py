"""The stage with a folder of its own, in this process: params are those of the test."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.report import parts

QUERIES = 20
SELECTED, TUNED = "small_clip-vc1_none", "small_clip-patch_dropout"


def test_a_dataset_of_actions_alone_needs_no_system_of_retrieval(workplace):
    workplace.params["retrieval"] = {}
    save_records(workplace.root / "raw", Caption, [])
    save_array(workplace.root / "toy-small_clip" / "captions.npy", np.zeros((0, 2), np.float32))
    zero_shot = {"top1": 40.0, "top5": 80.0, "ci95": {"top1": [30.0, 50.0], "top5": [70.0, 90.0]}}
    protocol = {"num_spans": 20, "missing_spans": 0, "missing_videos": 0, "chance_top1": 1.0}
    for model in ("small_clip", TUNED):
        workplace.write_metrics("actions", model, {"zero_shot": zero_shot, "top1": {}, "protocol": protocol})
    page = workplace.run()["results.md"].decode()
    assert "40.0" in page
    summary = json.loads((workplace.root / "summary.json").read_text())
    assert list(summary) == ["actions"]


def test_a_dataset_with_nothing_to_score_and_no_studies_still_has_its_pages(workplace):
    files = workplace.run()
    assert set(files) == {"results.md", "published.md", "index.html"}
    page = files["results.md"].decode()
    assert page.count("The dataset has no ") == 3
    assert page.count("- Not measured in this run, but by `stillmotion run ") >= 10
    assert "small_clip: saved at keep rate 0.5 | 33.0 % (counted) | does not hold |" in page
    published = files["published.md"].decode()
    assert (
        "2 published numbers, from data/published_results.csv and data/third_party_results.csv. Beside 0" in published
    )
    assert "| a/b | 69.7 | 2.14.2 |" in published


def test_a_run_of_retrieval_alone_says_what_it_left_out(workplace):
    workplace.params["run"] |= {"probed": [], "assessed": [], "selected": [], "references": []}
    workplace.add_retrieval("small_clip", 2.0, 1.0)
    page = workplace.run()["results.md"].decode()
    assert "params.yaml names no model that is probed." in page
    assert "params.yaml names no system of moment retrieval." in page
    assert "The dataset has no actions" not in page


def test_results_and_studies_become_figures_and_claims_with_the_same_bytes_each_time(workplace):
    workplace.add_retrieval("small_clip", 2.0, 1.0)
    workplace.add_retrieval(TUNED, 1.0, 1.0)
    for name, dataset, values in (("batch_size", "toy", (8, 64)), ("patch_keep_rate", "another", (0.5, 1.0))):
        points = [
            {"value": value, "runs": [{"seed": 0, "validation_R@1": 1.0, "test_hits": [hit] * QUERIES}]}
            for value, hit in zip(values, (0.0, 100.0), strict=True)
        ]
        study = {"name": name, "title": f"Values of {name}", "dataset": dataset, "points": points}
        workplace.write(f"studies/{name}.json", study | {"model": TUNED, "aggregator": "mean", "recall_at": 1})
    files = workplace.run()
    assert files == workplace.run("again")
    assert {"figures/retrieval.svg", "figures/clips.svg"} <= set(files)
    page = files["results.md"].decode()
    assert "| small_clip-mean: 2 clips − 1 clip (R@1) | +100.0 points (+100.0 to +100.0) | holds |" in page
    assert f"| {TUNED}-mean − small_clip-mean (R@1, 1 clip) | +100.0 points" in page
    of_study = f"({TUNED}-mean on toy, 1 seed a value)"
    assert f"| batches of 64 − batches of 8 {of_study} | +100.0 points (+100.0 to +100.0) | holds |" in page
    assert "- [Values of batch_size](../ablations/batch_size.md)" in page
    # of another dataset: its page is linked, but it measures no claim on this one
    assert "- [Values of patch_keep_rate](../ablations/patch_keep_rate.md)" in page
    assert "keep rate 0.5 − 1" not in page
    assert "What is attended" not in page
    whole = files["index.html"].decode()
    assert "by the cosines of small_clip:" in whole
    assert '<th scope="row">share of the queries (number)</th><td data-v="95.0">95.0 % (19)</td>' in whole
    of_groups = '<td data-v="100.0">100.0 (100.0 to 100.0)</td><td data-v="">–</td><td data-v="100.0">100.0 (100.0'
    assert of_groups in whole


def example(qid, place):
    return {
        "qid": qid,
        "query": f"q{qid}",
        "vid": f"v{qid}",
        "duration": 4.0,
        "place": place,
        "top1_iou": 0.5,
        "clip_length_s": 2.0,
        "sc": [0.1, 0.2],
        "processed": [0.1, 0.2],
        "cfsc": [0.9],
        "cuts": [],
        "threshold": 0.15,
        "true_windows": [[2.0, 4.0]],
        "predicted_windows": [[2.0, 4.0, 0.2]],
        "stored_frames": [0, 1],
    }


MOMENT_FIGURES = {"iou_distribution"}


def test_moments_become_tables_figures_and_examples_with_the_same_bytes_each_time(
    workplace, moment_metrics, make_query
):
    queries = [make_query(qid, qid / QUERIES) for qid in range(QUERIES)]
    examples = [example(9, "best"), example(5, "6 of 20"), example(4, "median"), example(3, "9 of 20")]
    workplace.add_moments(moment_metrics, queries, [*examples, example(1, "worst")])
    files = workplace.run()
    assert files == workplace.run("again")
    figures = {f"figures/{name}.svg" for name in (*MOMENT_FIGURES, "moments")}
    assert set(files) == {"results.md", "published.md", "index.html", *figures}
    # of five examples the three that report.num_examples asks for, a picture each
    assert files["figures/moments.svg"].count(b"data:image/png;base64,") == 3
    page = files["results.md"].decode()
    assert f"| {SELECTED} | 53.9 (50.0 to 58.0) |" in page
    assert "| oracle | 53.9 (50.0 to 58.0) |" in page
    assert f"Queries from the best to the worst of {SELECTED}:" in page
    whole = files["index.html"].decode()
    assert "<h3>Thresholds</h3>" in whole
    assert "Assessment of models" not in whole


def test_without_examples_nothing_is_drawn_of_them(workplace, moment_metrics, make_query):
    workplace.add_moments(moment_metrics, [make_query(qid, 0.5) for qid in range(QUERIES)])
    files = workplace.run()
    assert {Path(name).stem for name in files} >= MOMENT_FIGURES
    assert "figures/moments.svg" not in files
    assert "### Examples" not in files["results.md"].decode()


def test_what_a_model_attends_to_is_in_the_page_while_there_is_room_and_led_to_in_any_case(
    workplace, moment_metrics, make_query, monkeypatch
):
    workplace.add_moments(moment_metrics, [make_query(qid, 0.5) for qid in range(QUERIES)])
    workplace.params["run"]["attended"] = [TUNED]
    row = {"video_id": "v3", "text": "a ball", "tokens": ["<start_of_text>", "<end_of_text>"], "stored_frames": [0, 1]}
    row |= {"text_to_frame": [0.5, 0.5], "video_to_token": [0.5, 0.5], "cosines": [[0.1, 0.2], [0.3, 0.4]]}
    workplace.write_rows(f"predictions/attention/{TUNED}/examples.jsonl", [row])
    files = workplace.run()
    assert files[f"figures/attention-{TUNED}.svg"].count(b"data:image/png;base64,") == 2
    page = files["index.html"].decode()
    assert '<section id="attention" aria-labelledby="attention-title">' in page
    figure = base64.b64encode(files[f"figures/attention-{TUNED}.svg"]).decode()
    assert f'src="data:image/svg+xml;base64,{figure}" alt="Frames of test videos with what {TUNED} attends to' in page
    assert f'<a href="figures/attention-{TUNED}.svg">' in page
    assert f"attention-{TUNED}" not in files["results.md"].decode()
    monkeypatch.setattr(parts, "MOST_PICTURE_BYTES", len(figure))
    page = workplace.run("small")["index.html"].decode()
    assert figure not in page
    assert f'<a href="figures/attention-{TUNED}.svg">' in page


def test_trainings_lengths_and_what_is_left_out_stand_on_the_page_and_lead_to_their_files(
    workplace, moment_metrics, make_query, shown_in
):
    workplace.add_moments(moment_metrics, [make_query(qid, 0.5) for qid in range(QUERIES)])
    lost = Video("lost", "lost.mp4", "train", None, None, None, None, None, None, "<b>no</b> stream")
    kept = [Video(f"v{v}", f"v{v}.mp4", "test", 4.0, 8.0, 32, 64, 64, "h264", "ok") for v in range(QUERIES)]
    save_records(workplace.root / "frames", Video, [*kept, lost])
    workplace.write("frames/skipped.jsonl", "")
    epochs = [{"epoch": epoch, "loss": 2.0 - epoch, "score": 30.0 - epoch} for epoch in (0, 1)]
    workplace.write(f"plots/finetune/{TUNED}.json", epochs)
    page = workplace.run()["index.html"].decode()
    leads = {(line.section, *line.cells[1:]): set(line.leads) for line in shown_in(page) if line.kind == "row"}
    assert leads["finetune", TUNED, "30.0", "1", "2", "2.000", "1.000"] == {f"../plots/finetune/{TUNED}.json"}
    assert leads["moments", SELECTED, "3.3", "32.3", "41.1"] == {f"../metrics/moments/{SELECTED}.json"}
    assert leads["", "<b>no</b> stream", "1", "–", "–"] == {"../frames/skipped.jsonl"}
    assert all((workplace.root / "out" / lead).is_file() for of_row in leads.values() for lead in of_row)
    assert '<a href="#left-out">1 of them left out</a>' in page
    assert "<summary>Videos that are left out: 1</summary>" in page
    assert "<figcaption>Training loss by epoch</figcaption>" in page


def test_hidden_states_are_shaded_on_the_page_with_each_number_and_loss_where_it_was_measured(workplace, shown_in):
    workplace.add_retrieval("small_clip", 2.0, 1.0)
    path = workplace.root / "metrics" / "retrieval" / "small_clip-mean.json"
    pooled = [
        {"layer": "last", "video_pooling": video, "text_pooling": "max", "MRR": value, "R@1": 1.0}
        for video, value in (("max", 2.0), ("mean", 4.0), ("sum", 3.0))
    ]
    workplace.write("metrics/retrieval/small_clip-mean.json", json.loads(path.read_text()) | {"poolings": pooled})
    epochs = [{"seed": 0, "epoch": epoch, "loss": 1.0, "validation_loss": 2.0} for epoch in (0, 1)]
    workplace.write("plots/train_aggregator/small_clip-mean.json", epochs)
    files = workplace.run()
    page = files["index.html"].decode()
    lead = "../metrics/retrieval/small_clip-mean.json"
    rows = [line for line in shown_in(page) if line.cells[1:] in (["max", "2.00"], ["mean", "4.00"], ["sum", "3.00"])]
    assert [line.leads for line in rows] == [[lead]] * 3
    assert [f'"{value:g}" style="--of:{of}%"' in page for value, of in ((2, 0), (4, 100), (3, 50))] == [True] * 3
    # no metrics file says what it is a head of
    assert "Heads that align" not in page
    workplace.write(
        "metrics/retrieval/small_clip-mean.json",
        json.loads(path.read_text()) | {"protocol": json.loads(path.read_text())["protocol"] | {"head": HEAD}},
    )
    page = workplace.run("with_head")["index.html"].decode()
    assert [line.cells[3:] for line in shown_in(page) if line.cells[-1] == "2.000"] == [
        ["last", "max, max", "raw", "mse", "1.000", "2.000"]
    ]
    assert page.count("<figcaption>small_clip-mean: loss</figcaption>") == 1
    assert "Hidden states" not in files["results.md"].decode()


HEAD = {"layer": "last", "video_pooling": "max", "text_pooling": "max", "inputs": "raw", "loss": "mse"}


def test_embeddings_of_another_dataset_are_one_line(workplace):
    save_array(workplace.root / "toy-small_clip" / "captions.npy", np.zeros((3, 2), np.float32))
    with pytest.raises(InputError, match="these embeddings are of another dataset: run the embed stage again"):
        workplace.run()


def test_what_is_missing_is_one_line_and_leaves_no_page(workplace):
    (workplace.root / "published" / "counterparts.csv").unlink()
    with pytest.raises(InputError, match="counterparts.csv: no such file; restore it with git checkout"):
        workplace.run()
    assert not (workplace.root / "out").exists()


def test_text_from_outside_is_text_on_the_page_and_one_that_is_no_character_its_escape(workplace):
    hostile = "<script>alert(1)</script> \x1b[31m \ud800 & 'b'"
    workplace.add_retrieval("small_clip", 2.0, 1.0)
    workplace.add_retrieval(TUNED, 1.0, 2.0)
    path = "predictions/retrieval/small_clip-mean/ranks.jsonl"
    rows = [json.loads(line) for line in (workplace.root / path).read_text().splitlines()]
    workplace.write_rows(path, [row | {"text": hostile} for row in rows])
    workplace.params["dataset"] = "<toy>"
    page = workplace.run()["index.html"].decode()
    assert page.count("<script>") == 1
    assert "“&lt;script&gt;alert(1)&lt;/script&gt; \\x1b[31m \\ud800 &amp; &#39;b&#39;”" in page
    assert "<title>Stillmotion: results on &lt;toy&gt;</title>" in page


def test_the_page_shows_what_was_measured_first_and_lists_the_rest_by_command(workplace):
    workplace.add_retrieval("small_clip", 2.0, 1.0)
    workplace.add_retrieval(TUNED, 1.0, 1.0)
    (workplace.root / "toy-small_clip" / "frames.npy").unlink()  # so that no curve can be drawn
    page = workplace.run()["index.html"].decode()
    assert 'class="player"' in page
    assert 'class="curve"' not in page
    assert page.index("<h2>Findings</h2>") < page.index('<section id="retrieval"') < page.index('<section id="claims"')
    assert "4 systems" not in page
    assert "2 systems of text–video retrieval on 20 videos (0 train, 0 validation, 20 test)" in page
    assert "<li><code>stillmotion run heads</code> STAN is above a head behind the tower, fine-tuned alike</li>" in page
    # Of an architecture that was not counted, and of a third party.
    assert "None of 2 published numbers" in page
    assert "<code>stillmotion run resources</code></li>" in page


def test_a_run_without_videos_to_rank_has_a_page_that_says_so(workplace):
    page = workplace.run()["index.html"].decode()
    assert "No system of this run has a result" not in page  # what claims came to is one
    assert '<section id="retrieval"' not in page
    assert '<section id="resources"' in page
