"""The shanks of a probe are streams of their own, where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting import RecordingUnreadableError, sort_multistream
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import plan, plan_streams
from spikelab.spike_sorting.shanks import join_shank, split_shank
from spikelab.spike_sorting.sources import Source, open_source

LAYOUT = "neuropixels2"


@pytest.fixture(scope="module")
def four_shanks() -> Any:
    return simulate_recording(LAYOUT, n_channels=16, duration_s=0.5, n_units=4).recording


@pytest.fixture(scope="module")
def file(four_shanks: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shanks") / "probe"
    four_shanks.save(folder=folder, n_jobs=1, verbose=False)
    return folder


def test_each_shank_is_a_job(four_shanks: Any, file: Path) -> None:
    """All shanks by default, or those asked for; each has its own channels and folders."""
    jobs = plan_streams(file, KILOSORT4)
    assert list(jobs) == ["shank0", "shank1", "shank2", "shank3"]
    for k, (shank, job) in enumerate(jobs.items()):
        (opened,) = open_source(job.source)
        np.testing.assert_array_equal(opened.get_traces(), four_shanks.get_traces()[:, 4 * k : 4 * k + 4])
        assert (job.name, job.source.stream_id) == (f"probe_{shank}", shank)
    assert len({job.run.results for job in jobs.values()}) == 4
    assert list(plan_streams(file, KILOSORT4, ["shank2", "shank0"])) == ["shank2", "shank0"]
    (whole,) = plan(file, KILOSORT4)
    assert open_source(whole.source)[0].get_num_channels() == 16


def test_a_shank_that_is_not_there(file: Path, tmp_path: Path) -> None:
    """The error lists the shanks that are there; a probe of one shank has none to choose."""
    with pytest.raises(ValueError, match=r"no stream 'shank7'; it has \['shank0', "):
        sort_multistream(file, ["shank7"])
    with pytest.raises(RecordingUnreadableError, match=r"has no shank7; it has \['shank0', "):
        open_source(Source((str(file),), "shank7"))
    one = simulate_recording("linear", n_channels=4, duration_s=0.5, n_units=1).recording
    one.save(folder=tmp_path / "one", n_jobs=1, verbose=False)
    with pytest.raises(ValueError, match="no streams, and no shanks; use sort_recording"):
        sort_multistream(tmp_path / "one")


@pytest.mark.parametrize("stream", ["imec0.ap", "Record Node 101#ProbeA", None])
def test_a_shank_of_a_stream(stream: str | None) -> None:
    """The id of a shank tells the stream that it belongs to, whatever that is called."""
    assert split_shank(join_shank(stream, "shank3")) == (stream, "shank3")
    assert split_shank(stream) == (stream, None)
