"""Any model folder as a model of MTEB (the extra `mteb`), to be evaluated on its video tasks.

    python -m stillmotion.mteb run -m models/backbones/small_clip -t MSRVTTT2V

is `mteb run`, with all its options, that knows model folders too. From Python:

    import mteb
    from stillmotion.mteb import FolderEncoder

    mteb.evaluate(FolderEncoder("models/backbones/small_clip"), mteb.get_tasks(["MSRVTTT2V"]))

A folder is of models/backbones/, or an export, which may bring an aggregator. MTEB's data sets hold video files: they
are decoded and sampled as everywhere here, which needs no torchcodec and leaves out MTEB's own choice of frames. So R@K
is that of our own evaluation of the same videos and texts.
"""

import stillmotion.config.capped

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from stillmotion.api import Sampling, open_model
from stillmotion.errors import InputError
from stillmotion.io.memo import folder_digest
from stillmotion.printed import one_line
from stillmotion.stage import Progress


def refuse(message: str) -> int:
    """Tell a user's mistake in one line; its exit status."""
    print(one_line(f"stillmotion.mteb: error: {message}"), file=sys.stderr)
    return 2


try:
    import mteb.cli
    from datasets import Dataset, Video
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ScoringFunction
    from mteb.models.models_protocols import EncoderProtocol
except ModuleNotFoundError as error:
    MISSING = f"{error.name} is not installed; pip install 'stillmotion[mteb]' brings it"
    if __name__ == "__main__":
        sys.exit(refuse(MISSING))
    raise InputError(MISSING) from None


class FolderMeta(ModelMeta):
    """What MTEB is told of a folder; it opens without MTEB's own extra for videos, which it has no use for."""

    def load_model(self, device: str | None = None, *, embed_dim: int | None = None, **kwargs: Any) -> EncoderProtocol:
        """Open the folder; the device is that of STILLMOTION_DEVICE."""
        return FolderEncoder(self.loader_kwargs["folder"], **kwargs)


def folder_meta(folder: str | Path, dim: int | None = None) -> FolderMeta:
    """The metadata of a folder; its revision is a digest of the files, so that results of another model don't count."""
    path = Path(folder).resolve()
    return FolderMeta(
        loader=None,
        loader_kwargs={"folder": str(folder)},
        name=f"stillmotion/{path.name}",
        revision=folder_digest(path)[:16],
        languages=["eng-Latn"],
        embed_dim=dim,
        open_weights=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=None,
        modalities=["text", "video"],
        release_date=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=None,
        license=None,
        public_training_code=None,
    )


class FolderEncoder(AbsEncoder):
    """A model folder by MTEB's protocol of encoders: texts and videos to unit vectors."""

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        model_name: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        aggregator: str | Path | None = None,
        sampling: Sampling | None = None,
    ):
        """Open the folder `model_name` as `stillmotion.api.open_model` does, with its errors."""
        self.model = open_model(model_name, aggregator=aggregator, sampling=sampling)
        self.mteb_model_meta = folder_meta(model_name, self.model.dim)

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Unit vectors of the rows of a DataLoader: of their texts, their videos, or along the sum of both.

        Raises:
            InputError: the rows have neither, or a video can't be decoded.
        """
        dataset: Dataset = inputs.dataset
        found = []
        if "text" in dataset.column_names:
            found.append(self.model.embed_texts(list(dataset["text"])))
        if "video" in dataset.column_names:
            found.append(np.concatenate([self._embed(path) for path in _video_files(dataset)]))
        if not found:
            raise InputError(f"{', '.join(dataset.column_names)}: neither text nor video; choose a task that has one")
        if len(found) == 1:
            return found[0]
        both = found[0] + found[1]
        return both / np.linalg.norm(both, axis=1, keepdims=True)

    def _embed(self, path: Path) -> NDArray[np.float32]:
        return self.model.embed_videos([path], frames=False).vectors


def _video_files(dataset: "Dataset") -> Iterator[Path]:
    """The video of each row as a file, which is gone when the next one is asked for where the row holds its bytes."""
    rows = dataset.select_columns(["video"]).cast_column("video", Video(decode=False))
    with Progress("embedding videos", len(rows)) as progress:
        for row in rows:
            path, content = row["video"]["path"], row["video"]["bytes"]
            if content is None and Path(path).is_file():
                yield Path(path)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / f"video{Path(path or '').suffix}"
                    if content is None:
                        with fsspec.open(path) as source:
                            content = source.read()
                    file.write_bytes(content)
                    yield file
            progress.advance()


def main(arguments: list[str]) -> None:
    """MTEB's command, with the folders among its models registered under their names."""
    for place, argument in enumerate(arguments):
        if arguments[place - 1 : place] in (["-m"], ["--model"]) and Path(argument).is_dir():
            meta = folder_meta(argument)
            MODEL_REGISTRY[str(meta.name)] = meta
            arguments = [*arguments[:place], str(meta.name), *arguments[place + 1 :]]
    sys.argv = ["mteb", *arguments]
    mteb.cli.main()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(refuse(str(error)))
