"""Which detection model RT-Sort uses: the one that is named, the provider's own, or the small one that ships here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spikelab.spike_sorting._exceptions import ModelLoadingError
from spikelab.spike_sorting.backends.rt_sort.installation import Provider
from spikelab.spike_sorting.backends.rt_sort.provider import MODEL_FILES
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.remarks import Remark, remark

_SHIPPED = Path(__file__).with_name("models")


@dataclass(frozen=True)
class Model:
    """A detection model.

    Parameters
    ----------
    folder : Path
        Its folder, with ``init_dict.json`` and ``state_dict.pt``.
    origin : {"named", "provider", "shipped"}
        Whose it is.
    """

    folder: Path
    origin: Literal["named", "provider", "shipped"]

    def remarks(self, probe: str) -> list[Remark]:
        """Return what deserves a look."""
        if self.origin != "shipped":
            return []
        found = f"no detection model was named, and RT-Sort's package has none for {probe}: the small one was used"
        return [remark("rt-sort-small-model", found)]

    def digest(self) -> str:
        """Return what tells its contents from those of others; nothing where it cannot be read."""
        try:
            return hashlib.sha256(b"\0".join((self.folder / name).read_bytes() for name in MODEL_FILES)).hexdigest()
        except OSError:
            return ""

    def check(self) -> None:
        """Raise ModelLoadingError when one of its files is missing or its description is none."""
        absent = [name for name in MODEL_FILES if not (self.folder / name).is_file()]
        if absent:
            where = f"{self.folder}" if self.folder.is_dir() else f"{self.folder}, which is no folder,"
            msg = f"{where} does not contain {' and '.join(absent)}"
            raise model_error(msg, self.folder)
        try:
            described = json.loads((self.folder / MODEL_FILES[0]).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{self.folder / MODEL_FILES[0]} cannot be read: {error}"
            raise model_error(msg, self.folder) from error
        if not isinstance(described, dict):
            msg = f"{self.folder / MODEL_FILES[0]} must hold settings by name"
            raise model_error(msg, self.folder)


def choose_model(config: SortingPipelineConfig, provider: Provider | None) -> Model:
    """Return the model that a sort with `config` uses; whether it is whole is for ``Model.check`` to say."""
    named = config.rt_sort.model_path
    if named is not None:
        return Model(Path(named).expanduser().absolute(), "named")
    bundled = provider.models.get(config.rt_sort.probe) if provider is not None else None
    if bundled:
        return Model(Path(bundled), "provider")
    own = _SHIPPED / config.rt_sort.probe
    return Model(own if own.is_dir() else _SHIPPED / "mea", "shipped")


def model_error(message: str, folder: Path) -> ModelLoadingError:
    """Return the error of a model that cannot be used."""
    return ModelLoadingError(message, sorter="rt_sort", model_path=str(folder))
