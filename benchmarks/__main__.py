"""Run every benchmark: `make bench`, half an hour or more on two cores; each also runs alone."""

import stillmotion.config.capped

from benchmarks import (
    aggregators,
    embed,
    fetch,
    many_videos,
    moments,
    mug,
    repro,
    retrieval_metrics,
    sample_frames,
    search,
    starts,
    video_llm,
    xclip_memory,
)

for module in (
    retrieval_metrics,
    moments,
    mug,
    sample_frames,
    embed,
    search,
    xclip_memory,
    video_llm,
    aggregators,
    fetch,
    starts,
    many_videos,
    repro,
):
    print(f"== {module.__name__}", flush=True)
    for name, value in module.main().items():
        print(f"{name}: {value}", flush=True)
