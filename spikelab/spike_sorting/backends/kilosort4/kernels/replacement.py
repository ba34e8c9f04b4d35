"""Our functions in the place of upstream's, for as long as a sort runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import kilosort
from kilosort import CCG, clustering_qr, io, spikedetect, swarmsplitter, template_matching

from spikelab.spike_sorting.backends.kilosort4.kernels.clustering import cluster
from spikelab.spike_sorting.backends.kilosort4.kernels.correlograms import correlogram_beside
from spikelab.spike_sorting.backends.kilosort4.kernels.detection import UniversalDetection
from spikelab.spike_sorting.backends.kilosort4.kernels.filtering import BatchFilter
from spikelab.spike_sorting.backends.kilosort4.kernels.matching import run_matching
from spikelab.spike_sorting.backends.kilosort4.kernels.seeding import kmeans_plusplus
from spikelab.spike_sorting.backends.kilosort4.kernels.snippets import extract_snippets

_log = logging.getLogger(__name__)

_compiled_correlogram = CCG.compute_CCG

VERIFIED = ("4.1.7",)
"""Versions of kilosort for which the equivalence tests have passed."""


@contextmanager
def accelerated(wanted: bool = True) -> Iterator[tuple[str, ...]]:
    """Put our functions in the place of upstream's, and theirs back whatever happens.

    Parameters
    ----------
    wanted : bool, default True
        False leaves upstream's own functions, and so does a version of kilosort that is not in `VERIFIED`.

    Yields
    ------
    tuple of str
        The functions of upstream that are replaced; empty when none is.
    """
    names = replaced_names(wanted)
    if wanted and not names:
        _log.info(
            "kilosort %s runs with its own functions: ours are verified for %s",
            kilosort.__version__,
            ", ".join(VERIFIED),
        )
    with ExitStack() as stack:
        for owner, name, ours in _replacements() if names else ():
            stack.enter_context(replaced(owner, name, ours))
        yield names


def replaced_names(wanted: bool = True) -> tuple[str, ...]:
    """Return the functions of upstream that `accelerated` replaces."""
    if not wanted or kilosort.__version__ not in VERIFIED:
        return ()
    return tuple(f"{owner.__name__.rpartition('.')[2]}.{name}" for owner, name, _ in _replacements())


def _replacements() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return module or class, name and function of ours; anew each time, as some keep what they learn from a sort."""
    compute_ccg = correlogram_beside(_compiled_correlogram)
    return [
        (spikedetect, "template_match", UniversalDetection()),
        (spikedetect, "extract_snippets", extract_snippets),
        (clustering_qr, "cluster", cluster),
        (clustering_qr, "kmeans_plusplus", kmeans_plusplus),
        (CCG, "compute_CCG", compute_ccg),
        (swarmsplitter, "compute_CCG", compute_ccg),
        (template_matching, "run_matching", run_matching),
        (io.BinaryFiltered, "filter", BatchFilter().as_method()),
    ]


@contextmanager
def replaced(owner: Any, name: str, ours: Callable[..., Any]) -> Iterator[None]:
    """Put `ours` in the place of the attribute `name` of a module or class, and theirs back whatever happens."""
    theirs = vars(owner)[name]
    setattr(owner, name, ours)
    try:
        yield
    finally:
        setattr(owner, name, theirs)
