"""The datasets of a project that can be searched, each opened when it is first asked for, and anew when it changed."""

import time
from collections import Counter, OrderedDict
from pathlib import Path
from threading import Lock

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.search.artefacts import choose_artefacts, embedded_models, is_embedded
from stillmotion.search.finder import Finder, Models, Question
from stillmotion.search.identity import identity
from stillmotion.serving.catalogue import Catalogue

MOST_OPEN = 4
"""Finders that stay open, each with its tables in memory."""
LOOK_EVERY_S = 1.0


class Library:
    """What is open of a project."""

    def __init__(self, root: Path):
        """Open the params.

        Raises:
            InputError: they are at fault, or nothing is embedded, with the command that does it.
        """
        self.root = root
        self._lock = Lock()
        self._open_anew()
        self.default = self._default()
        self.finder("", "", "")

    def _default(self) -> str:
        """The active dataset, or another one where that is not embedded."""
        active = self.params.dataset
        others = [name for name in self.names() if name != active]
        return others[0] if others and not is_embedded(self.root, active, "") else active

    def _open_anew(self) -> None:
        own = identity(self.root)
        # What comes first may fail while a run writes: then what was open keeps its identity, and is tried again.
        self.params = load_params(self.root / "params.yaml")
        self._models = Models(self.params.threads)
        self._finders: OrderedDict[tuple[str, str, str], Finder] = OrderedDict()
        self._catalogues: dict[str, Catalogue] = {}
        self.identity, self._looked = own, time.monotonic()

    def refresh(self) -> None:
        """Close what is open where a file of it has changed since."""
        with self._lock:
            if time.monotonic() - self._looked < LOOK_EVERY_S:
                return
            if identity(self.root) != self.identity:
                before = self.params.dataset
                self._open_anew()
                if self.params.dataset != before:  # else one whose embeddings a run is writing anew stays
                    self.default = self._default()
            self._looked = time.monotonic()

    def finder(self, dataset: str, model: str, selection: str) -> Finder:
        """What answers questions about a dataset, "" for the default one; see `choose_artefacts` for the other names.

        Raises:
            InputError: a name is unknown, or it is not built.
        """
        key = (dataset or self.default, model, selection)
        finders = self._finders  # another thread may open all anew meanwhile, which this one is too old for
        if key not in finders:
            embedded = embedded_models(self.root, key[0])
            # A dataset of one's own is embedded by an experiment's model, which params.yaml does not select.
            alone = not model and embedded and not embedded & set(self.params.run.selected)
            chosen = choose_artefacts(self.root, self.params, key[0], min(embedded) if alone else model, selection)
            finders[key] = Finder(self.params, chosen, self._models, model=model)
            if len(finders) > MOST_OPEN:
                finders.popitem(last=False)
        finders.move_to_end(key)
        return finders[key]

    def warm(self) -> None:
        """Load what the first question would wait for."""
        self.finder("", "", "").find(Question(text="anything", top=1))

    def names(self) -> list[str]:
        """The datasets that are embedded."""
        tables = sorted((self.root / "data" / "raw").glob("*/tables/videos.jsonl"))
        return [name for name in (file.parents[1].name for file in tables) if is_embedded(self.root, name, "")]

    def catalogue(self, dataset: str) -> Catalogue:
        """The tables of a dataset.

        Raises:
            InputError: there is none of this name, or a table is damaged.
        """
        with self._lock:
            if dataset not in self._catalogues:
                if dataset not in self.names():
                    raise InputError(f"no such dataset: {dataset}")
                self._catalogues[dataset] = Catalogue(self.root, dataset)
            return self._catalogues[dataset]

    def splits(self, dataset: str) -> dict[str, int]:
        """How many videos of each split are embedded."""
        folder = self.root / "data" / "embeddings" / f"{dataset}-{min(embedded_models(self.root, dataset))}"
        counts = Counter(video.split for video in Embeddings(folder).videos)
        return {split: counts[split] for split in ("train", "validation", "test") if counts[split]}
