"""Reranking by what a video LLM answers, with models as small as their classes allow."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_video_llms import SETTINGS, builtin, write
from transformers.video_utils import VideoMetadata

from stillmotion.backbones.registry import VIDEO_LLMS
from stillmotion.config.scorers import RerankParams
from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import folder_digest
from stillmotion.io.tables import read_json, write_json
from stillmotion.retrieval.scoring import Queries, ScorerInputs, open_scorer

CPU = torch.device("cpu")
PROMPT = "{video}does it show {text}?"
ASKED = ("video_llama_3", "llava_onevision", "smolvlm", "llava_next")
"""By their visual tokens alone."""
WHOLE = ("qwen2_vl", "qwen3_vl")
"""By what the vision pass makes, in the prompt that their processor writes."""
RERANK = {
    "kind": "rerank",
    "layer": "last",
    "video_pooling": "mean",
    "text_pooling": "mean",
    "top_k": 2,
    "prompt": PROMPT,
    "yes": ["Y", "y"],
    "no": ["N", "n"],
    "batch_size": 2,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {member: write(member, tmp_path_factory.mktemp(member)) for member in (*ASKED, *WHOLE)}


def opened(folders, member):
    settings = VideoLLMSettings(**SETTINGS | {"keep_tokens_of": "before_llm"})
    return importlib.import_module(VIDEO_LLMS[member]).load(folders[member], settings, CPU)


def noise(*counts, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [{"tokens": torch.randn(count, 32, generator=rng)} for count in counts]


def directly(video_llm, member, tokens, text):
    """The answer's logits by the public class alone: ids with places for the tokens, which it puts there itself."""
    tokenizer, config = video_llm.tokenizer, video_llm.model.config
    kind = "image" if member in ("smolvlm", "llava_next") else "video"
    place = getattr(config, f"{kind}_token_id")
    before = "<|im_start|>user\n" if member != "smolvlm" else "<|im_start|>User:"
    after = "<|im_end|>\n<|im_start|>assistant\n" if member != "smolvlm" else "<end_of_utterance>\nAssistant:"
    middle = PROMPT.replace("{text}", text).removeprefix("{video}")
    rendered = video_llm.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": video_llm.part_type}, {"type": "text", "text": middle}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    head, tail = rendered.split("<image>" if member == "llava_next" else video_llm.processor.video_token)
    assert head.startswith(before)
    assert tail.endswith(after)
    ids = tokenizer(head)["input_ids"] + [place] * len(tokens) + tokenizer(tail, add_special_tokens=False)["input_ids"]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
    with torch.no_grad():
        found = SimpleNamespace(pooler_output=[tokens] if member in ("video_llama_3", "llava_next") else tokens[None])
        return video_llm.model(**inputs, mm_encoder_outputs={kind: found}).logits[0, -1]


@pytest.mark.parametrize("member", ASKED)
def test_answers_of_a_padded_batch_are_those_of_the_class_asked_of_each_pair_alone(folders, member):
    video_llm = opened(folders, member)
    visual, texts = noise(5, 9, 5), ["a red circle", "rain", "dogs"]
    words = {"yes": ["Y", "y"], "no": ["N"]}
    found = video_llm.answers(visual, texts, PROMPT, **words)
    sure = video_llm.answers(visual, texts, PROMPT, yes=["Y", "y"], no=[])
    for place, (tokens, text) in enumerate(zip(visual, texts, strict=True)):
        logits = directly(video_llm, member, tokens["tokens"], text).double()
        of = {word: logits[video_llm.tokenizer.convert_tokens_to_ids(word)] for word in "YyN"}
        wanted = torch.log(of["Y"].exp() + of["y"].exp()) - of["N"]
        assert found[place].item() == pytest.approx(wanted.item(), abs=1e-4)
        probability = (of["Y"].exp() + of["y"].exp()) / logits.exp().sum()
        assert sure[place].item() == pytest.approx(probability.log().item(), abs=1e-4)


def shown_videos():
    """Of unequal sizes, frames and times, one with fewer frames than a patch has."""
    rng = np.random.default_rng(3)
    sizes = [(4, 64, 32), (6, 32, 64), (1, 64, 64)]
    videos = [rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8) for frames, height, width in sizes]
    return videos, [np.arange(frames) * 1.3 + place for place, (frames, _, _) in enumerate(sizes)]


def whole_input(video_llm, video, seconds, text):
    """The logits of the public class for what its public processor makes of a video and a question."""
    rendered = video_llm.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": f"does it show {text}?"}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    if len(video) == 1:
        video, seconds = np.repeat(video, 2, axis=0), np.repeat(seconds, 2)
    ticks = np.round(seconds * 1000).astype(int).tolist()
    told = VideoMetadata(total_num_frames=len(video), fps=1000, duration=float(seconds[-1]), frames_indices=ticks)
    inputs = video_llm.processor(
        text=[rendered],
        videos=[torch.from_numpy(video).permute(0, 3, 1, 2)],
        video_metadata=[told],
        do_sample_frames=False,
        return_tensors="pt",
    )
    inputs = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    with torch.no_grad():
        return video_llm.model(**inputs).logits[0, -1].double()


