"""Run every benchmark: `make bench`, half an hour or more on two cores; each also runs alone."""

import stillmotion.config.capped

from benchmarks import (
    aggregators,
    embed,
    fetch,
    many_videos,
    moments,
    mug,
    own_folder,
    repro,
    retrieval_metrics,
    sample_frames,
    search,
    serve,
    starts,
    video_llm,
    xclip_memory,
)

for module in (
    retrieval_metrics,
    moments,
    mug,
    own_folder,
    sample_frames,
    embed,
    search,
    serve,
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
