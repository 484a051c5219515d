import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from stillmotion.backbones.xclip_expansion import expand_clip
from stillmotion.config.models import XClipExpansionParams
from stillmotion.errors import InputError
from stillmotion.search.query import embed_image, embed_text, read_image


@pytest.fixture
def photo():
    """Not square and larger than the model's input, with colors that a mirror or a channel swap would change."""
    ramp = np.linspace(0, 255, 80)
    red, green = np.meshgrid(ramp, ramp[:48])
    return Image.fromarray(np.stack([red, green, 255 - red], axis=2).astype(np.uint8))


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_a_text_is_embedded_as_open_clip_embeds_it(clip):
    with torch.no_grad():
        expected = clip.model.encode_text(clip.tokenizer(["a red ball"]), normalize=True)[0]
    np.testing.assert_allclose(embed_text(clip, "a red ball"), expected, atol=1e-6)


def test_an_image_is_embedded_as_open_clip_embeds_it(clip, photo):
    with torch.no_grad():
        expected = clip.model.encode_image(clip.image_transform(photo)[None], normalize=True)[0]
    found = embed_image(clip, photo)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(embed_image(clip, photo.transpose(Image.Transpose.FLIP_TOP_BOTTOM)) - found).max() > 1e-3


def test_an_x_clip_sees_the_image_repeated_to_a_clip(clip, photo):
    params = XClipExpansionParams(
        family="xclip", num_frames=3, integration_layers=1, prompt_layers=1, max_tokens=16, seed=0
    )
    xclip = expand_clip(clip, params).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in xclip.model.vision_model.parameters():  # else the frames would not attend to each other
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        pixels = xclip.image_transform(photo)
        repeated = xclip.model.vision_model(pixel_values=torch.stack([pixels] * 3)).pooler_output
        expected = xclip.model.visual_projection(repeated)
    np.testing.assert_allclose(embed_image(xclip, photo), unit(expected[0].numpy()), atol=1e-5)


def test_an_image_file_is_read_upright_and_without_its_transparency(tmp_path, photo):
    turned = photo.rotate(90, expand=True)
    exif = Image.Exif()
    exif[274] = 6  # the viewer turns it clockwise by 90 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "turned.png")), np.asarray(photo))
    photo.convert("RGBA").save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png").mode == "RGB"


@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_pillow_turns_it_whatever_else_its_exif_holds(tmp_path, photo, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo.save(tmp_path / "plain.png", exif=exif)
    with Image.open(tmp_path / "plain.png") as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    # By hand, as Pillow writes none: the orientation, and a resolution that is a text and no fraction.
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack("<HHI4s", 0x011A, 2, 3, b"72")
    photo.save(tmp_path / "odd.png", exif=b"II*\0\x08\0\0\0\x02\0" + entries + bytes(4))
    for name in ("plain.png", "odd.png"):
        found = read_image(tmp_path / name)
        assert (found.size, found.tobytes()) == (expected.size, expected.tobytes())


def test_what_is_no_image_is_named_with_the_mend(tmp_path, photo):
    with pytest.raises(InputError, match="absent.png: no such file"):
        read_image(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("not an image")
    photo.save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:80])
    for name in ("text.png", "half.png"):
        with pytest.raises(InputError, match="can't be read as an image; give --image a PNG or a JPEG"):
            read_image(tmp_path / name)


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png", Path(os.devnull)):
        with pytest.raises(InputError, match=f"^{path}: not a regular file; give --image a PNG or a JPEG"):
            read_image(path)
