"""A recording with stimulation through the pipeline: cleaned, sorted, and aligned to its events."""

import json
import re
import shutil

import numpy as np
import pytest
from spikeinterface.core import NumpyRecording
from support import FAST, REPOSITORY

from spikelab import SpikeData
from spikelab.curation import curate_by_isi_violations
from spikelab.simulation import add_stim_artifacts, simulate_recording, write_maxwell
from spikelab.spike_sorting import SortRunReport, sort_recording, sort_stim_recording
from spikelab.spike_sorting import stim_sorting as documented
from spikelab.spike_sorting._exceptions import NoGoodChannelsError
from spikelab.spike_sorting.config import KILOSORT4, StimulationConfig
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.report.stimulation_plots import artifact_figures
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.stages.load import build_recording
from spikelab.spike_sorting.stages.load import settings as load_settings
from spikelab.spike_sorting.stages.stimulation import stimulation_metadata, with_stimulation
from spikelab.stim_sorting import (
    align_to_events,
    peri_stimulus_histogram,
    plot_stim_artifacts,
    preprocess_stim_artifacts,
)
from spikelab.stim_sorting._plan import Removal
from spikelab.stim_sorting.pictures import picture_data
from spikelab.stim_sorting.recentering import Recentering

pytestmark = pytest.mark.timeout(400)

TIMES_MS = 300.0 + 400.0 * np.arange(23)
ARTIFACT = {"electrode": 4, "recovery_ms": 3.0, "tail_tau_ms": 1.5, "rail_uV": 1_500.0, "offset_ms": -1.0}
MAXWELL = {"dtype": "uint16", "gain_uV": 3.147, "offset_uV": -512 * 3.147}


@pytest.fixture(scope="module")
def stimulated(tmp_path_factory):
    """A Maxwell file with artifacts, a table of its logged times, and the truth."""
    folder = tmp_path_factory.mktemp("stimulated")
    clean = simulate_recording(
        "linear", n_channels=12, duration_s=10, n_units=6, rate_Hz=(6, 12), peak_uV=(110, 110), seed=5, **MAXWELL
    )
    truth = add_stim_artifacts(clean.recording, TIMES_MS, **ARTIFACT)
    write_maxwell(folder / "stimulated.raw.h5", truth.recording)
    rows = "\n".join(f"{number},{time / 1000}" for number, time in enumerate(truth.logged_times_ms))
    (folder / "pulses.csv").write_text(f"pulse,stim_time_s\n{rows}\n")
    return folder, clean, truth


@pytest.fixture(scope="module")
def done(stimulated):
    """What sort_stim_recording returns, and its report."""
    pytest.importorskip("kilosort")
    folder, _, _ = stimulated
    report = SortRunReport()
    result = sort_stim_recording(
        folder / "stimulated.raw.h5", folder / "pulses.csv", 50, 150, peak_mode="down_edge", out_report=report, **FAST
    )
    return result, report


def test_a_recording_with_stimulation_is_sorted(done, stimulated):
    """True units are found, none of them fires at the artifacts, and the metadata have the true times."""
    _, clean, truth = stimulated
    sd = done[0].spikedata
    assert sd.N >= 3
    np.testing.assert_allclose(sd.metadata["stim_times_ms"], truth.times_ms, atol=0.1)
    assert len(sd.metadata["blanked_ms"]) == TIMES_MS.size
    for begin, end in sd.metadata["blanked_ms"]:
        assert sum(np.count_nonzero((train > begin + 0.5) & (train < end - 0.5)) for train in sd.train) == 0
    true_ms = [clean.sorting.get_unit_spike_train(unit) / 20 for unit in clean.sorting.unit_ids]
    for train in sd.train:
        hits = [np.mean(np.abs(times[:, None] - train).min(axis=0) < 0.5) for times in true_ms]
        assert max(hits) > 0.85


