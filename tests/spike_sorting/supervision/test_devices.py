"""GPUs that a batch no longer uses."""

from __future__ import annotations

import pytest

from spikelab.spike_sorting._exceptions import GpuLostError, UnkillableProcessError
from spikelab.spike_sorting.supervision.devices import Devices


def test_a_gpu_that_was_set_aside_is_refused_by_name():
    """P2: whoever wants to use it is told why it is not used, in the kind of error that it was set aside for."""
    devices = Devices()
    devices.check(0)
    devices.set_aside(1, UnkillableProcessError("process 7 survives SIGKILL", pid=7, wchan="nv_wait"))
    devices.set_aside(1, GpuLostError("gone", device_index=1))
    devices.check(0)
    with pytest.raises(UnkillableProcessError, match=r"GPU 1 is not used any more.*process 7") as raised:
        devices.check(1)
    assert raised.value.pid == 7