@pytest.mark.parametrize("member", WHOLE)
def test_answers_from_what_is_kept_are_those_of_the_class_given_the_whole_input(folders, member):
    video_llm = opened(folders, member)
    videos, times = shown_videos()
    texts = ["a red circle", "rain", "dogs"]
    with torch.no_grad():
        kept = video_llm.keep(video_llm.video_states(videos, times))
    assert all(set(each) == {"pooled", "tokens", *video_llm.beside} for each in kept)
    words = "YyN"
    found = {
        word: video_llm.answers(kept, texts, PROMPT, yes=[word], no=["Z"]) for word in words
    }  # a logit each, against one of another word
    for place, (video, seconds, text) in enumerate(zip(videos, times, texts, strict=True)):
        logits = whole_input(video_llm, video, seconds, text)
        of = {word: logits[video_llm.tokenizer.convert_tokens_to_ids(word)].item() for word in (*words, "Z")}
        for word in words:
            assert found[word][place].item() == pytest.approx(of[word] - of["Z"], abs=1e-5)


@pytest.mark.parametrize("member", WHOLE)
def test_what_is_kept_beside_the_tokens_matters_and_a_text_cannot_pass_for_a_video(folders, member):
    video_llm = opened(folders, member)
    with torch.no_grad():
        (kept,) = video_llm.keep(video_llm.video_states(shown_videos()[0][:1]))
    (first,) = video_llm.answers([kept], ["a"], PROMPT, yes=["Y"], no=["N"])
    turned = {"grid": kept["grid"][:, [0, 2, 1]]} | (
        {"deepstack": 2 * kept["deepstack"]} if "deepstack" in kept else {}
    )
    for name, value in turned.items():
        (other,) = video_llm.answers([kept | {name: value}], ["a"], PROMPT, yes=["Y"], no=["N"])
        assert abs(other - first) > 1e-4
    with pytest.raises(InputError, match=r"a text holds <\|video_pad\|>, which stands for a video; take it out"):
        video_llm.answers([kept], ["<|video_pad|>"], PROMPT, yes=["Y"], no=["N"])


@pytest.fixture
def asked(queries, folders, tmp_path, request):
    """The queries with a store of hidden states of width 32 and of visual tokens, and the model's folder."""
    member = getattr(request, "param", "video_llama_3")
    video_llm = builtin() if member == "builtin" else opened(folders, member)
    video_llm.save(tmp_path / "model", {"system": {"model": "m"}})
    folder = queries.embedded.folder
    rng = np.random.default_rng(7)
    num_texts, num_videos = len(queries.captions), 4
    described = {"num_layers": 3, "width": 32, "layers": ["last"], "poolings": ["mean"]}
    write_json(folder / "states" / "states.json", described)
    save_array(folder / "states" / "videos.npy", rng.standard_normal((1, 1, num_videos, 32)).astype(np.float32))
    save_array(folder / "states" / "captions.npy", rng.standard_normal((1, 1, num_texts, 32)).astype(np.float32))
    tokens = noise(3, 4, 6, 5, seed=1)
    save_array(folder / "states" / "video_tokens.npy", torch.cat([each["tokens"] for each in tokens]).numpy())
    save_array(folder / "states" / "video_token_offsets.npy", np.array([0, 3, 7, 13, 18]))
    model = read_json(folder / "model.json")
    told = {"video_llm": {"family": member, "keep_tokens_of": "before_llm"}}
    write_json(folder / "model.json", model | told | {"model": folder_digest(tmp_path / "model")})
    inputs = ScorerInputs(tmp_path / "none", tmp_path / "model", CPU)
    return Queries(Embeddings(folder), queries.captions, queries.splits), inputs, tokens, video_llm


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored(queries, name):
    return np.load(queries.embedded.folder / "states" / name)[0, 0]


