"""The acceptance sentence of the design: five recordings, chaos on, byte-identical results, nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.harness import WHOLE, InNamespace, JobOf, Tally, Undisturbed, slow


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "n,seconds,round_", [(3, 6.0, 0), *(pytest.param(5, 30.0, number, marks=slow) for number in range(1, 3))]
)
def test_five_recordings_and_a_nemesis(
    n: int,
    seconds: float,
    round_: int,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    tmp_path: Path,
    seed: int,
    tally: Tally,
    reference: dict[str, str],
) -> None:
    """P9: with everything killed, stopped and filled at random, calling again until it returns gives five results.

    They are byte-identical to those of a quiet machine, and no process, lock or temporary file is left. Not in this
    chaos: the clock (see test_locks), NVML, containers.
    """
    # A stopped worker is noticed after two seconds instead of ten minutes.
    impatient = {**WHOLE, "sorter_inactivity_base_s": 2.0, "sorter_inactivity_per_min_s": 0.0}
    jobs = [job_of(f"disk/{number}", "ok" if n < 5 else "sleep", impatient) for number in range(n)]
    (tmp_path / "disk").mkdir()
    seen = in_namespace(
        "acceptance",
        jobs=jobs,
        template=undisturbed.inter if n < 5 else None,
        folder=str(tmp_path / "disk"),
        seconds=seconds,
        seed=seed + round_,
        limit_s=380,
    )
    same = [content == reference for content in seen["content"]]
    struck = sum(seen["struck"].values())
    tally("P9", "recordings and a nemesis (kill, stop, interrupt, fill the disk)", n, sum(same), f"{struck} strikes")
    tidy = not seen["left"] and not seen["leftovers"] and seen["free"]
    tally("P10", "what the nemesis left, looked for after the end", 1, tidy)
    assert all(same), seen
    assert tidy, seen
    assert struck >= 2, seen
