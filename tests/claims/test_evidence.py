from stillmotion.claims.evidence import retrieval_recipe


def test_a_study_speaks_for_its_own_dataset_alone(make_evidence):
    studies = {"a": {"points": []}, "b": {"dataset": "partial", "points": []}}
    evidence = make_evidence(studies=studies)
    assert evidence.study("a").name == "a"
    assert (evidence.study("b"), evidence.study("c")) == (None, None)
    assert evidence.studies["b"].dataset == "partial"


def test_metrics_are_those_of_a_task_by_system(make_system, make_evidence):
    found = make_evidence(make_system(scorer="mean"), make_system("resources", metrics={"parameters": 5}))
    assert list(found.metrics("retrieval")) == ["clip-mean"]
    assert found.metrics("resources")["clip"]["parameters"] == 5
    assert found.metrics("moments") == {}


def test_the_first_recipe_that_trains_on_captions_is_that_of_retrieval():
    recipes = {"motions": {"captions": "class_names"}, "half": {"captions": "paragraph"}, "all": {"captions": "dense"}}
    finetuned = {str(place): {"recipe": name} for place, name in enumerate(recipes)}
    assert retrieval_recipe({"recipes": recipes, "finetuned": finetuned}) == "half"
    assert retrieval_recipe({"recipes": recipes, "finetuned": {"0": {"recipe": "motions"}}}) == ""
