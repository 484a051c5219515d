"""Every number of the page leads to the file that it comes from: the metrics and studies in git, rendered."""

import contextlib
import re
from collections import Counter
from pathlib import Path

import pytest

from stillmotion.config.loading import load_params
from stillmotion.io.tables import read_json

ROOT = Path(__file__).resolve().parents[2]
QUERIES = 20


@pytest.fixture(scope="module")
def lines(make_workplace, make_query, shown_in, tmp_path_factory):
    """The page of the systems of params.yaml, each query of which has an answer by hand."""
    workplace = make_workplace(tmp_path_factory.mktemp("run"))
    with contextlib.chdir(ROOT):
        workplace.params = load_params().model_dump(by_alias=True)
    workplace.params["report"]["bootstrap_samples"] = 100
    workplace.stage.drawn_systems = workplace.stage.drawn_moments = lambda *_: {}  # which take seconds
    for path in (ROOT / "metrics" / "retrieval").glob("*.json"):
        counts = read_json(path)["by_num_clips"]
        rows = [
            {"caption_id": f"c{query:02}", "text": "a ball", "video_id": f"v{query}", "rank": [1.0 + query % 3]}
            | {"rank_by_num_clips": {count: [1.0 + (query + int(count)) % 3] for count in counts}}
            | {"hardest_negatives": [f"v{(query + 1) % QUERIES}"]}
            for query in range(QUERIES)
        ]
        workplace.write_rows(f"predictions/retrieval/{path.stem}/ranks.jsonl", rows)
    for path in (ROOT / "metrics" / "moments").glob("*.json"):
        rows = [make_query(query, query / QUERIES, true=[[4.0, 8.0 + query]]) for query in range(QUERIES)]
        workplace.write_rows(f"predictions/moments/{path.stem}/queries.jsonl", rows)
        workplace.write_rows(f"predictions/moments/{path.stem}/trials.jsonl", [{"value": 1.0}, {"value": 2.0}])
        points = [{"parameter": "threshold", "at": at, "value": 1.0} for at in (0.0, 0.5)]
        workplace.write_rows(f"predictions/moments/{path.stem}/sensitivity.jsonl", points)
    for path in (ROOT / "metrics" / "actions").glob("*.json"):
        spans = [{"zero_shot": "run", "label": "run", "video_id": f"v{row}"} for row in range(QUERIES)]
        workplace.write_rows(f"predictions/actions/{path.stem}/spans.jsonl", spans)
    studies = ROOT / "reports" / "ablations"
    files = workplace.run(metrics=ROOT / "metrics", plots=ROOT / "plots", studies=studies)
    with contextlib.chdir(workplace.root / "out"):
        yield shown_in(files["index.html"].decode())


def is_file_of_numbers(lead):
    path = Path(lead).resolve()
    return path.is_file() and {ROOT / "metrics", ROOT / "plots", ROOT / "reports" / "ablations"} & set(path.parents)


def test_each_row_finding_measurement_and_card_leads_to_a_file_of_metrics_or_of_a_study(lines):
    numbers = [line for line in lines if not line.is_heading and re.search(r"\d", " ".join(line.cells))]
    kinds = Counter(line.kind for line in numbers)
    assert kinds["row"] > 40
    assert kinds["measure"] > 20
    assert (kinds["card"], kinds["finding"]) == (3, 4)
    sections = {line.section for line in numbers if line.kind == "row"}
    assert sections == {"retrieval", "moments", "actions", "finetune", "resources"}
    for line in numbers:
        assert line.leads, line
        assert line.leads == ["#claims"] or all(map(is_file_of_numbers, line.leads)), line


def test_what_several_files_say_leads_to_each_of_them(lines):
    def leads_of(text):
        (line,) = {tuple(line.leads) for line in lines if text in " ".join(line.cells)}
        return [Path(lead).relative_to(Path(lead).parents[1]).as_posix() for lead in line]

    assert leads_of("each the best on validation") == [
        "ablations/learning_rate_adamw.json",
        "ablations/learning_rate_sgd.json",
    ]
    assert leads_of("gain of VC1 by smoothing − gain of VC2") == [
        "moments/small_clip-vc1_log_smooth_norm.json",
        "moments/small_clip-vc1_none.json",
        "moments/small_clip-vc2_log_smooth_norm.json",
        "moments/small_clip-vc2_none.json",
    ]
    assert leads_of("small_clip: saved at keep rate 0.5") == [
        "resources/small_clip.json",
        "resources/small_clip-patch_dropout.json",
    ]
