"""X-CLIP made from the lab's own CLIP: expanded, fine-tuned, embedded, aggregated, scored with conditional texts."""

import json

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

MODEL = "small_clip_xclip-half_patches"
XCLIP = {
    "run.expanded": ["small_clip"],
    "run.expansions": ["xclip"],
    "run.embedded": ["small_clip_xclip"],
    "run.finetuned": ["small_clip_xclip"],
    "run.models": [MODEL],
    "run.probed": [MODEL],
    "run.assessed": [MODEL],
    "run.selected": [MODEL],
    "run.aggregators": ["transformer_mean"],
    "run.conditional": [MODEL],
    "run.architectures": ["xclip_base_patch32_8f"],
    "expansions.xclip.num_frames": 4,
    "embed.contexts": True,
    "measure_architectures.keep_rates": [0.5],
    "measure_architectures.frozen_blocks": [12],
}


def test_xclip_runs_through_the_same_stages_and_shares_those_that_do_not_concern_it(clone):
    clone.set_params(XCLIP)
    run = clone.dvc("repro")
    for stage in ("download", "sample_frames", "backbone@small_clip"):
        assert f"Running stage '{stage}'" not in run.text
    metrics = {
        system: json.loads((clone.root / f"metrics/retrieval/{MODEL}-{system}.json").read_text(encoding="utf-8"))
        for system in ("transformer_mean", "conditional")
    }
    assert metrics["transformer_mean"]["protocol"]["clip_frames"] == 4
    assert list(metrics["transformer_mean"]["by_num_clips"]) == ["1", "2"]
    assert metrics["conditional"]["protocol"]["gallery_size"] == 12
    assert "conditional" in metrics["conditional"]["protocol"]["inference_tricks"]
    # An X-CLIP of its own says how many frames it takes; another number is not a choice.
    config = json.loads((clone.root / f"models/finetuned/{MODEL}/config.json").read_text(encoding="utf-8"))
    assert config["vision_config"]["num_frames"] == 4
    report = (clone.root / "reports/results/results.md").read_text(encoding="utf-8")
    assert f"{MODEL}-transformer_mean" in report
    assert "xclip_base_patch32_8f" in report
