"""Kilosort4 in named steps, each calling upstream's functions, or ours in their place, in upstream's order.

The random generators are seeded once, where upstream seeds them, and later steps draw from them: the result
equals that of ``kilosort.run_kilosort`` on the same data, spike for spike. After each step the state is kept, and
a later attempt goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import kilosort
import numpy as np
import torch
from kilosort import clustering_qr, io, spikedetect, template_matching
from kilosort.io import BinaryFiltered
from kilosort.parameters import DEFAULT_SETTINGS
from kilosort.run_kilosort import (
    compute_drift_correction,
    compute_preprocessing,
    initialize_ops,
    save_sorting,
)

from spikelab.spike_sorting._exceptions import InsufficientActivityError
from spikelab.spike_sorting._settings import digest, thaw
from spikelab.spike_sorting.backends.kilosort4.checkpoints import Checkpoints
from spikelab.spike_sorting.backends.kilosort4.kernels.grouping import cluster_groups
from spikelab.spike_sorting.backends.kilosort4.kernels.joining import merge_clusters
from spikelab.spike_sorting.backends.kilosort4.kernels.replacement import VERIFIED, accelerated, replaced_names
from spikelab.spike_sorting.backends.kilosort4.overview import make_overview
from spikelab.spike_sorting.backends.kilosort4.parameters import OUR_NUMBERS
from spikelab.spike_sorting.backends.kilosort4.progress import StepProgress
from spikelab.spike_sorting.backends.kilosort4.request import UPSTREAM_LEAST, Request
from spikelab.spike_sorting.backends.kilosort4.spilling import Spill, plain, row_by_row
from spikelab.spike_sorting.backends.overview import OVERVIEW, write_overview
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.progress import Reporter

_log = logging.getLogger(__name__)

VERSION = 4
"""Raised by hand when a step leaves another state for the same input: older checkpoints are then passed over."""
_KEPT = ("ops", "st", "tF", "clu", "Wall")
"""What passes from step to step and is kept; the open recording is rebuilt."""
_PER_SPIKE = frozenset({"st", "tF", "clu"})
"""What of it grows with the recording."""


@dataclass
class State:
    """What passes from step to step."""

    request: Request
    progress: StepProgress
    spill: Spill
    ops: dict[str, Any] = field(default_factory=dict)
    bfile: Any = None
    st: Any = None
    """Spikes: columns sample, template, amplitude."""
    tF: Any = None
    """Features of each spike, (n_spikes, nearest_chans, n_pcs)."""
    clu: Any = None
    """Cluster of each spike."""
    Wall: Any = None
    """Templates in feature space, (n_clusters, n_channels, n_pcs)."""
    started_at: float = field(default_factory=host.wall_clock_s)


def run_steps(request: Request, progress: Reporter, checkpoints: Path) -> tuple[str, ...]:
    """Sort as `request` says, from the last checkpoint on, and leave Kilosort4's files in its folder.

    Parameters
    ----------
    request : Request
        What to do.
    progress : Reporter
        Where to say how far it is.
    checkpoints : Path
        Folder for the state after each step.

    Returns
    -------
    tuple of str
        The functions of upstream in whose place ours ran.
    """
    request = _without_unverified(request)
    kept = Checkpoints(checkpoints, step_keys(request), in_memory_bytes=request.in_memory_bytes)
    state = State(request, StepProgress(progress), Spill(checkpoints, request.in_memory_bytes))
    first = _restore(state, kept)
    with accelerated(request.accelerated) as replaced:
        for number, (name, step) in enumerate(STEPS.items()):
            if number < first:
                continue
            state.progress.start(name, _n_passes(state, step))
            step(state)
            state.progress.end()
            if step not in _NOT_KEPT:
                kept.save(number, {field: getattr(state, field) for field in _KEPT})
                if _per_spike_bytes(state) > request.in_memory_bytes:
                    _let_go(state, kept, number)
    return (*replaced, *_beside(request))


def _without_unverified(request: Request) -> Request:
    """Return `request` without the clustering and merging of ours where this kilosort is not verified for them."""
    if kilosort.__version__ in VERIFIED or not _beside(request):
        return request
    _log.warning(
        "kilosort %s clusters and merges with its own functions: min_spikes_to_cluster, density_below and "
        "censored_lag_ms are verified for %s and have no effect",
        kilosort.__version__,
        ", ".join(VERIFIED),
    )
    return replace(request, min_spikes_to_cluster=UPSTREAM_LEAST, density_below=0, censored_lag_ms=0.0)


def _beside(request: Request) -> tuple[str, ...]:
    """Return the functions of upstream in whose place ours run because a setting asks for other spikes."""
    clustering = ("clustering_qr.run",) if _clusters_groups(request) else ()
    merging = ("CCG.check_CCG",) if request.censored_lag_ms > 0 else ()
    return (*clustering, *merging)


def _n_passes(state: State, step: Callable[[State], None]) -> int | None:
    """Return how often the loop of `step` runs through: upstream's clustering does for each column of the probe."""
    if step in _UNCOUNTED:
        return None
    by_column = step in {cluster_first, cluster_final} and not _clusters_groups(state.request)
    return len(clustering_qr.x_centers(state.ops)) if by_column else 1


