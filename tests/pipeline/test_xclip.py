"""X-CLIP made from the lab's own CLIP: expanded, fine-tuned, embedded, aggregated, scored with conditional texts."""

import json

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

MODEL = "small_clip-xclip-patch_dropout"
XCLIP = {
    "expansions": {
        "xclip": {
            "family": "xclip",
            "num_frames": 4,
            "integration_layers": 1,
            "prompt_layers": 2,
            "max_tokens": 72,
            "seed": 0,
        }
    },
    "expanded": {"small_clip-xclip": {"from": "small_clip", "expansion": "xclip"}},
    "finetuned": {MODEL: {"from": "small_clip-xclip", "recipe": "patch_dropout", "seed": 0}},
    "run.embedded": ["small_clip-xclip", MODEL],
    "run.probed": [MODEL],
    "run.assessed": [MODEL],
    "run.selected": [MODEL],
    "retrieval": {
        f"{MODEL}-transformer_mean": {"model": MODEL, "scorer": "transformer_mean"},
        f"{MODEL}-conditional": {"model": MODEL, "scorer": "conditional"},
    },
    "architectures": {"xclip_base_patch32_8f": {"family": "xclip", "patch_size_px": 32, "num_frames": 8}},
    "run.architectures": ["xclip_base_patch32_8f"],
    "embed.contexts": True,
    "measure_architectures.keep_rates": [0.5],
    "measure_architectures.frozen_blocks": [12],
}


def test_xclip_runs_through_the_same_stages_and_shares_those_that_do_not_concern_it(clone):
    clone.set_params(XCLIP)
    run = clone.dvc("repro")
    for stage in ("download@toy", "sample_frames@toy", "backbone@small_clip"):
        assert f"Running stage '{stage}'" not in run.text
    metrics = {
        system: json.loads((clone.root / f"metrics/retrieval/{MODEL}-{system}.json").read_text(encoding="utf-8"))
        for system in ("transformer_mean", "conditional")
    }
    assert metrics["transformer_mean"]["protocol"]["clip_frames"] == 4
    assert list(metrics["transformer_mean"]["by_num_clips"]) == ["1", "2"]
    assert metrics["conditional"]["protocol"]["gallery_size"] == 12
    assert "conditional" in metrics["conditional"]["protocol"]["inference_tricks"]
    assert metrics["conditional"]["system"] == {
        "model": MODEL,
        "base": "small_clip",
        "expansion": "xclip",
        "pretraining": None,
        "recipe": "patch_dropout",
        "seed": 0,
        "scorer": "conditional",
    }
    # An X-CLIP of its own says how many frames it takes; another number is not a choice.
    config = json.loads((clone.root / f"models/backbones/{MODEL}/config.json").read_text(encoding="utf-8"))
    assert config["vision_config"]["num_frames"] == 4
    results = clone.root / "reports" / "results"
    assert f"{MODEL}-transformer_mean" in (results / "results.md").read_text(encoding="utf-8")
    assert "xclip_base_patch32_8f" in (results / "index.html").read_text(encoding="utf-8")
