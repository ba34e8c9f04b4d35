"""The examples on the pages about SpikeData run as printed."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest
from support import REPOSITORY

from spikelab import SpikeData


def run_page(name):
    """Run the Python blocks of a page one after the other, as a reader would type them."""
    page = (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    text = "\n".join(blocks)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(doctest.DocTestParser().get_doctest(text, {}, name, f"{name}.md", 0))
    return runner.summarize(verbose=False)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A reader's folder, with the file that the pages read."""
    monkeypatch.chdir(tmp_path)
    attributes = [
        {"unit_id": unit, "label": label, "template_full": np.zeros((60, 16), "f4")}
        for unit, label in ((4, "good"), (7, "mua"), (9, "good"))
    ]
    sd = SpikeData([[1.0, 2.0], [], [3.0, 3.0, 4.0]], length=10_000.0, neuron_attributes=attributes)
    sd.replace(metadata={"fs_Hz": 20_000.0}).save("spikedata_curated.h5")


@pytest.mark.parametrize("name", ["spikedata", "spikedata-file"])
def test_a_page_runs_as_printed(desk, name):
    """What the page shows is what its reader gets."""
    outcome = run_page(name)
    assert outcome.attempted > 3
    assert outcome.failed == 0