def test_rates_count_the_time_in_which_spikes_are_seen(done):
    """Rates are over the length without the blanked periods, in the SpikeData and in the units' attributes."""
    sd = done[0].spikedata
    blanked_ms = np.diff(sd.metadata["blanked_ms"], axis=1).sum()
    assert 23 * 3 < blanked_ms < 23 * 8
    assert sd.observed_ms == pytest.approx(sd.length - blanked_ms)
    np.testing.assert_allclose(sd.rates(), [train.size / sd.observed_ms * 1000 for train in sd.train])
    np.testing.assert_allclose([unit["firing_rate"] for unit in sd.neuron_attributes], sd.rates())


def test_results_are_aligned_to_the_events(done):
    """One SpikeData per event, in times relative to it, with its own blanked period; the summary tells offsets."""
    result, _ = done
    assert len(result.aligned) == TIMES_MS.size
    for trial in result.aligned:
        assert (trial.start_time, trial.end_time) == pytest.approx((-50.0, 150.0))
        ((begin, end),) = trial.metadata["blanked_ms"]
        assert begin < 0.1 < end < 10
    assert sum(train.size for trial in result.aligned for train in trial.train) > 0
    np.testing.assert_allclose(result.summary["offsets_ms"], 1.0, atol=0.1)


def test_the_run_says_what_it_did(done, stimulated):
    """The folder has the record of the stimulation, and the same call again finds the finished sort."""
    folder, _, _ = stimulated
    (record,) = done[1].records
    run = RunFolder(folder / "inter_kilosort4" / "stimulated.raw.h5", folder / "sorted_kilosort4" / "stimulated.raw.h5")
    assert json.loads(run.stimulation_record.read_text())["saturated_channels"] == []
    page = run.report_html.read_text()
    for title in ("Answers to stimulation", "Artifacts before and after", "Offsets of the logged times"):
        assert title in page
    assert all("stim_latency_ms" in unit for unit in done[0].spikedata.neuron_attributes)
    again = SortRunReport()
    options = {"stim_times_ms": str(folder / "pulses.csv"), "stim_peak_mode": "down_edge", **FAST}
    (sd,) = sort_recording([folder / "stimulated.raw.h5"], out_report=again, **options)
    assert sd.N == done[0].spikedata.N
    assert record.succeeded


def test_times_are_those_of_the_whole_recording(stimulated, tmp_path):
    """With a part of the recording chosen, events and blanked periods move with it, and others are left out."""
    folder, _, truth = stimulated
    config = KILOSORT4.override(
        stim_times_ms=truth.logged_times_ms, stim_peak_mode="down_edge", start_time_s=2.0, end_time_s=4.0
    )
    (job,) = plan([folder / "stimulated.raw.h5"], config, results_folders=[tmp_path / "a"])
    recording, _, warnings = build_recording(job, tmp_path / "stimulation.json")
    record = json.loads((tmp_path / "stimulation.json").read_text())
    inside = truth.times_ms[(truth.times_ms > 2_000) & (truth.times_ms < 4_000)] - 2_000
    np.testing.assert_allclose(record["sorted_times_ms"], inside, atol=0.1)
    assert len(record["sorted_blanked_ms"]) == inside.size
    assert recording.get_num_samples() == 40_000
    assert np.abs(recording.get_traces(return_in_uV=True)).max() < 400
    assert {warning.code for warning in warnings} == {"recording-short"}


def test_no_times_at_all_are_told(stimulated, tmp_path):
    """An empty list of times leaves the recording as it is, and says so in the report, unlike no setting at all."""
    config = KILOSORT4.override(stim_times_ms=[])
    (job,) = plan([stimulated[0] / "stimulated.raw.h5"], config, results_folders=[tmp_path / "a"])
    recording, _, warnings = build_recording(job, tmp_path / "stimulation.json")
    assert any("no stimulation times" in warning.message for warning in warnings if warning.code == "stimulation")
    assert np.abs(recording.get_traces(return_in_uV=True)).max() > 1_000
    sd = SpikeData([[5.0, 60.0]], length=100.0, metadata=stimulation_metadata(tmp_path / "stimulation.json"))
    assert np.isnan(with_stimulation(sd).neuron_attributes[0]["stim_latency_ms"])
    assert (sd.metadata["stim_times_ms"], sd.metadata["stimulation"]["logged_times_ms"]) == ([], [])
    assert load_settings(config) != load_settings(KILOSORT4)


