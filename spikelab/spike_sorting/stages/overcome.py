"""What earlier attempts ended with and a later one got over: kept with the results of that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting._settings import FrozenMap, thaw
from spikelab.spike_sorting.remarks import Remark, remarks_from


@dataclass(frozen=True)
class Overcome:
    """Why an attempt is not the first one, and what is different in it.

    It goes with what the attempt makes: a later call, which finds that finished, has the settings that were asked for
    and knows nothing of the attempt.

    Parameters
    ----------
    remarks : tuple of Remark
        What the attempts before ended with, and what was done about it.
    changed : mapping of str to object
        Settings that are not as they were asked for.
    """

    remarks: tuple[Remark, ...] = ()
    changed: Mapping[str, Any] = FrozenMap()

    def and_then(self, remark: Remark, changed: Mapping[str, Any]) -> Overcome:
        """Return what the next attempt gets over: this, and what led to it."""
        return Overcome((*self.remarks, remark), FrozenMap({**self.changed, **changed}))

    def noted_in(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the `summary` of a stage with it."""
        if not self.remarks:
            return summary
        warnings = [*summary.get("warnings", ()), *(remark.to_dict() for remark in self.remarks)]
        return {**summary, "warnings": warnings, "changed": thaw(self.changed)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"remarks": [remark.to_dict() for remark in self.remarks], "changed": thaw(self.changed)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Overcome:
        """Return what `values` (from ``to_dict``) describe."""
        return cls(remarks_from(values["remarks"]), FrozenMap(values["changed"]))
