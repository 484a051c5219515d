import numpy as np
import pytest

from stillmotion.attention.store import AttendedExamples, read_attended, write_attended
from stillmotion.errors import InputError

ROW = {"caption_id": "v1#0", "tokens": ["<start_of_text>"], "text_to_frame": np.float32([0.25, 0.75])}


@pytest.mark.parametrize("attention", [None, np.full((1, 2, 4, 4), 1 / 16, np.float32)])
def test_what_is_written_is_read(tmp_path, attention):
    write_attended(tmp_path, AttendedExamples([ROW], attention))
    found = read_attended(tmp_path)
    assert found.rows == [ROW | {"text_to_frame": [0.25, 0.75]}]
    if attention is None:
        assert found.attention_NFGG is None
    else:
        assert np.array_equal(found.attention_NFGG, attention)


def test_a_folder_without_examples_is_one_line(tmp_path):
    with pytest.raises(InputError, match="examples.jsonl: no such file"):
        read_attended(tmp_path)