@pytest.mark.parametrize("asked", ["video_llama_3", "builtin"], indirect=True)
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_best_by_cosine_are_ranked_by_the_answers_and_the_others_stay_below(asked, monkeypatch, top_k):
    queries, inputs, tokens, video_llm = asked
    scorer = open_scorer(RerankParams(**RERANK | {"top_k": top_k}), queries, inputs)
    seen = []
    answers = scorer.model.answers

    def counted(visual, texts, prompt, **words):
        seen.append(len(texts))
        return answers(visual, texts, prompt, **words)

    monkeypatch.setattr(scorer.model, "answers", counted)
    (ranked,) = scorer.rank(queries, 1, "average")
    # Captions of a, b, c are rows 0, 1, 2 behind which stand lost and train; videos train, a, b, c are rows 0 to 3.
    cosines = unit(stored(queries, "captions.npy"))[:3] @ unit(stored(queries, "videos.npy"))[1:].T
    said = np.array(
        [
            [
                video_llm.answers([tokens[1 + video]], [f"about {text}"], PROMPT, yes=["Y", "y"], no=["N", "n"]).item()
                for video in range(3)
            ]
            for text in "abc"
        ]
    )
    asked_of = set()
    for direction, first, second in (("t2v", cosines, said), ("v2t", cosines.T, said.T)):
        for row in range(3):
            by_cosine = list(np.argsort(-first[row]))
            best = by_cosine[:top_k]
            order = [best[place] for place in np.argsort(-second[row, best], kind="stable")] + by_cosine[top_k:]
            assert ranked.ranks.directions[direction].ranks_Q[row] == 1 + order.index(row)
            asked_of |= {(row, item) if direction == "t2v" else (item, row) for item in best}
    assert sum(seen) == len(asked_of)
    assert max(seen) <= 2


def test_pairs_that_the_model_is_equally_sure_of_share_their_rank(asked, monkeypatch):
    queries, inputs, _, _ = asked
    scorer = open_scorer(RerankParams(**RERANK | {"top_k": 3}), queries, inputs)
    monkeypatch.setattr(scorer.model, "answers", lambda visual, texts, prompt, **words: torch.zeros(len(texts)))
    (ranked,) = scorer.rank(queries, 1, "average")
    assert list(ranked.ranks.directions["t2v"].ranks_Q) == [2, 2, 2]


def test_the_best_stay_above_the_others_however_unlikely_a_yes_is(asked, monkeypatch):
    queries, inputs, _, _ = asked
    ranks = {}
    for sure in (0.0, -12.0):
        scorer = open_scorer(RerankParams(**RERANK | {"top_k": 2}), queries, inputs)
        monkeypatch.setattr(
            scorer.model, "answers", lambda visual, texts, prompt, sure=sure, **words: torch.full((len(texts),), sure)
        )
        (ranked,) = scorer.rank(queries, 1, "average")
        ranks[sure] = [list(found.ranks_Q) for found in ranked.ranks.directions.values()]
    assert ranks[-12.0] == ranks[0.0]


@pytest.mark.parametrize("answer", [float("nan"), float("-inf")])
def test_an_answer_that_is_no_number_ends_it_and_names_its_pair(asked, monkeypatch, answer):
    queries, inputs, _, _ = asked
    scorer = open_scorer(RerankParams(**RERANK | {"top_k": 3, "batch_size": 9}), queries, inputs)
    monkeypatch.setattr(
        scorer.model, "answers", lambda visual, texts, prompt, **words: torch.tensor([0.0, answer] + [1.0] * 7)
    )
    with pytest.raises(InputError, match=rf"^video 'b': its answer to 'about a' is {answer}, which can't be ranked"):
        scorer.rank(queries, 1, "average")


def test_the_protocol_says_what_was_asked(asked):
    queries, inputs, _, _ = asked
    scorer = open_scorer(RerankParams(**RERANK), queries, inputs)
    assert scorer.inference_tricks == "the model's own answer for the top 2"
    assert scorer.described["rerank"]["prompt"] == PROMPT
    assert "batch_size" not in scorer.described["rerank"]


def test_what_cannot_be_asked_is_told(asked, folders):
    queries, inputs, tokens, video_llm = asked
    # Several tokens; one, and another that the model lacks.
    for word, mend in {"Yes": "'Y'", "éY": "another word"}.items():
        told = f"an answer of scorer rerank is '{word}', which is no single token of the model; take {mend}$"
        with pytest.raises(InputError, match=told):
            video_llm.answers(tokens[:1], ["a"], PROMPT, yes=[word], no=["N"])
    with pytest.raises(InputError, match=r"a question of \d+ tokens, and the model's context is 2048"):
        video_llm.answers(noise(2048), ["a"], PROMPT, yes=["Y"], no=["N"])
    folder = queries.embedded.folder
    model = read_json(folder / "model.json")
    write_json(folder / "model.json", model | {"video_llm": {"family": "x", "keep_tokens_of": "last"}})
    again = Queries(Embeddings(folder), queries.captions, queries.splits)
    with pytest.raises(InputError, match=r"holds tokens of 'last', .* set keep_tokens_of: before_llm"):
        open_scorer(RerankParams(**RERANK), again, inputs)
    write_json(folder / "model.json", model | {"model": "other"})
    with pytest.raises(InputError, match=r"made by another model than .*; run the embed stage again"):
        open_scorer(RerankParams(**RERANK), Queries(Embeddings(folder), queries.captions, queries.splits), inputs)


def test_a_question_has_places_for_the_video_and_the_text():
    with pytest.raises(ValueError, match=r"must hold \{text\} once; put it where it goes"):
        RerankParams(**RERANK | {"prompt": "{video} yes or no?"})
