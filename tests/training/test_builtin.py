import re

import numpy as np
import open_clip
import pytest
import torch

from stillmotion.backbones.open_clip_backbone import WEIGHTS, load_open_clip, save_backbone
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.datasets.toy_scene import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES
from stillmotion.io.memo import Memo
from stillmotion.training.builtin import captioned_images, contrasting_subjects, new_builtin, train_builtin

CPU = torch.device("cpu")
SENTENCE = re.compile(r"a (\w+) (\w+) (\w+) on a (\w+) background")


def make_params(**changes):
    plain = {
        "family": "builtin",
        "image_size_px": 32,
        "patch_size_px": 8,
        "width": 32,
        "layers": 1,
        "text_layers": 1,
        "heads": 2,
        "embed_dim": 16,
        "steps": 3,
        "batch_size": 24,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "warmup_fraction": 0.1,
        "max_sentences": 4,
        "seed": 0,
    }
    return BuiltinBackboneParams(**{**plain, **changes})


def attributes_of(sentence):
    match = SENTENCE.fullmatch(sentence)
    assert match is not None, sentence
    size, color, shape, background = match.groups()
    assert size in SIZES
    assert color in COLORS
    assert shape in SHAPES
    assert background in BACKGROUNDS
    return match.groups()


def sentences_of(caption):
    assert caption.endswith(".")
    return caption[:-1].split(". ")


def shows(image, sentence):
    """Whether corners and subject have the sentence's colors; both are shaded by up to 18 levels and a spot."""
    _, color, _, background = attributes_of(sentence)
    pixels = image.reshape(-1, 3).astype(int)
    corner = image[0, -1].astype(int)
    nearest = min(BACKGROUNDS, key=lambda name: np.abs(corner - BACKGROUNDS[name]).sum())
    return nearest == background and np.abs(pixels - COLORS[color]).sum(axis=1).min() < 12


def test_captions_say_nothing_of_motion():
    verbs = {word for motion in MOTIONS for word in motion.split()}
    for step in range(8):
        _, captions = captioned_images(make_params(), step)
        assert not verbs & set(" ".join(captions).replace(".", "").split())


def test_three_steps_of_four_have_one_sentence_and_the_fourth_several_in_all_its_captions():
    counts = []
    for step in range(32):
        _, captions = captioned_images(make_params(), step)
        numbers = {len(sentences_of(caption)) for caption in captions}
        assert len(numbers) == 1
        counts.append(numbers.pop())
    assert all(count == 1 for step, count in enumerate(counts) if step % 4 != 3)
    assert set(counts[3::4]) == {2, 3, 4}


def test_with_one_sentence_at_most_every_caption_has_one():
    _, captions = captioned_images(make_params(max_sentences=1), 3)
    assert {len(sentences_of(caption)) for caption in captions} == {1}


@pytest.mark.parametrize("step", [0, 1, 3, 7, 11])
def test_one_sentence_of_a_caption_describes_its_image(step):
    images, captions = captioned_images(make_params(image_size_px=64, patch_size_px=8), step)
    assert images.shape == (24, 64, 64, 3)
    assert images.dtype == np.uint8
    assert all(
        any(shows(image, sentence) for sentence in sentences_of(caption))
        for image, caption in zip(images, captions, strict=True)
    )
    # shifted by half a batch, images do not belong to their captions, and the check sees it
    shifted = zip(np.roll(images, 12, axis=0), captions, strict=True)
    assert not all(any(shows(image, sentence) for sentence in sentences_of(caption)) for image, caption in shifted)


def test_the_describing_sentence_stands_anywhere_in_its_caption():
    places = set()
    for step in range(3, 40, 4):
        images, captions = captioned_images(make_params(image_size_px=64), step)
        for image, caption in zip(images, captions, strict=True):
            fitting = [place for place, text in enumerate(sentences_of(caption)) if shows(image, text)]
            if len(fitting) == 1:
                places.add((len(sentences_of(caption)), fitting[0]))
    assert {(4, 0), (4, 1), (4, 2), (4, 3)} <= places


