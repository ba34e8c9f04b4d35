"""A record of what was removed and why, as strict JSON."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.curation._ids import UnitId, stored_ids, unit_ids
from spikelab.curation._result import CriterionResult
from spikelab.curation.merging import replay_merges

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

History = dict[str, Any]


def build_curation_history(
    sd_original: SpikeData,
    sd_curated: SpikeData,
    results: Mapping[str, CriterionResult],
    parameters: Mapping[str, Any] | None = None,
) -> History:
    """Return what a curation removed and why, ready for ``json.dump(history, file, allow_nan=False)``.

    Units are named by their attribute ``unit_id`` where all of them have it, else by their index in
    `sd_original`.

    Parameters
    ----------
    sd_original : SpikeData
        The units before curation.
    sd_curated : SpikeData
        The units that were kept.
    results : mapping of str to dict
        What ``curate()`` returned, or ``{"snr": res}`` of one criterion; every array has one value per unit
        of `sd_original`.
    parameters : mapping, optional
        Thresholds to put on record.

    Returns
    -------
    dict
        ``curation_parameters``: as given; ``initial``: ids before; ``curations``: for each criterion in order
        {stage, criterion, n_units, n_passed, n_removed}; ``curated`` and ``failed``: {criterion: [ids]};
        ``metrics``: {str(id): {criterion: value}}; ``curated_final``: ids after; where units were merged,
        ``merges``: {criterion: [merge]}, with which :func:`apply_curation` does it again. NaN is None, infinities
        are "inf" and "-inf".

    Raises
    ------
    ValueError
        When ids repeat, an array has another length, the curated units do not come from the original ones or
        failed a criterion, or `parameters` hold what JSON cannot.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 2.0], [3.0]], length=10.0, neuron_attributes=[{"unit_id": 7}, {"unit_id": 9}])
    >>> curated, results = sd.curate(min_spikes=2)
    >>> history = sd.build_curation_history(sd_original=sd, sd_curated=curated, results=results)
    >>> history["failed"], history["curated_final"]
    ({'spike_count': [9]}, [7])
    """
    ids = unit_ids(sd_original)
    for criterion, result in results.items():
        _check_lengths(criterion, result, len(ids))
    history = {
        "curation_parameters": _to_json(dict(parameters or {}), "parameters"),
        "initial": ids,
        "curations": [_count(criterion, result) for criterion, result in results.items()],
        "curated": {name: _select(ids, result["passed"]) for name, result in results.items()},
        "failed": {name: _select(ids, ~np.asarray(result["passed"])) for name, result in results.items()},
        "metrics": _metrics_by_unit(ids, results),
        "curated_final": _final_ids(ids, sd_original, sd_curated, results),
    }
    merges = {name: _accepted(result) for name, result in results.items() if "merges" in result}
    return history | ({"merges": merges} if merges else {})


def chain_histories(first: History, second: History) -> History:
    """Return one history of two curations, of which the second ran on the survivors of the first.

    The stages of `second` are numbered on from those of `first`. A criterion that both applied is called
    ``<criterion>_<stage>`` from its second time on. The parameters are kept by stage: {"stage_1": ...,
    "stage_2": ...}.

    Parameters
    ----------
    first, second : dict
        Histories as :func:`build_curation_history` returns them; where the units have no ids, the indices of
        `second` are translated to those of `first`.

    Returns
    -------
    dict
        A history with the same keys, that can be chained again.

    Raises
    ------
    ValueError
        When the second curation did not start from the units that the first one left.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 2.0, 3.0], [1.0, 2.0], [3.0]], length=10.0)
    >>> once, results_1 = sd.curate(min_spikes=2)
    >>> twice, results_2 = once.curate(min_spikes=3)
    >>> history = chain_histories(
    ...     sd.build_curation_history(sd, once, results_1), sd.build_curation_history(once, twice, results_2)
    ... )
    >>> history["failed"]
    {'spike_count': [2], 'spike_count_2': [1]}
    """
    translate = _translation(first, second)
    parameters = [*_stages(first), *_stages(second)]
    names = _rename_repeated(first, second, n_stages=len(_stages(first)))
    joined = {
        "curation_parameters": {f"stage_{i}": stage for i, stage in enumerate(parameters, start=1)},
        "initial": list(first["initial"]),
        "curations": [*first["curations"], *_renumbered(second, names, n_stages=len(_stages(first)))],
        "curated": first["curated"] | _renamed(second["curated"], names, translate),
        "failed": first["failed"] | _renamed(second["failed"], names, translate),
        "metrics": _joined_metrics(first, second, names, translate),
        "curated_final": [translate[str(unit)] for unit in second["curated_final"]],
    }
    merges = dict(first.get("merges", {}))
    for name, done in second.get("merges", {}).items():
        merges[names[name]] = [
            {**merge, **{part: translate[str(merge[part])] for part in ("unit", "into")}} for merge in done
        ]
    return joined | ({"merges": merges} if merges else {})


def apply_curation(sd_raw: SpikeData, history: Mapping[str, Any]) -> SpikeData:
    """Do what a history tells again, and return the same units.

    Nothing is measured or judged: units that failed go, and units that were merged are merged.

    Parameters
    ----------
    sd_raw : SpikeData
        The units before curation, those that the history names as ``initial``; never changed.
    history : mapping
        As :func:`build_curation_history` or :func:`chain_histories` return it, also read back from JSON.

    Returns
    -------
    SpikeData
        The units that the history names as ``curated_final``.

    Raises
    ------
    ValueError
        When the units are not those of the history, or the history contradicts itself.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 2.0], [3.0]], length=10.0)
    >>> curated, results = sd.curate(min_spikes=2)
    >>> apply_curation(sd, sd.build_curation_history(sd, curated, results)) == curated
    True
    """
    _check_keys(history)
    names = unit_ids(sd_raw)
    if list(map(str, names)) != list(map(str, history["initial"])):
        msg = (
            f"the history must begin with the units given ({len(names)}: {names[:5]}...), found "
            f"{len(history['initial'])}: {history['initial'][:5]}...; give the SpikeData before curation"
        )
        raise ValueError(msg)
    sd = sd_raw
    for entry in history["curations"]:
        criterion = entry["criterion"]
        gone = {str(unit) for unit in history["failed"][criterion]}
        if criterion in history.get("merges", {}):
            sd = replay_merges(sd, history["merges"][criterion], names)
        else:
            sd = sd.subset([unit for unit, name in enumerate(names) if str(name) not in gone])
        names = [name for name in names if str(name) not in gone]
    if sorted(map(str, names)) != sorted(map(str, history["curated_final"])):
        msg = f"the history says that {history['curated_final'][:20]} are left, and its steps leave {names[:20]}"
        raise ValueError(msg)
    return sd


# ---------------------------------------------------------------- one curation


def _check_keys(history: Mapping[str, Any]) -> None:
    missing = [key for key in ("initial", "curations", "failed", "curated_final") if key not in history]
    if missing:
        msg = f"this is no history of curation: it lacks {missing}; give what build_curation_history returned"
        raise ValueError(msg)


def _check_lengths(criterion: str, result: CriterionResult, n_units: int) -> None:
    for part in ("metric", "passed"):
        n_found = len(result[part])
        if n_found != n_units:
            msg = (
                f"results[{criterion!r}][{part!r}] must have one value for each of the {n_units} units of "
                f"sd_original, found {n_found}; for curations one after the other, build a history of each "
                "and join them with chain_histories"
            )
            raise ValueError(msg)


def _count(criterion: str, result: CriterionResult) -> dict[str, Any]:
    passed = np.asarray(result["passed"], dtype=bool)
    n_passed = int(passed.sum())
    return {
        "stage": 1,
        "criterion": criterion,
        "n_units": passed.size,
        "n_passed": n_passed,
        "n_removed": passed.size - n_passed,
    }


def _accepted(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_to_json(dict(merge), "merges") for merge in result["merges"] if merge["accepted"]]


def _select(ids: Sequence[UnitId], chosen: Iterable[Any]) -> list[UnitId]:
    return [unit for unit, is_chosen in zip(ids, chosen, strict=True) if is_chosen]


def _metrics_by_unit(ids: Sequence[UnitId], results: Mapping[str, CriterionResult]) -> dict[str, dict[str, Any]]:
    columns = {name: [_to_json(float(x), name) for x in result["metric"]] for name, result in results.items()}
    return {str(unit): {name: column[i] for name, column in columns.items()} for i, unit in enumerate(ids)}


def _final_ids(
    ids: list[UnitId], sd_original: SpikeData, sd_curated: SpikeData, results: Mapping[str, CriterionResult]
) -> list[UnitId]:
    passed_all = np.ones(len(ids), dtype=bool)
    for result in results.values():
        passed_all &= np.asarray(result["passed"], dtype=bool)
    expected = _select(ids, passed_all)
    stored = stored_ids(sd_curated) if sd_curated.N else []
    # Without ids a unit cannot be recognised: those that passed everything are the ones that are left.
    final = expected if stored is None or stored_ids(sd_original) is None else stored
    stray = [unit for unit in final if unit not in set(expected)]
    if stray or len(final) != sd_curated.N:
        msg = (
            f"sd_curated must hold only units of sd_original that passed every criterion ({len(expected)}), "
            f"found {sd_curated.N} units, among them {stray}; give the SpikeData that the results belong to"
        )
        raise ValueError(msg)
    return final


def _to_json(value: Any, where: str) -> Any:
    """Return the value as strict JSON can hold it."""
    if isinstance(value, np.ndarray | np.generic):
        return _to_json(value.tolist(), where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_json(item, where) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    msg = f"{where} holds a {type(value).__name__}; JSON takes numbers, text, lists and dicts"
    raise ValueError(msg)


def _plain_float(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


# ---------------------------------------------------------------- one after the other


def _translation(first: History, second: History) -> dict[str, UnitId]:
    """Return the first history's id of every unit that the second one names."""
    survivors, started = first["curated_final"], second["initial"]
    if sorted(map(str, survivors)) == sorted(map(str, started)):
        return {str(unit): unit for unit in survivors}
    if started == list(range(len(survivors))):
        return {str(i): unit for i, unit in enumerate(survivors)}
    msg = (
        f"the second history must start from the {len(survivors)} units that the first one left "
        f"({survivors[:5]}...), found {len(started)} ({started[:5]}...)"
    )
    raise ValueError(msg)


