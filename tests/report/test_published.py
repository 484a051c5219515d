import csv
import re
import shlex
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.report import commands
from stillmotion.report.claims import MOMENT_CLAIMS, THESIS_CLAIMS
from stillmotion.report.commands import exp_run
from stillmotion.report.counterparts import AGGREGATORS, FRAME_METRICS, WINDOW_METRICS, XCLIP
from stillmotion.report.evidence import systems_of
from stillmotion.report.published import PublishedNumber, published_page, read_published
from stillmotion.report.sections import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ROOT / "data" / "published_results.csv"
THESIS = "Embeddings thesis (Lindgren 2023)"
ANC = "ActivityNet Captions (paragraph-to-video)"


def rows_of(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]


def numbers(system, source, dataset, **values):
    return [PublishedNumber(system, dataset, "val1", metric, value, source) for metric, value in values.items()]


def thesis(system, table="Table 4.6", **values):
    return numbers(system, f"{THESIS} {table}", ANC, **(values or {"R@1": "38.50±0.28", "medR": "2.0±0.0"}))


def direction(r1, medr, **std):
    values = {"R@1": r1, "R@2": 0.0, "R@5": 70.489, "R@10": 83.5, "MedR": medr, "MeanR": 8.0, "MRR": 50.0, "mAP": 50.0}
    return values | ({"std": std} if std else {})


def retrieval(by_num_clips, *, queries=4917, missing=0):
    protocol = {"num_queries": queries - missing, "missing_queries": missing, "missing_videos": missing}
    return {"by_num_clips": by_num_clips, "protocol": protocol}


FINE_TUNED = "X-CLIP B/16-8f fine-tuned + transformer-mean aggregation frames=32"
OURS = "xclip_base_patch16-half_patches-transformer_mean"
SPREAD = {"R@1": 0.314, "R@5": 0.2, "R@10": 0.1, "MedR": 0.5}


def test_ours_stands_below_the_published_number_with_the_frames_as_clips(make_evidence):
    measured = retrieval({"1": {"t2v": direction(1.0, 9.0)}, "4": {"t2v": direction(37.126, 2.5, **SPREAD)}})
    page = published_page(thesis(FINE_TUNED), make_evidence(dataset="activitynet", retrieval={OURS: measured}))
    header, _, published, ours = rows_of(page)
    assert header == ["system", "R@1", "medR", "ours"]
    assert published == [FINE_TUNED, "38.50±0.28", "2.0±0.0", "below"]
    assert ours == [f"↳ {OURS}, 4 clips", "37.13 ± 0.31", "2.50 ± 0.50", ""]
    assert "2 published numbers, from data/published_results.csv. Beside 2 of them stands ours; 0 are" in page


def test_videos_that_are_missing_are_said_beside_ours(make_evidence):
    measured = retrieval({"4": {"t2v": direction(37.0, 2.0)}}, missing=85)
    page = published_page(thesis(FINE_TUNED), make_evidence(dataset="activitynet", retrieval={OURS: measured}))
    assert rows_of(page)[3][0] == f"↳ {OURS}, 4 clips; 85 videos missing"


@pytest.mark.parametrize(
    ("dataset", "measured"),
    [
        ("toy", retrieval({"4": {"t2v": direction(37.0, 2.0)}})),
        # val_2
        ("activitynet", retrieval({"4": {"t2v": direction(37.0, 2.0)}}, queries=4885)),
        ("activitynet", retrieval({"4": {"t2v": direction(37.0, 2.0)}}, queries=9834)),
        ("activitynet", retrieval({"1": {"t2v": direction(37.0, 2.0)}})),
        ("activitynet", retrieval({}, queries=0)),
    ],
)
def test_on_other_data_or_with_other_clips_it_is_not_run_here_and_the_command_is_named(
    make_evidence, dataset, measured
):
    page = published_page(thesis(FINE_TUNED), make_evidence(dataset=dataset, retrieval={OURS: measured}))
    assert rows_of(page)[2:] == [[FINE_TUNED, "38.50±0.28", "2.0±0.0", "not run here: A"]]
    assert "Beside 0 of them stands ours; 2 are of systems that have not run" in page
    assert f"**A**: models of 8 frames\n\n```\n{commands.THESIS_8_FRAMES}\n```" in page


