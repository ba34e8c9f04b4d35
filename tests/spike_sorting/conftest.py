"""Fixtures of a whole sort."""

from __future__ import annotations

import pytest
from support import FAST, Sorted, simulate_maxwell, sort_in_subprocess


@pytest.fixture(scope="session")
def sorted_once(tmp_path_factory: pytest.TempPathFactory) -> Sorted:
    """One Maxwell file, sorted with Kilosort4 by a script; tests that change something copy it first."""
    pytest.importorskip("kilosort")
    folder = tmp_path_factory.mktemp("sorted") / "lab 1"
    folder.mkdir()
    file = folder / "culture.raw.h5"
    truth = simulate_maxwell(file)
    said = sort_in_subprocess([str(file)], **FAST, save_raw_pkl=True)
    return Sorted(file, truth, folder / "sorted_kilosort4" / file.name, folder / "inter_kilosort4" / file.name, said)
