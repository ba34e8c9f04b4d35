"""Which detection model RT-Sort uses: the one that is named, the provider's own, or the small one that ships here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spikelab.spike_sorting.backends.rt_sort.installation import Provider
from spikelab.spike_sorting.backends.rt_sort.model_folder import DESCRIPTION, WEIGHTS, bundled_model, trained_at_Hz
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.remarks import Remark, remark

_RATE_FRAC = 0.05
"""How far a recording's sampling rate may be from that of the model's training, as a fraction."""


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

    def remarks(self, probe: str, fs_Hz: float) -> list[Remark]:
        """Return what deserves a look when it sorts a recording of this sampling rate."""
        remarks = []
        if self.origin == "shipped":
            found = f"no detection model was named, and RT-Sort's package has none for {probe}: the small one was used"
            remarks.append(remark("rt-sort-small-model", found))
        trained_Hz = trained_at_Hz(self.folder)
        if trained_Hz is not None and abs(fs_Hz / trained_Hz - 1) > _RATE_FRAC:
            found = f"the detection model was trained at {trained_Hz:g} Hz, and the recording has {fs_Hz:g} Hz"
            remarks.append(remark("rt-sort-model-rate", found))
        return remarks

    def digest(self) -> str:
        """Return what tells its contents from those of others; nothing where it cannot be read."""
        try:
            return hashlib.sha256(
                b"\0".join((self.folder / name).read_bytes() for name in (DESCRIPTION, WEIGHTS))
            ).hexdigest()
        except OSError:
            return ""


def choose_model(config: SortingPipelineConfig, provider: Provider | None) -> Model:
    """Return the model that a sort with `config` uses; whether it is whole is for `check_model_folder` to say."""
    named = config.rt_sort.model_path
    if named is not None:
        return Model(Path(named).expanduser().absolute(), "named")
    bundled = provider.models.get(config.rt_sort.probe) if provider is not None else None
    if bundled:
        return Model(Path(bundled), "provider")
    return Model(bundled_model(config.rt_sort.probe), "shipped")
