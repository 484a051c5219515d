"""Stage measure_architectures: what a training step of an architecture costs at full size.

    python src/measure_architectures.py --architecture xclip_base_patch32_8f \
        --output metrics/resources/xclip_base_patch32_8f.json

Reads nothing but params. Writes parameters, and for each keep rate and each number of frozen blocks the trainable
parameters, the forward and backward FLOPs and the peak memory of a step, which are counted without running it and so
the same on every machine. Of a CLIP and a STAN it writes under `measured` what passes with initial weights take on
this one; X-CLIP's are in benchmarks/results/xclip_memory.json. Of a video LLM it writes what embedding one video costs.
"""

import stillmotion.config.capped

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.processor import processor_name
from stillmotion.io.tables import write_json
from stillmotion.stage import importing, run_stage


def main(
    architecture: Annotated[str, typer.Option(help="key of `architectures` in params.yaml")],
    output: Annotated[Path, typer.Option(help="JSON file of the costs")],
) -> None:
    """Count a training step of an architecture, and time it where it is a CLIP or a STAN."""
    params = load_params()
    chosen, setting = params.architectures[architecture], params.measure_architectures
    environment = read_environment()
    with importing():
        from stillmotion.backbones.compute import prepare_torch
        from stillmotion.costs.architectures import measure_architecture, time_architecture
    device = prepare_torch(environment, params.threads)
    if chosen.family == "video_llm":
        with importing():
            from stillmotion.costs.video_llms import measure_video_llm
        write_json(output, measure_video_llm(architecture, chosen, setting, device))
        return
    measured = {}
    if chosen.family != "xclip":
        machine = {"device": device.type, "threads": params.threads, "processor": processor_name()}
        # Before anything else has made the process large.
        measured = {"measured": time_architecture(chosen, setting, device) | machine}
    write_json(output, measure_architecture(architecture, chosen, setting) | measured)


if __name__ == "__main__":
    run_stage(main)
