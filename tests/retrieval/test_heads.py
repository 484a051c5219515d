"""What alignment heads read, make and are refused for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stillmotion.config.scorers import MlpHeadParams, TransformerHeadParams
from stillmotion.errors import InputError
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors
from stillmotion.retrieval.alignment import build_head, head_vectors, open_inputs
from stillmotion.retrieval.pairs import split_rows
from stillmotion.retrieval.scoring import ScorerInputs, open_scorer

CPU = torch.device("cpu")
SHARED = {
    "layer": "before_llm",
    "towers": "shared",
    "dropout": 0.1,
    "loss": "mse",
    "margin": 0.0,
    "positives": 1,
    "negatives": 1,
    "redraw": False,
    "precision": "float64",
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "schedule": "constant",
}
MLP = {"kind": "mlp_head", "video_pooling": "mean", "text_pooling": "mean", "inputs": "raw", "hidden": [5, 4]}


def mlp(**changes):
    return MlpHeadParams(**SHARED | MLP | changes)


def transformer(**changes):
    return TransformerHeadParams(
        **SHARED | {"kind": "transformer_head", "blocks": 2, "heads": 2, "mlp_width": 8} | changes
    )


def inputs_of(params, queries):
    return open_inputs(params, queries.embedded, split_rows(queries.embedded, queries.captions, "train"), CPU)


def test_an_mlp_is_linear_relu_layer_norm_twice_and_linear(with_states):
    head = build_head(mlp(), width=6, seed=0)
    inputs = inputs_of(mlp(), with_states)
    found = head.eval().videos(*inputs.videos([2, 3])).detach().numpy()
    value = np.load(with_states.embedded.folder / "states" / "videos.npy")[0, 1, 2:4].astype(np.float64)
    tensors = [tensor.detach().numpy() for tensor in head.towers[0].state_dict().values()]
    for weight, bias, gain, shift in (tensors[:4], tensors[4:8]):
        value = np.maximum(value @ weight.T + bias, 0)
        value = (value - value.mean(1, keepdims=True)) / np.sqrt(value.var(1, keepdims=True) + 1e-5) * gain + shift
    value = value @ tensors[8].T + tensors[9]
    np.testing.assert_allclose(found, value / np.linalg.norm(value, axis=1, keepdims=True), atol=1e-12)


def test_standardised_inputs_have_no_mean_and_a_deviation_of_one_over_the_train_split(with_states):
    inputs = inputs_of(mlp(inputs="standardised"), with_states)
    (train,) = inputs.videos(inputs.train.videos_V)
    np.testing.assert_allclose(train.mean(0), np.zeros(6), atol=1e-12)
    np.testing.assert_allclose(train.std(0, correction=0), np.ones(6), atol=1e-12)


def test_a_transformer_reads_the_tokens_of_each_as_if_it_stood_alone(with_states):
    inputs = inputs_of(transformer(), with_states)
    head = build_head(transformer(), width=6, seed=0).eval()
    together = head.videos(*inputs.videos([0, 1, 2]))
    alone = torch.cat([head.videos(*inputs.videos([row])) for row in (0, 1, 2)])
    assert [inputs.videos([row])[0].shape[1] for row in (0, 1, 2)] == [1, 2, 3]
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)


def test_towers_are_one_network_or_two():
    def count(towers):
        return sum(value.numel() for value in build_head(mlp(towers=towers), width=6, seed=0).towers.parameters())

    assert count("separate") == 2 * count("shared") == 2 * (6 * 5 + 5 + 10 + 5 * 4 + 4 + 8 + 4 * 4 + 4)


def test_the_scorer_ranks_by_each_seeds_head(with_states, tmp_path):
    trained = {"model": "abc", "dim": 6, "clip_counts": [1], "seeds": [3, 5], "selected_on": "validation"}
    write_json(tmp_path / "aggregator.json", trained)
    heads = {seed: build_head(mlp(), width=6, seed=seed + 10) for seed in (3, 5)}
    for seed, head in heads.items():
        save_tensors(tmp_path / f"seed-{seed}.safetensors", dict(head.named_parameters()))
    scorer = open_scorer(mlp(), with_states, ScorerInputs(tmp_path, tmp_path, CPU))
    runs = scorer.rank(with_states, 1, "average")
    for head, run in zip(heads.values(), runs, strict=True):
        texts, videos = head_vectors(head, inputs_of(mlp(), with_states), with_states.rows)
        scores = texts @ videos.T
        assert run.ranks.directions["t2v"].ranks_Q.tolist() == (1 + (scores > np.diag(scores)[:, None]).sum(1)).tolist()


def test_a_transformer_of_another_layer_than_the_kept_tokens_is_refused_with_the_mend(with_states):
    with pytest.raises(InputError, match="keeps the tokens of 'before_llm'; set keep_tokens_of: layer:1"):
        inputs_of(transformer(layer="layer:1"), with_states)


def test_heads_that_do_not_divide_the_width_are_refused(with_states):
    with pytest.raises(InputError, match="set a divisor of 6"):
        build_head(transformer(heads=4), width=6, seed=0)


@pytest.mark.parametrize("changes", [{"loss": "infonce"}, {"negatives": 0}])
def test_negatives_that_the_loss_has_no_use_for_or_misses_are_refused(changes):
    with pytest.raises(ValidationError, match="negatives must be 0 with loss: infonce"):
        mlp(**changes)


def test_infonce_on_batches_of_one_pair_is_refused():
    with pytest.raises(ValidationError, match="batch_size must be 2 or more with loss: infonce"):
        mlp(loss="infonce", negatives=0, batch_size=1)


def test_where_no_head_was_trained_queries_are_one_line_and_no_captions_an_empty_result(with_states, tmp_path):
    trained = {"model": "abc", "dim": 6, "clip_counts": [1], "seeds": [], "selected_on": "nothing"}
    write_json(tmp_path / "aggregator.json", trained)
    inputs = ScorerInputs(tmp_path, tmp_path, CPU)
    with pytest.raises(InputError, match="no head was trained, for want of captions"):
        open_scorer(mlp(), with_states, inputs)
    assert open_scorer(mlp(), replace(with_states, captions=[]), inputs).seeds == []
