"""What Kilosort4 finds of the units that are there: with its own defaults, with the settings that we recommend, with
SpikeInterface's defaults, and with our step against redundant units.

Every layout of `spikelab.simulation`, several seeds. Run it from the repository: ``make bench-accuracy``, or
``python benchmarks/accuracy.py --layout mea --seed 21 --duration 60``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _machine import machine

LAYOUTS = {"linear": (32, 12), "neuropixels1": (96, 30), "mea": (64, 20), "neuropixels2": (96, 32), "tetrode": (4, 4)}
"""Channels and units of each layout."""
SEEDS = (21, 22, 23)
"""Recordings that no setting was chosen by, and no rule."""
WAYS = ("Kilosort4's defaults", "SpikeInterface's defaults", "ours", "ours, without redundant units")


@dataclass(frozen=True)
class Score:
    """How a sort compares with the truth: units found well, found again, and found where there is none."""

    found: int
    redundant: int
    false: int

    def __add__(self, other: Score) -> Score:
        return Score(self.found + other.found, self.redundant + other.redundant, self.false + other.false)


def main() -> None:
    options = _parser().parse_args()
    warnings.simplefilter("ignore")  # of other packages, about units with too few spikes to compare
    print(f"{machine()}\n")
    print(f"{options.duration:g} s, seeds {', '.join(map(str, options.seed))}, sums over the seeds. Each cell: units")
    print("found well (accuracy at least 0.8) / redundant / false.\n")
    print(f"| layout | units | {' | '.join(WAYS)} |")
    print(f"|---|---:|{'---|' * len(WAYS)}")
    totals = {way: Score(0, 0, 0) for way in WAYS}
    n_units = 0
    for layout in options.layout:
        scores, n_true = _of_layout(layout, options)
        n_units += n_true
        totals = {way: totals[way] + scores[way] for way in WAYS}
        _print_row(layout, n_true, scores)
    _print_row("all", n_units, totals)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--spikeinterface", action="store_true", help="sort there even with the settings of Kilosort4")
    parser.add_argument("--results", type=Path, help="folder of scores: what is there is not sorted again")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of recording")
    return parser


def _print_row(layout: str, n_true: int, scores: Mapping[str, Score]) -> None:
    cells = [f"{score.found} / {score.redundant} / {score.false}" for score in scores.values()]
    print(f"| {layout} | {n_true} | {' | '.join(cells)} |", flush=True)


def _of_layout(layout: str, options: argparse.Namespace) -> tuple[dict[str, Score], int]:
    scores = {way: Score(0, 0, 0) for way in WAYS}
    n_true = 0
    for seed in options.seed:
        of_seed, n_units = _of_recording(layout, seed, options)
        n_true += n_units
        scores = {way: scores[way] + of_seed[way] for way in WAYS}
    return scores, n_true


def _of_recording(layout: str, seed: int, options: argparse.Namespace) -> tuple[dict[str, Score], int]:
    kept = options.results and options.results / f"{layout}-{seed}-{options.duration:g}.json"
    if kept and kept.exists():
        told = json.loads(kept.read_text(encoding="utf-8"))
        return {way: Score(**score) for way, score in told["scores"].items()}, told["units"]
    with tempfile.TemporaryDirectory() as folder:
        case = simulate(Path(folder), layout, seed, options.duration)
        scores, n_units = _scores(case, options), len(case.truth.unit_ids)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        told = {"units": n_units, "scores": {way: asdict(score) for way, score in scores.items()}}
        kept.write_text(json.dumps(told), encoding="utf-8")
    return scores, n_units


# ------------------------------------------------------------------------------------------- one recording


@dataclass(frozen=True)
class Case:
    """A recording on disk, and its true spikes."""

    folder: Path
    recording: Any
    truth: Any


def simulate(folder: Path, layout: str, seed: int, duration_s: float) -> Case:
    from spikelab.simulation import simulate_recording

    n_channels, n_units = LAYOUTS[layout]
    made = simulate_recording(layout, n_channels=n_channels, n_units=n_units, duration_s=duration_s, seed=seed)
    saved = made.recording.save(folder=folder / "recording", n_jobs=1, verbose=False, progress_bar=False)
    return Case(folder, saved, made.sorting)


def _scores(case: Case, options: argparse.Namespace) -> dict[str, Score]:
    """Return the score of each way to sort; a sort that fails finds nothing."""
    theirs, in_interface, ours = WAYS[:3]
    scores = {theirs: _score(case, _sort(case, "upstream", {"advise": False}))}
    is_another = options.spikeinterface or _differs_in_spikeinterface()
    scores[in_interface] = _score(case, _sort_in_spikeinterface(case)) if is_another else scores[theirs]
    sorting = _sort(case, "ours", {})
    scores[ours] = _score(case, sorting)
    scores[WAYS[3]] = _score(case, _without_redundant(case, sorting))
    return scores


def _sort(case: Case, name: str, params: Mapping[str, Any]) -> Any:
    """Return the sorting of our backend with these ``kilosort_params``, or None when it fails."""
    from spikeinterface.core import NumpySorting

    from spikelab.spike_sorting.backends.base import SortJob
    from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
    from spikelab.spike_sorting.config import KILOSORT4
    from spikelab.spike_sorting.run_folder import RunFolder
    from spikelab.spike_sorting.supervision.progress import ProgressFile

    run = RunFolder(inter=case.folder / name / "inter", results=case.folder / name / "results")
    output = run.inter / "output"
    output.mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params=params)
    try:
        Kilosort4Backend().sort(SortJob(case.recording, output, run, config, ProgressFile(run.progress, "sort")))
    except (ValueError, RuntimeError) as error:
        print(f"<!-- {name} failed: {error} -->")
        return None
    found = Kilosort4Backend().read(output, case.recording.get_num_samples())
    labels = found.unit_ids[found.units]
    fs_Hz = case.recording.sampling_frequency
    sorting = NumpySorting.from_samples_and_labels([found.samples], [labels], fs_Hz, unit_ids=found.unit_ids)
    sorting.set_property("ks_amplitude", found.unit_properties["ks_amplitude"])
    return sorting


def _differs_in_spikeinterface() -> bool:
    """Return whether SpikeInterface's defaults are others than Kilosort4's; else one sort stands for both."""
    from kilosort.parameters import DEFAULT_SETTINGS
    from spikeinterface.sorters import Kilosort4Sorter

    theirs = Kilosort4Sorter.default_params()
    switches = {"do_CAR": True, "invert_sign": False, "do_correction": True, "skip_kilosort_preprocessing": False}
    return any(theirs[name] != value for name, value in {**DEFAULT_SETTINGS, **switches}.items() if name in theirs)


def _sort_in_spikeinterface(case: Case) -> Any:
    """Return what SpikeInterface's own wrapper of Kilosort4 finds, with the functions that ours runs with."""
    from spikeinterface.sorters import run_sorter

    from spikelab.spike_sorting.backends.kilosort4.kernels.replacement import accelerated

    with accelerated():
        try:
            return run_sorter("kilosort4", case.recording, folder=case.folder / "spikeinterface", verbose=False)
        except Exception as error:  # noqa: BLE001 - whatever it fails with, it found nothing
            print(f"<!-- SpikeInterface failed: {str(error).splitlines()[-1]} -->")
            return None


