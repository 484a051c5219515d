from stillmotion.metrics.headlines import headline_values


def retrieval(value, model="m"):
    return {"t2v": {"R@1": value} if value is not None else {}, "system": {"model": model}}


def test_the_best_and_the_first_system_of_a_task_are_named_with_their_values():
    metrics = {"retrieval": {"a": retrieval(30.0), "b": retrieval(40.0), "c": retrieval(35.0)}}
    assert headline_values(metrics) == {
        "retrieval": {
            "metric": "t2v R@1",
            "best": 40.0,
            "best_system": "b",
            "base": 30.0,
            "base_system": "a",
        }
    }


def test_of_equal_systems_the_first_is_the_best():
    found = headline_values({"retrieval": {"a": retrieval(30.0), "b": retrieval(30.0)}})["retrieval"]
    assert (found["best_system"], found["base_system"]) == ("a", "a")


def test_references_are_no_systems_and_a_task_without_results_is_left_out():
    oracle = {"brief": {"MR-full-R1@0.5": 100.0}, "system": {"model": None}}
    chosen = {"brief": {"MR-full-R1@0.5": 50.0}, "system": {"model": "m"}}
    metrics = {"retrieval": {"a": retrieval(None)}, "moments": {"oracle": oracle, "a": chosen}, "actions": {}}
    found = headline_values(metrics)
    assert list(found) == ["moments"]
    assert found["moments"]["best_system"] == "a"


def test_dvc_lists_at_most_twenty_values():
    moments = {"brief": {"MR-full-R1@0.5": 50.0}, "system": {"model": "m"}}
    actions = {"zero_shot": {"top1": 20.0}, "system": {"model": "m"}}
    found = headline_values({"retrieval": {"a": retrieval(1.0)}, "moments": {"a": moments}, "actions": {"a": actions}})
    assert sum(len(values) for values in found.values()) == 15