@pytest.mark.parametrize(
    ("system", "name", "clips"),
    [
        ("X-CLIP B/32-8f baseline frames=8", "xclip_base_patch32-mean", 1),
        ("X-CLIP B/32-8f fine-tuned", "xclip_base_patch32-half_patches-mean", 1),
        ("X-CLIP B/32-8f baseline + mean aggregation frames=24", "xclip_base_patch32-mean", 3),
        (
            "X-CLIP B/32-16f fine-tuned + mean aggregation frames=32",
            "xclip_base_patch32_16_frames-half_patches-mean",
            2,
        ),
        ("X-CLIP B/16-32f baseline frames=32", "xclip_base_patch16_zero_shot-mean", 1),
        ("X-CLIP B/16-16f baseline + class-token aggregation frames=16", "xclip_base_patch16_16_frames-class_token", 1),
    ],
)
def test_each_name_of_the_thesis_is_a_system_and_a_number_of_clips_of_ours(make_evidence, system, name, clips):
    measured = {name: retrieval({str(clips): {"t2v": direction(12.0, 12.0)}})}
    page = published_page(thesis(system, "Table 4.3"), make_evidence(dataset="activitynet", retrieval=measured))
    assert rows_of(page)[3][0] == f"↳ {name}, {clips} clip{'s' if clips > 1 else ''}"


def test_what_a_source_prints_as_fractions_is_ours_as_fractions(make_evidence):
    source = "Video-LLaMA report (Baba Ahmadi 2023) sec 2.1"
    published = numbers("xclip-base-patch32", source, "MSR-VTT", **{"t2v_hit@1": "0.086", "v2t_mrr": "0.2746"})
    both = {"t2v": direction(8.6, 60.0), "v2t": direction(17.7, 12.0)}
    measured = {"xclip_base_patch32-mean": retrieval({"1": both}, queries=1000)}
    page = published_page(published, make_evidence(dataset="msrvtt", retrieval=measured))
    assert rows_of(page)[3] == ["↳ xclip_base_patch32-mean, 1 clip", "0.0860", "0.5000", ""]


def selection(objective, queries=1550):
    return {
        "brief": {
            "MR-full-R1@0.5": 57.4,
            "MR-full-R1@0.7": 36.1,
            "MR-full-mAP": 28.5,
            "MR-full-mAP@0.5": 51.6,
            "MR-full-mAP@0.75": 27.7,
        },
        "frames": {"accuracy": 79.81, "IoU": 51.74, "AP@0.5": 53.8},
        "mIoU": 51.4,
        "protocol": {
            "num_queries": queries,
            "missing_queries": 0,
            "missing_videos": 0,
            "thresholds": {"objective": objective},
        },
    }


def vclipper(section, system="VC1 post=log_smooth_norm", **values):
    return numbers(system, f"VClipper (Caravaca 2024) {section}", "QVHighlights", **values)


def test_moments_are_compared_with_thresholds_for_the_same_thing(make_evidence):
    windows = vclipper("sec 4.2.2", **{"R1@0.5": "57.38", "mIoU": "51.38"})
    frames = vclipper("Fig 18 sec 4.2.1", frame_accuracy="0.798", frame_AP05="0.538", frame_AP07="0.292")
    systems = {"R1@0.5": "vit_b_32-vc1_log_smooth_norm", "frame_AP@0.5": "vit_b_32-vc1_log_smooth_norm_frames"}

    def rows(**objectives):
        moments = {systems[objective]: selection(searched) for objective, searched in objectives.items()}
        return rows_of(published_page(windows + frames, make_evidence(dataset="qvhighlights", moments=moments)))

    of_windows, of_frames = (rows(**{objective: objective}) for objective in systems)
    assert [f"↳ {systems['R1@0.5']}", "57.40", "51.40", ""] in of_windows
    assert of_windows[-1][-1] == "not run here: B"
    assert of_frames[2][-1] == "not run here: A"
    # what ours does not have stays open
    assert of_frames[-1] == [f"↳ {systems['frame_AP@0.5']}", "0.7981", "0.5380", "–", ""]
    # a selection whose objective was changed under its name is not the same thing
    swapped = rows(**{"R1@0.5": "frame_AP@0.5", "frame_AP@0.5": "R1@0.5"})
    assert [row[-1] for row in swapped if row[0].startswith("VC1")] == ["not run here: A", "not run here: B"]


