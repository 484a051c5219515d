"""Work is never lost: stages killed in the middle, one video more, two runs at once.

The uninterrupted run with another memo, whose bytes everything is compared with, is the lab's own.
"""

import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillmotion.io.weights import load_tensors

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

NUM_VIDEOS = 24 + 8 + 12
NUM_STEPS = 2 * 24 // 8
ATTEMPTS = 5

SAMPLE_FRAMES = "sample_frames.py --raw data/raw/toy/tables --output {}"
EMBED = "embed.py --model models/backbones/small_clip --raw data/raw/toy/tables --frames data/frames/toy --output {}"
FINETUNE = (
    "finetune.py --recipe patch_dropout --seed 0 --backbone models/backbones/small_clip --raw data/raw/toy/tables "
    "--frames data/frames/toy --output {0} --plot {0}.json"
)


def kill_in_the_middle(project: Any, cmd: str, is_middle: Callable[[], bool], **settings: str) -> None:
    """Start a stage script and `kill -9` it while it `is_middle`; again from nothing where that came too late."""
    for _ in range(ATTEMPTS):
        process = project.start("python", *f"src/{cmd}".split(), **settings)
        deadline = time.monotonic() + 120
        while process.poll() is None and not is_middle():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        _, log = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), log
        if process.returncode == -signal.SIGKILL and is_middle():
            return
        for folder in (project.memo, project.root / "out"):
            shutil.rmtree(folder, ignore_errors=True)
    pytest.fail(f"{cmd} ended {ATTEMPTS} times before it could be killed")


def entries(folder: Path, suffix: str) -> int:
    """How many entries a memo holds; what is half-written has a name that begins with a dot."""
    return sum(not path.name.startswith(".") for path in folder.rglob(f"*{suffix}"))


def steps_done(folder: Path) -> int:
    """The step of the one checkpoint of a memo; 0 where there is none."""
    for path in folder.rglob("[!.]*.safetensors"):
        return load_tensors(path)[1]["step"]
    return 0


def counted(pattern: str, log: str) -> tuple[int, ...]:
    found = re.search(pattern, log)
    assert found, f"no {pattern!r} in\n{log}"
    return tuple(int(number) for number in found.groups())


def test_sample_frames_killed_in_the_middle_decodes_the_rest(lab, clone):
    done = clone.memo / "frames"
    # The slowest way, so that there is a middle.
    kill_in_the_middle(
        clone,
        SAMPLE_FRAMES.format("out/frames"),
        lambda: 3 <= entries(done, ".npy") < NUM_VIDEOS,
        STILLMOTION_WORKERS="1",
    )
    assert not (clone.root / "out" / "frames").exists()
    log = clone.stage(SAMPLE_FRAMES.format("out/frames")).err
    decoded, remembered, skipped = counted(r"(\d+) decoded, (\d+) from the memo, (\d+) skipped", log)
    assert decoded + remembered == NUM_VIDEOS
    assert remembered >= 3
    assert decoded >= 1
    assert skipped == 0
    assert clone.digests("out/frames") == lab.digests("data/frames/toy")
    assert clone.leftovers() == []


def test_embed_killed_in_the_middle_embeds_the_rest(lab, clone):
    done = clone.memo / "embeddings"
    kill_in_the_middle(clone, EMBED.format("out/embeddings"), lambda: 3 <= entries(done, ".npy") < NUM_VIDEOS)
    assert not (clone.root / "out" / "embeddings").exists()
    log = clone.stage(EMBED.format("out/embeddings")).err
    embedded, remembered = counted(r"(\d+) videos embedded, (\d+) from the memo", log)
    assert embedded + remembered == NUM_VIDEOS
    assert remembered >= 3
    assert embedded >= 1
    assert clone.digests("out/embeddings") == lab.digests("data/embeddings/toy-small_clip")
    assert [path for path in clone.leftovers() if "/out/" in path] == []


def test_finetune_killed_in_the_middle_trains_the_rest(lab, clone):
    done = clone.memo / "checkpoints"
    output = FINETUNE.format("out/small_clip-patch_dropout")
    kill_in_the_middle(clone, output, lambda: 1 <= steps_done(done) < NUM_STEPS, STILLMOTION_CHECKPOINT_SECONDS="0")
    assert not (clone.root / "out").exists()
    log = clone.stage(output).err
    step, total = counted(r"fine-tuning: going on from step (\d+) of (\d+)", log)
    (trained,) = counted(r"fine-tuning: (\d+) in", log)
    assert total == NUM_STEPS
    assert 1 <= step < total
    assert trained == total - step
    assert clone.digests("out/small_clip-patch_dropout") == lab.digests("models/backbones/small_clip-patch_dropout")
    history = lab.root / "plots" / "finetune" / "small_clip-patch_dropout.json"
    assert (clone.root / "out" / "small_clip-patch_dropout.json").read_bytes() == history.read_bytes()
    # And once more, from a training that is over.
    log = clone.stage(output).err
    assert counted(r"fine-tuning: (\d+) in", log) == (0,)
    assert clone.digests("out/small_clip-patch_dropout") == lab.digests("models/backbones/small_clip-patch_dropout")
    assert (clone.root / "out" / "small_clip-patch_dropout.json").read_bytes() == history.read_bytes()


def test_two_runs_at_once_share_a_memo_and_make_the_same_bytes(lab, clone):
    for cmd, made in ((SAMPLE_FRAMES, "data/frames/toy"), (EMBED, "data/embeddings/toy-small_clip")):
        outputs = [f"out/{number}/{Path(made).name}" for number in range(2)]
        runs = [clone.start("python", *f"src/{cmd.format(output)}".split()) for output in outputs]
        for run in runs:
            _, log = run.communicate(timeout=200)
            assert run.returncode == 0, log
        for output in outputs:
            assert clone.digests(output) == lab.digests(made)
    assert clone.leftovers() == []


def test_one_video_more_is_one_video_decoded_and_embedded(clone, make_clip):
    source = clone.root / "data" / "sources" / "mine"
    for number in range(4):
        make_clip(source / f"clip {number}.mp4", seed=number)
    captions = ["video,caption", *(f"clip {number}.mp4,what is seen in {number}" for number in range(4))]
    embed = EMBED.replace("toy", "mine").format("data/embeddings/mine")

    def build() -> tuple[str, str]:
        (source / "captions.csv").write_text("\n".join(captions) + "\n", encoding="utf-8")
        clone.stage("download.py --source data/sources/mine --output data/raw/mine")
        sampled = clone.stage(SAMPLE_FRAMES.replace("toy", "mine").format("data/frames/mine"))
        return sampled.err, clone.stage(embed).err

    sampled, embedded = build()
    assert "4 decoded, 0 from the memo, 0 skipped" in sampled
    assert "4 videos embedded, 0 from the memo" in embedded
    before = clone.digests("data/frames/mine/frames")

    make_clip(source / "clip 1½.mp4", seed=9)
    captions.append("clip 1½.mp4,one more")
    sampled, embedded = build()
    assert "1 decoded, 4 from the memo, 0 skipped" in sampled
    assert "1 videos embedded, 4 from the memo" in embedded
    assert before.items() < clone.digests("data/frames/mine/frames").items()
