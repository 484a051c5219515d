import codecs

import pytest

from stillmotion.datasets.captions_csv import Row, read_captions, write_template
from stillmotion.errors import InputError


@pytest.fixture
def read(tmp_path):
    """Write captions.csv and read it."""

    def write_and_read(content: str | bytes) -> list[Row]:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "captions.csv").write_bytes(data)
        return read_captions(tmp_path / "captions.csv")

    return write_and_read


def test_every_column_is_read(read):
    (row,) = read("video,caption,start,end,split,action\na.mp4,a dog runs,1.5,4,test,run\n")
    assert row == Row(2, "a.mp4", "a dog runs", 1.5, 4.0, "test", "run")


def test_columns_may_stand_in_any_order_and_optional_ones_may_be_left_out(read):
    assert read("caption,video\na dog runs,a.mp4\n") == [Row(2, "a.mp4", "a dog runs", None, None, None, None)]


def test_cells_left_out_at_the_end_of_a_row_are_empty(read):
    (row,) = read("video,caption,start,end\na.mp4,a dog runs\n")
    assert (row.start, row.end) == (None, None)


def test_rows_are_numbered_as_a_spreadsheet_shows_them(read):
    rows = read('video,caption\na.mp4,"two\nlines"\n\n,\nb.mp4,text\n')
    assert [(row.number, row.caption) for row in rows] == [(2, "two lines"), (5, "text")]


def test_spaces_around_and_within_a_caption_are_made_single(read):
    assert read("video,caption\na.mp4,  a dog \t runs \n")[0].caption == "a dog runs"


def test_a_byte_order_mark_is_accepted(read):
    assert read(codecs.BOM_UTF8 + b"video,caption\r\na.mp4,caf\xc3\xa9\r\n")[0].caption == "café"


def test_a_quoted_caption_may_hold_commas_and_quotes(read):
    assert read('video,caption\na.mp4,"a, ""b"" and c"\n')[0].caption == 'a, "b" and c'


def test_an_action_needs_no_caption(read):
    (row,) = read("video,caption,action\na.mp4,,wave\n")
    assert (row.caption, row.action) == ("", "wave")


def test_a_row_that_nobody_has_filled_in_yet_says_the_split_at_most(read):
    rows = read("video,caption,split\na.mp4,,\nb.mp4,  ,test\n")
    assert [(row.video, row.caption, row.action, row.split) for row in rows] == [
        ("a.mp4", "", None, None),
        ("b.mp4", "", None, "test"),
    ]


def test_a_template_has_an_empty_row_for_each_video(tmp_path):
    write_template(tmp_path / "captions.csv", ["a, b.mp4", "sub/c.mp4"])
    text = (tmp_path / "captions.csv").read_text()
    assert text == 'video,caption,start,end,split,action\n"a, b.mp4",,,,,\nsub/c.mp4,,,,,\n'
    assert [row.video for row in read_captions(tmp_path / "captions.csv")] == ["a, b.mp4", "sub/c.mp4"]


def test_of_many_rows_at_fault_the_first_three_and_their_number_are_named(read, tmp_path):
    with pytest.raises(InputError) as caught:
        read(HEADER + "a.mp4,x,4,3,\nb.mp4,ok,,,\n,x,,,\nc.mp4,y,1,,\nd.mp4,y,,,tset\n")
    assert str(caught.value) == (
        f"{tmp_path / 'captions.csv'}: 4 rows are at fault: row 2: end 3 is not after start 4; mend the times; "
        "row 4: no video; fill in the path of its file; "
        "row 5: start without end; fill in both, or neither for the whole video; and 1 more"
    )


HEADER = "video,caption,start,end,split\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "captions.csv: empty; its first row names the columns"),
        ("video,caption\n", "captions.csv: a header but no rows; add a row"),
        ("video,caption\n\n,,\n", "captions.csv: a header but no rows; add a row"),
        ("video,text\na.mp4,x\n", "row 1: unknown column 'text'; the columns are video, caption, start"),
        ("Video,caption\na.mp4,x\n", "row 1: unknown column 'Video'; did you mean 'video'?; the columns"),
        ("video,captoin\na.mp4,x\n", "row 1: unknown column 'captoin'; did you mean 'caption'?"),
        ("video,caption,\na.mp4,x,\n", "row 1: unknown column ''"),
        ("video,start,end\na.mp4,1,2\n", "row 1: column 'caption' is missing; add it"),
        ("video,caption,caption\na.mp4,x,y\n", "row 1: column 'caption' stands there twice"),
        ("video;caption\na.mp4;x\n", "row 1: separated by semicolons; save it with commas"),
        ("video\tcaption\na.mp4\tx\n", "row 1: separated by tabs; save it with commas"),
        (b"video,caption\na.mp4,ok\nb.mp4,caf\xe9\n", "row 3: not UTF-8; save the file as 'CSV UTF-8'"),
        (codecs.BOM_UTF16_LE + "video,caption\n".encode("utf-16-le"), "row 1: not UTF-8"),
        ('video,caption\na.mp4,x\nb.mp4,"open\n', "row 3: not CSV (unexpected end of data); close the quotes"),
        ("video,caption\na.mp4,a dog, a cat\n", "row 2: 3 cells, but the header has 2; put a text"),
        ("video,caption\n,x\n", "row 2: no video; fill in the path"),
        (HEADER + "a.mp4,,1,2,\n", "row 2: times without a caption; fill it in or remove the row"),
        (HEADER + "a.mp4,x,1,,\n", "row 2: start without end; fill in both"),
        (HEADER + "a.mp4,x,,1,\n", "row 2: end without start; fill in both"),
        (HEADER + "a.mp4,x,4,3,\n", "row 2: end 3 is not after start 4; mend the times"),
        (HEADER + "a.mp4,x,4,4,\n", "row 2: end 4 is not after start 4; mend the times"),
        (HEADER + "a.mp4,x,-1,3,\n", "row 2: start -1 is negative; times count from the video's start"),
        (HEADER + "a.mp4,x,1,00:03,\n", "row 2: end '00:03' is not a number; write seconds such as 12.5"),
        (HEADER + 'a.mp4,x,"1,5",3,\n', "row 2: start '1,5' is not a number; write seconds"),
        (HEADER + "a.mp4,x,1_5,30,\n", "row 2: start '1_5' is not a number; write seconds"),
        (HEADER + "a.mp4,x,1,inf,\n", "row 2: end 'inf' is not a number; write seconds"),
        (HEADER + "a.mp4,x,nan,3,\n", "row 2: start 'nan' is not a number; write seconds"),
        (HEADER + "a.mp4,x,1,3,val\n", "row 2: unknown split 'val'; did you mean 'validation'?; a split is"),
        (HEADER + "a.mp4,x,1,3,Test\n", "row 2: unknown split 'Test'; did you mean 'test'?; a split is"),
        (HEADER + "a.mp4,x,1,3,holdout\n", "row 2: unknown split 'holdout'; a split is train, validation, test"),
    ],
)
def test_a_fault_is_one_line_with_the_row_and_the_mend(read, tmp_path, content, message):
    with pytest.raises(InputError) as caught:
        read(content)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "captions.csv"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_what_to_write(tmp_path):
    with pytest.raises(InputError, match="captions.csv: no such file; name one with the columns video,caption"):
        read_captions(tmp_path / "captions.csv")