def test_the_abstract_of_vclipper_is_held_against_its_best_method(make_evidence):
    published = vclipper("abstract", "VClipper abstract claim", **{"R1@0.5": "57.3"})
    moments = {"vit_b_32-vc1_log_smooth_norm": selection("R1@0.5")}
    page = published_page(published, make_evidence(dataset="qvhighlights", moments=moments))
    assert rows_of(page)[3][:2] == ["↳ vit_b_32-vc1_log_smooth_norm", "57.40"]


def architecture():
    steps = [
        {"keep_rate": 1.0, "frozen_blocks": 0, "forward_flops": 463_239_389_184, "peak_memory_mib": 4023.8},
        {"keep_rate": 0.5, "frozen_blocks": 0, "forward_flops": 255_989_981_184, "peak_memory_mib": 3133.4},
        {"keep_rate": 1.0, "frozen_blocks": 3, "forward_flops": 463_239_389_184, "peak_memory_mib": 3226.8},
    ]
    return {"xclip_base_patch32_8f": {"parameters": 196_585_855, "batch_size": 6, "steps": steps}}


def test_what_was_counted_needs_no_dataset(make_evidence):
    published = [
        PublishedNumber("X-CLIP Base/32 (all params)", "-", "-", "params_M", "196.59", f"{THESIS} Table 3.1"),
        *thesis("X-CLIP B/32-8f aggregation=average", "Table 4.8", gpu_memory_GB="2.59"),
        *thesis("X-CLIP B/32-8f aggregation=transformer mean", "Table 4.8", gpu_memory_GB="2.64"),
        *numbers(
            "X-CLIP-B/32 8f",
            "microsoft/VideoX X-CLIP/README.md",
            "Kinetics-400",
            **{"acc@1": "80.4", "GFLOPs_per_view": "39"},
        ),
    ]
    rows = rows_of(published_page(published, make_evidence(architectures=architecture())))
    ours = [row for row in rows if row[0] == "↳ xclip_base_patch32_8f"]
    # 4023.8 · 2²⁰ / 10⁹ = 4.219; 463.239 · 10⁹ / 2 / 6 = 38.6 · 10⁹
    assert [row[1:3] for row in ours] == [["196.585855", ""], ["4.22", ""], ["–", "39"]]
    assert ["X-CLIP B/32-8f aggregation=transformer mean", "2.64", "no counterpart"] in rows


def keep_rate_rows(make_evidence, **found):
    published = thesis("X-CLIP patch dropout keep=0.5 batch=32", "Table 4.10", TFLOPs_fvcore="191", **{"R@1": "0.221"})
    return rows_of(published_page(published, make_evidence(**found)))[2:]


def keep_rates(model):
    runs = [{"validation_R@1": 21.0}, {"validation_R@1": 23.0}]
    return {"patch_keep_rate": {"model": model, "points": [{"value": 1.0, "runs": []}, {"value": 0.5, "runs": runs}]}}


def test_the_flops_of_the_patch_dropout_table_are_those_of_an_epoch(make_evidence):
    # 255.99 · 10⁹ / 2 / 6 · 9,008 = 192.2 · 10¹²
    (published, ours) = keep_rate_rows(make_evidence, architectures=architecture())
    assert published[-1] == "below; not run here: D, E"
    assert ours == ["↳ xclip_base_patch32_8f", "192", "–", ""]


