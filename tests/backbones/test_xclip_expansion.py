import json
from dataclasses import asdict

import ftfy
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg
from transformers import CLIPTokenizer

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.xclip_expansion import clip_tokenizer, expand_clip
from stillmotion.config.models import XClipExpansionParams
from stillmotion.errors import InputError

TEXTS = [
    "a red ball",
    "A large red circle moves left on a gray background.",
    "x",
    "word " * 100,
    "",
    "it's 3,200 dogs' toys -- they'll run; we've #1 (of 2)!",
    "naïve café, Ångström, smörgåsbord",
    "Straße İstanbul ßß",
    "狗在跑。 犬が走る 개가 달린다",
    "кошка сидит на стуле",
    "كلب يركض في الحديقة",
    "emoji 🐶🏃‍♂️ and symbols ½ ² № ™ €",
    "tabs\tand\nnew  lines \u00a0 here",
    "e\u0301 composed, \u00e9 whole",
    "<|startoftext|> a text that names tokens",
    "under_score CamelCase ALLCAPS x86-64 12345",
]
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&<"), max_size=60)
LETTERS = st.text(st.characters(categories=["Ll", "Lo", "Nd"], max_codepoint=0x2FFF), max_size=30).filter(
    lambda text: ftfy.fix_text(text) == text  # open_clip repairs texts before it cuts them up
)


def make_params(num_frames=4, **change):
    values = {"integration_layers": 1, "prompt_layers": 2, "max_tokens": 72, "seed": 0, "num_frames": num_frames}
    return XClipExpansionParams(family="xclip", **(values | change))


def make_clip(kind=open_clip.CLIP, *, vision=(), text=(), embed_dim=64, quick_gelu=False, **preprocess):
    size = dict(vision).get("image_size", 32)
    config = {
        "embed_dim": embed_dim,
        "vision_cfg": {"width": 32, "layers": 2, "image_size": 32, "patch_size": 8, "head_width": 16} | dict(vision),
        "text_cfg": {"width": 32, "layers": 2, "heads": 2, "context_length": 77, "vocab_size": 49408} | dict(text),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(**json.loads(json.dumps(config)), quick_gelu=quick_gelu)
        for name, value in model.named_parameters():  # norms and biases that do nothing would hide what is left out
            if "ln_" in name or name.endswith("bias"):
                torch.nn.init.normal_(value, 1.0 if name.endswith("weight") else 0.0, 0.3)
    open_clip.model.set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=size, **preprocess)))
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(), {"model_cfg": config}).eval()


def hide_message_tokens(xclip):
    """What each vision block would do without the token that X-CLIP adds, which can't be made to do nothing."""

    def leave_out(module, args, kwargs):
        return args, kwargs | {"hidden_states": kwargs["hidden_states"][:, :-1]}

    def fill_in(module, args, output):
        return torch.nn.functional.pad(output[0], (0, 0, 0, 1)), output[1]

    for layer in xclip.model.vision_model.encoder.layers:
        layer.self_attn.register_forward_pre_hook(leave_out, with_kwargs=True)
        layer.self_attn.register_forward_hook(fill_in)


