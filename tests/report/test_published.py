import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from stillmotion.errors import InputError
from stillmotion.report.page import published_page
from stillmotion.report.published import COUNTERPART, KEY, NUMBER, SOURCE, beside_ours, read_published, read_table

DATA = Path(__file__).resolve().parents[2] / "data"
THESIS = "Embeddings thesis (Lindgren 2023)"
ANC = "ActivityNet Captions (paragraph-to-video)"


def rows_of(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]


@pytest.fixture(scope="module")
def files():
    """The published numbers and the counterparts of the repository."""
    return read_published(DATA)


@pytest.fixture
def page_of(files):
    """The page of some of the published numbers."""
    numbers, counterparts = files

    def page(evidence, **where):
        chosen = numbers
        for column, value in where.items():
            chosen = chosen[chosen[column] == value]
        assert len(chosen)
        return published_page(beside_ours(chosen, counterparts, evidence), evidence)

    return page


def direction(r1, medr, **std):
    values = {"R@1": r1, "R@2": 0.0, "R@5": 70.489, "R@10": 83.5, "MedR": medr, "MeanR": 8.0, "MRR": 50.0, "mAP": 50.0}
    return values | ({"std": std} if std else {})


@pytest.fixture
def retrieval(make_system):
    """A system with these directions by number of clips, on so many queries."""

    def make(base, scorer, by_num_clips, *, queries=4917, missing=0, **fields):
        protocol = {"num_queries": queries - missing, "missing_queries": missing, "missing_videos": missing}
        metrics = {"by_num_clips": by_num_clips}
        return make_system(base=base, scorer=scorer, metrics=metrics, protocol=protocol, **fields)

    return make


FINE_TUNED = "X-CLIP B/16-8f fine-tuned + transformer-mean aggregation frames=32"
OURS = {"base": "xclip_base_patch16", "scorer": "transformer_mean", "recipe": "patch_dropout"}
SPREAD = {"R@1": 0.314, "R@5": 0.2, "R@10": 0.1, "MedR": 0.5}
PARAMS = {section: {} for section in ("recipes", "scorers", "expansions", "selections", "shot_detectors")}


@pytest.fixture
def evidence_of(make_evidence):
    return lambda *systems, dataset="activitynet", **found: make_evidence(
        *systems, dataset=dataset, params=PARAMS, **found
    )


def test_ours_stands_below_the_published_number_with_the_frames_as_clips(page_of, retrieval, evidence_of):
    measured = {"1": {"t2v": direction(1.0, 9.0)}, "4": {"t2v": direction(37.126, 2.5, **SPREAD)}}
    page = page_of(evidence_of(retrieval(by_num_clips=measured, seed=0, **OURS)), system=FINE_TUNED, part="Table 4.6")
    header, _, published, ours = rows_of(page)
    assert header == ["system", "medR", "R@1", "R@5", "R@10", "ours"]
    assert published[:3] == [FINE_TUNED, "2.0±0.0", "38.50±0.28"]
    assert published[-1] == "below"
    label = "↳ xclip_base_patch16-patch_dropout-0-transformer_mean, 4 clips"
    assert ours == [label, "2.50 ± 0.50", "37.13 ± 0.31", "70.49 ± 0.20", "83.50 ± 0.10", ""]
    assert "4 published numbers, from " in page
    assert "Beside 4 of them stands ours; 0 are" in page


def test_the_seeds_of_a_recipe_are_averaged_with_their_deviation(page_of, retrieval, evidence_of):
    seeds = [
        retrieval(by_num_clips={"4": {"t2v": direction(r1, 2.0)}}, seed=seed, **OURS) for seed, r1 in ((0, 36), (1, 38))
    ]
    ours = rows_of(page_of(evidence_of(*seeds), system=FINE_TUNED, part="Table 4.6"))[3]
    assert ours[0].endswith("-transformer_mean, 4 clips, 2 seeds")
    assert "-0-" not in ours[0]
    # √(1² + 1²)
    assert ours[2] == "37.00 ± 1.41"


def test_videos_that_are_missing_are_said_beside_ours(page_of, retrieval, evidence_of):
    system = retrieval(by_num_clips={"4": {"t2v": direction(37.0, 2.0)}}, missing=85, **OURS)
    page = page_of(evidence_of(system), system=FINE_TUNED, part="Table 4.6")
    assert rows_of(page)[3][0].endswith(", 4 clips; 85 videos missing")