def _without_redundant(case: Case, sorting: Any) -> Any:
    """Return the units that our curation keeps of `sorting` when it judges redundancy alone."""
    from spikelab.curation import curate_by_redundancy
    from spikelab.spikedata import SpikeData

    if sorting is None:
        return None
    fs_Hz = case.recording.sampling_frequency
    trains_ms = [sorting.get_unit_spike_train(unit) / fs_Hz * 1000.0 for unit in sorting.unit_ids]
    of_sorter = sorting.get_property("ks_amplitude").tolist()
    pairs = zip(_amplitudes(case, sorting), of_sorter, strict=True)
    sizes = [{"amplitude": uV, "ks_amplitude": size} for uV, size in pairs]
    sd = SpikeData(trains_ms, length=case.recording.get_total_duration() * 1000.0, neuron_attributes=sizes)
    return sorting.select_units(sorting.unit_ids[curate_by_redundancy(sd)[1]["passed"]])


def _amplitudes(case: Case, sorting: Any) -> list[float]:
    """Return the depth of each unit's template, as the pipeline measures it."""
    from spikeinterface.core import create_sorting_analyzer
    from spikeinterface.preprocessing import highpass_filter

    filtered = highpass_filter(case.recording, freq_min=300.0, dtype="float32")
    analyzer = create_sorting_analyzer(sorting, filtered, sparse=False, verbose=False)
    analyzer.compute(["random_spikes", "templates"], n_jobs=1, progress_bar=False)
    deepest: list[float] = (-analyzer.get_extension("templates").get_data().min(axis=(1, 2))).tolist()
    return deepest


def _score(case: Case, sorting: Any) -> Score:
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    if sorting is None or not len(sorting.unit_ids):
        return Score(0, 0, 0)
    compared = compare_sorter_to_ground_truth(case.truth, sorting, exhaustive_gt=True)
    return Score(
        found=len(compared.get_well_detected_units(0.8)),
        redundant=len(compared.get_redundant_units()),
        false=len(compared.get_false_positive_units()),
    )


if __name__ == "__main__":
    main()
