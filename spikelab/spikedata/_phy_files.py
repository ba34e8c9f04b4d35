"""The files of a Phy folder, read strictly and written one by one."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

UNIT_ID = "unit_id"
"""Column in which :meth:`SpikeData.to_phy` keeps the name of each unit."""

_DERIVED = {"cluster_info"}
"""Tables that Phy makes from the others."""


# ---------------------------------------------------------------- params.py


def read_params(path: Path) -> dict[str, Any]:
    """Return the constants that a ``params.py`` assigns, with ``sample_rate`` as a float; run nothing of it.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When it is no Python, or does not say the sampling rate.
    """
    if not path.is_file():
        msg = f"{path} is missing; a folder of Phy or Kilosort has params.py, spike_times.npy and spike_clusters.npy"
        raise FileNotFoundError(msg)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        msg = f"{path} must be lines such as sample_rate = 30000.0: {error}"
        raise ValueError(msg) from error
    params = dict(_constants(tree))
    rate = params.get("sample_rate")
    if not isinstance(rate, int | float) or not rate > 0:
        msg = f"{path} must have a line such as sample_rate = 30000.0, found {rate!r}"
        raise ValueError(msg)
    return {**params, "sample_rate": float(rate)}


def _constants(tree: ast.Module) -> list[tuple[str, Any]]:
    found = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found.append((node.targets[0].id, ast.literal_eval(node.value)))
            except ValueError:  # computed by code, which is not run
                continue
    return found


def write_params(path: Path, params: Mapping[str, Any]) -> None:
    """Write constants as Phy reads them."""
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in params.items()), encoding="utf-8")


# ---------------------------------------------------------------- arrays


def read_array(path: Path) -> Array:
    """Return an array of numbers.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When the file is damaged, or holds anything but numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:  # a damaged header may promise any size
        msg = f"{path} cannot be read as an array: {error}"
        raise ValueError(msg) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        msg = f"{path} must be an array of numbers, found {getattr(array, 'dtype', 'an archive')}"
        raise ValueError(msg)
    return array


def read_vector(*paths: Path) -> npt.NDArray[np.int64]:
    """Return the first of some vectors of whole numbers that is there; Kilosort also writes them as columns.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When it is no such vector.
    """
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        msg = f"{' or '.join(map(str, paths))} is missing; is this a folder of Phy or Kilosort?"
        raise FileNotFoundError(msg)
    array = read_array(path)
    if array.size != max(array.shape, default=1) or (array.dtype.kind == "f" and (array != np.rint(array)).any()):
        msg = f"{path} must be a vector of whole numbers, found shape {array.shape}, {array.dtype}"
        raise ValueError(msg)
    return array.ravel().astype(np.int64)


def read_amplitudes(folder: Path, n_spikes: int) -> Array | None:
    """Return one number per spike, or None where there are none.

    Raises
    ------
    ValueError
        When there is not one per spike.
    """
    path = folder / "amplitudes.npy"
    if not path.is_file():
        return None
    amplitudes = read_array(path).ravel()
    if amplitudes.size != n_spikes:
        msg = f"{path} must have one number for each of {n_spikes} spikes, found {amplitudes.size}"
        raise ValueError(msg)
    return amplitudes


def read_positions(folder: Path) -> npt.NDArray[np.float64] | None:
    """Return the positions (um) of the channels, shape (channels, 2), or None."""
    path = folder / "channel_positions.npy"
    return np.atleast_2d(read_array(path)).astype(np.float64) if path.is_file() else None


