"""GPUs that a batch no longer uses, because something on them can neither work nor be ended."""

from __future__ import annotations

import threading

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError


class Devices:
    """Shared by all recordings of a batch; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[int, SpikeSortingClassifiedError] = {}

    def set_aside(self, index: int, reason: SpikeSortingClassifiedError) -> None:
        """Use the GPU `index` no more; of several reasons the first is kept."""
        with self._lock:
            self._reasons.setdefault(index, reason)

    def check(self, index: int) -> None:
        """Raise an error of the kind for which the GPU `index` was set aside, if it was."""
        with self._lock:
            reason = self._reasons.get(index)
        if reason is not None:
            msg = f"GPU {index} is not used any more in this batch, because of an earlier recording: {reason}"
            raise type(reason)(msg, **reason.details) from reason
