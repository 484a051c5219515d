"""A dataset of actions alone, with real videos, through the stage scripts up to its metrics."""

import os
from pathlib import Path

import pytest
import ruamel.yaml

from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.io.tables import read_json, read_rows
from stillmotion.training.builtin import new_builtin

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = dict.fromkeys(("expansion", "pretraining", "recipe", "seed")) | {"model": "c", "base": "c"}


@pytest.mark.slow
@pytest.mark.real
def test_videos_of_ucf101_are_named_without_captions_and_a_missing_one_is_counted(run_script, real_material, tmp_path):
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "ucf101"
    params["download"]["benchmarks"]["validation_fraction"] = 0.0
    params["sample_frames"] |= {"size_px": 32, "num_uniform": 8}
    params["embed"] |= {"clip_frames": 4, "clip_counts": [1]}
    params["run"] |= {"assessed": [], "selected": []}
    params["retrieval"] = {}
    yaml.dump(params, tmp_path / "params.yaml")
    source = tmp_path / "data" / "sources" / "ucf101"
    (source / "videos" / "SoccerJuggling").mkdir(parents=True)
    for group in ("g23", "g24"):
        name = f"v_SoccerJuggling_{group}_c01.avi"
        (source / "videos" / "SoccerJuggling" / name).symlink_to(real_material / "videos" / f"vision__{name}")
    (source / "classInd.txt").symlink_to(real_material / "recognition" / "ucf101_classInd.txt")
    (source / "trainlist01.txt").write_text("SoccerJuggling/v_SoccerJuggling_g23_c01.avi 84\r\n")
    (source / "testlist01.txt").write_text(
        "SoccerJuggling/v_SoccerJuggling_g24_c01.avi\r\nTaiChi/v_TaiChi_g01_c01.avi\r\n"
    )
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
    model = BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    new_builtin(model).save(tmp_path / "clip", {"system": SYSTEM})

    def run(script: str, *options: str) -> None:
        env = os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu", "STILLMOTION_WORKERS": "1"}
        done = run_script(script, *options, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr

    run("download", "--source", "data/sources/ucf101", "--output", "raw")
    run("sample_frames", "--raw", "raw/tables", "--output", "frames")
    run("embed", "--model", "clip", "--raw", "raw/tables", "--frames", "frames", "--output", "embeddings")
    run("linear_probe", "--embeddings", "embeddings", "--output", "probes")
    outputs = ("--metrics", "metrics.json", "--predictions", "predictions", "--plot", "plot.json")
    run("evaluate_actions", "--probes", "probes", "--raw", "raw/tables", "--embeddings", "embeddings", *outputs)
    found = read_json(tmp_path / "metrics.json")
    (named,) = read_rows(tmp_path / "predictions" / "spans.jsonl")
    assert (named["video_id"], named["label"]) == ("v_SoccerJuggling_g24_c01", "Soccer Juggling")
    # 251 frames by PyAV, of 30000/1001 a second.
    assert named["end"] == pytest.approx(251 * 1001 / 30000)
    protocol = found["protocol"]
    assert (protocol["num_spans"], protocol["missing_spans"]) == (1, 1)
    assert found["zero_shot"]["pessimistic"]["top1"] == found["zero_shot"]["top1"] / 2