def test_a_keep_rate_is_looked_up_in_the_ablation_of_the_same_model_and_data(make_evidence):
    ablations = keep_rates("xclip_base_patch32-half_patches")
    (published, ours) = keep_rate_rows(make_evidence, dataset="activitynet", ablations=ablations)
    assert ours == ["↳ xclip_base_patch32-half_patches (patch_keep_rate)", "–", "0.2200 ± 0.0141", ""]
    both = keep_rate_rows(make_evidence, dataset="activitynet", ablations=ablations, architectures=architecture())
    assert both[0][-1] == "below"
    assert both[1][1:3] == ["192", "0.2200 ± 0.0141"]
    for wrong in (
        {"dataset": "toy", "ablations": ablations},
        {"dataset": "activitynet", "ablations": keep_rates("clip")},
    ):
        assert len(keep_rate_rows(make_evidence, **wrong)) == 1


def test_a_learning_rate_is_found_however_it_is_written(make_evidence):
    published = thesis("X-CLIP B/32-8f fine-tune SGD lr=3e-3", "Table 4.9a", **{"R@1": "22.57±0.64"})
    points = [{"value": 0.003, "runs": [{"validation_R@1": 22.5}]}]
    ablations = {"learning_rate_sgd": {"model": "xclip_base_patch32-sgd", "points": points}}
    page = published_page(published, make_evidence(dataset="activitynet", ablations=ablations))
    assert rows_of(page)[3] == ["↳ xclip_base_patch32-sgd (learning_rate_sgd)", "22.50", ""]


def test_the_shots_that_reach_zero_shot_are_given_by_model(make_evidence):
    published = numbers(
        "X-CLIP linear probe crossover vs zero-shot",
        f"{THESIS} sec 4.6 (figure only; no table)",
        "ActivityNet200",
        shots_per_class="2-4",
    )
    top1 = {"1": {"mean": 30.0}, "2": {"mean": 41.0}, "4": {"mean": 60.0}}
    actions = {
        "xclip_base_patch32": {"top1": top1, "zero_shot": {"top1": 40.0}},
        "xclip_base_patch16": {"top1": top1, "zero_shot": {"top1": 70.0}},
    }
    page = published_page(published, make_evidence(dataset="activitynet", actions=actions))
    assert rows_of(page)[3][1] == "2 (xclip_base_patch32), never (xclip_base_patch16)"


def test_a_system_of_others_has_no_counterpart_and_its_source_and_split_beside_it(make_evidence):
    published = numbers("TS2-Net B/32", "yuqi657/ts2_net README", "VATEX", **{"t2v_R@1": "59.1"})
    page = published_page(published, make_evidence())
    header, _, row = rows_of(page)
    assert header == ["system", "t2v_R@1", "source, split"]
    assert row == ["TS2-Net B/32", "59.1", "yuqi657/ts2_net README, val1"]
    assert "None of these has a counterpart here." in page
    assert "0 are of systems that have not run on that data here, with the command that would; 1 have no" in page


# The file of published numbers, and the commands.


@pytest.fixture(scope="module")
def published():
    return read_published(NUMBERS)


def test_the_file_holds_what_the_four_documents_report(published):
    assert len(published) == 1204
    assert len({(row.source, row.dataset, row.split, row.system, row.metric) for row in published}) == 1204
    best = [row.value for row in published if row.system == FINE_TUNED and row.metric == "R@1"]
    assert best == ["38.50±0.28"]


def test_every_published_number_is_on_the_page(published, make_evidence):
    page = published_page(published, make_evidence())
    shown = [cell for row in rows_of(page) for cell in row[1:] if cell not in ("–", "")]
    for number in published:
        shown.remove(number.value)
    # a cell for each number, the headers and the columns of text aside
    assert not [cell for cell in shown if re.fullmatch(r"[\d.±]+", cell)]
    assert len(page.splitlines()) < 900


def test_known_faults_of_the_sources_are_said(published, make_evidence):
    page = published_page(published, make_evidence())
    for fault in ("zero-shot checkpoint", "both 24.76 and 27.68", "a copying error", "another model than Microsoft's"):
        assert fault in page


