"""``spikelab train-detector``: a detection model for RT-Sort, from recordings that are sorted or simulated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from spikelab.cli.options import Probe
from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, seconds_text, short_path, usage_errors


@dataclass(frozen=True)
class Training:
    """What the command was asked for.

    Parameters
    ----------
    folder : Path
        New folder for the model.
    results : tuple of Path
        Results folders.
    simulated : Probe, optional
        Kind of probe of simulated recordings.
    duration_s : float
        Seconds read of each recording.
    n_steps, seed : int
        As `train_detector` takes them.
    """

    folder: Path
    results: tuple[Path, ...]
    simulated: Probe | None
    duration_s: float
    n_steps: int
    seed: int


def train(asked: Training) -> int:
    """Train, tell how well it went, and return the exit code."""
    from spikelab.spike_sorting.backends.rt_sort import train_detector

    console = make_console()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, usage_errors():
        task = progress.add_task("Reading the recordings", total=asked.n_steps, loss="")
        training = train_detector(
            _sources(asked),
            asked.folder,
            n_steps=asked.n_steps,
            seed=asked.seed,
            duration_s=asked.duration_s,
            tell=lambda step, loss: progress.update(task, completed=step, description="Training", loss=f"{loss:.4f}"),
        )
    say(
        console,
        f"Trained on {training.n_troughs:,} troughs of {training.n_channels} channels at {training.fs_Hz:g} Hz, in "
        f"{seconds_text(training.cpu_s)} of processor time.",
    )
    say(
        console,
        f"At one false detection a second and channel, it finds {training.found_frac:.1%} of the troughs that it was "
        f"not trained on; a threshold finds {training.found_by_threshold_frac:.1%}.",
    )
    say(console, f"Sort with it: --sorter rt_sort --set rt_sort_model_path={short_path(asked.folder)}")
    return ExitCode.DONE


def _sources(asked: Training) -> list[Any]:
    sources: list[Any] = list(asked.results)
    if asked.simulated is not None:
        from spikelab.spike_sorting.backends.rt_sort.simulated import training_recordings

        sources += training_recordings(asked.simulated.value, asked.duration_s, asked.seed)
    if not sources:
        msg = "there is nothing to learn from"
        raise UsageProblem(msg, advice="Name results folders of spikelab, or add --simulated mea.")
    return sources
