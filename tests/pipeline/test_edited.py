"""Params and code that are edited while dvc runs: what came of the old ones is not what the new ones give."""

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


def test_code_that_is_edited_while_dvc_runs_is_not_taken_for_the_code_before(clone):
    before = clone.digests("data/frames")
    pipeline, script = clone.root / "dvc.yaml", clone.root / "src" / "sample_frames.py"
    text, source = pipeline.read_text(encoding="utf-8"), script.read_text(encoding="utf-8")
    # From another window, while download runs: no shot is where it was.
    edit = " && sed -i 's/plan = packing.*/&; raise SystemExit(9)/' src/sample_frames.py"
    line = next(line for line in text.splitlines() if "python src/download.py" in line)
    clone.set_params({"sample_frames.num_uniform": 15})
    pipeline.write_text(text.replace(line, line + edit), encoding="utf-8")
    stopped = clone.dvc("repro", "sample_frames@toy", status=None)
    assert "sample_frames: error: src/sample_frames.py: was edited after dvc began" in stopped.text
    assert stopped.stages == ["code", "download@toy", "sample_frames@toy"]
    # The user thinks better of it.
    script.write_text(source, encoding="utf-8")
    pipeline.write_text(text, encoding="utf-8")
    clone.set_params({"sample_frames.num_uniform": 16})
    assert "sample_frames@toy" not in clone.dvc("repro", "sample_frames@toy").stages
    assert clone.digests("data/frames") == before