def _clusters_groups(request: Request) -> bool:
    """Return whether the clustering is ours, for groups of few spikes."""
    return request.min_spikes_to_cluster != UPSTREAM_LEAST or request.density_below > 0


def _per_spike_bytes(state: State) -> int:
    arrays = (getattr(state, name) for name in _PER_SPIKE)
    return sum(array.nbytes for array in arrays if array is not None)


def _let_go(state: State, kept: Checkpoints, number: int) -> None:
    """Take the arrays that grow with the recording from the checkpoint just made, and out of memory."""
    values = kept.load(number, state.request.device) or {}
    for name in _PER_SPIKE & values.keys():
        setattr(state, name, values[name])
    host.give_back_memory()


def _restore(state: State, kept: Checkpoints) -> int:
    """Fill `state` from the last checkpoint and return the step to go on with."""
    found = kept.load_latest(state.request.device)
    if found is None:
        state.ops = _initial_ops(state.request)
        return 0
    done, values = found
    for field_name, value in values.items():
        setattr(state, field_name, value)
    # A copy of the recording may lie elsewhere than when the checkpoint was made.
    for ops in (state.ops, state.ops["settings"]):
        ops["filename"], ops["data_dir"] = [state.request.binary.path], state.request.binary.path.parent
    _renew_settings(state, done)
    if "dshift" in state.ops:
        state.bfile = _open_corrected(state)
    state.progress.n_spikes = None if state.st is None else len(state.st)
    _log.info("continuing after step %r", list(STEPS)[done])
    return done + 1


def _renew_settings(state: State, done: int) -> None:
    """Let the steps after `done` read the settings of this request: the checkpoint may be of other ones."""
    asked, number_of = _initial_ops(state.request), {name: number for number, name in enumerate(STEPS)}
    unread = {name for name, step in _READ_FIRST_BY.items() if number_of[step] > done} & asked["settings"].keys()
    for name in unread:
        state.ops["settings"][name] = asked["settings"][name]
    for name in {*unread, "duplicate_spike_bins", "torch_device"}:
        state.ops[name] = asked[name]


def _open_corrected(state: State) -> Any:
    """Return the recording filtered, whitened and corrected for drift, as the drift step leaves it."""
    ops = state.ops
    settings = ops["settings"]
    return BinaryFiltered(
        ops["filename"],
        settings["n_chan_bin"],
        settings["fs"],
        settings["batch_size"],
        settings["nt"],
        settings["nt0min"],
        ops["probe"]["chanMap"],
        hp_filter=ops["preprocessing"]["hp_filter"],
        whiten_mat=ops["preprocessing"]["whiten_mat"],
        dshift=ops["dshift"],
        device=state.request.device,
        do_CAR=ops["do_CAR"],
        dtype=ops["data_dtype"],
        **{name: settings[name] for name in ("artifact_threshold", "shift", "scale", "batch_downsampling")},
    )


