import pytest

from stillmotion.datasets.folder import FolderSource
from stillmotion.datasets.registry import open_source
from stillmotion.datasets.toy import ToySource
from stillmotion.errors import InputError
from stillmotion.params import DownloadParams, FolderParams


@pytest.fixture
def params(toy_params):
    return DownloadParams(toy=toy_params(), folder=FolderParams(validation_fraction=0.2, test_fraction=0.3))


def test_toy_is_generated_whether_its_folder_is_there_or_not(params, tmp_path):
    assert open_source(tmp_path / "toy", params) == ToySource(params.toy)


def test_any_other_folder_is_read(params, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.mp4").touch()
    (tmp_path / "mine" / "captions.csv").write_text("video,caption\na.mp4,x\n")
    assert isinstance(open_source(tmp_path / "mine", params), FolderSource)


def test_an_unknown_name_lists_the_known_ones_and_where_to_put_a_folder(params, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "captions.csv").touch()
    with pytest.raises(InputError) as caught:
        open_source(tmp_path / "mime", params)
    message = str(caught.value)
    assert message.startswith("dataset 'mime' is unknown; did you mean 'mine'?; there are mine, toy; ")
    assert f"make the folder {tmp_path / 'mime'} with the video files and a captions.csv" in message


def test_a_folder_without_captions_says_so(params, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="captions.csv: no such file; write one"):
        open_source(tmp_path / "mine", params)
