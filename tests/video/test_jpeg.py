import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillmotion.errors import InputError
from stillmotion.video.jpeg import decode_jpegs, encode_jpegs

PATH = Path("frames/00.npy")
CODE = """
import hashlib
import numpy as np
from stillmotion.video.jpeg import decode_jpegs, encode_jpegs

frames = np.random.default_rng(0).integers(0, 256, (4, 61, 61, 3), dtype=np.uint8)
frames[2:] = np.arange(61)[:, None] + 3 * np.arange(61)[None, :, None]
coded = encode_jpegs(frames)
decoded = decode_jpegs(coded, 4, np.arange(4), "")
print([hashlib.sha256(array.tobytes()).hexdigest() for array in (coded, decoded)])
"""


def picture(number: int) -> np.ndarray:
    """A slope of light and color, other for each number."""
    y, x = np.mgrid[:40, :40]
    return np.stack([4 * x + number, 4 * y, 255 - 3 * x - 3 * y], axis=-1).clip(0, 255).astype(np.uint8)


FRAMES = np.stack([picture(40 * number) for number in range(5)])


def test_the_frames_are_jpegs_that_any_reader_opens_and_are_nearly_the_same():
    coded = encode_jpegs(FRAMES)
    sizes = coded[: 5 * 4].view("<u4")
    assert coded.dtype == np.uint8
    assert len(coded) == 5 * 4 + sizes.sum()
    with Image.open(io.BytesIO(coded[20 : 20 + sizes[0]].tobytes())) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (40, 40), "RGB")
        # 4:4:4: each of three components as fine as the picture; 16 is the first step of light at quality 50
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
        assert image.quantization[0][0] == 2  # 16 at quality 95: (16 * 10 + 50) // 100
        np.testing.assert_array_equal(np.asarray(image), decode_jpegs(coded, 5, np.array([0]), PATH)[0])
    errors = decode_jpegs(coded, 5, np.arange(5), PATH).astype(float) - FRAMES
    assert 10 * np.log10(255**2 / (errors**2).mean()) > 40  # PSNR


def test_some_frames_come_in_the_order_asked_for_and_as_often_though_decoded_once(monkeypatch):
    coded, opened, original = encode_jpegs(FRAMES), [], Image.open
    whole = decode_jpegs(coded, 5, np.arange(5), PATH)
    monkeypatch.setattr(Image, "open", lambda file: opened.append(file) or original(file))
    np.testing.assert_array_equal(decode_jpegs(coded, 5, np.array([3, 0, 3, 3]), PATH), whole[[3, 0, 3, 3]])
    assert len(opened) == 2


def test_bytes_that_lie_anywhere_in_a_file_are_read():
    coded = encode_jpegs(FRAMES)
    shifted, every = np.concatenate([np.zeros(3, np.uint8), coded])[3:], np.arange(5)
    np.testing.assert_array_equal(decode_jpegs(shifted, 5, every, PATH), decode_jpegs(coded, 5, every, PATH))


@pytest.mark.parametrize("damage", ["sizes", "picture", "cut"])
def test_spoilt_bytes_are_an_error_that_names_the_file(damage):
    coded = encode_jpegs(FRAMES).copy()
    if damage == "sizes":
        coded[:20] = 255
    elif damage == "picture":
        coded[20:40] = 0
    else:
        coded = coded[:200]
    with pytest.raises(InputError, match=r"frames/00\.npy: not the JPEGs of a frames store"):
        decode_jpegs(coded, 5, np.arange(5), PATH)


def test_bytes_are_the_same_with_and_without_instructions_of_the_processor():
    # Variables of libjpeg-turbo, see its doc/usage.txt; it has others for what a processor lacks.
    found = set()
    for variable in ("JSIMD_NOTHING", "JSIMD_FORCENONE", "JSIMD_FORCESSE2", "JSIMD_FORCEAVX2"):
        environment = os.environ | {variable: "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        found.add(subprocess.check_output([sys.executable, "-c", CODE], env=environment, text=True))
    assert len(found) == 1
    assert len(found.pop()) > 128  # two digests