def test_events_at_the_edges_alone_can_be_drawn():
    """Where no event has a whole window around it, pictures show the rest: saturation and offsets."""
    clean = simulate_recording("tetrode", duration_s=0.5, n_units=0).recording
    stimulated = add_stim_artifacts(clean, [1.0, 490.0]).recording
    cleaned, summary = preprocess_stim_artifacts(stimulated, [1.0, 490.0], recenter=False)
    assert len(plot_stim_artifacts(stimulated, cleaned, summary).axes) >= 6
    assert len(list(artifact_figures(picture_data(stimulated, cleaned, summary)))) == 4


def test_what_is_odd_about_the_times_is_in_the_report(stimulated, tmp_path):
    """Warnings about events become remarks of the run, each once; an event that is logged twice counts once."""
    folder, _, truth = stimulated
    times_ms = [*truth.logged_times_ms, truth.logged_times_ms[2], 50_000.0]
    config = KILOSORT4.override(stim_times_ms=times_ms)
    (job,) = plan([folder / "stimulated.raw.h5"], config, results_folders=[tmp_path / "a"])
    _, _, warnings = build_recording(job, tmp_path / "stimulation.json")
    assert "stimulation" in {warning.code for warning in warnings}
    for said in ("outside of the recording", "are there twice"):
        assert sum(said in warning.message for warning in warnings) == 1
    record = json.loads((tmp_path / "stimulation.json").read_text())
    assert (len(record["times_ms"]), len(record["sorted_times_ms"])) == (25, 23)