@pytest.mark.parametrize(
    ("dataset", "clips", "queries", "changes"),
    [
        ("toy", "4", 4917, {}),
        ("activitynet", "4", 4885, {}),  # val_2
        ("activitynet", "4", 9834, {}),
        ("activitynet", "1", 4917, {}),
        ("activitynet", "4", 4917, {"recipe": None}),
        ("activitynet", "4", 4917, {"expansion": "stan"}),
        ("activitynet", "4", 4917, {"pretraining": {"dataset": "x", "recipe": "y", "seed": 0}}),
    ],
)
def test_on_other_data_or_by_another_system_it_is_not_run_here_and_the_experiment_is_named(
    page_of, retrieval, evidence_of, dataset, clips, queries, changes
):
    by_clips = {clips: {"t2v": direction(37.0, 2.0)}}
    system = retrieval(by_num_clips=by_clips, queries=queries, **OURS | changes)
    page = page_of(evidence_of(system, dataset=dataset), system=FINE_TUNED, part="Table 4.6")
    assert [row[-1] for row in rows_of(page)[2:]] == ["not run here: thesis_8_frames"]
    assert "Beside 0 of them stands ours; 4 are of systems that have not run" in page
    assert "- **thesis_8_frames**: `stillmotion run thesis_8_frames`" in page


def test_what_a_source_prints_as_fractions_is_ours_as_fractions(page_of, retrieval, evidence_of):
    both = {"t2v": direction(8.6, 60.0), "v2t": direction(17.7, 12.0)}
    system = retrieval("xclip_base_patch32", "mean", {"1": both}, queries=1000)
    page = page_of(evidence_of(system, dataset="msrvtt"), system="xclip-base-patch32")
    header, _, _, ours = rows_of(page)
    assert ours[0] == "↳ xclip_base_patch32-mean, 1 clip"
    values = dict(zip(header, ours, strict=True))
    assert (values["t2v_hit@1"], values["v2t_mrr"]) == ("0.0860", "0.5000")


@pytest.fixture
def selection(make_system):
    """VC1 with smoothing on QVHighlights val, under the name of one of our selections."""

    def make(scorer, objective):
        brief = {"MR-full-R1@0.5": 57.4, "MR-full-R1@0.7": 36.1, "MR-full-mAP": 28.5}
        metrics = {"brief": brief, "frames": {"accuracy": 79.81, "IoU": 51.74, "AP@0.5": 53.8}, "mIoU": 51.4}
        protocol = {"num_queries": 1550, "missing_queries": 0, "missing_videos": 0}
        protocol |= {"thresholds": {"objective": objective}}
        return make_system("moments", base="vit_b_32", scorer=scorer, metrics=metrics, protocol=protocol)

    return make


WINDOWS, FRAMES = "vc1_log_smooth_norm", "vc1_log_smooth_norm_frames"


def test_moments_are_compared_with_thresholds_for_the_same_thing(page_of, selection, evidence_of):
    def ours(**objectives):
        found = evidence_of(*(selection(*of) for of in objectives.items()), dataset="qvhighlights")
        pages = [page_of(found, system="VC1 post=log_smooth_norm", part=part) for part in ("sec 4.2.2", FIGURE)]
        return [[dict(zip(rows_of(page)[0], row, strict=True)) for row in rows_of(page)[2:]] for page in pages]

    windows, frames = ours(**{WINDOWS: "R1@0.5", FRAMES: "frame_AP@0.5"})
    assert (windows[1]["R1@0.5"], windows[1]["mIoU"]) == ("57.40", "51.40")
    assert windows[1]["system"] == "↳ vit_b_32-vc1_log_smooth_norm"
    # what ours does not have stays open
    assert windows[0]["ours"] == "below; not run here: vclipper_qvhighlights"
    assert (frames[1]["frame_accuracy"], frames[1]["frame_AP05"], frames[1]["frame_AP07"]) == ("0.7981", "0.5380", "–")
    # a selection whose objective was changed under its name is not the same thing
    swapped = ours(**{WINDOWS: "frame_AP@0.5", FRAMES: "R1@0.5"})
    assert [[row["ours"] for row in rows] for rows in swapped] == [
        ["not run here: vclipper_qvhighlights"],
        ["not run here: vclipper_qvhighlights_frames"],
    ]