def step_keys(request: Request) -> list[str]:
    """Return the key of each step: it changes with the settings that this step or one before it reads."""
    settings = {**DEFAULT_SETTINGS, **request.settings, **{name: getattr(request, name) for name in OUR_NUMBERS}}
    names = ("key", "fs_Hz", "seed", "do_CAR", "invert_sign", "save_preprocessed_copy")
    arguments = {name: getattr(request, name) for name in names}
    probe = {name: np.asarray(value).tolist() for name, value in request.probe.items()}
    # Sums in another order may differ in their last bit, so that kernels do not go on from each other's states.
    versions = [VERSION, kilosort.__version__, torch.device(request.device).type, replaced_names(request.accelerated)]
    keys, upstream = [], digest([arguments, probe, request.binary.dtype, versions])
    for name in STEPS:
        read = {key: value for key, value in settings.items() if _READ_FIRST_BY.get(key, _FIRST) == name}
        upstream = digest([upstream, name, thaw(read)])
        keys.append(upstream)
    return keys


def preprocess(state: State) -> None:
    """Estimate the high-pass and whitening filters."""
    with state.progress.counting_batches(BinaryFiltered, "padded_batch_to_torch", state.ops["settings"]["nskip"]):
        state.ops = compute_preprocessing(state.ops, state.request.device, tic0=state.started_at)
    _seed(state.request.seed)


def drift(state: State) -> None:
    """Estimate drift, and open the recording corrected for it."""
    request = state.request
    with state.progress.counting_spikes(spikedetect, "template_match"), state.spill.growing(spikedetect):
        state.ops, state.bfile, _ = compute_drift_correction(
            state.ops,
            request.device,
            tic0=state.started_at,
            progress_bar=state.progress,
            clear_cache=request.clear_cache,
        )
    # The steps after it detect anew, in the corrected recording.
    state.progress.n_spikes = None
    if request.save_preprocessed_copy:
        from kilosort.io import save_preprocessing

        save_preprocessing(request.folder / "temp_wh.dat", state.ops, state.bfile)


def detect(state: State) -> None:
    """Detect spikes with universal templates."""
    request = state.request
    with state.progress.counting_spikes(spikedetect, "template_match"), state.spill.growing(spikedetect):
        state.st, features, state.ops = spikedetect.run(
            state.ops,
            state.bfile,
            device=request.device,
            progress_bar=state.progress,
            clear_cache=request.clear_cache,
        )
    state.tF = torch.from_numpy(features)
    state.progress.n_spikes = len(state.st)
    if len(state.st) == 0:
        msg = "Kilosort4 detected no spike with universal templates"
        raise InsufficientActivityError(
            msg, sorter="kilosort4", threshold_crossings=0, units_at_failure=0, nspks_at_failure=0
        )


def cluster_first(state: State) -> None:
    """Cluster these spikes, to learn templates from them."""
    _cluster(state, mode="spikes")


def postprocess_templates(state: State) -> None:
    """Align the learned templates, and join those that are alike."""
    with state.spill.copying(state):
        state.Wall = template_matching.postprocess_templates(
            state.Wall, state.ops, state.clu, state.st, state.tF, device=state.request.device
        )


def extract(state: State) -> None:
    """Extract spikes again by matching pursuit with the learned templates."""
    n_detected, n_templates = len(state.st), len(state.Wall)
    with state.progress.counting_spikes(template_matching, "run_matching"), state.spill.growing(template_matching):
        state.st, state.tF, state.ops = template_matching.extract(
            state.ops, state.bfile, state.Wall, device=state.request.device, progress_bar=state.progress
        )
    state.tF = plain(state.tF)
    state.progress.n_spikes = len(state.st)
    if len(state.st) == 0:
        msg = (
            f"Kilosort4 detected {n_detected} spikes, and finds none with the {n_templates} templates learned from them"
        )
        raise InsufficientActivityError(msg, sorter="kilosort4", units_at_failure=n_templates, nspks_at_failure=0)


def cluster_final(state: State) -> None:
    """Cluster the extracted spikes."""
    _cluster(state, mode="template")


