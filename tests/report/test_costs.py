from stillmotion.claims.systems import Origin
from stillmotion.report.costs import architectures_table, branches_table


def step(keep_rate, frozen_blocks, forward, backward, memory=100.4):
    flops = {"forward_flops": forward, "backward_flops": backward}
    return {"keep_rate": keep_rate, "frozen_blocks": frozen_blocks, "peak_memory_mib": memory} | flops


def counted(family, parameters, *steps, architecture=None, num_frames=8):
    settings = {"family": family, "architecture": architecture}
    plain = {"architecture": f"{family}_{num_frames}", "batch_size": 6, "parameters": parameters}
    return plain | {"settings": settings, "num_frames": num_frames, "steps": list(steps)}


ARCHITECTURES = {
    "b32": counted(
        "xclip",
        196585855,
        step(1.0, 0, 400e9, 800e9, 2500.6),
        step(0.5, 0, 220e9, 440e9),
        step(1.0, 3, 400e9, 600e9),
    ),
    "b16": counted("xclip", 194929426, step(0.25, 0, 100e9, 200e9)),
}


def test_architectures_show_what_patch_dropout_and_freezing_leave(make_evidence):
    table = architectures_table(make_evidence(architectures=ARCHITECTURES))
    assert table.header[2:] == [
        "forward GFLOPs",
        "backward GFLOPs",
        "memory in MiB",
        "forward, keep rate 0.5",
        "forward, keep rate 0.25",
        "backward, 3 blocks frozen",
    ]
    b32, b16 = table.rows
    assert b32 == ["b32", "196,585,855", "400.0", "800.0", "2501", "× 0.55", "–", "× 0.75"]
    # nothing to compare with
    assert b16 == ["b16", "194,929,426", "–", "–", "–", "–", "–", "–"]
    assert b16[0].origins == [Origin("resources", "b16")]
    assert branches_table(make_evidence(architectures=ARCHITECTURES)) == ""


def test_of_a_video_llm_one_pass_is_counted(make_evidence):
    passed = counted("video_llm", 1000) | {"forward_flops": 12.34e9}
    (row,) = architectures_table(make_evidence(architectures={"llm": passed})).rows
    assert row == ["llm", "1,000", "12.3", "–", "–"]
    assert architectures_table(make_evidence()) == ""


def test_a_branch_is_held_to_the_clip_of_the_same_model_and_frames(make_evidence):
    def vit(family, architecture, num_frames, parameters, *steps):
        return counted(family, parameters, *steps, architecture=architecture, num_frames=num_frames)

    found = ARCHITECTURES | {
        "clip": vit("clip", "ViT-B-32", 12, 100, step(1.0, 0, 400e9, 800e9, 1000.0), step(0.5, 0, 1e9, 1e9)),
        "clip_8": vit("clip", "ViT-B-32", 8, 100, step(1.0, 0, 1e9, 1e9, 1.0)),
        "stan": vit("stan", "ViT-B-32", 12, 130, step(1.0, 0, 600e9, 1000e9, 1510.0)),
        "stan_b16": vit("stan", "ViT-B-16", 12, 130, step(1.0, 0, 600e9, 1000e9, 1510.0)),
    }
    table = branches_table(make_evidence(architectures=found))
    assert table.header == ["architecture", "against", "parameters", "forward", "backward", "memory"]
    assert table.rows == [["stan", "clip_12", "× 1.30", "× 1.50", "× 1.25", "× 1.51"]]
    assert table.rows[0][0].origins == [Origin("resources", "stan"), Origin("resources", "clip")]
