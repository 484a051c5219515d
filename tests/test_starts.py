"""What starts, and what it leaves unimported: a script, a command, a model folder."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import open_clip
import pytest
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch",
    "open_clip",
    "transformers",
    "lightning_fabric",
    "scipy",
    "sklearn",
    "pandas",
    "rich",
    "av",
    "cv2",
    "optuna",
)
READ_VIDEOS = ("detect_shots", "download", "sample_frames")


def imported_by(code, *arguments):
    """Which of HEAVY a process imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "STILLMOTION_DEVICE": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {name.strip() for *_, name in lines} & set(HEAVY)


def help_of(script):
    return imported_by(f"import runpy, sys; runpy.run_path('{ROOT}/src/{script}.py', run_name='__main__')", "--help")


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "src").glob("*.py")))
def test_help_is_answered_without_what_is_slow_to_import(script):
    needed = {"av"} if script in READ_VIDEOS else {"pandas", "scipy", "av"} if script == "report" else set()
    assert help_of(script) <= needed


def test_help_of_search_imports_no_more_than_its_words():
    assert imported_by("from stillmotion.cli import main; main()", "search", "--help") == set()


@pytest.mark.slow
def test_opening_a_model_of_open_clip_imports_no_module_of_another_family(tmp_path):
    tower = {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 77, "vocab_size": 49408}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text},
        "preprocess_cfg": asdict(PreprocessCfg(size=32)),
    }
    model = open_clip.CLIP(**json.loads(json.dumps(config["model_cfg"])))
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    OpenClipBackbone(model, open_clip.SimpleTokenizer(), config).save(tmp_path / "clip", {"from": "a test"})
    code = """
import sys
from pathlib import Path
import torch
from stillmotion.backbones.registry import load_backbone
from stillmotion.embedding import embedder, writer
from stillmotion.training import finetuning, recognition
load_backbone(Path(sys.argv[1]), torch.device("cpu"))
# open_clip itself imports the package of transformers, not its models.
others = [name for name in sys.modules if "x_clip" in name or "stillmotion.backbones" in name and "stan" in name]
assert not others, others
"""
    assert "open_clip" in imported_by(code, str(tmp_path / "clip"))


@pytest.mark.slow
def test_what_trains_and_embeds_imports_no_family():
    code = """
from stillmotion.backbones import registry
from stillmotion.embedding import embedder, writer
from stillmotion.retrieval import aggregators
from stillmotion.training import aggregation, finetuning, recognition
"""
    assert imported_by(code) == {"torch"}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_search_for_garbage_goes_on_as_it_was_after_imports(enabled):
    code = f"""
import gc
from stillmotion.stage import importing
(gc.enable if {enabled} else gc.disable)()
try:
    with importing():
        assert not gc.isenabled()
        raise RuntimeError
except RuntimeError:
    pass
assert gc.isenabled() is {enabled}
"""
    assert imported_by(code) == set()
