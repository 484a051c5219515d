"""The page that is in git, of the default run."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "reports" / "results" / "index.html"


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def test_it_is_small_enough_for_git_and_far_below_what_a_page_may_be(page):
    assert len(page.encode()) < 1.5 * 2**20


def test_it_holds_nothing_of_a_machine_and_refers_to_no_network(page):
    assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:|//|/)", page)
    assert not re.findall(r"/(?:home|root|tmp|work|Users)/", page)
    assert not re.findall(r"\b20\d\d-\d\d-\d\d\b", page)


def test_what_it_leads_to_beside_it_is_there(page):
    leads = {lead.partition("#")[0] for lead in re.findall(r'href="([^"#]+)"', page)} - {"data:,"}
    assert "../../metrics/retrieval/small_clip-mean.json" in leads
    assert [lead for lead in leads if not (PAGE.parent / lead).is_file()] == []