@pytest.mark.parametrize(
    "changed,said",
    [
        ({"pre_ms": -50}, "pre_ms and post_ms must be finite and at least 0"),
        ({"post_ms": float("inf")}, "must be finite and at least 0, and one of them above 0"),
        ({"recording": "folder"}, "takes one recording, and .* is 2"),
        ({"stim_times_ms": None}, "stim_times_ms must be times"),
        ({"stim_times_ms": [5.0, float("-inf")]}, "stim_times_ms must be finite"),
        ({"stim_times_ms": [5.0, float("nan")]}, "stim_times_ms must be a number, got nan"),
        ({"on_error": "continue"}, "has no on_error"),
        ({"max_parallel": 2}, "has no max_parallel"),
        ({"peak_mode": "abs_max", "stim_peak_mode": "down_edge"}, "stim_peak_mode are one setting"),
        ({"speed": 3}, "Unknown parameter 'speed'"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_runs(changed, said, stimulated, tmp_path):
    """Whatever is wrong with the window, the recording or a setting is told at once, and no folder is made."""
    source = stimulated[0] / "stimulated.raw.h5"
    for name in ("one.raw.h5", "two.raw.h5"):
        shutil.copy(source, tmp_path / name)
    call = {"recording": tmp_path / "one.raw.h5", "stim_times_ms": [500.0], "pre_ms": 50, "post_ms": 150, **changed}
    if call["recording"] == "folder":
        call["recording"] = tmp_path
    with pytest.raises((ValueError, TypeError), match=said):
        sort_stim_recording(**call, **FAST)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.raw.h5", "two.raw.h5"]


@pytest.mark.parametrize("lost", [[2, 7], range(8)], ids=["two channels", "all"])
def test_channels_without_numbers_leave_the_others_alone(lost, tmp_path):
    """Channels of NaN are left out by name, after the others were cleaned; without others, it is said."""
    clean = simulate_recording("linear", n_channels=8, duration_s=6, n_units=2, seed=4).recording
    truth = add_stim_artifacts(clean, TIMES_MS[:12], **ARTIFACT)
    traces = truth.recording.get_traces().astype(np.float32)
    traces[:, lost] = np.nan
    spoilt = NumpyRecording([traces], clean.sampling_frequency)
    spoilt.set_channel_gains(clean.get_channel_gains())
    spoilt.set_channel_offsets(0.0)
    spoilt.set_probe(clean.get_probe())
    spoilt.save(folder=tmp_path / "spoilt", verbose=False, progress_bar=False)
    config = KILOSORT4.override(stim_times_ms=truth.logged_times_ms, stim_peak_mode="down_edge")
    (job,) = plan([tmp_path / "spoilt"], config, results_folders=[tmp_path / "a"])
    if len(lost) == 8:
        with pytest.raises(NoGoodChannelsError):
            build_recording(job, tmp_path / "stimulation.json")
        return
    recording, _, warnings = build_recording(job, tmp_path / "stimulation.json")
    record = json.loads((tmp_path / "stimulation.json").read_text())
    np.testing.assert_allclose(record["times_ms"], truth.times_ms, atol=0.1)
    assert record["saturated_channels"] == ["2", "7"]
    assert {"2", "7"}.isdisjoint(record["pictures"]["channels"])
    assert sorted(warning.code for warning in warnings) == ["channels-not-finite", "stimulation"]
    assert recording.channel_ids.tolist() == [0, 1, 3, 4, 5, 6]
    assert np.abs(recording.get_traces(return_in_uV=True)).max() < 400


def test_settings_are_the_options_of_the_functions():
    """Each option of recentering and removal is a setting with the same default."""
    settings = vars(StimulationConfig())
    assert settings == {"recenter": True, **vars(Removal()), **vars(Recentering())}


def test_windows_and_joints_move_blanked_periods():
    """Cut and concatenated SpikeData keep what is blanked and the events, at their new times."""
    sd = SpikeData([[5.0, 60.0]], length=100.0, metadata={"blanked_ms": [(20.0, 30.0)], "stim_times_ms": [21.0]})
    assert sd.rates()[0] == pytest.approx(2 / 90 * 1000)
    cut = sd.subtime(25.0, 65.0, shift_to=0.0)
    assert cut.metadata["blanked_ms"] == [(0.0, 5.0)]
    assert cut.metadata["stim_times_ms"] == []
    joined = sd.concatenate(sd)
    assert [tuple(period) for period in joined.metadata["blanked_ms"]] == [(20.0, 30.0), (120.0, 130.0)]
    assert joined.metadata["stim_times_ms"] == [21.0, 121.0]
    at_joint = joined.replace(metadata={**joined.metadata, "stim_times_ms": [0.0, 100.0, 200.0]})
    assert [epoch.metadata["stim_times_ms"] for epoch in at_joint.split_epochs()] == [[0.0], [0.0, 100.0]]
    assert joined.observed_ms == 180.0


def test_violations_count_the_time_in_which_spikes_are_seen():
    """The ISI criterion by Hill is over the length without the blanked periods."""
    seen, whole = (
        SpikeData([[5.0, 6.0, 60.0]], length=100.0, metadata=metadata)
        for metadata in ({"blanked_ms": [(20.0, 30.0)]}, {})
    )
    ratio_seen, ratio_whole = (curate_by_isi_violations(sd, method="hill")[1]["metric"][0] for sd in (seen, whole))
    assert ratio_seen == pytest.approx(0.9 * ratio_whole)
    assert ratio_whole > 0


def test_histogram_and_latency():
    """Rates are over the time seen, and latency is where a unit stands out after the event."""
    rng = np.random.default_rng(0)
    events = 100.0 + 100.0 * np.arange(200)
    answers = events + rng.normal(8.5, 0.3, 200)
    quiet = np.sort(rng.uniform(0, 20_100, 400))
    sd = SpikeData(
        [np.sort(np.concatenate([answers, quiet])), quiet],
        length=20_200.0,
        metadata={"blanked_ms": [(event - 0.2, event + 3.0) for event in events]},
    )
    psth = peri_stimulus_histogram(sd, events, pre_ms=20, post_ms=30)
    assert psth.latency_ms[0] == pytest.approx(8, abs=1)
    assert np.isnan(psth.latency_ms[1])
    blanked = (psth.centres_ms > 0) & (psth.centres_ms < 3)
    assert np.isnan(psth.rates_Hz[:, blanked]).all()
    assert np.nanmax(psth.rates_Hz[0]) > 400
    assert len(align_to_events(sd, events, 150, 50)) == 199


def test_what_was_not_recorded_is_not_seen():
    """Time before the start, after the end or beyond a joint lowers no rate, and its spikes are not counted."""
    train = np.arange(0.25, 120.0, 0.5)
    events = [3.0, 35.0, 118.0]
    sd = SpikeData([train], length=120.0, metadata={"rec_chunks_ms": [(0.0, 40.0), (40.0, 120.0)]})
    psth = peri_stimulus_histogram(sd, events, pre_ms=20, post_ms=20)
    np.testing.assert_allclose(psth.rates_Hz, 2_000.0)
    ends = SpikeData([[34.5, 45.0]], length=120.0, metadata=sd.metadata)
    assert np.nansum(peri_stimulus_histogram(ends, [35.0], pre_ms=20, post_ms=20).rates_Hz) == 1_000.0
    assert [len(align_to_events(one, [35.0], 5, 20)) for one in (sd, SpikeData([train], length=120.0))] == [0, 1]


def test_without_anything_seen_before_there_is_no_latency():
    """Where all time before the events is blanked, or there are no events, latency is not known: no warning either."""
    sd = SpikeData([np.arange(0.5, 100.0)], length=100.0, metadata={"blanked_ms": [(20.0, 50.0)]})
    before = peri_stimulus_histogram(sd, [50.0], pre_ms=20, post_ms=20)
    assert np.isnan(before.rates_Hz[0, :20]).all()
    np.testing.assert_allclose(before.rates_Hz[0, 20:], 1_000.0)
    assert np.isnan([*before.latency_ms, *peri_stimulus_histogram(sd, []).latency_ms]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bin_ms": 0},
        {"bin_ms": 200},
        {"pre_ms": 20, "post_ms": 20, "bin_ms": 40},
        {"pre_ms": -1},
        {"pre_ms": 0, "post_ms": 0},
    ],
)
def test_a_histogram_needs_a_window_and_bins(wrong):
    """A window or a bin without a length is an error that says so."""
    with pytest.raises(ValueError, match=r"must be (above|finite)"):
        peri_stimulus_histogram(SpikeData([[1.0]], length=100.0), [50.0], **wrong)


def test_the_steps_of_the_page_run_as_printed(tmp_path, monkeypatch, capsys):
    """The example of single steps prints what it shows, and leaves a picture and a cleaned recording."""
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / "docs" / "stimulation.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "savefig" in block)
    (printed,) = re.findall(r"print\(summary\)  # (.*)", block)
    exec(block, {})
    assert capsys.readouterr().out.splitlines()[0] == printed
    assert (tmp_path / "artifacts.png").stat().st_size > 10_000
    assert (tmp_path / "cleaned").is_dir()


def test_the_documented_package_has_all_of_it():
    """The guide's names are found in spikelab.spike_sorting.stim_sorting, as the same objects."""
    import spikelab.stim_sorting

    assert documented.sort_stim_recording is sort_stim_recording
    for name in ("recenter_stim_times", "remove_stim_artifacts", "preprocess_stim_artifacts"):
        assert getattr(documented, name) is getattr(spikelab.stim_sorting, name)