def test_the_same_step_is_the_same_batch_and_another_seed_or_step_is_not():
    images, captions = captioned_images(make_params(), 5)
    again, captions_again = captioned_images(make_params(), 5)
    np.testing.assert_array_equal(images, again)
    assert captions == captions_again
    assert captioned_images(make_params(), 6)[1] != captions
    assert captioned_images(make_params(seed=1), 5)[1] != captions


def test_the_subjects_of_a_group_differ_in_one_attribute_and_it_is_the_same_in_all_groups():
    values = {"size": SIZES, "color": tuple(COLORS), "shape": SHAPES, "background": tuple(BACKGROUNDS)}
    seen = set()
    for seed in range(20):
        subjects = contrasting_subjects(48, np.random.default_rng(seed))
        assert len(subjects) == 48
        first, second = subjects[0], subjects[1]
        (varied,) = [name for name in values if getattr(first, name) != getattr(second, name)]
        seen.add(varied)
        size = len(values[varied])
        for start in range(0, 48 - size + 1, size):
            group = subjects[start : start + size]
            assert [getattr(subject, varied) for subject in group] == list(values[varied])
            for name in values.keys() - {varied}:
                assert len({getattr(subject, name) for subject in group}) == 1
    assert seen == set(values)


def test_the_model_is_open_clip_s_own_and_its_weights_come_from_the_seed():
    first, same, other = (new_builtin(make_params(seed=seed)) for seed in (0, 0, 1))
    assert type(first.model) is open_clip.CLIP
    state = first.model.state_dict()
    assert all(torch.equal(value, same.model.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["visual.conv1.weight"], other.model.state_dict()["visual.conv1.weight"])
    # conv1 has 3 channels and 8 px patches, 16 patches and the class token have positions
    assert state["visual.conv1.weight"].shape == (32, 3, 8, 8)
    assert state["visual.positional_embedding"].shape == (17, 32)


@pytest.fixture
def threads():
    """As many as in the other of two trainings, whatever other tests set."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_trainings_give_the_same_bytes_and_change_the_weights(tmp_path, threads):
    for name in ("one", "two"):
        trained = train_builtin(make_params(), CPU, Memo(None), "code", 1)
        assert not trained.training
        save_backbone(tmp_path / name, trained.model, trained.config, {"seed": 0})
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    assert WEIGHTS in {file.name for file in (tmp_path / "one").iterdir()}
    start = new_builtin(make_params()).model.state_dict()
    assert not torch.equal(start["visual.proj"], load_open_clip(tmp_path / "one", CPU).model.visual.proj)


def test_a_training_that_the_memo_knows_is_not_repeated_unless_params_code_or_threads_change(
    tmp_path, monkeypatch, threads
):
    memo = Memo(tmp_path)
    first = train_builtin(make_params(), CPU, memo, "code", 1).model.state_dict()
    drawn = []

    def draw(params, step):
        drawn.append(step)
        return captioned_images(params, step)

    monkeypatch.setattr("stillmotion.training.builtin.captioned_images", draw)
    again = train_builtin(make_params(), CPU, memo, "code", 1).model.state_dict()
    assert drawn == []
    assert all(torch.equal(first[name], again[name]) for name in first)
    train_builtin(make_params(), CPU, memo, "other code", 1)
    assert drawn == [0, 1, 2]
    train_builtin(make_params(learning_rate=2e-3), CPU, memo, "code", 1)
    assert drawn == [0, 1, 2] * 2
    train_builtin(make_params(), CPU, memo, "code", 2)
    assert drawn == [0, 1, 2] * 3


def test_training_lowers_the_loss(tmp_path, threads):
    params = make_params(steps=40, learning_rate=3e-3, batch_size=16, max_sentences=1)
    trained = train_builtin(params, CPU, Memo(None), "code", 1)

    def top_1(backbone):
        images, captions = captioned_images(params, 1000)
        with torch.no_grad():
            frames = backbone.embed_frames(backbone.pixels(images))
            texts = backbone.embed_texts(backbone.tokens(captions))
            return torch.nn.functional.cross_entropy(20 * frames @ texts.T, torch.arange(16)).item()

    assert top_1(trained) < top_1(new_builtin(params).eval())
