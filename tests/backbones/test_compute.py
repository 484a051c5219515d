import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys
import torch
from stillmotion.backbones.compute import prepare_torch
from stillmotion.config.environment import read_environment
prepare_torch(read_environment(), 2)
assert torch.are_deterministic_algorithms_enabled()
assert torch.is_deterministic_algorithms_warn_only_enabled()
assert "torch._dynamo" not in sys.modules
"""


def test_kernels_are_deterministic_and_the_compiler_is_not_imported_for_it():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT / "src", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
