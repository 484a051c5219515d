"""A page as it is seen: Debian's chromium, driven headless, and all that it complained of and asked for."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PLAYWRIGHT = importlib.util.find_spec("playwright")
MISSING = "no chromium on this machine" if CHROMIUM is None else "no playwright" if PLAYWRIGHT is None else ""

RULES = r"""() => {
  const seen = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const named = (e) =>
    (e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || e.title || "").trim();
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const faults = [];
  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title) faults.push("no title");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  faults.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `id ${id} twice`));
  for (const e of all("button, a[href], input, select, summary")) {
    if (!named(e)) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  for (const e of all("img")) if (!e.hasAttribute("alt")) faults.push("a picture without alt");
  for (const e of all("[tabindex]")) if (e.tabIndex > 0) faults.push("a tabindex above 0");
  const levels = all("h1, h2, h3, h4").map((e) => Number(e.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) faults.push("not one h1");
  levels.forEach((level, at) => {
    if (level > (at ? levels[at - 1] : 0) + 1) faults.push(`a h${level} without one above`);
  });
  const channel = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const rgba = (text) => [...(text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number), 1].slice(0, 4);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] > 0.5) return c;
    }
    return [255, 255, 255, 1];
  };
  for (const e of all("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgba(style.color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) {
      faults.push(`contrast ${ratio.toFixed(1)}: ${e.textContent.trim().slice(0, 40)}`);
    }
  }
  return [...new Set(faults)];
}"""
"""Of WCAG 2.2, what a rule can tell: names, alternatives, headings, contrast (1.4.3), language, focus order."""


@dataclass
class Seen:
    """A page, and what it said and asked for since it was opened."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def hosts(self) -> set[str | None]:
        """Whom it asked; a page from disk asks nobody."""
        return {urlsplit(url).hostname for url in self.requests if not url.startswith(("file:", "data:", "blob:"))}

    def accessibility_faults(self) -> list[str]:
        faults: list[str] = self.page.evaluate(RULES)
        return faults

    def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        wide: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wide


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser: open pages in it by `visited` or `seen`; a test is skipped where there is none."""
    if MISSING:
        pytest.skip(f"no browser: {MISSING}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
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


@contextlib.contextmanager
def seen(browser: Any, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Seen]:
    """A page in a window of its own, without motion."""
    window = {"viewport": {"width": width, "height": height}, "color_scheme": "dark" if dark else "light"}
    with visited(browser, url, reduced_motion="reduce", **window) as visit:
        yield Seen(*visit)
