"""Stage measure_architectures: what a training step of a published architecture costs at full size.

    python src/measure_architectures.py --architecture xclip_base_patch32_8f \
        --output metrics/resources/xclip_base_patch32_8f.json

Reads nothing but params. Writes parameters, and for each keep rate and each number of frozen blocks the trainable
parameters, the forward and backward FLOPs and the peak memory of a step. All is counted and nothing run, so the
file is the same on every machine; seconds are in benchmarks/results/xclip_memory.json.
"""

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.adaptation.architectures import measure_architecture
from stillmotion.io.tables import write_json
from stillmotion.params.loading import load_params
from stillmotion.stage import run_stage


def main(
    architecture: Annotated[str, typer.Option(help="key of `architectures` in params.yaml")],
    output: Annotated[Path, typer.Option(help="JSON file of the counts")],
) -> None:
    """Count a training step of a published architecture."""
    params = load_params()
    chosen = params.architectures[architecture]
    write_json(output, measure_architecture(architecture, chosen, params.measure_architectures))


if __name__ == "__main__":
    run_stage(main)
