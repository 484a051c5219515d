import json
from dataclasses import asdict

import numpy as np
import open_clip
import pytest
import tokenizers
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from transformers import PreTrainedTokenizerFast

from stillmotion.backbones.open_clip_backbone import (
    CONFIG,
    SOURCE,
    WEIGHTS,
    OpenClipBackbone,
    load_open_clip,
    save_backbone,
)
from stillmotion.backbones.pretrained import open_clip_config
from stillmotion.config.models import OpenClipBackboneParams
from stillmotion.errors import InputError
from stillmotion.training.patch_dropout import PatchDropout

CPU = torch.device("cpu")
TEXTS = ["a red ball", "a large red circle moves left on a gray background. " * 3, "x", "word " * 100]


def make(kind=open_clip.CLIP, size_px=32, **preprocess):
    vision = {"width": 32, "layers": 2, "image_size": size_px, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 2, "heads": 2, "context_length": 77, "vocab_size": 49408}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": asdict(PreprocessCfg(size=size_px, **preprocess)),
    }
    torch.manual_seed(0)
    model = kind(**json.loads(json.dumps(config["model_cfg"])))
    if kind is open_clip.CustomTextCLIP:
        config["model_cfg"]["custom_text"] = True
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(), config).eval()


@pytest.fixture(scope="module")
def backbone():
    return make()


def make_resnet():
    """A CLIP whose vision is a ResNet, with batch norms and no patch tokens; its image size is 32 px."""
    backbone = make()
    torch.manual_seed(0)
    backbone.model.visual = open_clip.modified_resnet.ModifiedResNet([1] * 4, 16, heads=8, image_size=32, width=8)
    return backbone


def make_frames(num=3, size_px=32):
    """Smooth and different from each other, as frames are."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (num, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.BICUBIC)) for image in small])


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_texts_are_embedded_as_open_clip_does_on_the_full_context(kind):
    backbone = make(kind)
    tokens = backbone.tokens(TEXTS)
    assert tokens.shape == (4, 77)
    with torch.no_grad():
        expected = backbone.model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(backbone.embed_texts(tokens), expected, atol=1e-6, rtol=1e-5)
        alone = backbone.embed_texts(backbone.tokens(TEXTS[:1]))  # its padding is cut at four tokens
    torch.testing.assert_close(alone, expected[:1], atol=1e-6, rtol=1e-5)


def test_gradients_of_texts_are_those_of_the_full_context(backbone):
    tokens = backbone.tokens(TEXTS[:2])
    weight = backbone.model.transformer.resblocks[0].mlp.c_fc.weight
    (cut,) = torch.autograd.grad(backbone.embed_texts(tokens)[:, 0].sum(), weight)
    (full,) = torch.autograd.grad(backbone.model.encode_text(tokens, normalize=True)[:, 0].sum(), weight)
    torch.testing.assert_close(cut, full, atol=1e-6, rtol=1e-4)


def test_a_text_tower_without_causal_attention_sees_its_whole_context():
    vision = {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 77, "vocab_size": 49408, "no_causal_mask": True}
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()
    open_clip.model.set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=32)))
    backbone = OpenClipBackbone(model, open_clip.SimpleTokenizer(), {})
    tokens = backbone.tokens(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(backbone.embed_texts(tokens), model.encode_text(tokens, normalize=True))


def test_frames_are_embedded_as_open_clip_does(backbone):
    pixels = backbone.pixels(make_frames())
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.embed_frames(pixels), backbone.model.encode_image(pixels, normalize=True), atol=1e-6, rtol=1e-5
        )


def test_a_clip_is_the_unit_mean_of_its_frames_unit_vectors(backbone):
    pixels = backbone.pixels(make_frames(6))
    with torch.no_grad():
        frames = backbone.model.encode_image(pixels).double().numpy()
        clips = backbone.embed_clips(pixels.unflatten(0, (2, 3))).numpy()
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    mean = np.stack([frames[:3].mean(axis=0), frames[3:].mean(axis=0)])
    np.testing.assert_allclose(clips, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_a_frame_of_a_clip_is_embedded_by_itself(backbone):
    pixels = backbone.pixels(make_frames(6))
    with torch.no_grad():
        expected = backbone.model.encode_image(pixels, normalize=True).unflatten(0, (2, 3))
        found = backbone.frame_embeddings(pixels.unflatten(0, (2, 3)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def full_context_states(model, tokens):
    """What open_clip's text tower makes of every place of the context, as its own pooling gets it."""
    text = getattr(model, "text", model)
    x = text.token_embedding(tokens) + text.positional_embedding
    x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask))
    projection = text.text_projection
    return projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
