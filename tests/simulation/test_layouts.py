"""Layouts have the contacts, distances and shanks that their names promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from spikelab.simulation import LAYOUTS, make_probe


def nearest_um(probe):
    return pdist(probe.contact_positions).min()


@pytest.mark.parametrize(
    "layout, n_channels, distance_um",
    [
        ("mea", 64, 17.5),
        ("neuropixels1", 96, np.hypot(16, 20)),
        ("neuropixels2", 96, 15.0),
        ("linear", 32, 50.0),
        ("tetrode", 4, 25.0),
    ],
)
def test_default_count_and_nearest_distance(layout, n_channels, distance_um):
    """Each layout has its default number of contacts and its nearest distance."""
    probe = make_probe(layout)
    assert probe.get_contact_count() == n_channels
    assert nearest_um(probe) == pytest.approx(distance_um)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_probe_is_wired_in_um(layout):
    """Contact i is channel i, positions are two-dimensional and in um."""
    probe = make_probe(layout)
    n_channels = probe.get_contact_count()
    assert probe.si_units == "um"
    assert probe.ndim == 2
    np.testing.assert_array_equal(probe.device_channel_indices, np.arange(n_channels))
    assert list(probe.contact_ids) == [str(i) for i in range(n_channels)]


def test_there_are_five_layouts():
    """The names of the layouts are those of the documentation."""
    assert set(LAYOUTS) == {"mea", "neuropixels1", "neuropixels2", "linear", "tetrode"}
    assert all(LAYOUTS[name].name == name and LAYOUTS[name].description for name in LAYOUTS)


def test_mea_is_a_square_by_default():
    """64 contacts of the grid are 8 x 8, spanning 7 pitches each way."""
    np.testing.assert_allclose(np.ptp(make_probe("mea").contact_positions, axis=0), 7 * 17.5)


def test_mea_takes_the_most_square_rectangle():
    """32 contacts of the grid are 4 rows of 8."""
    np.testing.assert_allclose(np.ptp(make_probe("mea", 32).contact_positions, axis=0), (7 * 17.5, 3 * 17.5))


def test_neuropixels1_is_staggered():
    """Rows of Neuropixels 1 alternate between 16/48 and 0/32 um, every 20 um."""
    expected_um = [(16, 0), (48, 0), (0, 20), (32, 20), (16, 40), (48, 40)]
    np.testing.assert_allclose(make_probe("neuropixels1", 6).contact_positions, expected_um)


def test_neuropixels2_has_four_shanks():
    """Neuropixels 2 has four shanks of 24 contacts, 250 um apart, two columns of 32 um each."""
    probe = make_probe("neuropixels2")
    shanks, counts = np.unique(probe.shank_ids, return_counts=True)
    assert list(shanks) == ["0", "1", "2", "3"]
    assert list(counts) == [24] * 4
    for number, shank in enumerate(shanks):
        x_um = probe.contact_positions[probe.shank_ids == shank, 0]
        assert set(x_um) == {250.0 * number, 250.0 * number + 32.0}


def test_single_shank_has_no_shank_ids():
    """A layout with one shank does not invent shank ids."""
    assert make_probe("linear").shank_ids is None


def test_unknown_layout_lists_the_names():
    """An unknown layout is refused with the names that exist."""
    with pytest.raises(ValueError, match=r"'hexagon'.*mea, neuropixels1, neuropixels2, linear, tetrode"):
        make_probe("hexagon")


@pytest.mark.parametrize(
    "layout, n_channels",
    [
        ("mea", 7),
        ("mea", 2),
        ("neuropixels1", 5),
        ("neuropixels2", 12),
        ("tetrode", 8),
        ("linear", 0),
        ("mea", -4),
    ],
)
def test_impossible_counts_are_refused(layout, n_channels):
    """A number of contacts that the layout cannot have is refused, naming both."""
    with pytest.raises(ValueError, match=f"{layout}.*{n_channels}"):
        make_probe(layout, n_channels)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(2, 12), columns=st.integers(2, 12))
def test_every_rectangle_is_a_grid(rows, columns):
    """Any n x m contacts fill a rectangle of the pitch without a gap."""
    positions_um = make_probe("mea", rows * columns).contact_positions
    n_sites = np.prod(np.ptp(positions_um, axis=0) / 17.5 + 1)
    assert n_sites == pytest.approx(rows * columns)
    assert len(np.unique(positions_um, axis=0)) == rows * columns


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40))
def test_shanks_are_equally_full(rows):
    """Whatever the number of rows, the four shanks have equally many contacts."""
    probe = make_probe("neuropixels2", 8 * rows)
    assert list(np.unique(probe.shank_ids, return_counts=True)[1]) == [2 * rows] * 4
