"""`stillmotion serve` under 50 clients: how long an answer takes, and whether memory stays.

    python -m benchmarks.serve

Serves the default run of the workspace (`dvc pull` or `make repro` first) as a process of its own. Texts are the
dataset's captions and queries, each asked once. `alone` is one client that asks one question after another, `together`
are 50, each of which asks its next as soon as it has an answer, from this process and so on the same cores. `typed` are
20 texts, typed letter by letter in as many clients, each of which drops what it no longer waits for, as the page does.
`cpu_s` is the server's processor time a query, which a busy machine leaves as it is. Memory is the resident set of the
server before, after, and after as many questions again. `search_s` is the command with the server and without. Writes
benchmarks/results/serve.json.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from stillmotion.io.records import Caption, Moment, load_records
from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serve.json"
NUM_ALONE, NUM_CLIENTS, NUM_QUERIES, NUM_TYPED = 100, 50, 1_000, 20
COMMAND = [sys.executable, "-c", "from stillmotion.cli import main; main()"]


def texts() -> list[str]:
    """Distinct texts of the dataset, in an order that mixes them."""
    tables = ROOT / "data" / "raw" / "toy" / "tables"
    said = {each.text for each in load_records(tables, Caption)} | {each.query for each in load_records(tables, Moment)}
    ordered = sorted(said)
    return [ordered[place] for place in np.random.default_rng(0).permutation(len(ordered))]


async def ask(client: httpx.AsyncClient, text: str) -> float:
    """Seconds that an answer takes."""
    started = time.perf_counter()
    answer = await client.get("/api/search", params={"q": text})
    answer.raise_for_status()
    assert len(answer.json()["moments"]) == 10
    return time.perf_counter() - started


async def attack(url: str, asked: list[str], num_clients: int) -> list[float]:
    """Seconds of each answer, of clients that share out the texts."""
    waiting = iter(asked)
    seconds: list[float] = []

    async def client_of() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            for text in waiting:
                seconds.append(await ask(client, text))

    await asyncio.gather(*(client_of() for _ in range(num_clients)))
    return seconds


async def type_texts(url: str, typed: list[str]) -> list[float]:
    """Seconds from the last letter to the answer, where each letter before has asked too, and been given up."""

    async def one(text: str) -> float:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            for end in range(4, len(text), 3):
                asking = asyncio.create_task(client.get("/api/search", params={"q": text[:end]}))
                await asyncio.sleep(0.1)
                asking.cancel()
            return await ask(client, text)

    return await asyncio.gather(*(one(text) for text in typed))


def summary(seconds: list[float]) -> dict[str, float]:
    return {
        "queries": len(seconds),
        "median_s": statistics.median(seconds),
        "p95_s": float(np.quantile(seconds, 0.95)),
        "max_s": max(seconds),
    }


def cpu_s(process: int) -> float:
    """Seconds of processor time that a process has had."""
    times = psutil.Process(process).cpu_times()
    return times.user + times.system


def search_s() -> float:
    """Seconds of the command."""
    started = time.perf_counter()
    subprocess.run([*COMMAND, "search", "a large red circle"], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    result: dict[str, Any] = {"cpus": os.cpu_count(), "load_before": os.getloadavg()[0], "clients": NUM_CLIENTS}
    alone = search_s()
    server = subprocess.Popen([*COMMAND, "serve", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        memory = psutil.Process(server.pid).memory_info
        result["search_s"] = {"without": alone, "with": search_s()}
        asked = texts()
        result["alone"] = summary(asyncio.run(attack(url, asked[:NUM_ALONE], 1)))
        asked = asked[NUM_ALONE:]
        first = memory().rss
        spent, started = cpu_s(server.pid), time.perf_counter()
        result["together"] = summary(asyncio.run(attack(url, asked[:NUM_QUERIES], NUM_CLIENTS)))
        result["together"]["queries_per_s"] = NUM_QUERIES / (time.perf_counter() - started)
        result["together"]["cpu_s"] = (cpu_s(server.pid) - spent) / NUM_QUERIES
        second = memory().rss
        asyncio.run(attack(url, asked[NUM_QUERIES : 2 * NUM_QUERIES], NUM_CLIENTS))
        result["typed"] = summary(asyncio.run(type_texts(url, asked[-NUM_TYPED:])))
        third = memory().rss
        result["rss_mib"] = {"before": first / 2**20, "after": second / 2**20, "after_twice": third / 2**20}
    finally:
        server.terminate()
        server.wait(20)
    result["load_after"] = os.getloadavg()[0]
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