@torch.no_grad()
def test_tokens_are_embedded_as_on_the_full_context_and_the_last_is_the_text_s_own(kind):
    backbone = make(kind)
    tokens = backbone.tokens([*TEXTS[:3], ""])
    vectors_NLD, mask_NL = backbone.token_embeddings(tokens)
    lengths = [5, 2 + 3 * 11, 3, 2]
    assert vectors_NLD.shape == (4, 35, 16)
    assert mask_NL.tolist() == [[place < length for place in range(35)] for length in lengths]
    expected = torch.nn.functional.normalize(full_context_states(backbone.model, tokens), dim=-1)
    torch.testing.assert_close(vectors_NLD, expected[:, :35], atol=1e-6, rtol=1e-5)
    ends_ND = vectors_NLD[torch.arange(4), torch.tensor(lengths) - 1]
    torch.testing.assert_close(ends_ND, backbone.embed_texts(tokens), atol=1e-6, rtol=1e-5)


def test_tokens_of_a_text_tower_that_pools_otherwise_are_refused():
    vision = {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 77, "vocab_size": 49408, "pool_type": "last"}
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()
    open_clip.model.set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=32)))
    backbone = OpenClipBackbone(model, open_clip.SimpleTokenizer(), {})
    with pytest.raises(InputError, match="not for a CLIP that pools by 'last'; choose another backbone"):
        backbone.token_embeddings(backbone.tokens(TEXTS))


def test_pixels_are_those_of_open_clip_s_own_transform():
    settings = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
    frames = make_frames()
    transform = image_transform_v2(PreprocessCfg(size=32, **settings), is_train=False)
    expected = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    torch.testing.assert_close(make(**settings).pixels(frames), expected, atol=1e-6, rtol=1e-6)


def test_larger_frames_are_resized_as_open_clip_s_own_transform_does_but_for_its_rounding(backbone):
    frames = make_frames(size_px=80)
    expected = torch.stack([backbone.image_transform(Image.fromarray(frame)) for frame in frames])
    found = backbone.pixels(frames)
    assert found.shape == (3, 3, 32, 32)
    # Pillow rounds to 8 bits after each of its two passes: a step of 1 / 255, over the standard deviation
    assert (found - expected).abs().max() < 2 / 255 / 0.26


def test_smaller_frames_are_an_error_that_names_the_param(backbone):
    with pytest.raises(InputError) as caught:
        backbone.pixels(make_frames(size_px=24))
    assert str(caught.value) == (
        "params.yaml: sample_frames.size_px is 24 and this model takes 32 px; set it to 32 or more"
    )


def test_a_text_is_flagged_as_cut_only_where_it_is(backbone):
    # 77 tokens hold 75 one-token words between start and end
    texts = ["short", "a " * 75, "a " * 76, "word " * 100]
    assert backbone.truncated(texts).tolist() == [False, False, True, True]


@pytest.mark.parametrize("padding", ["</s>", "<pad>"])
def test_a_tokenizer_of_transformers_tells_what_it_cuts_and_takes_no_texts(tmp_path, padding):
    # As SigLIP's, which pads with the end token, and SigLIP 2's, which does not.
    words = tokenizers.models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3}, unk_token="<unk>")
    inner = tokenizers.Tokenizer(words)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokens = {"pad_token": padding, "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **tokens).save_pretrained(str(tmp_path))
    backbone = make()
    backbone.tokenizer = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=5)
    # four words and the end
    assert backbone.truncated(["a", "a a a a", "a a a a a", "a a a a a a"]).tolist() == [False, False, True, True]
    assert backbone.truncated([]).tolist() == []


