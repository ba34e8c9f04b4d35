"""``spikelab demo``: a simulated plate is sorted, and what was found is compared with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from spikelab.cli.output import UsageProblem, make_console, say, seconds_text, short_path
from spikelab.spike_sorting.outcome import RecordingResult, SortRunReport

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

FULL_S, QUICK_S = 60.0, 30.0
MATCH_ACCURACY = 0.8


@dataclass(frozen=True)
class Plate:
    """A simulated Maxwell file with known spikes, and the truth beside it.

    Parameters
    ----------
    folder : Path
        Where it lies.
    duration_s : float
        Length of each well (s); it is part of the file's name, so that each length is a recording of its own.
    n_channels, n_units, n_wells : int
        Size.
    """

    folder: Path
    duration_s: float = FULL_S
    n_channels: int = 64
    n_units: int = 16
    n_wells: int = 2

    fs_Hz = 20_000.0
    gain_uV = 6.294
    rate_Hz = (5.0, 15.0)

    @property
    def recording(self) -> Path:
        """The Maxwell file."""
        return self.folder / f"demo_{self.duration_s:g}s.raw.h5"

    @property
    def truth(self) -> Path:
        """The true spikes of every well."""
        return self.folder / f"demo_{self.duration_s:g}s.truth.npz"

    @property
    def wells(self) -> list[str]:
        """Names of the wells."""
        return [f"well{k:03d}" for k in range(self.n_wells)]


@dataclass(frozen=True)
class Score:
    """How a sorting compares with the truth.

    Parameters
    ----------
    n_true : int
        Units that are there.
    n_found, n_kept : int
        Units that the sorter found, and those that passed curation.
    n_matched : int
        True units that a kept unit matches with an accuracy of `MATCH_ACCURACY` or more.
    """

    n_true: int
    n_found: int
    n_kept: int
    n_matched: int


def length_s(asked_s: float | None, *, quick: bool) -> float:
    """Return the length of each well (s) by what the options say.

    Raises
    ------
    UsageProblem
        Both say something.
    """
    if quick and asked_s is not None:
        msg = f"--quick is {QUICK_S:g} s a well, and --duration says {asked_s:g} s"
        raise UsageProblem(msg, "Leave one out.")
    return asked_s or (QUICK_S if quick else FULL_S)


def run_demo(folder: Path, duration_s: float) -> int:
    """Simulate, sort, compare and tell; return the exit code. What is there already is not made again."""
    from spikelab.cli.sort import exit_code_of, sort_jobs
    from spikelab.spike_sorting.backends import get_backend
    from spikelab.spike_sorting.config import KILOSORT4
    from spikelab.spike_sorting.jobs import plan_streams

    get_backend("kilosort4").check_installed(KILOSORT4)
    console, plate = make_console(), Plate(folder, duration_s)
    _introduce(plate, console)
    simulate(plate, console)
    # The tissue of a simulated plate does not move: without drift correction it takes half the time.
    jobs = plan_streams(plate.recording, KILOSORT4.override(kilosort_params={"nblocks": 0}))
    report = SortRunReport()
    sort_jobs(tuple(jobs.values()), console, report, findings=[])
    records = dict(zip(jobs, report.records, strict=True))
    _tell_scores(plate, records, console)
    return exit_code_of(report)


def _introduce(plate: Plate, console: Console) -> None:
    length, folder = seconds_text(plate.duration_s), short_path(plate.folder)
    text = (
        f"This demo simulates a plate with {plate.n_wells} wells, {length} of {plate.n_channels} channels each, in "
        f"which all {plate.n_units} units of a well are known. It sorts the wells with Kilosort4 and compares what "
        f"comes out with the truth. Without a GPU that takes a few minutes. Everything goes to the folder {folder}."
    )
    console.print(text, end="\n\n")


# ------------------------------------------------------------------------------------------------- simulating


def simulate(plate: Plate, console: Console) -> None:
    """Write the recording and its truth, unless they are there; the recording comes last and appears at once."""
    if plate.recording.is_file() and plate.truth.is_file():
        say(console, f"The recording is there already: {short_path(plate.recording)}")
        return
    from spikelab.simulation import simulate_recording, write_maxwell

    plate.folder.mkdir(parents=True, exist_ok=True)
    with console.status("Simulating the recording"):
        truths = {
            well: simulate_recording(
                "mea",
                n_channels=plate.n_channels,
                duration_s=plate.duration_s,
                n_units=plate.n_units,
                fs_Hz=plate.fs_Hz,
                seed=seed,
                rate_Hz=plate.rate_Hz,
                dtype="uint16",
                gain_uV=plate.gain_uV,
                offset_uV=-512 * plate.gain_uV,
            )
            for seed, well in enumerate(plate.wells)
        }
        write_truth(plate, {well: truth.sorting for well, truth in truths.items()})
        write_maxwell(plate.recording, {well: truth.recording for well, truth in truths.items()})
    size_mb = plate.recording.stat().st_size / 1e6
    say(console, f"Simulated {short_path(plate.recording)} ({size_mb:.0f} MB)")


def write_truth(plate: Plate, sortings: Mapping[str, Any]) -> None:
    """Write the true spikes of each well as plain arrays."""
    import numpy as np

    arrays = {}
    for well, sorting in sortings.items():
        spikes = sorting.to_spike_vector()
        arrays[f"{well}_samples"] = spikes["sample_index"]
        arrays[f"{well}_units"] = spikes["unit_index"]
    np.savez(plate.truth, **arrays)


def read_truth(plate: Plate, well: str) -> Any:
    """Return the true spikes of `well` as a SpikeInterface sorting."""
    import numpy as np
    from spikeinterface.core import NumpySorting

    with np.load(plate.truth, allow_pickle=False) as file:
        samples, units = file[f"{well}_samples"], file[f"{well}_units"]
    return NumpySorting.from_samples_and_labels([samples], [units], plate.fs_Hz, unit_ids=np.arange(plate.n_units))


# -------------------------------------------------------------------------------------------------- comparing


def compare_with_truth(truth: Any, kept: SpikeData, n_found: int, fs_Hz: float) -> Score:
    """Return how the kept units compare with the true ones.

    Parameters
    ----------
    truth : BaseSorting
        The true spikes.
    kept : SpikeData
        Units after curation.
    n_found : int
        Units before curation.
    fs_Hz : float
        Sampling rate (Hz) of the recording.
    """
    table = kept.compare_ground_truth(truth, fs_Hz=fs_Hz)
    return Score(len(table), n_found, kept.N, int((table["accuracy"] >= MATCH_ACCURACY).sum()))


def _score(plate: Plate, well: str, record: RecordingResult) -> Score:
    from spikelab.spike_sorting.api import load_results

    kept = load_results(record.results_folder)
    return compare_with_truth(read_truth(plate, well), kept, record.n_units or 0, plate.fs_Hz)


def _tell_scores(plate: Plate, records: Mapping[str, RecordingResult], console: Console) -> None:
    with console.status("Comparing with the truth"):
        scores = {well: _score(plate, well, record) for well, record in records.items() if record.succeeded}
    if not scores:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("well")
    for heading in ("true units", "found", "kept", "kept that match"):
        table.add_column(heading, justify="right")
    for well, score in scores.items():
        table.add_row(well, *map(str, (score.n_true, score.n_found, score.n_kept, score.n_matched)))
    say(console, "")
    console.print(table)
    say(console, f"A match is a unit whose spikes agree with those of a true one to {MATCH_ACCURACY:.0%} or more.\n")
    for well in scores:
        say(console, f"Report of {well}: {short_path(Path(records[well].results_folder) / 'sorting_report.html')}")
    say(console, f"\nNow with a recording of yours: spikelab sort FILE. Delete {short_path(plate.folder)} when done.")
