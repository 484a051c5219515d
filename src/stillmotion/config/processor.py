"""The same instructions on every processor, so that the same commit gives the same bytes (DESIGN.md, rule 7).

Before torch, numpy or scipy are loaded, `cap_instructions` sets what they read when they are: each of them would
otherwise choose kernels by what the processor has, and sums in vectors of another width differ in their last digits.
capped.py calls it, which is the first import of every script, of the `stillmotion` command and of the tests.

| variable | of |
|---|---|
| ATEN_CPU_CAPABILITY | torch's own kernels |
| ONEDNN_MAX_CPU_ISA, DNNL_MAX_CPU_ISA | oneDNN, with which torch convolves |
| MKL_CBWR, MKL_DYNAMIC, OMP_DYNAMIC | MKL, with which torch multiplies |
| OPENBLAS_CORETYPE, OPENBLAS_NUM_THREADS | products and solvers of numpy and scipy |
| NPY_DISABLE_CPU_FEATURES | numpy's own loops |

`STILLMOTION_INSTRUCTIONS` chooses otherwise, and every model and table of embeddings says which:

- `avx2`, the default: the same bytes on AMD's processors, with AVX-512 or without, and on Intel's likewise; between the
  two, MKL's products of fewer than some 16 rows or columns differ in their last digits.
- `compatible`: the same bytes on both; training takes 1.6 times as long (tests/config/test_processor.py).
- `native`: no cap; what comes out is that processor's.
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from stillmotion.errors import InputError

SWITCH = "STILLMOTION_INSTRUCTIONS"
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2,STRICT",
    "MKL_DYNAMIC": "FALSE",
    "OMP_DYNAMIC": "FALSE",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "avx2": AVX2,
    "compatible": AVX2 | {"MKL_CBWR": "COMPATIBLE"},
    "native": {},
}
"""What is set, by the choice."""
COMPUTING = ("numpy", "torch", "scipy", "sklearn")


def instructions() -> str:
    """The choice that this process is held to: `avx2`, `compatible` or `native`."""
    return os.environ.get(SWITCH, "avx2")


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The vendor (elsewhere than on Linux the architecture) and the instructions, such as `AuthenticAMD, avx2`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    vendors = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    return f"{next(vendors, '') or platform.machine()}, {instructions()}"


def cap_instructions() -> None:
    """Set the variables, for this process and those that it starts; what the user has set of them gives way."""
    chosen = VARIABLES.get(instructions())
    if chosen is None:
        name = Path(sys.argv[0]).stem
        print(
            f"{name}: error: environment variable {SWITCH} is {instructions()!r}; "
            f"set one of: {', '.join(VARIABLES)}, or unset it",
            file=sys.stderr,
        )
        sys.exit(2)
    late = [name for name in COMPUTING if name in sys.modules]
    capped = all(os.environ.get(name) == value for name, value in chosen.items())
    if late and not capped:
        raise InputError(
            f"{', '.join(late)} imported before stillmotion, and so not held to {instructions()} ({__name__}); import "
            f"stillmotion first, or set the environment variable {SWITCH} to native"
        )
    os.environ.update(chosen)
