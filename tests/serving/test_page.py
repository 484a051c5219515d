"""The search page in a browser: what is seen of it, what it asks for, and what the keyboard does."""

import re

import pytest
from browser import chromium, seen
from search_project import TEXT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser, running):
    """A page of the server; nothing it does may complain, or ask anybody else."""
    pages = []

    def open_page(words="", **window):
        context = seen(browser, running.url + "/" + words, **window)
        pages.append((context, context.__enter__()))
        return pages[-1][1]

    yield open_page
    try:
        for _, page in pages:
            assert page.complaints == []
            assert page.hosts() == {"127.0.0.1"}
            assert page.page.evaluate("window.harmed") is None
    finally:
        for context, _ in pages:
            context.__exit__(None, None, None)


def hits(page, num=None):
    page.wait_for_selector(".hit:not(.stale .hit)")
    if num is not None:
        page.wait_for_function(f"() => document.querySelectorAll('.hit').length === {num}")
    return [each.text_content() for each in page.query_selector_all(".hit .id")]


def stands_at(page, second):
    page.wait_for_function(
        "at => { const video = document.querySelector('video'); return video.readyState >= 2 "
        "&& Math.abs(video.currentTime - at) < 0.7; }",
        arg=second,
    )


def test_what_is_typed_is_found_and_stands_in_the_address(opened):
    page = opened().page
    page.wait_for_selector("#dataset option", state="attached")
    # A busy machine types slowly, and the page shows what a part of the text finds until all of it is answered.
    with page.expect_response(lambda response: "q=a+red+ball&" in f"{response.url}&"):
        page.keyboard.type(TEXT, delay=10)
    assert hits(page, 3)[0] == "street"
    assert page.url.endswith("?q=a+red+ball")
    assert re.fullmatch(r"3 moments in 3 videos, \d+ ms", page.text_content("#status"))
    assert page.text_content(".hit .times") == "0:02 to 0:05.5"


def test_an_older_answer_never_overwrites_a_newer_one(opened):
    page = opened().page
    held = []
    page.route("**/api/search?*q=slow*", lambda route: held.append(route))
    page.fill("#q", "slow")
    page.wait_for_timeout(400)
    assert held
    page.fill("#q", TEXT)
    hits(page, 3)
    for route in held:
        route.fulfill(json={"moments": [], "num_videos": 0, "notes": []})
    page.wait_for_timeout(200)
    assert hits(page, 3)[0] == "street"
    assert page.input_value("#q") == TEXT


def test_typing_asks_once_for_a_word_and_not_for_each_letter(opened):
    found = opened()
    found.page.keyboard.type(TEXT, delay=20)
    hits(found.page, 3)
    assert sum("/api/search" in url for url in found.requests) <= 2


def test_the_player_stands_at_the_moment_and_a_link_brings_it_back(opened):
    page = opened("?q=a+red+ball&dataset=toy&split=test").page
    hits(page, 3)
    page.click(".hit >> nth=0")
    page.wait_for_selector("#player:not([hidden])")
    page.evaluate("document.querySelector('video').pause()")
    stands_at(page, 2.0)
    assert page.text_content("#playing") == "street, 0:02 to 0:05.5"
    again = opened(page.url.rpartition("/")[2]).page
    again.wait_for_selector("#player:not([hidden])")
    stands_at(again, 2.0)
    assert again.evaluate("document.querySelector('video').paused")
    assert again.input_value("#q") == TEXT
    assert (again.input_value("#dataset"), again.input_value("#split")) == ("toy", "test")
    assert again.get_attribute(".hit >> nth=0", "aria-current") == "true"


def test_the_keyboard_is_enough(opened):
    page = opened("?q=a+red+ball").page
    hits(page, 3)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent").startswith("0:00 to 0:02yard")
    page.keyboard.press("Enter")
    page.wait_for_selector("#player:not([hidden])")
    assert page.text_content("#playing").startswith("yard")
    page.keyboard.press("Escape")
    assert not page.is_visible("#player")
    assert page.evaluate("document.activeElement.textContent").startswith("0:00 to 0:02yard")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('.hit').length === 0")
    assert page.input_value("#q") == ""


def test_more_like_a_moment_looks_in_other_videos_and_back_goes_back(opened):
    page = opened("?q=a+red+ball").page
    hits(page, 3)
    page.click(".hit >> nth=0")
    page.click("#like-moment")
    page.wait_for_function(
        "() => document.querySelector('#asked-text').textContent.includes('Like street, 0:02 to 0:05.5')"
    )
    assert "street" not in hits(page)
    page.go_back()
    page.wait_for_function("() => document.querySelector('#q').value === 'a red ball'")
    assert hits(page, 3)[0] == "street"


def test_an_image_that_is_chosen_while_the_page_loads_is_looked_for(opened, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "red.png")
    page, held = opened().page, []
    page.route("**/api/datasets", lambda route: held.append(route))
    page.reload(wait_until="commit")
    while not held:
        page.wait_for_timeout(20)
    page.set_input_files("#file", tmp_path / "red.png")
    held[0].continue_()
    hits(page)
    assert page.text_content("#asked-text") == "Like the image red.png"


def test_an_image_is_looked_for_when_it_is_chosen(opened, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "red.png")
    page = opened().page
    page.set_input_files("#file", tmp_path / "red.png")
    hits(page)
    assert page.text_content("#asked-text") == "Like the image red.png"
    (tmp_path / "no.txt").write_text("x")
    page.set_input_files("#file", tmp_path / "no.txt")
    assert "Drop an image" in page.text_content("#status")


def test_filters_and_names_in_markup_stay_text(opened):
    page = opened("?q=ball&dataset=mine").page
    assert set(hits(page)) == {"a/<script>window.harmed=1</script>", "b"}
    page.select_option("#split", "test")
    page.wait_for_function("() => document.querySelector('#status').textContent.includes('in 1 video,')")
    assert "split=test" in page.url
    page.click(".hit >> nth=0")
    page.wait_for_selector("#player:not([hidden])")
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    page.select_option("#dataset", "toy")
    page.wait_for_function("() => document.querySelectorAll('.hit .id')[0]?.textContent === 'street'")
    assert "<img src=x onerror=window.harmed=1>" in page.text_content("#hits")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_nothing_overflows_and_all_is_named_and_legible(opened, width, dark):
    for words in ("", "?q=a+red+ball&at=street&t=2,5.5", "?like=street&dataset=toy", "api"):
        found = opened(words, width=width, dark=dark)
        if "?" in words:
            hits(found.page)
        found.page.wait_for_load_state("networkidle")
        assert found.overflow_px() <= 0, words
        assert found.accessibility_faults() == [], words
