"""To pynapple."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.spikedata import SpikeData

times = st.lists(st.integers(0, 800).map(lambda n: n / 8), max_size=10)


@settings(max_examples=25, deadline=None)
@given(st.lists(times, min_size=1, max_size=4), st.sampled_from([0.0, -250.0, 1000.0]))
def test_times_units_and_support(train, start_time):
    """Every spike is there in seconds, silent units too, and the support is the whole recording."""
    sd = SpikeData([[t + start_time for t in unit] for unit in train], length=100.0, start_time=start_time)
    group = sd.to_pynapple()
    assert list(group.keys()) == list(range(sd.N))
    for unit in range(sd.N):
        assert group[unit].t.tolist() == pytest.approx((sd.train[unit] / 1000.0).tolist())
    assert group.time_support.values.tolist() == [[start_time / 1000.0, (start_time + 100.0) / 1000.0]]


def test_ids_and_attributes_come_along():
    """Whole-numbered ids are keys, in pynapple's order; numbers and text become metadata of the right unit."""
    attributes = [{"unit_id": 7, "snr": 5.0, "rate": 1.0, "some": 1}, {"unit_id": 3, "snr": 2.0, "rate": 2.0}]
    group = SpikeData([[1.0], [2.0, 3.0]], length=10.0, neuron_attributes=attributes).to_pynapple()
    assert list(group.keys()) == [3, 7]
    assert group["snr"].to_dict() == {3: 2.0, 7: 5.0}
    named = SpikeData([[1.0]], length=10.0, neuron_attributes=[{"unit_id": "a"}]).to_pynapple()
    assert named["unit_id"].to_dict() == {0: "a"}


@pytest.mark.parametrize("sd", [SpikeData([], length=10.0), SpikeData([[]])])
def test_what_pynapple_cannot_hold_is_said(sd):
    """No units, or no length, is a ValueError that says which."""
    with pytest.raises(ValueError, match="needs units and a recording with a length"):
        sd.to_pynapple()
