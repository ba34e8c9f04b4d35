"""Merging of duplicates against SpikeInterface's auto_merge, on true units with duplicates and splits put in.

Each recording has true units. Six of them are injected a second time, shifted by up to 5 samples, three with half of
the spikes (SpikeInterface's ``inject_some_duplicate_units``), and six are split in two (``inject_some_split_units``).
Both sides get the same average waveforms and the same units. A pair of units counts as
found when both end in one unit. Run it from the repository: ``python benchmarks/merging.py``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from itertools import combinations
from typing import Any

from _machine import machine

RECORDINGS = [
    ("mea", 64, 40, 120, 11),
    ("mea", 64, 30, 240, 12),
    ("neuropixels1", 64, 40, 120, 14),
    ("neuropixels2", 64, 40, 120, 15),
]
"""Layout, channels, units, seconds, seed."""
THEIRS = ("similarity_correlograms", "x_contaminations", "temporal_splits", "feature_neighbors", "slay")
Pair = frozenset[Any]


def main() -> None:
    from spikeinterface import set_global_job_kwargs

    warnings.simplefilter("ignore")
    set_global_job_kwargs(n_jobs=1, progress_bar=False)
    print(f"{machine()}\n")
    counts: dict[str, list[int]] = {}
    for layout, n_channels, n_units, duration_s, seed in RECORDINGS:
        analyzer, true_pairs = _prepare(layout, n_channels, n_units, duration_s, seed)
        print(f"{layout} {n_channels} channels, {duration_s} s, seed {seed}: {len(true_pairs)} pairs", file=sys.stderr)
        for name, groups in _propose(analyzer):
            found = {frozenset(pair) for group in groups for pair in combinations(map(int, group), 2)}
            tally = counts.setdefault(name, [0, 0, 0])
            for place, value in enumerate((len(found & true_pairs), len(found), len(true_pairs))):
                tally[place] += value
            print(f"  {name}: {len(found & true_pairs)} right of {len(found)}", file=sys.stderr)
    print("| merging | pairs merged | of them right | true pairs | precision | recall |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, (right, found, true) in counts.items():
        print(f"| {name} | {found} | {right} | {true} | {right / max(found, 1):.2f} | {right / true:.2f} |")


def _prepare(layout: str, n_channels: int, n_units: int, duration_s: float, seed: int) -> tuple[Any, set[Pair]]:
    """Return an analyzer of the units with duplicates and splits, and which pairs of them are one neuron."""
    from spikeinterface import create_sorting_analyzer
    from spikeinterface.core import inject_some_duplicate_units, inject_some_split_units
    from spikeinterface.preprocessing import bandpass_filter, scale_to_uV

    from spikelab.simulation import simulate_recording

    truth = simulate_recording(layout, n_channels=n_channels, n_units=n_units, duration_s=duration_s, seed=seed)
    sorting = truth.sorting.rename_units(list(range(n_units)))
    split_ids = list(range(n_units - 6, n_units))
    sorting, parts = inject_some_split_units(sorting, split_ids=split_ids, num_split=2, output_ids=True, seed=seed)
    pairs = {frozenset(int(part) for part in ids) for ids in parts.values()}
    # Duplicates are made of the first units: two rounds with different shares of the spikes.
    for share in (None, 0.5):
        last = int(max(sorting.unit_ids))
        first = sorting.unit_ids[:3] if share is None else sorting.unit_ids[3:6]
        order = [*first, *(unit for unit in sorting.unit_ids if unit not in set(first.tolist()))]
        sorting = inject_some_duplicate_units(sorting.select_units(order), num=3, ratio=share, seed=seed)
        pairs |= {frozenset((int(unit), last + 1 + place)) for place, unit in enumerate(first)}
    recording = bandpass_filter(scale_to_uV(truth.recording), 300, 6000, dtype="float32").save(format="memory")
    analyzer = create_sorting_analyzer(sorting, recording, sparse=False, format="memory", return_in_uV=True)
    wanted = ["random_spikes", "waveforms", "templates", "noise_levels", "unit_locations", "correlograms",
              "template_similarity", "spike_amplitudes", "spike_locations"]  # fmt: skip
    analyzer.compute(wanted, verbose=False)
    return analyzer, pairs


def _propose(analyzer: Any) -> Iterable[tuple[str, list[list[Any]]]]:
    from spikeinterface.curation import compute_merge_unit_groups

    sd = _as_spikedata(analyzer)
    yield "spikelab", _groups(sd.curate_by_merge_duplicates(dry_run=True)[1]["merges"])
    rule = sd.curate_by_merge_duplicates(dry_run=True, max_chance_ratio=None)[1]["merges"]
    yield "spikelab, max_chance_ratio=None", _groups(rule)
    for preset in THEIRS:
        yield f"SpikeInterface, {preset}", compute_merge_unit_groups(analyzer, preset=preset)


def _as_spikedata(analyzer: Any) -> Any:
    import numpy as np

    from spikelab.spikedata import SpikeData

    templates = analyzer.get_extension("templates").get_data("average")
    positions = analyzer.get_extension("unit_locations").get_data()
    attributes = [
        {"unit_id": int(unit), "position": positions[i, :2], "avg_waveform": np.ascontiguousarray(templates[i].T)}
        for i, unit in enumerate(analyzer.unit_ids)
    ]
    sd = SpikeData.from_sorting(analyzer.sorting)
    length_ms = analyzer.get_total_samples() / analyzer.sampling_frequency * 1000.0
    return sd.replace(neuron_attributes=attributes, length=length_ms)


def _groups(merges: list[Any]) -> list[list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for merge in merges:
        if merge["accepted"]:
            absorbed = groups.pop(merge["unit"], [merge["unit"]])
            groups.setdefault(merge["into"], [merge["into"]]).extend(absorbed)
    return list(groups.values())


if __name__ == "__main__":
    main()
