"""Run every benchmark: `make bench`. About 20 minutes on two quiet cores; each also runs alone."""

from benchmarks import embed, repro, sample_frames

for module in (sample_frames, embed, repro):
    print(f"== {module.__name__}", flush=True)
    for name, value in module.main().items():
        print(f"{name}: {value}", flush=True)
