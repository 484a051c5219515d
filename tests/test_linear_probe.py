"""The stage on spans of two classes that a line parts."""

from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import load_array, save_array
from stillmotion.io.records import Action, save_records
from stillmotion.io.tables import read_rows, write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def probe(main_of, tmp_path, monkeypatch):
    """Rows and weights of the probes that the stage fits on spans with these labels."""
    main = main_of("linear_probe")

    def run(labels):
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["linear_probe"].update(shots=[1, 2], seeds=[0, 1])
        yaml.dump(params, tmp_path / "params.yaml")
        folder = tmp_path / "embeddings"
        spans = [Action("a", label, float(start), start + 1.0) for start, label in enumerate(labels)]
        write_rows(folder / "index.jsonl", [EmbeddedVideo("a", "train", 9.0, 0, 1, [0], [0]).row()])
        write_json(folder / "model.json", {"dim": 2})
        write_json(folder / "classes.json", sorted(set(labels)))
        save_records(folder, Action, spans)
        vectors = [[1.0, 0.0] if label == "grows" else [0.0, 1.0] for label in labels]
        save_array(folder / "actions.npy", np.array(vectors, np.float32).reshape(-1, 2))
        monkeypatch.chdir(tmp_path)
        main(embeddings=Path("embeddings"), output=Path("probes"))
        return read_rows("probes/probes.jsonl"), load_array(Path("probes/weights.npy"))

    return run


def test_a_probe_is_fitted_for_each_number_of_shots_and_seed(probe):
    rows, weights_RKD1 = probe(["grows", "spins"] * 3)
    assert [(row["shots"], row["seed"], row["num_samples"]) for row in rows] == [
        (1, 0, 2),
        (1, 1, 2),
        (2, 0, 4),
        (2, 1, 4),
    ]
    assert [row["validation_top1"] for row in rows] == [None] * 4  # there is no span of the validation split
    assert weights_RKD1.shape == (4, 2, 3)
    scores_RNK = np.eye(2) @ weights_RKD1[:, :, :-1].transpose(0, 2, 1) + weights_RKD1[:, None, :, -1]
    assert scores_RNK.argmax(axis=2).tolist() == [[0, 1]] * 4


@pytest.mark.parametrize("labels", [[], ["grows", "grows"]])
def test_fewer_than_two_classes_give_no_probe(probe, caplog, labels):
    rows, weights_RKD1 = probe(labels)
    assert "fewer than two classes" in caplog.text
    assert rows == []
    assert weights_RKD1.shape == (0, len(set(labels)), 3)
