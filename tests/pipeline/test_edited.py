"""Params that are edited while dvc runs a stage, with dvc itself: what came of the old ones is not the new ones'."""

import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

STAGE = """
stages:
  grow:
    cmd: python grow.py
    params: [size]
    outs: [grown]
"""
SCRIPT = """
import types
from pathlib import Path
from stillmotion.stage import run_stage

def main() -> None:
    text = Path("params.yaml").read_text()
    params = types.SimpleNamespace(size=text)
    Path("params.yaml").write_text("size: 2\\n")  # by the user, from another window
    Path("grown").write_text(params.size)

if __name__ == "__main__":
    run_stage(main)
"""


def test_the_next_run_makes_what_the_edited_params_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name, content in {"dvc.yaml": STAGE, "grow.py": SCRIPT, "params.yaml": "size: 1\n"}.items():
        Path(name).write_text(content, encoding="utf-8")
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)
    first = subprocess.run(["dvc", "repro"], capture_output=True, text=True, check=False)
    assert "grow: error: params.yaml: size was edited while this ran" in first.stderr
    assert first.returncode != 0
    subprocess.run(["dvc", "repro"], check=True)
    assert Path("grown").read_text(encoding="utf-8") == "size: 2\n"