FIGURE = "Fig 18 sec 4.2.1"


def test_the_abstract_of_vclipper_is_held_against_its_best_method(page_of, selection, evidence_of):
    page = page_of(evidence_of(selection(WINDOWS, "R1@0.5"), dataset="qvhighlights"), part="abstract")
    assert rows_of(page)[3][:2] == ["↳ vit_b_32-vc1_log_smooth_norm", "57.40"]


STEPS = [
    {"keep_rate": 1.0, "frozen_blocks": 0, "forward_flops": 463_239_389_184, "peak_memory_mib": 4023.8},
    {"keep_rate": 0.5, "frozen_blocks": 0, "forward_flops": 255_989_981_184, "peak_memory_mib": 3133.4},
    {"keep_rate": 1.0, "frozen_blocks": 3, "forward_flops": 463_239_389_184, "peak_memory_mib": 3226.8},
]
ARCHITECTURES = {"xclip_base_patch32_8f": {"parameters": 196_585_855, "batch_size": 6, "steps": STEPS}}


@pytest.mark.parametrize(
    ("system", "metric", "shown"),
    [
        ("X-CLIP Base/32 (all params)", "params_M", "196.585855"),
        # 4023.8 · 2²⁰ / 10⁹ = 4.219
        ("X-CLIP B/32-8f aggregation=average", "gpu_memory_GB", "4.22"),
        # 463.239 · 10⁹ / 2 / 6 = 38.6 · 10⁹
        ("X-CLIP-B/32 8f", "GFLOPs_per_view", "39"),
        # of an epoch: 255.99 · 10⁹ / 2 / 6 · 9,008 = 192.2 · 10¹²
        ("X-CLIP patch dropout keep=0.5 batch=32", "TFLOPs_fvcore", "192"),
    ],
)
def test_what_was_counted_needs_no_dataset(page_of, evidence_of, system, metric, shown):
    page = page_of(evidence_of(dataset="toy", architectures=ARCHITECTURES), system=system, metric=metric)
    ours = [row for row in rows_of(page) if row[0] == "↳ xclip_base_patch32_8f"]
    assert [row[1] for row in ours] == [shown]


def study(*points, dataset="activitynet"):
    rows = [
        {"value": value, "runs": [{"validation_R@1": score, "test_hits": []} for score in scores]}
        for value, *scores in points
    ]
    return {"dataset": dataset, "points": rows}


def test_a_keep_rate_is_looked_up_in_the_study_of_the_thesis_on_the_same_data(page_of, evidence_of):
    def rows(**found):
        system = "X-CLIP patch dropout keep=0.5 batch=32"
        return rows_of(page_of(evidence_of(**found), system=system))[2:]

    points = ((1.0,), (0.5, 21.0, 23.0))
    studies = {"thesis_patch_keep_rate": study(*points)}
    published, ours = rows(studies=studies)
    assert ours[0] == "↳ clip-mean (thesis_patch_keep_rate)"
    assert "0.2200 ± 0.0141" in ours
    assert published[-1] == "below; not run here: resources"
    published, ours = rows(studies=studies, architectures=ARCHITECTURES)
    assert {"192", "0.2200 ± 0.0141"} < set(ours)
    assert published[-1] == "below"
    for wrong in ({"patch_keep_rate": study(*points)}, {"thesis_patch_keep_rate": study(*points, dataset="toy")}):
        assert len(rows(studies=wrong)) == 1


def test_a_learning_rate_is_found_however_it_is_written(page_of, evidence_of):
    studies = {"thesis_learning_rate_sgd": study((0.003, 22.5))}
    page = page_of(evidence_of(studies=studies), system="X-CLIP B/32-8f fine-tune SGD lr=3e-3", metric="R@1")
    assert rows_of(page)[3] == ["↳ clip-mean (thesis_learning_rate_sgd)", "22.50", ""]


def test_the_shots_that_reach_zero_shot_are_given_by_model(page_of, make_system, evidence_of):
    top1 = {"1": {"mean": 30.0}, "2": {"mean": 41.0}, "4": {"mean": 60.0}}
    systems = [
        make_system("actions", base=base, metrics={"top1": top1, "zero_shot": {"top1": zero_shot}})
        for base, zero_shot in (("xclip_base_patch32", 40.0), ("xclip_base_patch16", 70.0))
    ]
    page = page_of(evidence_of(*systems), metric="shots_per_class")
    assert rows_of(page)[3][1] == "2 (xclip_base_patch32), never (xclip_base_patch16)"


