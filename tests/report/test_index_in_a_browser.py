"""The page as a reader has it, in a real browser."""

import contextlib
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from browser import chromium, visited

from stillmotion.io.records import Caption, Video, save_records
from stillmotion.io.tables import read_rows

QUERIES, TUNED = 20, "small_clip-patch_dropout"
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script> & "quoted" \'so\' {{ 7*7 }}'
FILE = "a 'b' <i>#1?.mp4"


def write_video(path):
    """Four seconds at 8 frames a second."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=8, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 8)
        for place in range(32):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * place, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def built(browser, make_workplace, moment_metrics, make_query, tmp_path_factory):
    """The page of a run with hostile captions, every second video of which is found at rank 2; v0 alone has a file."""
    root = tmp_path_factory.mktemp("run")
    with contextlib.chdir(root):
        workplace = make_workplace(root.relative_to(root))
        write_video(root / FILE)
        files = [FILE, *(f"v{row}.mp4" for row in range(1, QUERIES))]
        videos = [Video(f"v{v}", files[v], "test", 4.0, 8.0, 32, 64, 64, "h264", "ok") for v in range(QUERIES)]
        save_records(root / "frames", Video, videos)
        captions = [Caption(f"c{v:02}", f"v{v}", HOSTILE, None, None) for v in range(QUERIES)]
        save_records(root / "raw", Caption, captions)
        workplace.add_retrieval("small_clip", 2.0, 2.0)
        workplace.add_retrieval(TUNED, 1.0, 1.0)
        ranks = f"predictions/retrieval/{TUNED}-mean/ranks.jsonl"
        rows = [
            row | {"text": HOSTILE, "rank": [1.0 + row_of % 2]} for row_of, row in enumerate(read_rows(root / ranks))
        ]
        workplace.write_rows(ranks, rows)
        example = {"qid": 1, "query": HOSTILE, "vid": "v0", "duration": 4.0, "place": "best", "top1_iou": 1.0}
        example |= {"clip_length_s": 2.0, "sc": [0.1, 0.2], "processed": [0.1, 0.2], "cfsc": [0.9], "cuts": []}
        example |= {"threshold": 0.15, "true_windows": [[2.0, 4.0]], "predicted_windows": [[2.0, 4.0, 0.2]]}
        queries = [make_query(qid, qid / QUERIES) for qid in range(QUERIES)]
        workplace.add_moments(moment_metrics, queries, [example | {"stored_frames": [0, 1]}])
        workplace.run()
    return root / "out" / "index.html"


@pytest.fixture
def opened(browser, built):
    """Opens the page, and waits until every video is there or missed."""

    @contextlib.contextmanager
    def open_page(**context):
        with visited(browser, built.as_uri(), **context) as visit:
            visit[0].wait_for_function("[...document.querySelectorAll('video')].every(v => v.hidden || v.readyState)")
            yield visit

    return open_page


@pytest.mark.slow
def test_the_page_asks_for_videos_alone_complains_of_nothing_and_is_painted_within_a_second(opened):
    paints = []
    for _ in range(3):  # the machine may be busy with something else
        with opened() as (page, _, _):
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert min(paints) < 1000
    with opened(offline=True) as (page, complaints, asked):
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        assert not [told for told in complaints if "ERR_FILE_NOT_FOUND" not in told]
        # text is text: no script of a caption has run, and no picture of it is there
        assert page.title() == "Stillmotion: results on toy"
        assert page.locator("img:not(.preview)").count() == 0
        assert page.locator("#moments h4").text_content() == f"“{HOSTILE}”"


@pytest.mark.slow
def test_a_player_stands_at_its_moment_with_a_cursor_that_follows_and_without_a_file_says_so(opened):
    with opened() as (page, _, _):
        player = page.locator("#moments .player").first
        at = "video => [video.currentTime, video.hidden]"
        assert player.locator("video").evaluate(at) == [2.0, False]
        assert player.locator("output").text_content() == "2.0 s"
        player.locator("video").evaluate("video => { video.currentTime = 3 }")
        page.wait_for_function("document.querySelector('#moments output').value === '3.0 s'")
        assert player.locator(".cursor").evaluate("cursor => cursor.style.left") == "75%"
        player.locator(".preview").click(position={"x": 1, "y": 5})
        page.wait_for_function("document.querySelector('#moments video').currentTime < 0.2")
        assert player.locator(".gone").is_hidden()
        missing = page.locator("#retrieval .player", has=page.locator("video[src*='v1.mp4']")).first
        missing.locator(".gone").wait_for(state="visible")
        assert missing.locator("video").is_hidden()
        assert missing.locator(".preview").evaluate("picture => picture.naturalWidth") == 2 * 56


@pytest.mark.slow
def test_a_table_sorts_by_the_heading_that_is_pressed(opened):
    with opened() as (page, _, _):
        names = "heads => heads.map(head => head.textContent)"
        rows = page.locator("#resources tbody th")
        button = page.locator("#resources").get_by_role("button", name="forward GFLOPs")
        assert rows.evaluate_all(names) == ["small_clip", TUNED]
        button.focus()
        page.keyboard.press("Enter")
        assert page.locator("#resources thead [aria-sort]").get_attribute("aria-sort") == "descending"
        assert rows.evaluate_all(names) == ["small_clip", TUNED]
        page.keyboard.press("Enter")
        assert rows.evaluate_all(names) == [TUNED, "small_clip"]


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (...colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const grounds = [];
    for (; one; one = one.parentElement) grounds.unshift(getComputedStyle(one).backgroundColor);
    return ["white", ...grounds];
  };
  const faint = [];
  for (const one of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || one.closest("svg, video, script, [hidden]")) continue;
    const [a, b] = [light(getComputedStyle(one).color), light(...behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${one.outerHTML.slice(0, 80)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
"""Texts whose colour is too near to what is behind it: WCAG 2.2, 1.4.3."""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_light_or_dark_wide_or_narrow_nothing_runs_over_and_every_text_can_be_read(opened, scheme, width):
    with opened(color_scheme=scheme, viewport={"width": width, "height": 800}) as (page, _, _):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
        assert page.evaluate(CONTRAST) == []


@pytest.mark.slow
def test_on_paper_all_is_open_and_no_player_or_link_is_in_the_way(opened):
    with opened(viewport={"width": 700, "height": 1000}) as (page, _, _):
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("document.documentElement.scrollWidth") == 700
        assert page.locator("details:not([open])").count() == 0
        assert page.locator("video >> visible=true").count() == 0
        assert page.locator("nav").is_hidden()
        assert page.locator(".preview").first.is_visible()


@pytest.mark.slow
def test_who_hears_the_page_has_names_headings_in_order_and_what_is_drawn_in_words(opened):
    with opened() as (page, _, _):
        levels = [
            int(name[1])
            for name in page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => h.tagName)")
        ]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(below - above <= 1 for above, below in zip(levels, levels[1:], strict=False))
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1
        named = "all => all.filter(one => !(one.ariaLabel || one.alt)).map(one => one.outerHTML.slice(0, 99))"
        for drawn in ("main svg", "img", "video", ".track", ".scroll"):
            assert page.locator(drawn).count()
            assert page.locator(drawn).evaluate_all(named) == []
        assert page.locator("html").get_attribute("lang") == "en"
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids))
        targets = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(one => one.hash.slice(1))")
        assert set(targets) <= set(ids)


@pytest.mark.slow
def test_every_number_of_a_table_leads_to_its_metrics_file(opened, built):
    with opened() as (page, _, _):
        leads = set(page.evaluate("[...document.querySelectorAll('a[href$=json]')].map(a => a.getAttribute('href'))"))
        assert {"../metrics/retrieval/small_clip-mean.json", "../metrics/moments/oracle.json"} <= leads
        for lead in leads:
            assert json.loads((built.parent / lead).read_text())
        cells = page.locator("table.sortable td:has(a)")
        assert cells.count() > 20
