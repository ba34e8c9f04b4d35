"""Each suspicion shows on a sort that has the fault, and on none that has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikelab.simulation import GroundTruth, simulate_recording
from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.remarks import CODES
from spikelab.spike_sorting.samples.glance import glance_at
from spikelab.spike_sorting.suspicions import signal, trains, units
from spikelab.spike_sorting.suspicions.evidence import Crossings, Evidence
from spikelab.spike_sorting.suspicions.registry import CHECKS, suspicions_of
from spikelab.spike_sorting.suspicions.signal import crossings_in
from spikelab.spikedata import SpikeData

FS_HZ = 20_000.0
BATCH = 20_000


def evidence_of_truth(truth: GroundTruth, **options: Any) -> Evidence:
    """Return a simulated recording sorted by its truth, as the stages would leave it."""
    recording = truth.recording
    places = recording.get_channel_locations()
    fs_Hz = recording.sampling_frequency
    attributes = []
    for unit, template in enumerate(np.asarray(truth.templates_uV, np.float32)):
        channel = int(template.min(axis=0).argmin())
        attributes.append(
            {
                "unit_id": unit,
                "channel": channel,
                "x": float(places[channel, 0]),
                "y": float(places[channel, 1]),
                "position": np.asarray(truth.unit_locations_um[unit, :2], float),
                "amplitude": float(truth.peak_uV[unit]),
                "template_full": template,
                "avg_waveform": np.ascontiguousarray(template.T),
                "ks_label": "good" if unit % 2 else "mua",
            }
        )
    times = [truth.sorting.get_unit_spike_train(unit) / fs_Hz * 1000 for unit in truth.sorting.unit_ids]
    sd = SpikeData(
        times,
        length=recording.get_num_samples() / fs_Hz * 1000,
        neuron_attributes=attributes,
        metadata={"fs_Hz": fs_Hz, "channel_locations": places},
    )
    crossings = crossings_in(glance_at(filtered(recording, KILOSORT4)))
    defaults = {"found": sd, "kept": sd, "n_channels": len(places), "batch_samples": BATCH, "crossings": crossings}
    return Evidence(**{**defaults, **options})


@pytest.fixture(scope="module", params=["mea", "linear"])
def sound(request: pytest.FixtureRequest) -> Evidence:
    """A sort that is right."""
    truth = simulate_recording(request.param, n_channels=36, duration_s=60, n_units=12, rate_Hz=(5, 9), seed=4)
    return evidence_of_truth(truth)


def with_trains(evidence: Evidence, change: Callable[[np.ndarray], np.ndarray]) -> Evidence:
    sd = evidence.found
    changed = sd.replace(train=[change(train) for train in sd.train])
    return replace(evidence, found=changed, kept=changed)


def with_attributes(evidence: Evidence, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Evidence:
    sd = evidence.found
    changed = sd.replace(neuron_attributes=[{**unit, **change(unit)} for unit in sd.neuron_attributes])
    return replace(evidence, found=changed, kept=changed)


def test_a_sound_sort_is_not_suspicious(sound: Evidence) -> None:
    """A recording sorted by its truth raises no suspicion, and most of its crossings are explained."""
    assert suspicions_of(sound) == []
    assert sound.crossings is not None
    assert sound.crossings.time_ms.size > 100


# --------------------------------------------------------------------------------------------------- faults


def spikes_left_out(evidence: Evidence) -> Evidence:
    """Forget three quarters of the units."""
    few = evidence.found[: evidence.found.N // 4]
    return replace(evidence, found=few, kept=few)


def holes_at_borders(evidence: Evidence) -> Evidence:
    """Lose the spikes around the borders of batches, as Kilosort2 did."""

    def without(train: np.ndarray) -> np.ndarray:
        phase = train % 1000
        return train[(phase > 3) & (phase < 997)]

    return with_trains(evidence, without)


def heaps_at_borders(evidence: Evidence) -> Evidence:
    """Find spikes twice where batches meet."""
    borders = np.arange(1000.0, 59_000.0, 1000.0)
    rng = np.random.default_rng(0)
    return with_trains(evidence, lambda train: np.sort(np.concatenate([train, borders + rng.uniform(-2, 2, 58)])))


def silence(evidence: Evidence) -> Evidence:
    return with_trains(evidence, lambda train: train[(train < 20_000) | (train > 33_000)])


def swapped_channels(evidence: Evidence) -> Evidence:
    """Attach a probe whose channels are in another order than those of the file."""
    places = evidence.found.metadata["channel_locations"]
    shuffled = places[np.random.default_rng(1).permutation(len(places))]
    sd = evidence.found.replace(metadata={**evidence.found.metadata, "channel_locations": shuffled})
    return replace(evidence, found=sd, kept=sd)


def far_positions(evidence: Evidence) -> Evidence:
    return with_attributes(evidence, lambda unit: {"position": unit["position"] + 400})


def sizes(factor: float) -> Callable[[Evidence], Evidence]:
    return lambda evidence: with_attributes(evidence, lambda unit: {"amplitude": factor * unit["amplitude"]})


def twins(evidence: Evidence) -> Evidence:
    """Split each unit in two."""
    sd = evidence.found
    rng = np.random.default_rng(5)

    def again(unit: dict[str, Any]) -> dict[str, Any]:
        waveform = unit["avg_waveform"]
        return {
            **unit,
            "unit_id": 100 + unit["unit_id"],
            "avg_waveform": np.roll(waveform, 1, axis=1) + rng.normal(0, 1, waveform.shape),
        }

    doubled = SpikeData(
        [*(train[::2] for train in sd.train), *(train[1::2] for train in sd.train)],
        length=sd.length,
        neuron_attributes=[*sd.neuron_attributes, *map(again, sd.neuron_attributes)],
        metadata=sd.metadata,
    )
    return replace(evidence, found=doubled, kept=doubled)


def many_units(evidence: Evidence) -> Evidence:
    return replace(evidence, n_channels=0)


def few_units(evidence: Evidence) -> Evidence:
    return replace(evidence, n_channels=100 * evidence.found.N + 1)


def all_mua(evidence: Evidence) -> Evidence:
    return with_attributes(evidence, lambda _unit: {"ks_label": "mua"})


def none_kept(evidence: Evidence) -> Evidence:
    return replace(evidence, kept=evidence.found[[]])


FAULTS: list[tuple[Callable[[Evidence], Evidence], str]] = [
    (spikes_left_out, "crossings-unexplained"),
    (holes_at_borders, "batch-borders"),
    (heaps_at_borders, "batch-borders"),
    (silence, "silent-stretch"),
    (swapped_channels, "location"),
    (far_positions, "location"),
    (sizes(0.05), "amplitudes"),
    (sizes(30.0), "amplitudes"),
    (twins, "alike"),
    (many_units, "units-per-channel"),
    (few_units, "units-per-channel"),
    (all_mua, "all-mua"),
    (none_kept, "none-kept"),
]


@pytest.mark.parametrize("fault,code", FAULTS)
def test_a_fault_is_suspicious(sound: Evidence, fault: Callable[[Evidence], Evidence], code: str) -> None:
    """A sort with one fault raises that suspicion, with a message and what to look at."""
    found = suspicions_of(fault(sound))
    assert code in [one.code for one in found]
    # A probe in another order takes the units away from the crossings that are theirs, too.
    assert {one.code for one in found} <= {code, *({"crossings-unexplained"} if fault is swapped_channels else ())}
    assert all(one.message and one.advice for one in found)


def test_channels_close_together_are_no_swapped_ones() -> None:
    """On a patch that is hardly wider than a footprint, units are loud all over it, and nothing is odd about that."""
    truth = simulate_recording("mea", n_channels=16, duration_s=12, n_units=5, peak_uV=(90, 200), seed=8)
    assert units.location(evidence_of_truth(truth)) is None


def test_every_suspicion_of_the_table_has_a_fault() -> None:
    """No code of a suspicion is without a check, and no check without a fault that shows it."""
    codes = {code for code, known in CODES.items() if known.kind == "suspicion"}
    assert {code for _, code in FAULTS} == codes
    assert len(CHECKS) == len(codes)


# ---------------------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize("n_units", [0, 1, 2])
def test_little_is_judged_in_peace(n_units: int) -> None:
    """Sorts with next to no units, spikes and attributes, of other sorters too, are no reason to fail."""
    sd = SpikeData([[1.0]] * n_units, length=100.0, neuron_attributes=[{}] * n_units)
    nothing = Crossings(np.empty(0), np.empty(0, np.int64), 1.0)
    assert suspicions_of(Evidence(sd, sd, 4)) == []
    assert suspicions_of(Evidence(sd, sd, 4, BATCH, gain_is_known=False, crossings=nothing)) == []


def test_amplitudes_without_a_gain_say_nothing(sound: Evidence) -> None:
    """Where the file has no gain, no size is out of range."""
    assert units.amplitudes(replace(sizes(0.01)(sound), gain_is_known=False)) is None


def test_bursts_are_no_holes(sound: Evidence) -> None:
    """A culture that bursts, with pauses of seconds, shows neither silence nor borders."""
    rng = np.random.default_rng(3)
    starts = np.arange(500.0, 59_000, 4_000) + rng.uniform(0, 1500, 15)

    def bursts(_train: np.ndarray) -> np.ndarray:
        return np.sort(np.concatenate([start + rng.uniform(0, 500, 40) for start in starts]))

    bursting = with_trains(sound, bursts)
    assert (trains.silent_stretch(bursting), trains.batch_borders(bursting)) == (None, None)


def test_crossings_are_those_of_the_spikes(sound: Evidence) -> None:
    """Nearly all crossings of a recording with known truth are explained by it, and few by other times."""
    assert sound.crossings is not None
    homes = np.array([unit["channel"] for unit in sound.found.neuron_attributes])
    places = sound.places_um
    assert signal.explained_share(sound.found.train, homes, sound.crossings, places) > 0.9
    late = [train + 37.0 for train in sound.found.train]
    assert signal.explained_share(late, homes, sound.crossings, places) < 0.4