def applied(command, path):
    """The params of the repository with the settings of a `dvc exp run`."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["dvc", "exp", "run"]
    assert set(words[3::2]) == {"-S"}
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    apply_overrides(path, words[4::2])
    return load_params(path)


def experiments():
    texts = [command.text for section in SECTIONS for command in section.commands]
    texts += [claim.command for claim in THESIS_CLAIMS + MOMENT_CLAIMS]
    return sorted({text for text in texts if text.startswith("dvc exp run")})


@pytest.mark.parametrize("command", experiments())
def test_every_command_that_is_printed_gives_valid_params(command, tmp_path):
    applied(command, tmp_path / "params.yaml")


def measured_by(params):
    """Evidence that a run with these params leaves: every system and number of clips, with numbers of no meaning."""
    sizes = {"activitynet": 4917, "msrvtt": 1000, "qvhighlights": 1550}
    size = sizes.get(params.dataset, 0)
    by_clips = {
        str(count): {"t2v": direction(1.0, 1.0), "v2t": direction(1.0, 1.0)} for count in params.embed.clip_counts
    }
    numbers = {
        "brief": {path.split(" ")[1]: 1.0 for path in WINDOW_METRICS.values()},
        "frames": {path.split(" ")[1]: 1.0 for path in FRAME_METRICS.values()},
    }
    moments = {
        f"{model}-{name}": selection(params.selections[name].objective, size) | numbers
        for model in params.run.selected
        for name in params.run.selections
    }
    steps = [
        {"keep_rate": rate, "frozen_blocks": 0, "forward_flops": 12, "peak_memory_mib": 1.0}
        for rate in params.measure_architectures.keep_rates
    ]
    measured = {
        "retrieval": retrieval(by_clips, queries=size),
        "assessment": {},
        "actions": {"top1": {"1": {"mean": 1.0}}, "zero_shot": {"top1": 0.0}},
        "resources": {},
        "architectures": {"parameters": 1, "batch_size": 6, "steps": steps},
    }
    systems = systems_of(params.run)
    return {task: dict.fromkeys(systems[task], values) for task, values in measured.items()} | {"moments": moments}


def test_the_command_of_a_published_system_runs_its_counterpart(published, make_evidence, tmp_path):
    evidence = {
        text: make_evidence(dataset=params.dataset, run=params.run, **measured_by(params))
        for text in experiments()
        for params in [applied(text, tmp_path / "params.yaml")]
    }
    matched = 0
    for number in published:
        section = next(section for section in SECTIONS if number.source.startswith(section.prefix))
        for counterpart in section.counterparts:
            groups = counterpart.match(number.source, number.dataset, number.system)
            if groups is None:
                continue
            texts = [section.commands[place].text for place in counterpart.commands]
            found = [counterpart.find(groups, evidence[text]) for text in texts if text in evidence]
            # what ablations leave is not made by `dvc exp run`
            from_ablation = number.metric == "R@1" and "4.10" in number.source
            if number.metric in counterpart.metrics and found and not from_ablation:
                matched += 1
                assert any(ours and number.metric in ours.values for ours in found), number
            break
    assert matched > 450


def test_settings_with_brackets_or_spaces_are_quoted_and_long_commands_broken():
    assert exp_run("a=1", "b=[x, y]") == "dvc exp run -S a=1 -S 'b=[x, y]'"
    command = exp_run(*(f"section.name_{place}={place}" for place in range(12)))
    assert max(map(len, command.splitlines())) <= 112
    assert shlex.split(command.replace("\\\n", " "))[4::2] == [f"section.name_{place}={place}" for place in range(12)]


def test_every_combination_of_the_thesis_has_a_backbone_and_an_aggregator():
    assert set(XCLIP) == {("32", "8"), ("32", "16"), ("16", "8"), ("16", "16"), ("16", "32")}
    assert set(AGGREGATORS.values()) == {"mean", "transformer_mean", "class_token"}


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
        read_published(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_absent_or_no_text_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_published(tmp_path / "numbers.csv")
    (tmp_path / "numbers.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_published(tmp_path / "numbers.csv")


def test_quoted_commas_are_part_of_a_value(tmp_path):
    path = tmp_path / "numbers.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([HEADER.split(","), ["a", "b", "test, 1k", "m", "1.0", "s"]])
    assert read_published(path) == [PublishedNumber("a", "b", "test, 1k", "m", "1.0", "s")]
