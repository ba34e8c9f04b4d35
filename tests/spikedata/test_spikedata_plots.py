"""Pictures: of the right numbers, labelled, on the axes given, and without a trace in matplotlib's settings."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from spikelab.spikedata import SpikeData, plots

LOCATIONS = np.array([(x, y) for y in (0.0, 20.0, 40.0) for x in (0.0, 20.0)])
SHAPE = -np.exp(-0.5 * ((np.arange(40) - 15) / 3.0) ** 2)
GRIDS = [plots.plot_unit_footprints, plots.plot_autocorrelograms, plots.plot_isi_histograms, plots.plot_amplitudes]
SINGLE = [plots.plot_raster, plots.plot_unit_locations]


def make(n_units=3):
    rng = np.random.default_rng(0)
    trains = [np.cumsum(rng.exponential(20.0, 50) + 3.0) for _ in range(n_units)]
    attributes = []
    for unit in range(n_units):
        reach = np.exp(-np.linalg.norm(LOCATIONS - LOCATIONS[unit % 6], axis=1) / 12.0)
        waveform, amplitudes = 100.0 * np.outer(reach, SHAPE), -100.0 + rng.normal(0, 5, 50)
        attributes.append(
            {"unit_id": f"u{unit}", "position": LOCATIONS[unit % 6] + 2.0, "amplitude": 50.0 + unit, "snr": 5.0 + unit,
             "avg_waveform": waveform, "spike_amplitudes": amplitudes}
        )  # fmt: skip
    metadata = {"fs_Hz": 20_000.0, "channel_locations": LOCATIONS}
    return SpikeData(trains, length=3000.0, neuron_attributes=attributes, metadata=metadata)


def draw(function, sd, **options):
    made = function(sd, **options)
    return made if isinstance(made, Figure) else made.figure


@pytest.mark.parametrize("function", [*GRIDS, *SINGLE])
def test_a_picture_leaves_nothing_behind(function, tmp_path):
    """Settings of matplotlib, pyplot's figures and the units are as before, and the figure can be saved."""
    import matplotlib.pyplot as plt

    sd, before = make(), dict(mpl.rcParams)
    figure = draw(function, sd)
    figure.savefig(tmp_path / "picture.png", dpi=40)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    assert sd == make()
    assert all(axis.get_xlabel().endswith(")") and axis.get_ylabel() for axis in figure.axes if axis.axison)
    assert getattr(sd, function.__name__)() is not None


@pytest.mark.parametrize("function", [*GRIDS, *SINGLE])
def test_axes_of_the_caller_are_drawn_on(function):
    """With ax= nothing else is made; a grid takes one axes for each unit, and another number is refused."""
    figure = Figure()
    if function in SINGLE:
        ax = figure.add_subplot()
        assert function(make(), ax=ax) is ax
        return
    axes = figure.subplots(1, 2)
    assert function(make(), [0, 2], ax=axes) is figure
    assert "u2" in axes[1].get_title(loc="left")
    assert function(make(), 1, ax=axes[0]) is figure
    with pytest.raises(ValueError, match="one axes for each of the 3 units, got 2"):
        function(make(), ax=axes)


@pytest.mark.parametrize("function", [*GRIDS, *SINGLE])
def test_nothing_and_very_much_can_be_drawn(function):
    """No units, silent units and more units than fit each give a picture."""
    draw(function, make().subset([])).draw_without_rendering()
    silent = make().subtime(0.0, 1.0)
    assert silent.times.size == 0
    draw(function, silent).draw_without_rendering()
    many = draw(function, make(40))
    if function in GRIDS:
        assert sum(axis.axison for axis in many.axes) == 36
        assert "first 36 of 40 units" in many.get_suptitle()


def test_a_footprint_draws_the_channels_above_the_threshold():
    """Waveforms lie where their channels are, the largest one highlighted and the weak ones left out."""
    sd = make()
    (ax,) = sd.plot_unit_footprints(0, min_ptp_frac=0.1).axes
    (highlighted,) = [line for line in ax.lines if to_hex(line.get_color()) == "#d55e00"]
    others = [line for line in ax.lines if to_hex(line.get_color()) == "#0072b2"]
    ptp_uV = np.ptp(sd.neuron_attributes[0]["avg_waveform"], axis=1)
    assert len(others) == np.count_nonzero(ptp_uV >= 10.0) - 1
    assert abs(np.mean(highlighted.get_xdata())) < 1e-9
    assert highlighted.get_ydata()[0] == pytest.approx(0.0, abs=0.5)
    assert np.ptp(highlighted.get_ydata()) == pytest.approx(26.0)
    assert ax.get_aspect() == 1.0
    assert ax.get_title(loc="left") == "unit u0, ch. 0, 100 µV"
    assert len(sd.plot_unit_footprints(0, min_ptp_uV=1000.0).axes[0].lines) == 3  # channels and two scale bars
    stored = [{"template_full": entries["avg_waveform"].T} for entries in sd.neuron_attributes]
    assert len(sd.replace(neuron_attributes=stored).plot_unit_footprints(0).axes[0].lines) == len(ax.lines)


