"""The `stillmotion export` command: a model in the hub's layout, with a card, for others to open."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.errors import InputError
from stillmotion.printed import one_line

if TYPE_CHECKING:
    from stillmotion.config.loading import Params


def export(
    model: Annotated[
        str, typer.Argument(help="A model of models/backbones, or a system of `retrieval` with what fuses its clips.")
    ],
    to: Annotated[Path, typer.Option(help="The folder to write; an export of before is replaced.")],
    push: Annotated[
        str, typer.Option(help="ORG/NAME on the Hugging Face hub to upload it to (HF_TOKEN).", show_default=False)
    ] = "",
    license_id: Annotated[
        str, typer.Option("--license", help="Of the weights, as the hub writes it: apache-2.0, mit, …")
    ] = "unknown",
    root: Annotated[Path, typer.Option(help="The project, which holds params.yaml, models and metrics.")] = Path(),
) -> None:
    """Hand on a model: its folder in the hub's layout, with a card that tells how it was made and measured.

    open_clip opens an exported CLIP or CoCa (local-dir:FOLDER), transformers an X-CLIP, and
    stillmotion.api.open_model(FOLDER) all of them, a STAN, a CLIP4Clip and an aggregator too. No network is needed but
    for --push.

    For example:

    stillmotion export small_clip-patch_dropout --to handed-on

    stillmotion export small_clip-transformer_mean --to handed-on --push me/clip-toy --license apache-2.0
    """
    from stillmotion.config.loading import load_params
    from stillmotion.export.layout import CARD, add_to_export, require_export, sampling_of

    require_export(to)
    if push:
        from stillmotion.export.push import push as upload
        from stillmotion.export.push import require_repository

        require_repository(push)
    params = load_params(root / "params.yaml")
    name, aggregator = _find(model, root, params)

    from stillmotion.backbones.family_files import read_source
    from stillmotion.embedding.reader import read_description
    from stillmotion.export.card import measured, model_card
    from stillmotion.io.atomic import atomic_folder
    from stillmotion.io.memo import folder_digest
    from stillmotion.io.tables import read_json
    from stillmotion.stage import importing

    folder = root / "models" / "backbones" / name
    with importing():
        import torch

        from stillmotion.backbones.registry import load_embeds
        from stillmotion.retrieval.aggregated import read_aggregators
    backbone = load_embeds(folder, torch.device("cpu"))
    digest = folder_digest(folder)
    embedded = root / "data" / "embeddings" / f"{params.dataset}-{name}" / "model.json"
    if embedded.is_file() and read_description(embedded)["model"] != digest:
        raise InputError(f"{folder}: the metrics are of another model than it holds; run `dvc repro`")
    scorer, fused, counts = None, None, params.embed.clip_counts
    if aggregator is not None:
        scorer, fused = params.retrieval[model].scorer, read_json(aggregator / "aggregator.json")
        opened, trained_on = read_aggregators(aggregator)
        if trained_on != digest:
            raise InputError(f"{aggregator}: trained on the embeddings of another model than {folder}; run `dvc repro`")
        counts = list(opened.clip_counts)
    source, systems = read_source(folder), measured(root, name, scorer)
    with atomic_folder(to) as partial:
        # It fills a folder of its own and puts that in the place of this one, still empty.
        backbone.save(partial, source)
        add_to_export(partial, aggregator, sampling_of(params, counts[-1]))
        card = model_card(model, partial, source, params, systems, license_id=license_id, aggregator=fused)
        (partial / CARD).write_text(card, encoding="utf-8")
    told = sum(len(each) for each in systems.values())
    typer.echo(one_line(f"{to}: {model}, with a card of {told} measured systems"))
    if push:
        typer.echo(one_line(f"{upload(to, push)}: uploaded"))


def _find(model: str, root: Path, params: "Params") -> tuple[str, Path | None]:
    """The name of the model, and the folder of the aggregator where a system was named that has one."""
    from stillmotion.search.artefacts import nearest

    built = {path.name for path in (root / "models" / "backbones").glob("*/")}
    if model in built:
        return model, None
    aggregators = root / "models" / "aggregators"
    if model not in params.retrieval:
        raise InputError(f"{model}: no such model; {nearest(model, sorted(built | set(params.retrieval)))}")
    system = params.retrieval[model]
    if system.model not in built or not (aggregators / model / "aggregator.json").is_file():
        raise InputError(f"{model}: not built; run `dvc repro`, or fetch what a colleague built with `dvc pull`")
    return system.model, aggregators / model
