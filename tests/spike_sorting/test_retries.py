"""Which failures are tried again, and with what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelab.spike_sorting import (
    DiskExhaustionError,
    GpuMemoryWatchdogError,
    GPUOutOfMemoryError,
    HostOutOfMemoryError,
    InsufficientActivityError,
    SorterCrashedError,
    SorterTimeoutError,
    UnclassifiedSortError,
)
from spikelab.spike_sorting.backends.base import Shortage
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.backends.kilosort4.ladder import smaller
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.retries import Failure, decide

STEPS = ["preprocessing", "drift correction", "spike detection", "first clustering", "template postprocessing",
         "spike extraction", "final clustering", "merging", "saving"]  # fmt: skip
FREED = {"clear_cache": True, "arrays_on_disk": True}


@pytest.mark.parametrize(
    "error",
    [
        InsufficientActivityError("silent"),
        DiskExhaustionError("full"),
        SorterTimeoutError("hangs"),
        UnclassifiedSortError("strange"),
        SorterCrashedError("killed by somebody", exit_name="SIGKILL"),
        KeyboardInterrupt(),
    ],
)
def test_what_smaller_settings_cannot_help_is_final(error):
    """A failure that is neither a shortage of memory nor a crash is not tried again."""
    assert decide(KILOSORT4, "sort", [Failure(error, "spike detection")]) is None


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS"])
def test_a_crash_is_tried_once_more_unchanged(name):
    """P20: a segfault may be bad luck once; the second time the recording is blamed."""
    crash = Failure(SorterCrashedError("died", exit_name=name), "merging")
    retry = decide(KILOSORT4, "sort", [crash])
    assert retry is not None
    assert retry.config == KILOSORT4
    assert decide(KILOSORT4, "sort", [crash, crash]) is None


@pytest.mark.parametrize("kind", [GPUOutOfMemoryError, GpuMemoryWatchdogError, HostOutOfMemoryError])
def test_a_shortage_is_tried_with_less_and_says_so(kind):
    """P19: after out of memory, the watch's or a real one, the next attempt needs less, and the remark says of what."""
    retry = decide(KILOSORT4, "sort", [Failure(kind("no memory left"), "spike detection")])
    assert retry is not None
    assert retry.config != KILOSORT4
    for name in retry.changed:
        assert name in retry.remark.message
    assert "spike detection" in retry.remark.message


def test_retries_have_a_budget():
    """P19: a shortage is tried again oom_retry_max times and no more; 0 means never."""
    config = KILOSORT4.override(oom_retry_max=2)
    failures = [Failure(GPUOutOfMemoryError("full"), "first clustering")]
    for _ in range(2):
        retry = decide(config, "sort", failures)
        assert retry is not None
        config = retry.config
        failures.append(failures[0])
    assert decide(config, "sort", failures) is None
    assert decide(KILOSORT4.override(oom_retry_max=0), "sort", failures[:1]) is None


def test_measuring_with_fewer_processes_keeps_the_result():
    """A shortage outside the sort is met with fewer processes, down to one."""
    failure = Failure(HostOutOfMemoryError("no memory left"), "templates", "waveforms")
    retry = decide(KILOSORT4.override(n_jobs=4), "finish", [failure])
    assert retry is not None
    assert retry.config.execution.n_jobs == 2
    assert "same result" in retry.remark.message
    assert decide(KILOSORT4.override(n_jobs=1), "finish", [failure]) is None


@pytest.mark.parametrize(
    "phase, stage, helps",
    [
        ("prepare", "load", False),
        ("prepare", "prepare", False),
        ("finish", "assemble", False),
        ("finish", "curate", False),
        ("finish", "review", False),
        ("finish", "export", False),
        ("finish", "export with waveforms", True),
    ],
)
def test_fewer_processes_are_for_what_has_several(phase, stage, helps):
    """What one process does takes as much memory with another n_jobs: its shortage is final at once."""
    stage, _, with_waveforms = stage.partition(" with ")
    config = KILOSORT4.override(n_jobs=4, compile_to_npz=True, compile_waveforms=bool(with_waveforms))
    retry = decide(config, phase, [Failure(HostOutOfMemoryError("no memory left"), "", stage)])
    assert (retry is not None) is helps


@pytest.mark.parametrize("step, then", [("templates", 4), ("copy to binary", 1)])
def test_fewer_processes_are_fewer_than_there_were(step, then):
    """A recording that keeps few processes busy has no tries with as many: half of what they were is what is next."""
    config = KILOSORT4.override(n_jobs=64, total_memory="64G")
    failure = Failure(HostOutOfMemoryError("no memory left"), step, "waveforms")
    retry = decide(config, "sort" if then == 1 else "finish", [failure], n_values=10**9)
    assert retry is not None
    assert retry.config.execution.n_jobs == then


