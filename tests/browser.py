"""A real browser for tests of pages: Debian's chromium, driven by playwright; without them a test is skipped."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no browser: playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} does not exist")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def visited(browser: Any, url: str, **context: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A page that is open at a URL, with what its console complains of, and the URLs that it asks for as it does.

    Args:
        browser: of `chromium`.
        url: `file:` or `http:`.
        context: of playwright's `new_context`, such as `color_scheme="dark"`.
    """
    with contextlib.closing(browser.new_context(**context)) as opened:
        page, complaints, asked = opened.new_page(), [], []
        page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        yield page, complaints, asked
