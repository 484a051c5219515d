"""The memory of a benchmark's own process."""

from pathlib import Path


def peak_mib() -> float:
    """Of this process as Linux keeps it; what getrusage gives begins with the peak of the parent process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