def read_templates(folder: Path, units: npt.NDArray[np.int64], n_units: int) -> Array | None:
    """Return the unwhitened template (samples, channels) of each unit, that of its spikes on average; or None.

    A unit that was merged by hand has spikes of several templates.
    """
    path, spikes = folder / "templates.npy", folder / "spike_templates.npy"
    if not path.is_file() or not spikes.is_file() or (folder / "template_ind.npy").is_file():
        return None
    templates, of_spike = read_array(path), read_vector(spikes)
    if templates.ndim != 3 or of_spike.shape != units.shape or (of_spike.size and of_spike.max() >= len(templates)):
        msg = f"{path} and {spikes} must fit together, found shapes {templates.shape} and {of_spike.shape}"
        raise ValueError(msg)
    unwhiten = folder / "whitening_mat_inv.npy"
    inverse = read_array(unwhiten).astype(np.float32) if unwhiten.is_file() else None
    averages = np.zeros((n_units, *templates.shape[1:]), dtype=np.float32)
    for unit, (own, weights) in enumerate(_template_shares(of_spike, units, n_units)):
        average = np.tensordot(weights, templates[own], axes=1)
        averages[unit] = average if inverse is None else average @ inverse
    return averages


def _template_shares(
    of_spike: npt.NDArray[np.int64], units: npt.NDArray[np.int64], n_units: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Return the templates that the spikes of each unit come from, and the share of its spikes in each."""
    pairs, counts = np.unique(np.stack([units, of_spike]), axis=1, return_counts=True)
    borders = np.searchsorted(pairs[0], np.arange(n_units + 1))
    shares = []
    for first, last in pairwise(borders):
        weights = counts[first:last].astype(np.float32)
        shares.append((pairs[1, first:last], weights / weights.sum() if weights.size else weights))
    return shares


# ---------------------------------------------------------------- tables of clusters


def read_tables(folder: Path) -> dict[str, dict[int, Any]]:
    """Return the columns of all tables that have one row per cluster: by name, then by cluster.

    Raises
    ------
    ValueError
        When such a table names a cluster that is no number.
    """
    columns: dict[str, dict[int, Any]] = {}
    for path in sorted([*folder.glob("*.tsv"), *folder.glob("*.csv")]):
        if path.stem in _DERIVED:
            continue
        for row in _read_rows(path):
            for name, text in row.items():
                if "cluster_id" in row and name not in {"cluster_id", None} and text:
                    columns.setdefault(name, {})[_cluster(path, row["cluster_id"])] = _number_or_text(text)
    return columns


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as a table: {error}"
        raise ValueError(msg) from error


def _cluster(path: Path, text: str) -> int:
    try:
        return int(float(text))
    except ValueError as error:
        msg = f"{path} must have numbers in its column cluster_id, found {text!r}"
        raise ValueError(msg) from error


def _number_or_text(text: str) -> Any:
    if text in {"True", "False"}:
        return text == "True"
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return text


def write_tables(folder: Path, columns: Mapping[str, Mapping[int, Any]]) -> None:
    """Write one table per column, as Phy does; names that are no file names are left out."""
    for name, values in columns.items():
        if not re.fullmatch(r"\w[\w .-]*", name):
            continue
        with (folder / f"cluster_{name}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(["cluster_id", name])
            writer.writerows([cluster, _single_line(value)] for cluster, value in values.items())


def _single_line(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    return " ".join(str(plain).split())


# ---------------------------------------------------------------- traces


def open_traces(folder: Path, params: Mapping[str, Any]) -> Any | None:
    """Return the data that ``params.py`` names as a SpikeInterface recording of the sorted channels, or None."""
    named = params.get("dat_path")
    paths = [folder / path for path in ([named] if isinstance(named, str) else named or []) if path]
    known = all(isinstance(params.get(name), kind) for name, kind in (("n_channels_dat", int), ("dtype", str)))
    if not paths or not known or not all(path.is_file() for path in paths) or len(paths) > 1:
        return None
    from spikeinterface.core import BinaryRecordingExtractor

    recording = BinaryRecordingExtractor(
        paths, params["sample_rate"], params["dtype"],
        num_channels=params["n_channels_dat"], file_offset=int(params.get("offset", 0)),
    )  # fmt: skip
    used = folder / "channel_map.npy"
    return recording.select_channels(recording.channel_ids[read_vector(used)]) if used.is_file() else recording