def test_rasters_have_every_spike_on_the_row_of_its_unit():
    """Times in s, one row a unit, named; a part of the recording, and other units in another order."""
    sd = make()
    ax = sd.plot_raster([2, 0], start_ms=500.0, end_ms=900.0)
    times_s, rows = ax.lines[0].get_data()
    expected = [[time / 1000.0 for time in sd.train[unit] if 500.0 <= time < 900.0] for unit in (2, 0)]
    assert [sorted(times_s[rows == row]) for row in (0, 1)] == expected
    assert [label.get_text() for label in ax.get_yticklabels()] == ["u2", "u0"]
    assert ax.get_xlim() == (0.5, 0.9)
    crowd = SpikeData([np.linspace(0, 1000.0, 450_000)], length=1000.0)
    assert crowd.plot_raster().lines[0].get_xdata().size == 150_000
    assert crowd.plot_raster().get_title(loc="left") == "one of 3 spikes"


def test_autocorrelograms_and_intervals_count_right():
    """Bars are those of all pairs of spikes, and the line stands at the refractory period."""
    train = np.sort(np.random.default_rng(1).uniform(0, 2000.0, 200))
    sd = SpikeData([train], length=2000.0)
    bars = sd.plot_autocorrelograms(window_ms=20.0, bin_ms=2.0).axes[0].patches
    gaps = (train[None] - train[:, None])[~np.eye(200, dtype=bool)]
    counts = np.histogram(gaps, np.arange(-20.0, 21.0, 2.0))[0]
    np.testing.assert_allclose([bar.get_height() for bar in bars], counts / 200 / 0.002)
    ax = sd.plot_isi_histograms(threshold_ms=2.5, max_ms=10.0, bin_ms=1.0).axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == np.histogram(np.diff(train), np.arange(11.0))[0].tolist()
    assert list(ax.lines[0].get_xdata()) == [2.5, 2.5]
    share = 100 * np.count_nonzero(np.diff(train) < 2.5) / 200
    assert f"{share:.2g} % < 2.5 ms" in ax.get_title(loc="left")


def test_locations_show_units_by_size_and_colour():
    """Units are at their positions, beside the channels, coloured by an attribute with a scale."""
    sd = make()
    ax = sd.plot_unit_locations(color_by="snr")
    (points,) = ax.collections
    np.testing.assert_allclose(points.get_offsets(), sd.unit_locations)
    assert points.get_array().tolist() == [5.0, 6.0, 7.0]
    assert [text.get_text() for text in ax.texts] == ["u0", "u1", "u2"]
    assert len(ax.figure.axes) == 2


def test_a_probe_of_one_column_has_a_width():
    """Units and channels in one column are drawn in an area, not on a line."""
    column = [[0.0, 50.0 * k] for k in range(8)]
    sd = SpikeData([[1.0]], neuron_attributes=[{"position": (0.0, 300.0)}], metadata={"channel_locations": column})
    ax = sd.plot_unit_locations()
    assert ax.get_xlim() == (-30.0, 30.0)
    assert ax.get_ylim() == (-42.0, 392.0)


def test_the_funnel_shows_what_each_criterion_left():
    """From results and from a history of several stages: what is left in order, ending at the units that stayed."""
    sd = make()
    once, first = sd.curate(metrics={"snr": (">=", 5.5)})
    twice, second = once.curate(metrics={"snr": ("<", 6.5)}, min_spikes=1)
    ax = plots.plot_curation_funnel(second)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["found", "spike count", "snr"]
    assert [text.get_text().split() for text in ax.texts] == [["2"], ["2"], ["1", "(-1)"]]
    from spikelab.curation import chain_histories

    history = chain_histories(
        sd.build_curation_history(sd, once, first), sd.build_curation_history(once, twice, second)
    )
    ax = plots.plot_curation_funnel(history, ax=Figure().add_subplot())
    assert [text.get_text().split()[0] for text in ax.texts] == ["3", "2", "2", "1"]
    assert [text.get_text() for text in plots.plot_curation_funnel({}).texts] == [" 0"]


@pytest.mark.parametrize(
    "function, part, words",
    [
        (plots.plot_unit_footprints, {"metadata": {}}, r"channel_locations.*replace\(metadata"),
        (plots.plot_unit_footprints, {"neuron_attributes": None}, r"unit 0 must have .*'avg_waveform'.*\(6, samples\)"),
        (plots.plot_unit_footprints, {"metadata": {"channel_locations": LOCATIONS[:2]}}, r"unit u0 .*\(2, samples\)"),
        (plots.plot_amplitudes, {"neuron_attributes": None}, "unit 0 must have .*'spike_amplitudes'.*found none"),
        (plots.plot_unit_locations, {"neuron_attributes": None}, "no unit has a place.*'position'"),
    ],
)
def test_what_is_missing_is_named(function, part, words):
    """Unit, field and remedy."""
    with pytest.raises(ValueError, match=words):
        function(make().replace(**part))


def test_odd_settings_are_named():
    """Bins and thresholds that make no sense raise a ValueError."""
    with pytest.raises(ValueError, match="at most the window"):
        make().plot_autocorrelograms(window_ms=1.0, bin_ms=2.0)
    with pytest.raises(ValueError, match="longer than 0"):
        make().plot_isi_histograms(bin_ms=0.0)
    with pytest.raises(ValueError, match="min_ptp_frac must be zero or more"):
        make().plot_unit_footprints(min_ptp_frac=-1.0)
