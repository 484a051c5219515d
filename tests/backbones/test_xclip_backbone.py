import copy

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer, XCLIPConfig, XCLIPModel
from transformers.models.videomae.image_processing_videomae import VideoMAEImageProcessor

from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.xclip_backbone import PROCESSOR, SETTINGS, XClipBackbone
from stillmotion.errors import InputError
from stillmotion.training.freezing import freeze
from stillmotion.training.patch_dropout import PatchDropout

CPU = torch.device("cpu")
TEXTS = ["a red ball", "A large red circle moves left.", "x", "word " * 100]
START, END = 49406, 49407


def make_frames(num, size_px=32):
    """Smooth and different from each other, as frames are."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (num, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.BICUBIC)) for image in small])


@pytest.mark.parametrize(("patch_size", "published"), [(32, 196_585_855), (16, 194_929_426)])
def test_published_parameter_counts_are_reached(patch_size, published):
    with torch.device("meta"):
        model = XCLIPModel(XCLIPConfig(vision_config={"patch_size": patch_size, "num_frames": 8}))
    # The published numbers are those of the files on the hub: they count the numbers of the positions, which are
    # no parameters (77 of a text, patches + 1 of an image), and leave the one scalar out, the logit scale.
    positions = 77 + (224 // patch_size) ** 2 + 1
    assert sum(value.numel() for value in model.parameters()) + positions - 1 == published


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_clips_are_embedded_as_in_transformers_own_forward_pass(new_xclip, hidden_act):
    backbone = new_xclip(hidden_act=hidden_act)
    pixels = backbone.pixels(make_frames(8)).unflatten(0, (2, 4))
    with torch.no_grad():
        expected = backbone.model(input_ids=backbone.tokens(["x"]), pixel_values=pixels).video_embeds
        found = backbone.embed_clips(pixels)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2))


def test_the_activation_of_the_configuration_is_used(new_xclip):
    pixels = new_xclip().pixels(make_frames(4))[None]
    with torch.no_grad():
        quick, exact = (new_xclip(hidden_act=name).embed_clips(pixels) for name in ("quick_gelu", "gelu"))
    assert (quick - exact).abs().max() > 1e-5


def test_texts_are_embedded_as_by_transformers_on_padded_and_masked_tokens(xclip):
    padded = xclip.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        expected = xclip.model.get_text_features(**padded).pooler_output
        found = xclip.embed_texts(xclip.tokens(TEXTS))
        alone = xclip.embed_texts(xclip.tokens(TEXTS[:1]))  # of five tokens, where the others make it twenty
        lengths = xclip.text_features(xclip.tokens(TEXTS)).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(found * lengths, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, found[:1], atol=1e-6, rtol=1e-5)


def test_a_long_text_is_cut_before_its_end_token(xclip):
    tokens = xclip.tokens(TEXTS)
    assert tokens.shape == (4, 20)
    assert tokens[:, 0].tolist() == [START] * 4
    assert tokens[3, -1] == END
    assert END not in tokens[3, :-1]
    assert xclip.tokens(TEXTS[:1]).shape == (1, 5)  # start, three words, end


def test_a_text_is_flagged_as_cut_only_where_it_is(xclip):
    texts = ["short", "a " * 18, "a " * 19, "word " * 100]  # 20 tokens hold 18 one-token words
    assert xclip.truncated(texts).tolist() == [False, False, True, True]
    assert xclip.truncated([]).shape == (0,)


def test_more_tokens_than_the_context_are_an_error_that_names_the_param(xclip):
    with pytest.raises(InputError) as caught:
        XClipBackbone(xclip.model, xclip.tokenizer, xclip.preprocessing, max_tokens=78)
    assert str(caught.value) == "params.yaml: max_tokens is 78 and this X-CLIP's context 77; set fewer"


@pytest.mark.parametrize("method", ["embed_clips", "contexts", "frame_features"])
def test_a_wrong_number_of_frames_is_an_error_that_says_the_right_one(xclip, method):
    with pytest.raises(InputError) as caught:
        getattr(xclip, method)(torch.zeros(2, 6, 3, 32, 32))
    assert str(caught.value).startswith("this X-CLIP takes clips of 4 frames, not 6; set num_frames to 4")
    assert "\n" not in str(caught.value)


def test_frames_are_those_of_their_group_before_integration_and_clips_are_their_own(xclip):
    frames = make_frames(6)
    clips = np.array([[0, 2, 3, 5], [1, 1, 4, 4], [0, 1, 2, 3]])
    frames_TD, clips_ND = xclip.embed_video(frames, clips, frames_a_pass=8)
    pixels = xclip.pixels(frames)
    with torch.no_grad():
        groups = [xclip.model.vision_model(pixels[start : start + 4]).pooler_output for start in (0, 2)]
        projected = [(group @ xclip.model.visual_projection.weight.T).numpy() for group in groups]
        expected_clips = torch.cat([xclip.embed_clips(pixels[clip][None]) for clip in clips])
    expected = np.concatenate([projected[0], projected[1][2:]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(frames_TD.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(clips_ND, expected_clips, atol=1e-6, rtol=1e-5)


def test_without_single_frames_the_clips_are_the_same_and_nothing_else_passes_the_model(xclip):
    frames, clips = make_frames(6), np.array([[0, 2, 3, 5], [1, 1, 4, 4]])
    _, with_frames = xclip.embed_video(frames, clips, frames_a_pass=8)
    passes = []
    hook = xclip.model.vision_model.register_forward_hook(lambda _, __, found: passes.append(len(found.pooler_output)))
    frames_TD, clips_ND = xclip.embed_video(frames, clips, frames_a_pass=8, single_frames=False)
    hook.remove()
    assert frames_TD.shape == (0, 16)
    assert torch.equal(clips_ND, with_frames)
    assert passes == [8]


def test_frames_lie_in_the_space_of_the_clips_because_integration_adds_to_them(xclip):
    pixels = xclip.pixels(make_frames(4))[None]
    with torch.no_grad():
        frames = xclip.frame_features(pixels)
        added = xclip.model.mit(frames).last_hidden_state - frames
        silenced = copy.deepcopy(xclip)
        silenced.model.mit.position_embedding.zero_()
        for layer in silenced.model.mit.encoder.layers:
            for part in (layer.self_attn.out_proj, layer.mlp.fc2):
                part.weight.zero_()
                part.bias.zero_()
        mean = torch.nn.functional.normalize(frames.mean(1), dim=-1)
        torch.testing.assert_close(silenced.embed_clips(pixels), mean, atol=1e-6, rtol=1e-5)
    assert added.abs().max() > 0.1


@pytest.mark.parametrize("num_stored", [2, 9])
def test_the_frames_of_a_pass_do_not_change_a_video(xclip, num_stored):
    frames = make_frames(num_stored)
    clips = np.array([[0, 0, 1, 1]] * 5)
    one, all_at_once = (xclip.embed_video(frames, clips, frames_a_pass=count) for count in (1, 1000))
    for few, many in zip(one, all_at_once, strict=True):
        torch.testing.assert_close(few, many, atol=1e-6, rtol=1e-5)
    assert one[0].shape == (num_stored, 16)
    assert one[1].shape == (5, 16)


def test_a_video_without_clips_has_frames_only(xclip):
    frames_TD, clips_ND = xclip.embed_video(make_frames(5), np.zeros((0, 4), np.int64), frames_a_pass=8)
    assert frames_TD.shape == (5, 16)
    assert clips_ND.shape == (0, 16)


def test_the_parameters_that_take_no_part_are_not_trained_and_all_others_are(new_xclip):
    backbone = new_xclip()
    videos = backbone.embed_clips(backbone.pixels(make_frames(8)).unflatten(0, (2, 4)))
    loss = (videos @ backbone.embed_texts(backbone.tokens(TEXTS[:2])).T * backbone.logit_scale)[:, 0].sum()
    loss.backward()
    without = {name for name, value in backbone.named_parameters() if value.grad is None}
    frozen = {name for name, value in backbone.named_parameters() if not value.requires_grad}
    prompts = ("model.prompts_visual_", "model.prompts_generator.")
    assert without == frozen == {name for name, _ in backbone.named_parameters() if name.startswith(prompts)}
    assert len(backbone.conditional_parameters()) == len(frozen)


def test_freezing_one_block_freezes_the_embeddings_and_that_block_of_both_towers(new_xclip):
    backbone = new_xclip()
    frozen = freeze(backbone, embeddings=True, blocks=1)
    embeddings = [
        "model.text_model.embeddings.token_embedding.weight",
        "model.text_model.embeddings.position_embedding.weight",
        "model.vision_model.embeddings.class_embedding",
        "model.vision_model.embeddings.patch_embedding.weight",
        "model.vision_model.embeddings.position_embedding.weight",
        "model.vision_model.pre_layernorm.weight",
        "model.vision_model.pre_layernorm.bias",
    ]
    others = set(frozen) - set(embeddings)
    assert set(embeddings) < set(frozen)
    assert {name.split(".layers.")[0] for name in others} == {"model.text_model.encoder", "model.vision_model.encoder"}
    assert {name.split(".layers.")[1].split(".")[0] for name in others} == {"0"}
    assert "model.vision_model.encoder.layers.0.message_fc.weight" in others


def test_nothing_is_computed_backward_below_the_lowest_trainable_layer(new_xclip):
    backbone = new_xclip().train()
    freeze(backbone, embeddings=True, blocks=1)
    seen = []
    for tower in (backbone.model.vision_model, backbone.model.text_model):
        tower.encoder.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    backbone.embed_clips(backbone.pixels(make_frames(4))[None])
    backbone.embed_texts(backbone.tokens(TEXTS[:1]))
    assert seen == [False, False]


def test_patches_are_dropped_between_positions_and_the_first_norm(new_xclip):
    backbone = new_xclip().train()
    dropout = PatchDropout(0.5, "tubelet")
    backbone.set_patch_dropout(dropout)
    pixels = backbone.pixels(make_frames(4))[None]
    dropout.draw([3], 4)
    met = {}
    backbone.model.vision_model.pre_layernorm.register_forward_pre_hook(lambda _, inputs: met.update(tokens=inputs[0]))
    with torch.no_grad():
        backbone.embed_clips(pixels)
        embeddings = copy.deepcopy(backbone.model.vision_model.embeddings).eval()  # evaluation drops nothing
        whole = embeddings(pixels[0])
    assert whole.shape == (4, 17, 32)
    assert met["tokens"].shape == (4, 9, 32)
    for frame, kept in zip(whole, met["tokens"], strict=True):
        rows = [int((frame - token).abs().sum(-1).argmin()) for token in kept]
        assert torch.equal(frame[rows], kept)
        assert rows[0] == 0
        assert rows == sorted(set(rows))


def test_a_copy_drops_patches_with_its_own_module(new_xclip):
    backbone = new_xclip().train()
    backbone.set_patch_dropout(PatchDropout(0.1, "per_frame"))
    copied = copy.deepcopy(backbone)
    copied.set_patch_dropout(torch.nn.Identity())
    tokens = torch.zeros(4, 3, 32, 32)
    backbone.model.vision_model.embeddings.patch_dropout.draw([0], 4)
    assert backbone.model.vision_model.embeddings(tokens).shape[1] == 2
    assert copied.model.vision_model.embeddings(tokens).shape[1] == 17


def reference_processor(xclip):
    return VideoMAEImageProcessor(**{name: value for name, value in xclip.preprocessing.settings.items()})


def test_pixels_of_frames_of_the_model_s_size_are_those_of_the_checkpoint_s_processor(xclip):
    frames = make_frames(3)
    expected = reference_processor(xclip)(list(frames), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(xclip.pixels(frames), expected, atol=1e-5, rtol=1e-5)


def test_larger_frames_are_resized_as_the_checkpoint_s_processor_does(xclip):
    frames = make_frames(3, size_px=80)
    expected = reference_processor(xclip)(list(frames), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(xclip.pixels(frames), expected, atol=1e-5, rtol=1e-5)
    other = dict(xclip.preprocessing.settings) | {"resample": 3}
    bicubic = VideoMAEImageProcessor(**other)(list(frames), return_tensors="pt").pixel_values[0]
    assert (bicubic - expected).abs().max() > 0.02


def test_a_whole_image_is_transformed_as_by_the_processor_but_for_pillow_s_rounding(xclip):
    image = Image.fromarray(make_frames(1, size_px=90)[0][:60])  # wide
    expected = reference_processor(xclip)([image], return_tensors="pt").pixel_values[0, 0]
    found = xclip.image_transform(image)
    assert found.shape == (3, 32, 32)
    assert (found - expected).abs().max() < 2 / 255 / 0.224
    assert torch.equal(xclip.image_transform(image.convert("RGBA")), found)


def test_the_logit_scale_is_at_most_100(new_xclip):
    backbone = new_xclip()
    with torch.no_grad():
        backbone.model.logit_scale.fill_(np.log(20.0))
        assert backbone.logit_scale.item() == pytest.approx(20)
        backbone.model.logit_scale.fill_(9.0)
    assert backbone.logit_scale.item() == 100


def test_a_saved_model_loads_with_the_same_embeddings_and_saves_to_the_same_bytes(tmp_path, xclip):
    xclip.save(tmp_path / "one", {"from": "a test"})
    loaded = load_backbone(tmp_path / "one", CPU)
    assert isinstance(loaded, XClipBackbone)
    assert not loaded.training
    frames = make_frames(4, size_px=40)
    with torch.no_grad():
        assert torch.equal(loaded.pixels(frames), xclip.pixels(frames))
        pixels = xclip.pixels(frames)[None]
        assert torch.equal(loaded.embed_clips(pixels), xclip.embed_clips(pixels))
        assert torch.equal(loaded.tokens(TEXTS), xclip.tokens(TEXTS))
        assert torch.equal(loaded.embed_texts(xclip.tokens(TEXTS)), xclip.embed_texts(xclip.tokens(TEXTS)))
    loaded.save(tmp_path / "two", {"from": "a test"})
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert {PROCESSOR, SETTINGS, "config.json", "model.safetensors", "source.json", "tokenizer.json"} < set(names)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_saved_model_loads_in_plain_transformers(tmp_path, xclip):
    xclip.save(tmp_path / "model", {})
    model, info = XCLIPModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "model")
    processor = VideoMAEImageProcessor.from_pretrained(tmp_path / "model")
    frames = make_frames(4)
    with torch.no_grad():
        outputs = model.eval()(
            input_ids=tokenizer(TEXTS[:3], padding=True, return_tensors="pt").input_ids,
            pixel_values=processor(list(frames), return_tensors="pt").pixel_values,
        )
        torch.testing.assert_close(
            xclip.embed_clips(xclip.pixels(frames)[None]), outputs.video_embeds, atol=1e-5, rtol=1e-5
        )