def assert_towers_are_clip_s_own(clip, num_frames=4):
    xclip = expand_clip(clip, make_params(num_frames))
    hide_message_tokens(xclip)
    size = clip.image_size_px
    pixels = torch.randn(2, num_frames, 3, size, size, generator=torch.Generator().manual_seed(1))
    texts = [*TEXTS[:4], TEXTS[5]]
    with torch.no_grad():
        frames = clip.model.encode_image(pixels.flatten(0, 1)).unflatten(0, (2, num_frames))
        torch.testing.assert_close(xclip.frame_features(pixels), frames, atol=1e-5, rtol=1e-5)
        mean = torch.nn.functional.normalize(frames.mean(1), dim=-1)
        torch.testing.assert_close(xclip.embed_clips(pixels), mean, atol=1e-5, rtol=1e-5)
        tokens = torch.zeros(len(texts), 77, dtype=torch.long)
        tokens[:, :72] = clip.tokenizer(texts, context_length=72)
        expected = clip.model.encode_text(tokens)
        torch.testing.assert_close(xclip.text_features(xclip.tokens(texts)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_the_towers_of_a_small_clip_are_its_own(kind, quick_gelu):
    assert_towers_are_clip_s_own(make_clip(kind, quick_gelu=quick_gelu))


@pytest.mark.slow
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_the_towers_of_a_vit_b_32_with_fewer_layers_are_its_own(quick_gelu):
    config = open_clip.get_model_config("ViT-B-32")
    vision, text = config["vision_cfg"] | {"layers": 3}, config["text_cfg"] | {"layers": 3}
    clip = make_clip(vision=vision, text=text, embed_dim=config["embed_dim"], quick_gelu=quick_gelu)
    assert clip.image_size_px == 224
    assert_towers_are_clip_s_own(clip, num_frames=2)


def test_the_message_token_is_what_remains_and_it_starts_as_a_copy_of_the_class_token():
    clip = make_clip()
    xclip = expand_clip(clip, make_params())
    pixels = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cosine = (xclip.embed_clips(pixels) * clip.embed_clips(pixels)).sum().item()
        other = pixels.clone()
        other[0, 1:] = 0
        first, changed = (xclip.frame_features(value)[0, 0] for value in (pixels, other))
    assert 0.9 < cosine < 0.99999
    torch.testing.assert_close(first, changed)  # nothing is heard from other frames yet
    for layer in xclip.model.vision_model.encoder.layers:
        assert torch.equal(layer.message_fc.weight, torch.eye(32))


def test_what_is_silent_at_first_can_learn():
    xclip = expand_clip(make_clip(), make_params())
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    videos = xclip.embed_clips(pixels)
    (videos @ xclip.embed_texts(xclip.tokens(TEXTS[:2])).T)[0, 1].backward()
    layer = xclip.model.vision_model.encoder.layers[0]
    integration = xclip.model.mit.encoder.layers[0]
    silent = (layer.message_attn.out_proj, layer.message_fc, integration.self_attn.out_proj, integration.mlp.fc2)
    assert all(part.weight.grad.abs().max() > 0 for part in silent)
    assert xclip.model.mit.position_embedding.grad.abs().max() > 0


def test_texts_that_depend_on_a_video_are_the_texts_again():
    xclip = expand_clip(make_clip(), make_params())
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = xclip.tokens(TEXTS[:3])
    with torch.no_grad():
        outputs = xclip.model(input_ids=tokens, pixel_values=pixels)
        plain = xclip.embed_texts(tokens)
    torch.testing.assert_close(outputs.text_embeds, plain.expand(2, 3, -1), atol=1e-6, rtol=1e-5)


def test_logit_scale_sizes_and_pixels_are_the_clip_s():
    clip = make_clip(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), interpolation="bilinear")
    with torch.no_grad():
        clip.model.logit_scale.fill_(3.0)
    xclip = expand_clip(clip, make_params(6, integration_layers=2, prompt_layers=1))
    assert xclip.logit_scale.item() == pytest.approx(clip.logit_scale.item())
    assert (xclip.clip_frames, xclip.dim, xclip.image_size_px, xclip.max_tokens) == (6, 64, 32, 72)
    assert (len(xclip.model.mit.encoder.layers), len(xclip.model.prompts_generator.decoder)) == (2, 1)
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    torch.testing.assert_close(xclip.pixels(frames), clip.pixels(frames))
    assert xclip.preprocessing.interpolation.value == "bilinear"


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    clip = make_clip()
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        expand_clip(clip, make_params(seed=seed)).save(tmp_path / name, {})
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert weights[0] != weights[1]


def test_an_expanded_model_is_loaded_like_any_other(tmp_path):
    xclip = expand_clip(make_clip(), make_params())
    xclip.save(tmp_path / "model", {})
    loaded = load_backbone(tmp_path / "model", torch.device("cpu"))
    pixels = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.embed_clips(pixels), xclip.embed_clips(pixels))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """open_clip's, and transformers' own read from files that were written from it."""
    own = open_clip.SimpleTokenizer()
    folder = tmp_path_factory.mktemp("tokenizer")
    clip_tokenizer(own, 77).save_pretrained(folder)
    return own, CLIPTokenizer.from_pretrained(folder)


def assert_same_ids(tokenizers, text):
    own, written = tokenizers
    expected = own(text, context_length=77)[0]
    length = int(expected.argmax()) + 1
    assert written(text, truncation=True, max_length=77)["input_ids"] == expected[:length].tolist(), text


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in TEXTS if not text.startswith("<|")])
def test_ids_are_those_of_open_clip(tokenizers, text):
    assert_same_ids(tokenizers, text)


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_ids_of_plain_text_are_those_of_open_clip(tokenizers, text):
    assert_same_ids(tokenizers, text)


@settings(max_examples=100, deadline=None)
@given(LETTERS)
def test_ids_of_letters_of_many_scripts_are_those_of_open_clip(tokenizers, text):
    assert_same_ids(tokenizers, text)


@pytest.mark.real
def test_ids_of_real_captions_are_those_of_open_clip(tokenizers, real_material):
    lines = (real_material / "captions.csv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:2000]:
        assert_same_ids(tokenizers, line)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vision": {"attentional_pool": True, "attn_pooler_heads": 2}}, "its image vector is not the class token's"),
        ({"vision": {"pool_type": "avg"}}, "its image vector is not the class token's"),
        ({"vision": {"no_ln_pre": True}}, "it has no norm before the first vision block"),
        ({"vision": {"ls_init_value": 0.1}}, "the vision blocks scale their layers"),
        ({"text": {"no_causal_mask": True}}, "its text vector is not the end token's under causal attention"),
        ({"text": {"proj_bias": True}}, "its text projection has a bias"),
        ({"text": {"vocab_size": 50000}}, "its tokenizer is not CLIP's own"),
    ],
)
def test_a_model_that_x_clip_has_no_place_for_is_refused_in_one_line(change, reason):
    with pytest.raises(InputError) as caught:
        expand_clip(make_clip(**change), make_params())
    assert str(caught.value) == (
        f"X-CLIP can't be built around this model: {reason}; expand a CLIP of a ViT and CLIP's text"
    )


def test_a_vision_tower_of_another_kind_is_refused():
    resnet = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "image_size": 32}
    with pytest.raises(InputError, match="its vision is ModifiedResNet"):
        expand_clip(make_clip(vision=resnet), make_params())