@pytest.mark.parametrize(("spans", "missing", "shown"), [(3700, 83, "69.12"), (1530, 0, None), (3783, 5, None)])
def test_actions_named_by_a_published_model_are_compared_on_as_many_videos(
    page_of, make_system, evidence_of, spans, missing, shown
):
    protocol = {"num_spans": spans, "missing_spans": missing, "missing_videos": missing}
    metrics = {"top1": {}, "zero_shot": {"top1": 69.123, "top5": 90.0}}
    system = make_system("actions", base="clip_vit_b_16", metrics=metrics, protocol=protocol)
    page = page_of(evidence_of(system, dataset="ucf101"), system="CLIP B/16", dataset="UCF-101")
    _, _, published, *ours = rows_of(page)
    assert published[1] == "68.9"
    assert published[-1] == ("not run here: mug_stan_ucf101" if shown is None else "below")
    assert ours == ([] if shown is None else [["↳ clip_vit_b_16; 83 videos missing", shown, "", ""]])


def test_what_the_lists_of_kinetics_still_have_is_compared_whatever_its_number(page_of, make_system, evidence_of):
    metrics = {"top1": {}, "zero_shot": {"top1": 79.0, "top5": 94.0}}
    protocol = {"num_spans": 19_000, "missing_spans": 404, "missing_videos": 404}
    system = make_system("actions", base="xclip_base_patch32", metrics=metrics, protocol=protocol)
    evidence = evidence_of(system, dataset="kinetics_400")
    page = page_of(evidence, system="X-CLIP-B/32 8f", dataset="Kinetics-400", split="fully supervised")
    header, _, published, ours = rows_of(page)
    values = dict(zip(header, ours, strict=True))
    assert (values["acc@1"], values["acc@5"]) == ("79.00", "94.00")
    assert dict(zip(header, published, strict=True))["acc@1"] == "80.4"


def test_a_system_of_others_has_no_counterpart_and_its_source_and_split_beside_it(page_of, evidence_of):
    page = page_of(evidence_of(), source="yuqi657/ts2_net README", dataset="VATEX")
    header, _, row, *_ = rows_of(page)
    assert (header[0], header[-1]) == ("system", "source, split")
    assert row[-1].startswith("yuqi657/ts2_net README, ")
    assert "None of these has a counterpart here." in page


# The files of the repository.


def test_the_files_hold_what_the_four_documents_and_mteb_report(files):
    numbers, _ = files
    assert (
        len(numbers) == len(numbers.drop_duplicates(["source", "dataset", "split", "system", "metric"])) == 1213 + 825
    )
    best = numbers[(numbers["system"] == FINE_TUNED) & (numbers["metric"] == "R@1")]
    assert list(best["value"]) == ["38.50±0.28"]
    # METHODS.md, section 5, read in MTEB's results: 9.2, 25.8, 36.8 on ActivityNet and 10.4 on MSR-VTT.
    mteb = numbers[
        (numbers["document"] == "MTEB (third parties)") & (numbers["system"] == "microsoft/xclip-base-patch32")
    ]
    recalls = {(row["dataset"], row["metric"]): float(row["value"]) for row in mteb.to_dict("records")}
    found = [recalls["ActivityNet Captions", f"t2v R@{k}"] for k in (1, 5, 10)] + [recalls["MSR-VTT", "t2v R@1"]]
    assert found == pytest.approx([9.2, 25.8, 36.8, 10.4], abs=0.051)


def test_what_a_paper_and_mteb_both_measured_stands_in_one_row_in_percent(files, retrieval, evidence_of):
    numbers, counterparts = files
    both = {"t2v": direction(8.6, 60.0), "v2t": direction(17.7, 12.0)}
    evidence = evidence_of(retrieval("xclip_base_patch32", "mean", {"1": both}, queries=1000), dataset="msrvtt")
    page = published_page(beside_ours(numbers, counterparts, evidence), evidence)
    (row,) = [row for row in rows_of(page) if row[:3] == ["msrvtt", "xclip_base_patch32", "t2v/R@1"]]
    # The report's 0.086 of all 1,000 videos, and MTEB's value of 879.
    assert row[3].startswith("8.6 (Video-LLaMA report (Baba Ahmadi 2023), sec 2.1, test (1k gallery; ")
    assert row[3].endswith("; 10.35 (MTEB (third parties), MTEB 2.13.1)")
    assert row[4:] == ["8.60 (xclip_base_patch32-mean, 1 clip)", "video_llama_msrvtt"]


