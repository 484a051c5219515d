from stillmotion.claims.systems import Origin
from stillmotion.report.trainings import finetune_charts, finetuned_table


def epochs(losses, scores=None):
    rows = [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses)]
    return [row | ({"score": scores[place]} if scores else {}) for place, row in enumerate(rows)]


HISTORIES = {
    "half": epochs([2.0, 1.5, 1.0], [30.0, 62.5, 62.5]),
    "writer": epochs([4.0, 1.0], [-1.756, -0.75]),
    "unscored": epochs([3.0, 2.0]),
    "untrained": [],
}


def test_a_model_stands_with_its_losses_and_the_first_epoch_of_the_highest_score_or_unscored_the_last():
    table = finetuned_table(HISTORIES)
    assert table.header == ["model", "validation score", "of epoch", "epochs", "first loss", "last loss"]
    assert table.rows == [
        ["half", "62.5", "2", "3", "2.000", "1.000"],
        ["writer", "-0.750", "2", "2", "4.000", "1.000"],
        ["unscored", "–", "2", "2", "3.000", "2.000"],
    ]
    assert table.rows[0][0].origins == [Origin("finetune", "half")]
    assert finetuned_table({"untrained": []}) == ""


def test_rates_and_losses_are_no_axis_together_and_a_model_keeps_its_color():
    charts = finetune_charts(HISTORIES)
    assert [(chart.title, [(line.name, line.color) for line in chart.lines]) for chart in charts] == [
        ("Training loss by epoch", [("half", 0), ("writer", 1), ("unscored", 2)]),
        ("Validation R@1 or top-1 in % by epoch", [("half", 0)]),
        ("Validation loss by epoch, negated", [("writer", 1)]),
    ]
    told = [[mark.label for mark in chart.lines[0].marks if mark.is_dot] for chart in charts]
    assert told == [["3: 1.000"], ["2: 62.5"], ["2: -0.750"]]
    assert finetune_charts({"one epoch": epochs([1.0], [30.0])}) == []