def _cluster(state: State, mode: str) -> None:
    request = state.request
    if _clusters_groups(request):
        state.clu, state.Wall = cluster_groups(
            state.ops,
            state.st,
            state.tF,
            least=request.min_spikes_to_cluster,
            density_below=request.density_below,
            extracted=mode == "template",
            device=request.device,
            progress=state.progress,
        )
        return
    state.clu, state.Wall = clustering_qr.run(
        state.ops,
        state.st,
        state.tF,
        mode=mode,
        device=request.device,
        progress_bar=state.progress,
        clear_cache=request.clear_cache,
    )


def merge(state: State) -> None:
    """Merge clusters that are one unit by their correlograms."""
    request = state.request
    units = (state.ops, state.Wall, state.clu, state.st, state.tF)
    with state.spill.copying(state):
        if request.censored_lag_ms > 0:
            merged = merge_clusters(*units, censored_lag_ms=request.censored_lag_ms, device=request.device)
        else:
            merged = template_matching.merging_function(*units, device=request.device, check_dt=True)
        state.Wall, clu, _, state.st, state.tF = merged
    state.clu = clu.astype("int32")


def save(state: State) -> None:
    """Write Kilosort4's files for Phy."""
    with state.spill.copying(state), row_by_row(io, "compute_spike_positions"):
        save_sorting(
            state.ops,
            state.request.folder,
            state.st,
            state.clu,
            state.tF,
            state.Wall,
            state.bfile.imin,
            tic0=state.started_at,
            save_preprocessed_copy=state.request.save_preprocessed_copy,
        )
    first, n_samples = state.bfile.imin, state.bfile.imax - state.bfile.imin
    overview = make_overview(state.request.folder, state.ops, first, n_samples)
    write_overview(state.request.folder / OVERVIEW, overview)


STEPS: Mapping[str, Callable[[State], None]] = {
    "preprocessing": preprocess,
    "drift correction": drift,
    "spike detection": detect,
    "first clustering": cluster_first,
    "template postprocessing": postprocess_templates,
    "spike extraction": extract,
    "final clustering": cluster_final,
    "merging": merge,
    "saving": save,
}
_NOT_KEPT = frozenset({postprocess_templates, save})
"""Steps without a checkpoint: the one takes less time than that would, after the other there is nothing to do."""
_UNCOUNTED = frozenset({postprocess_templates, merge, save})
"""Steps of which upstream does not tell how far they are."""
_FIRST = "preprocessing"
_READ_FIRST_BY = {
    **dict.fromkeys(
        (
            "min_spikes_to_cluster",
            "density_below",
            "cluster_downsampling",
            "max_cluster_subset",
            "x_centers",
            "cluster_neighbors",
            "cluster_init_seed",
        ),
        "first clustering",
    ),
    **dict.fromkeys(("Th_learned", "max_peels", "position_limit"), "spike extraction"),
    **dict.fromkeys(("acg_threshold", "ccg_threshold", "censored_lag_ms"), "merging"),
    "duplicate_spike_ms": "saving",
}
"""The first step that reads a setting, where it is not the first of all: a change leaves earlier steps valid."""


def _initial_ops(request: Request) -> dict[str, Any]:
    settings = {
        **DEFAULT_SETTINGS,
        **request.settings,
        "n_chan_bin": request.binary.n_channels,
        "fs": request.fs_Hz,
        "filename": [request.binary.path],
        "data_dir": request.binary.path.parent,
    }
    # Upstream clips it too, with a warning that a probe of few channels cannot avoid.
    settings["nearest_chans"] = min(settings["nearest_chans"], len(request.probe["chanMap"]))
    if request.invert_sign:
        # Upstream forgets invert_sign once drift is corrected; a negative scale reaches every read.
        settings["scale"] = -(settings["scale"] or 1.0)
    ops, _ = initialize_ops(
        settings,
        dict(request.probe),
        request.binary.dtype,
        request.do_CAR,
        False,
        request.device,
        request.save_preprocessed_copy,
    )
    return dict(ops)


def _seed(seed: int) -> None:
    np.random.seed(seed)  # noqa: NPY002 - upstream draws from numpy's global generator
    torch.cuda.manual_seed_all(seed)
    torch.random.manual_seed(seed)