def test_every_published_number_is_on_the_page_with_whether_it_has_a_counterpart(files, evidence_of):
    numbers, counterparts = files
    evidence = evidence_of(dataset="toy")
    page = published_page(beside_ours(numbers, counterparts, evidence), evidence)
    shown = [cell for row in rows_of(page) for cell in row[1:] if cell not in ("–", "")]
    for number in numbers["value"]:
        shown.remove(number)
    # a cell for each number, the headers and the columns of text aside
    assert not [cell for cell in shown if re.fullmatch(r"[\d.±]+", cell)]
    held = len({tuple(row[name] for name in KEY) for row in counterparts.to_dict("records")})
    assert held >= 646
    assert f"Beside 0 of them stands ours; {held} are of systems that have not run" in page
    assert f"{len(numbers) - held} have no counterpart" in page
    for fault in ("zero-shot checkpoint", "both 24.76 and 27.68", "a copying error", "another model than Microsoft's"):
        assert fault in page


def test_every_counterpart_is_of_a_published_number_and_names_its_experiment(files):
    numbers, counterparts = files
    joined = counterparts.merge(numbers, on=["source", "dataset", "system", "metric"], how="left")
    assert joined["split"].notna().all()
    assert set(counterparts["experiment"]) == {
        "thesis_8_frames",
        "thesis_16_frames",
        "thesis_32_frames",
        "resources",
        "thesis_learning_rate_adamw",
        "thesis_learning_rate_sgd",
        "thesis_patch_keep_rate",
        "video_llama_msrvtt",
        *(f"mug_stan_{name}" for name in ("msrvtt", "didemo", "lsmdc", "hmdb51", "ucf101", "kinetics_400")),
        *(f"xclip_{name}" for name in ("hmdb51", "ucf101")),
        *(f"xclip_kinetics_400_{name}" for name in ("8_frames", "16_frames", "336_px")),
        *("qwen3_vl_embedding_2b_msrvtt", "qwen3_vl_embedding_8b_msrvtt", "vlm2vec_v2_msrvtt", "lamra_msrvtt"),
        "vidvec_msrvtt",
        "vclipper_qvhighlights",
        "vclipper_qvhighlights_frames",
    }
    assert (pd.to_numeric(counterparts["scale"]) > 0).all()
    assert not counterparts.duplicated().any()


HEADER = "system,dataset,split,metric,value,source"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system,value\n", f"numbers.csv: the first row must be {HEADER}"),
        (f"{HEADER}\na,b,c,d,1,s\na,b,c,d,,s\n", "numbers.csv row 3: each column must have one value"),
        (f"{HEADER}\na,b,c,d,1\n", "numbers.csv row 2: each column must have one value"),
        (f"{HEADER}\na,b,c,d,1,s,t\n", "numbers.csv row 2: each column must have one value"),
    ],
)
def test_a_faulty_file_is_one_line_that_names_the_row(text, message, tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_table(path, NUMBER)
    assert "\n" not in str(error.value)


def test_a_file_that_is_absent_or_no_text_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "numbers.csv", NUMBER)
    (tmp_path / "numbers.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_table(tmp_path / "numbers.csv", NUMBER)


def test_quoted_commas_are_part_of_a_value_and_some_columns_may_be_empty(tmp_path):
    path = tmp_path / "numbers.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([HEADER.split(","), ["a", "b", "test, 1k", "m", "", "s"]])
    (row,) = read_table(path, NUMBER, may_be_empty=("value",)).to_dict("records")
    assert (row["split"], row["value"]) == ("test, 1k", "")


def test_a_source_that_no_document_has_is_one_line(tmp_path):
    for name in ("published_results", "third_party_results"):
        (tmp_path / f"{name}.csv").write_text(f"{HEADER}\na,b,c,d,1,new\n", encoding="utf-8")
    for name, columns in (("published_sources", SOURCE), ("counterparts", COUNTERPART)):
        (tmp_path / f"{name}.csv").write_text(",".join(columns) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="published_sources.csv: no row for the source 'new'; add one"):
        read_published(tmp_path)
