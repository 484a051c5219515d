import json
import logging
import unicodedata
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.moments.example_figure import example_panels
from stillmotion.printed import OneLine, json_text, markdown, one_line, one_per_line, without_controls
from stillmotion.report.figures import save_figure
from stillmotion.report.tables import markdown_table
from stillmotion.stage import Progress, run_stage

HOSTILE = "a\x1b[31m|b\u202e`c`\n<img src=x>\u2028d\x9b1m\ud800\\|e\t*f*\x00\ufffe"
STEERING = "\x00\x07\x1b\x9b\x85\r\n\t\u2028\u2029\u202e\u2066\ufeff\ud800\uffff"
TEXTS = st.text(st.characters() | st.sampled_from(STEERING + "|`<\\"))
JOINERS = "\u200c\u200d"


def steering(text):
    """What Unicode itself calls a control, a format character, half of a pair, or a break; without the joiners."""
    return [
        char
        for char in text
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        or (unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))
        or (char in "\u200e\u200f\u061c\ufeff\u200b")
    ]


@given(TEXTS)
def test_a_printed_text_is_one_line_without_control_characters(text):
    printed = one_line(text)
    assert len(printed.splitlines()) <= 1
    assert not steering(printed)
    printed.encode("utf-8")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("éЖ犬👩" + JOINERS)))
def test_a_text_without_control_characters_is_printed_as_it_is(text):
    assert one_line(text) == text


def test_what_a_control_character_was_can_be_read():
    # ESC, a line break between spaces, RIGHT-TO-LEFT OVERRIDE, the byte 0xFF of a file name that is no UTF-8
    assert one_line("a\x1b[31mb \n  c\u202ed\udcff") == r"a\x1b[31mb c\u202ed\udcff"


@given(st.lists(TEXTS, min_size=1))
def test_rows_are_as_many_lines(rows):
    assert len(one_per_line(rows).split("\n")) == len(rows)


@given(st.dictionaries(TEXTS, TEXTS))
def test_json_reads_as_what_it_was_and_steers_no_terminal(value):
    text = json_text(value)
    assert json.loads(text) == value
    assert not [char for char in steering(text) if char != "\n"]


def cells(row):
    """The cells of a row as GitHub's own parser finds them: a backslash takes its punctuation along."""
    found, place = [""], 0
    while place < len(row):
        if row[place] == "\\" and place + 1 < len(row):
            found[-1] += row[place : place + 2]
            place += 2
        elif row[place] == "|":
            found.append("")
            place += 1
        else:
            found[-1] += row[place]
            place += 1
    return found[1:-1]


@given(TEXTS, TEXTS)
def test_a_table_with_hostile_ids_keeps_its_rows_and_columns(one, other):
    rows = markdown_table(["id", "reason"], [[markdown(one), markdown(other)]]).split("\n")
    assert len(rows) == 3
    assert [len(cells(row)) for row in rows] == [2, 2, 2]


@given(TEXTS)
def test_nothing_of_a_text_is_markup(text):
    assert not set(markdown(text)) & set("<>|`*[]\\~$")


def test_the_name_of_a_system_stands_in_a_page_as_it_is():
    assert markdown("small_clip-patch_dropout-vc1_log_smooth_norm") == "small_clip-patch_dropout-vc1_log_smooth_norm"


def test_markup_in_an_id_is_shown():
    assert markdown("<b>a|b</b> & _c_d") == "&lt;b&gt;a&#124;b&lt;/b&gt; &amp; &#95;c_d"


@given(TEXTS)
def test_a_text_without_controls_keeps_its_words_alone(text):
    cleaned = " ".join(without_controls(text).split())
    assert not steering(cleaned)


def test_a_colour_goes_with_its_code():
    assert without_controls("a \x1b[1;31mred\x1b[0m circle\x9b2K\nmoves") == "a red circle\nmoves"


def test_a_record_of_a_log_is_one_line_and_a_traceback_keeps_its_own():
    def record(error=None):
        info = (type(error), error, None) if error else None
        return logging.LogRecord("stillmotion", logging.INFO, "", 0, "%s: lost", (HOSTILE,), info)

    printed = OneLine("%(message)s").format(record())
    assert len(printed.splitlines()) == 1
    assert not steering(printed)
    assert OneLine("%(message)s").format(record(ValueError("a bug"))).splitlines()[1:] == ["ValueError: a bug"]


def test_progress_is_told_on_one_line(caplog):
    caplog.set_level(logging.INFO, logger="stillmotion")
    with Progress("a\nb\x1b[2J", 1) as progress:
        progress.advance()
    assert caplog.records[0].getMessage().startswith(r"a b\x1b[2J: 1 in ")


def test_an_error_of_a_stage_is_one_line(monkeypatch, capfd):
    def main() -> None:
        """Fail."""
        raise InputError(f"{HOSTILE}: no such file")

    monkeypatch.setattr("sys.argv", ["some_stage.py"])
    handlers = logging.getLogger().handlers
    logging.getLogger().handlers = []  # pytest's, which `run_stage` would close
    try:
        with pytest.raises(SystemExit):
            run_stage(main)
    finally:
        logging.getLogger().handlers = handlers
    printed = capfd.readouterr().err
    assert printed.endswith(": no such file\n")
    assert len(printed.splitlines()) == 1
    assert not steering(printed.rstrip("\n"))


@pytest.mark.parametrize("text", [HOSTILE, "a\x1b", "\x00", "b\ufffe", "c\udcff"])
def test_a_figure_of_a_hostile_caption_is_xml(tmp_path, text):
    example = {
        "query": text, "vid": text, "place": "best", "top1_iou": 0.5, "duration": 2.0, "clip_length_s": 1.0,
        "true_windows": [], "predicted_windows": [], "sc": [0, 1], "processed": [0, 1], "threshold": 0.5, "cfsc": [1],
        "cuts": [],
    }  # fmt: skip
    save_figure(example_panels([example], [np.zeros((4, 8, 3), np.uint8)], None), tmp_path / "figure.svg")
    assert ET.parse(tmp_path / "figure.svg").getroot().tag.endswith("svg")
