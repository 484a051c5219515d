"""Debian's chromium without a window, for tests of what a person sees; they are skipped where there is none."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")


@dataclass
class Opened:
    """A page, with what it asked for and what it complained of since it was opened."""

    page: Any
    requests: list[str] = field(default_factory=list)
    """Addresses, the page's own first."""
    errors: list[str] = field(default_factory=list)
    """Of scripts and of the console."""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's; the test is skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} does not exist; apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Any, url: str, **context: Any) -> Iterator[Opened]:
    """A page at an address; `context` as playwright's, such as `viewport` and `color_scheme`."""
    within = browser.new_context(**context)
    try:
        seen = Opened(within.new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("console", lambda line: seen.errors.append(line.text) if line.type == "error" else None)
        seen.page.goto(url)
        yield seen
    finally:
        within.close()
