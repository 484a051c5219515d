"""What the default `dvc repro` costs from nothing: seconds and the memory of its largest process.

    python -m benchmarks.repro

Runs in a clone of the last commit with an empty cache and an empty memo, then a second time for what it costs
to find out that nothing changed. Writes benchmarks/results/repro.json.
"""

import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "repro.json"


def main() -> dict[str, Any]:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        clone, log = Path(folder) / "clone", Path(folder) / "log"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = os.environ | {"STILLMOTION_MEMO": str(Path(folder) / "memo")}
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            with log.open("w", encoding="utf-8") as out:
                subprocess.run(
                    ["dvc", "repro"], cwd=clone, env=environment, check=True, stdout=out, stderr=subprocess.STDOUT
                )
            seconds.append(time.perf_counter() - started)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "metrics", "dvc.lock"],
            cwd=clone,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[1::2]
    result = {
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[2],
        "from_nothing_s": seconds[0],
        "nothing_to_do_s": seconds[1],
        "peak_mib_of_largest_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "files_that_differ_from_the_commit": sorted(changed),
    }
    write_json(RESULT, result, digits=1)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
