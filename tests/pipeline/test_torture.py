"""The standing attack (`make torture`) in small: it kills, it compares, and it tells of what it finds."""

import random
import shutil
import time

import pytest
from benchmarks.attacked import Attacked
from benchmarks.torture import Torture, summary

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


@pytest.fixture
def torture(lab, tmp_path):
    """In a copy of the lab with a cache and a memo of its own."""
    root = tmp_path / "a" / "stillmotion"
    shutil.copytree(lab.root, root, symlinks=True, ignore=shutil.ignore_patterns("tmp"))
    clone = Attacked(root, tmp_path / "memo", lab.home, lab.run_script)
    clone.memo.mkdir()
    seconds = dict.fromkeys(clone.lock(), 4.0)
    return Torture(clone, clone, clone.results(), seconds, random.Random(0), time.monotonic() + 200)


def test_two_kills_cost_nothing_and_are_told(torture):
    torture.kills(2)
    assert torture.deviations == []
    struck = [row for row in torture.tried if row["at_s"] is not None]
    assert len(struck) == torture.struck == 2
    assert all("ended with" in row["followed"] for row in struck)
    assert sum(int(line.split()[-1]) for line in summary(torture.tried)[1:]) == 2


def test_the_choice_of_attacks_follows_from_the_seed(torture):
    def chosen(seed):
        torture.rng = random.Random(seed)
        stages = torture.choose_stages()
        return stages, torture.choose_kills(stages, 9)

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


def test_whatever_a_run_should_not_have_left_is_a_deviation(torture):
    clone = torture.clone
    assert torture.compare(clone, "nothing") is True
    models = clone.root / "models"
    (models / "thresholds" / ".out.partial-0123456789ab-1-01234567").mkdir()
    changed = clone.root / "metrics" / "summary.json"
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    lost = next((clone.root / "data" / "frames" / "toy").glob("*.jsonl"))
    lost.unlink()
    entry = clone.memo / "frames" / "00" / ("a" * 64 + "-" + "b" * 32 + ".npy")
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"other bytes")
    assert torture.compare(clone, "it") is False
    assert sorted(torture.deviations) == [
        "it: .out.partial-0123456789ab-1-01234567 is left",
        f"it: data/frames/toy/{lost.name} is not there",
        f"it: entry {entry.name} of the memo is not what its name says",
        "it: metrics/summary.json is another",
    ]