def test_training_leaves_a_resnet_s_batch_statistics_and_a_clip_does_not_depend_on_those_beside_it():
    backbone = make_resnet().eval()
    pixels = backbone.pixels(make_frames(6)).unflatten(0, (3, 2))
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    with torch.no_grad():
        expected = backbone.embed_clips(pixels)
        found = torch.cat([backbone.train().embed_clips(clip) for clip in pixels.split(1)])
    torch.testing.assert_close(found, expected)
    assert backbone.training
    assert "model.visual.bn1.running_mean" in before
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_patch_dropout_is_refused_where_it_would_play_no_part():
    backbone = make_resnet()
    backbone.set_patch_dropout(PatchDropout(1.0, "tubelet"))
    with pytest.raises(InputError) as caught:
        backbone.set_patch_dropout(PatchDropout(0.5, "tubelet"))
    assert str(caught.value) == (
        "params.yaml: patch dropout knows open_clip's own vision transformer, not ModifiedResNet; set "
        "patch_keep_rate: 1.0, or choose another backbone"
    )


def test_the_logit_scale_is_at_most_100():
    backbone = make()
    with torch.no_grad():
        backbone.model.logit_scale.fill_(np.log(20.0))
        assert backbone.logit_scale.item() == pytest.approx(20)
        backbone.model.logit_scale.fill_(9.0)
    assert backbone.logit_scale.item() == 100


@pytest.mark.parametrize("log_scale", [3.0, 4.6052, 4.7])
def test_a_logit_scale_at_its_most_and_above_can_be_learned_downwards(log_scale):
    # 4.6052 is the logarithm of 100 as it is often printed, and a little more than it.
    backbone = make()
    parameter = backbone.model.logit_scale
    with torch.no_grad():
        parameter.fill_(log_scale)
    optimizer = torch.optim.SGD([parameter], lr=1e-3)
    (backbone.logit_scale / np.exp(log_scale)).backward()  # its slope is 1
    optimizer.step()
    assert parameter.item() == pytest.approx(log_scale - 1e-3, abs=1e-6)


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_a_saved_model_loads_with_the_same_embeddings_and_saves_to_the_same_bytes(tmp_path, kind):
    backbone = make(kind, mean=(0.5, 0.4, 0.3))
    save_backbone(tmp_path / "one", backbone.model, backbone.config, {"from": "a test"})
    loaded = load_open_clip(tmp_path / "one", CPU)
    assert not loaded.training
    frames, tokens = make_frames(), backbone.tokens(TEXTS)
    with torch.no_grad():
        assert torch.equal(loaded.pixels(frames), backbone.pixels(frames))
        assert torch.equal(loaded.embed_frames(loaded.pixels(frames)), backbone.embed_frames(backbone.pixels(frames)))
        assert torch.equal(loaded.tokens(TEXTS), tokens)
        assert torch.equal(loaded.embed_texts(tokens), backbone.embed_texts(tokens))
    save_backbone(tmp_path / "two", loaded.model, loaded.config, {"from": "a test"})
    for name in (CONFIG, WEIGHTS, SOURCE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_saved_model_loads_in_plain_open_clip(tmp_path, backbone):
    save_backbone(tmp_path / "model", backbone.model, backbone.config, {})
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")
    frames = make_frames()
    with torch.no_grad():
        images = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        expected = model.eval().encode_image(images, normalize=True)
        torch.testing.assert_close(backbone.embed_frames(backbone.pixels(frames)), expected, atol=1e-6, rtol=1e-5)
        expected = model.encode_text(tokenizer(TEXTS), normalize=True)
        torch.testing.assert_close(backbone.embed_texts(backbone.tokens(TEXTS)), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_model_folder_without_a_file_is_named_with_the_mend(tmp_path, backbone, missing):
    save_backbone(tmp_path / "model", backbone.model, backbone.config, {})
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(InputError) as caught:
        load_open_clip(tmp_path / "model", CPU)
    assert str(caught.value).startswith(f"{tmp_path / 'model' / missing}: no such file; run `dvc repro` or `dvc pull`")


@pytest.mark.real
def test_image_queries_are_preprocessed_exactly_as_openai_s_clip_does(real_material):
    params = OpenClipBackboneParams(
        family="open_clip", architecture="ViT-B-32", pretrained="openai", revision="main", seed=0
    )
    preprocess = open_clip_config(params)["preprocess_cfg"]
    backbone = make()
    open_clip.model.set_model_preprocess_cfg(backbone.model, preprocess)
    backbone = OpenClipBackbone(backbone.model, backbone.tokenizer, backbone.config)
    expected = np.load(real_material / "preprocessing" / "expected_preprocessed_image.npy")
    found = backbone.image_transform(Image.open(real_material / "preprocessing" / "franz-kafka.jpg"))
    np.testing.assert_array_equal(found.numpy(), expected.reshape(found.shape))