def _stages(history: History) -> list[Any]:
    """Return the parameters of every stage of a history."""
    parameters = history["curation_parameters"]
    if parameters and all(re.fullmatch(r"stage_\d+", key) for key in parameters):
        return list(parameters.values())
    return [parameters]


def _rename_repeated(first: History, second: History, n_stages: int) -> dict[str, str]:
    taken = {entry["criterion"] for entry in first["curations"]}
    own = {entry["criterion"] for entry in second["curations"]}
    names = {}
    for entry in second["curations"]:
        base = entry["criterion"].removesuffix(f"_{entry['stage']}")
        base = base if base in own else entry["criterion"]
        names[entry["criterion"]] = f"{base}_{n_stages + entry['stage']}" if base in taken else base
        taken.add(names[entry["criterion"]])
    return names


def _renumbered(second: History, names: Mapping[str, str], n_stages: int) -> list[dict[str, Any]]:
    return [
        {**entry, "stage": n_stages + entry["stage"], "criterion": names[entry["criterion"]]}
        for entry in second["curations"]
    ]


def _renamed(
    lists: Mapping[str, Sequence[UnitId]], names: Mapping[str, str], translate: Mapping[str, UnitId]
) -> dict[str, list[UnitId]]:
    return {names[name]: [translate[str(unit)] for unit in units] for name, units in lists.items()}


def _joined_metrics(
    first: History, second: History, names: Mapping[str, str], translate: Mapping[str, UnitId]
) -> dict[str, dict[str, Any]]:
    joined = {unit: dict(values) for unit, values in first["metrics"].items()}
    for unit, values in second["metrics"].items():
        later = {names[name]: value for name, value in values.items()}
        joined.setdefault(str(translate[unit]), {}).update(later)
    return joined
