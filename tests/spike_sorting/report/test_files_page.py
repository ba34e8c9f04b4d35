"""The page on what a sort leaves behind, against a sort."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import FAST, REPOSITORY, Sorted, sort_in_subprocess

pytestmark = pytest.mark.timeout(400)

PAGE = (REPOSITORY / "docs" / "files.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def compiled(sorted_once: Sorted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a sort that was asked for every file, and after it the intermediate ones."""
    lab = tmp_path_factory.mktemp("files") / "lab"
    shutil.copytree(sorted_once.file.parent, lab)
    # As if the folder had been moved: what was sorted elsewhere is no one's any more.
    card = lab / "sorted_kilosort4" / sorted_once.file.name / ".spikelab.json"
    card.write_text(card.read_text().replace(str(sorted_once.file.parent), "/nowhere"))
    options = {"compile_to_npz": True, "compile_to_mat": True, "compile_waveforms": True, "save_raw_pkl": True}
    sort_in_subprocess([str(lab / sorted_once.file.name)], **FAST, **options)
    return lab


def test_every_file_is_on_the_page(compiled: Path) -> None:
    """What a sort leaves in its folders is explained, but for what is spikelab's own."""
    (results,), (inter,) = (list((compiled / f"{kind}_kilosort4").iterdir()) for kind in ("sorted", "inter"))
    left = [*results.iterdir(), *inter.iterdir()]
    names = {path.name for path in left if not path.name.startswith(".") and not path.name.endswith(".done.json")}
    assert {"sorted.npz", "sorted.mat", "spikedata_raw.h5", "waveforms"} <= names
    assert not [name for name in sorted(names) if not re.search(rf"`{re.escape(name)}[`/]", PAGE)]


def test_what_is_read_without_spikelab_is_what_spikelab_reads(compiled: Path) -> None:
    """The examples run as they are printed, in the results folder, and find what is there."""
    (results,) = (compiled / "sorted_kilosort4").iterdir()
    assert len(BLOCKS) == 4
    checks = """
from spikelab.spike_sorting import load_results
sd = load_results(".")
assert len(rates_Hz) == len(good) == sd.N > 0 and good.all()
assert all(np.array_equal(ours, theirs) for ours, theirs in zip(trains_ms, sd.train, strict=True))
assert templates_uV.shape[0] == sd.N and snr.tolist() == [unit["snr"] for unit in sd.neuron_attributes]
assert report["n_curated_units"] == sd.N and list(stages)[-1] == "export" and schema["title"]
assert len(why_gone) == report["n_units"] - sd.N
"""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*BLOCKS, checks])], cwd=results, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("success ")
