"""The digest of a short training, which says at once where this machine computes other bytes (DESIGN.md, rule 7)."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stillmotion.config.processor import VARIABLES, processor_name

SCRIPTS = Path(__file__).parent
DIGESTS = {
    # Made on an AMD EPYC with AVX-512, and the same under qemu-x86_64 -cpu EPYC, which has none.
    ("avx2", "AuthenticAMD"): "f9ce6415050a90a2c6704244111deb39a630d005636e58e21d5a99cfb583ec7d",
    # Made under qemu-x86_64 -cpu Haswell and -cpu Skylake-Client.
    ("avx2", "GenuineIntel"): "c04aa76491d17c2058fa84f091b6659269e5eca042fabd87602e757b76570e81",
    # Made on all of them.
    ("compatible", "AuthenticAMD"): "d505f1d55933593add4bbf43d89f3b5c23bdab7541d9d663420b0baedac7b53d",
    ("compatible", "GenuineIntel"): "d505f1d55933593add4bbf43d89f3b5c23bdab7541d9d663420b0baedac7b53d",
}


ALIGNED = "f1255658fa3e571b8249346d17c49007a1ecf5f23cb0c308f4fbe8c9d12112e2"
"""Of the built-in video LLM and its heads, on an AMD EPYC and under qemu-x86_64 -cpu Haswell."""


def vendor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "unknown")


def train(instructions, script="short_training"):
    return subprocess.run(
        [sys.executable, SCRIPTS / f"{script}.py"],
        env=os.environ | {"STILLMOTION_INSTRUCTIONS": instructions, "STILLMOTION_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("instructions", ["avx2", pytest.param("compatible", marks=pytest.mark.slow)])
def test_a_short_training_gives_the_bytes_that_were_committed(instructions):
    expected = DIGESTS.get((instructions, vendor()))
    if expected is None:
        pytest.skip(f"no digest is known of processors by {vendor()}")
    done = train(instructions)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected, (
        "this machine computes other bytes than those that the results were made with. If torch, numpy or the built-in "
        "training has changed, rebuild the results and take up the new digests (qemu-x86_64 -cpu Haswell gives Intel's "
        "on an AMD); if not, a library has found another way to its kernels: compare `python -c 'import torch; "
        "print(torch.__config__.show())'` with stillmotion/config/processor.py, and until that is mended set "
        "STILLMOTION_INSTRUCTIONS=compatible"
    )


@pytest.mark.slow
def test_a_video_llm_and_its_heads_are_trained_to_the_same_bytes_by_processors_of_two_vendors():
    if vendor() not in ("AuthenticAMD", "GenuineIntel"):
        pytest.skip(f"no digest is known of processors by {vendor()}")
    done = train("compatible", "short_alignment")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ALIGNED


def test_an_unknown_choice_is_one_line_with_the_mend():
    done = train("avx1024")
    assert done.returncode == 2
    assert done.stderr == (
        "short_training: error: environment variable STILLMOTION_INSTRUCTIONS is 'avx1024'; "
        f"set one of: {', '.join(VARIABLES)}, or unset it\n"
    )


def test_every_script_caps_the_instructions_before_it_imports_anything_else():
    root = Path(__file__).parents[2] / "src"
    for script in [*root.glob("*.py"), root / "stillmotion" / "cli.py"]:
        imports = [
            line for line in script.read_text(encoding="utf-8").splitlines() if line.startswith(("import ", "from "))
        ]
        assert imports[0].startswith("import stillmotion.config.capped"), script


def test_what_the_user_has_set_gives_way(tmp_path):
    code = "import stillmotion.config.capped, os; print(os.environ['MKL_CBWR'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MKL_CBWR": "AVX512"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "AVX2,STRICT"


def test_a_processor_is_named_by_its_vendor_and_instructions(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLMOTION_INSTRUCTIONS", "compatible")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\n")
    assert processor_name(cpuinfo) == "GenuineIntel, compatible"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nCPU implementer\t: 0x41\n"])
def test_a_processor_without_a_vendor_is_named_by_its_architecture(tmp_path, monkeypatch, text):
    monkeypatch.delenv("STILLMOTION_INSTRUCTIONS", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert processor_name(cpuinfo) == f"{platform.machine()}, avx2"
