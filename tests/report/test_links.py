from stillmotion.claims.systems import Origin
from stillmotion.report.links import parts_of

A, A_MEAN, STUDY = Origin("retrieval", "a"), Origin("retrieval", "a-mean"), Origin("studies", "batch_size")


def test_a_text_leads_to_the_files_that_it_names_and_the_others_are_told():
    assert parts_of("a-mean − a (R@1)", [A_MEAN, A]) == ([A_MEAN, " − ", A, " (R@1)"], [])
    assert parts_of("batches of 8", [STUDY, STUDY]) == (["batches of 8"], [STUDY])
    assert parts_of("nothing", []) == (["nothing"], [])


def test_a_name_that_is_part_of_another_is_not_that_name():
    assert parts_of("a-mean-2 − b_a.", [A, A_MEAN]) == (["a-mean-2 − b_a."], [A, A_MEAN])
    assert parts_of("a.", [A]) == ([A, "."], [])