# ------------------------------------------------------------------------------------------ Kilosort4's ladder


@pytest.mark.parametrize("of,freed", [("gpu", "clear_cache"), ("host", "arrays_on_disk")])
def test_the_first_rung_changes_no_result(of, freed):
    """Giving back what is not in use comes first, since the spikes stay the same: with the same key of the sort."""
    shrunk = smaller(KILOSORT4, Shortage(of, "first clustering", 0.5))
    assert shrunk is not None
    assert shrunk.changed == {freed: True}
    assert not shrunk.changes_result
    assert Kilosort4Backend().settings(shrunk.config) == Kilosort4Backend().settings(KILOSORT4)


@pytest.mark.parametrize(
    "step,setting",
    [
        ("spike detection", "batch_size"),
        ("spike extraction", "batch_size"),
        ("first clustering", "max_cluster_subset"),
        ("final clustering", "max_cluster_subset"),
        ("template postprocessing", "dminx"),
        ("merging", "dminx"),
    ],
)
def test_a_rung_fits_the_step_that_ran_out(step, setting):
    """What shrinks is what the step that ran out needs its memory for."""
    shrunk = smaller(KILOSORT4.override(kilosort_params=FREED), Shortage("host", step, 0.5))
    assert shrunk is not None
    assert list(shrunk.changed) == [setting]
    assert shrunk.changes_result


@given(
    step=st.sampled_from(STEPS),
    of=st.sampled_from(["gpu", "host"]),
    factor=st.floats(0.1, 0.9),
    width_um=st.floats(0, 4000),
)
def test_the_ladder_ends(step, of, factor, width_um):
    """Every rung differs from the one before, and after few of them there is none left."""
    config, seen = KILOSORT4, []
    for _ in range(120):
        shrunk = smaller(config, Shortage(of, step, factor, (width_um, 500.0)))
        if shrunk is None:
            return
        config = shrunk.config
        assert config not in seen
        seen.append(config)
    pytest.fail("the ladder has no end")


def test_wide_arrays_get_more_centres():
    """On a wide 2-D array clustering is split into more groups, and on a narrow probe it is not."""
    params = {"max_cluster_subset": 2000, "cluster_downsampling": 160, **FREED}
    wide = smaller(KILOSORT4.override(kilosort_params=params), Shortage("host", "first clustering", 0.5, (2000, 2000)))
    narrow = smaller(KILOSORT4.override(kilosort_params=params), Shortage("host", "first clustering", 0.5, (32, 4000)))
    assert wide is not None
    assert wide.changed == {"x_centers": 10}
    assert narrow is None


@pytest.mark.parametrize(
    "extent_um,params,expected",
    [
        ((32.0, 4000.0), {}, ["clear_cache", "max_cluster_subset", "cluster_downsampling"]),
        ((3850.0, 2100.0), {}, ["clear_cache", "max_cluster_subset", "x_centers"]),
        ((32.0, 4000.0), {"clear_cache": True}, ["max_cluster_subset", "cluster_downsampling", "max_cluster_subset"]),
    ],
    ids=["probe", "2-D array", "what the user has set already"],
)
def test_a_step_that_runs_out_again_gets_another_rung(extent_um, params, expected):
    """Within the usual three retries a clustering is made smaller in one way after the other, not in one way thrice."""
    asked = KILOSORT4.override(kilosort_params=params)
    failures, config, changed = [], asked, []
    for _ in range(3):
        failures.append(Failure(GPUOutOfMemoryError("full"), "first clustering"))
        retry = decide(config, "sort", failures, extent_um, asked=asked)
        assert retry is not None
        config = retry.config
        changed += retry.changed
    assert changed == expected


def test_what_is_free_is_not_passed_over():
    """A step that lacked memory of the GPU and then of the host frees both before the result is changed."""
    config = KILOSORT4.override(kilosort_params={"clear_cache": True})
    shrunk = smaller(config, Shortage("host", "first clustering", 0.5))
    assert shrunk is not None
    assert shrunk.changed == {"arrays_on_disk": True}


def test_a_copy_that_takes_too_much_memory_is_made_by_fewer_processes():
    """A shortage while the recording is copied for the sorter is met with fewer processes: its spikes are the same."""
    retry = decide(KILOSORT4.override(n_jobs=4), "sort", [Failure(HostOutOfMemoryError("full"), "copy to binary")])
    assert retry is not None
    assert list(retry.changed) == ["n_jobs"]
