import numpy as np
import pytest
import torch
from PIL import Image

from stillmotion.backbones.xclip_processor import read_preprocessing
from stillmotion.errors import InputError

# As published beside microsoft/xclip-base-patch32, in the older layout and in the newer one
OLD = {
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": 224,
}
NEW = OLD | {
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}


@pytest.mark.parametrize("settings", [OLD, NEW])
def test_constants_and_size_are_the_file_s(settings, tmp_path):
    found = read_preprocessing(settings, image_size_px=224, path=tmp_path)
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)
    assert (found.resize_px, found.crop_px) == (224, 224)
    assert found.interpolation.value == "bilinear"


def test_an_image_is_resized_by_its_shortest_side_cropped_and_normalised(tmp_path):
    # black, white, black columns: the crop of the middle is white throughout
    image = np.zeros((8, 24, 3), np.uint8)
    image[:, 8:16] = 255
    found = read_preprocessing(NEW, image_size_px=224, path=tmp_path).image_transform()(Image.fromarray(image))
    assert found.shape == (3, 224, 224)
    white = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(found[:, 112, 112], white)


def test_a_square_size_squashes_the_image(tmp_path):
    settings = NEW | {"size": {"height": 224, "width": 224}}
    image = np.zeros((8, 24, 3), np.uint8)
    image[:, 8:16] = 255
    found = read_preprocessing(settings, image_size_px=224, path=tmp_path).image_transform()(Image.fromarray(image))
    assert found.shape == (3, 224, 224)
    assert found[0, 112, 5] == pytest.approx(-0.485 / 0.229)  # the black columns are still there


@pytest.mark.parametrize(
    ("change", "size_px", "expected"),
    [
        ({}, 336, "makes images of 224 px and config.json's model takes 336 px"),
        ({"size": 336}, 336, "makes images of 224 px and config.json's model takes 336 px"),
        ({"crop_size": {"height": 224, "width": 200}}, 224, "makes images of {'height': 224, 'width': 200} px"),
        ({"size": None}, 224, "makes images of 224 px"),
        ({"image_mean": None}, 224, "image_mean is None; three numbers must stand there"),
        ({"image_std": [1.0]}, 224, "image_std is [1.0]; three numbers"),
        ({"do_normalize": False}, 224, "do_normalize or do_rescale is false"),
        ({"rescale_factor": 1.0}, 224, "rescale_factor is 1.0"),
        ({"resample": 9}, 224, "resample is 9; set 0 (nearest), 2 (bilinear) or 3 (bicubic)"),
    ],
)
def test_a_file_that_does_not_fit_the_model_is_named_with_what_is_wrong(tmp_path, change, size_px, expected):
    path = tmp_path / "preprocessor_config.json"
    with pytest.raises(InputError) as caught:
        read_preprocessing(NEW | change, image_size_px=size_px, path=path)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)
