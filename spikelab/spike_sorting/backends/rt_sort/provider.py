"""The part of RT-Sort that runs in the interpreter that has it: ``python -I provider.py {look,check,sort} ORDERS``.

Started by its path, since nothing of this package can be imported there: `look` needs the standard library alone,
`check` torch and a provider of RT-Sort, `sort` numpy and SpikeInterface as well. ORDERS is a JSON file; how it ended
is in ``status.json`` beside it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import logging
import multiprocessing
import os
import pickle  # noqa: TID251 - what torch raises for a file that it refuses; nothing is unpickled
import re
import sys
import tarfile
import threading
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any

PROVIDERS = (
    (
        "braindance",
        "core/spikesorter/rt_sort.py",
        "braindance.core.spikesorter.rt_sort",
        "braindance.core.spikedetector.model",
    ),
    (
        "spikelab",
        "spike_sorting/rt_sort/_algorithm.py",
        "spikelab.spike_sorting.rt_sort._algorithm",
        "spikelab.spike_sorting.rt_sort.model",
    ),
)
"""Packages that carry RT-Sort: name, a file by which it is known, module of the algorithm, module of the model."""
NEEDED = ("torch", "numpy", "spikeinterface", "sklearn", "diptest")
MODEL_FILES = ("init_dict.json", "state_dict.pt")
STATUS = "status.json"
STEP = "spikelab step: "
"""Begins a line that says what is done now."""
_PLAIN_TEXT = re.compile(r"[\w.+ -]{0,64}")
_SPIKES_PER_TEMPLATE = 300
_TEMPLATE_MS = (1.0, 2.0)
"""Before and after the spike of the root electrode."""
_LOOK_S = 0.2
_KILLED = -9
"""Exit code of a process that was killed: by the kernel, where memory ran out."""
_EXIT_KILLED = 137
"""The same, as a shell says it."""


class ModelProblem(Exception):
    """The detection model cannot be used."""


class NotInstalled(Exception):
    """A package is missing, or does not work here."""

    def __init__(self, message: str, missing: str) -> None:
        super().__init__(message)
        self.missing = missing


def main(arguments: list[str]) -> int:
    """Do what the first argument says and return the exit code."""
    if arguments[0] == "look":
        sys.stdout.write(json.dumps(look()) + "\n")
        return 0
    orders_path = Path(arguments[1])
    orders = json.loads(orders_path.read_text(encoding="utf-8"))
    status = orders_path.with_name(STATUS)
    try:
        done = {"check": check, "sort": sort}[arguments[0]](orders)
    except ModelProblem as error:
        done = {"outcome": "model", "message": str(error)}
    except NotInstalled as error:
        done = {"outcome": "not_installed", "message": str(error), "missing": error.missing}
    _write(status, done)
    return 0


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(values), encoding="utf-8")
    partial.replace(path)


def _step(name: str) -> None:
    sys.stdout.write(f"{STEP}{name}\n")
    sys.stdout.flush()


# ----------------------------------------------------------------------------------------------- what is here


def look() -> dict[str, Any]:
    """Return which provider is here, without importing it."""
    found = _find()
    if found is None:
        return {"provider": None}
    name, home, _, _ = found
    return {
        "provider": name,
        "version": _version(name),
        "packages": {package: _version(package) for package in ("torch", "spikeinterface", "numpy")},
        "missing": [package for package in NEEDED if importlib.util.find_spec(package) is None],
        "models": {probe: _bundled(home, probe) for probe in ("mea", "neuropixels")},
    }


def _find() -> tuple[str, Path, str, str] | None:
    for name, known_by, algorithm, model in PROVIDERS:
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(place) / known_by).is_file():
                return name, Path(place), algorithm, model
    return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bundled(home: Path, probe: str) -> str | None:
    """Return the folder of the provider's own model, where it has both of its files."""
    folders = sorted(home.glob(f"**/detection_models/{probe}"))
    whole = (folder for folder in folders if all((folder / name).is_file() for name in MODEL_FILES))
    return str(next(whole, "")) or None


# -------------------------------------------------------------------------------------------------- the model


def check(orders: dict[str, Any]) -> dict[str, Any]:
    """Import the provider and load the model, as a sort would."""
    algorithm, models, _ = _import_provider()
    _check_known(algorithm, orders["given"])
    device = _device(orders["device"])
    load_model(models, Path(orders["model"]), Path(orders["folder"]) / "model", device)
    return {"outcome": "done", "device": device}


def _import_provider() -> tuple[Any, Any, str]:
    found = _find()
    if found is None:
        msg = f"none of {', '.join(provider[0] for provider in PROVIDERS)} is installed in {sys.prefix}"
        raise NotInstalled(msg, "rt_sort")
    name, _, algorithm, model = found
    try:
        return importlib.import_module(algorithm), importlib.import_module(model), name
    except (ImportError, AttributeError) as error:
        msg = f"{name} {_version(name)} cannot be imported by {sys.executable}: {error}"
        raise NotInstalled(msg, getattr(error, "name", None) or name) from error


def _device(asked: str) -> str:
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.startswith("cuda") and not torch.cuda.is_available():
        msg = f"rt_sort_device={asked!r}, but torch {torch.__version__} of {sys.executable} can use no GPU"
        raise NotInstalled(msg, "torch with CUDA")
    return asked


def load_model(models: Any, folder: Path, clean: Path, device: str) -> Any:
    """Return the provider's model from a copy of `folder` that is known to hold numbers and nothing else.

    The provider would unpickle ``state_dict.pt``, which may run any code, and expects the device that it was made on.
    """
    settings = _settings_of(folder / MODEL_FILES[0])
    weights = _weights_of(folder / MODEL_FILES[1])
    import torch

    clean.mkdir(parents=True, exist_ok=True)
    (clean / MODEL_FILES[0]).write_text(json.dumps({**settings, "device": device}), encoding="utf-8")
    torch.save(weights, clean / MODEL_FILES[1])
    try:
        model = models.ModelSpikeSorter.load(clean)
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        told = " ".join(str(error).split())[:500]
        msg = f"the model in {folder} does not fit its own description or this version of RT-Sort: {told}"
        raise ModelProblem(msg) from error
    return model.to(device) if hasattr(model, "to") else model


def _settings_of(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} is missing or no JSON ({error})"
        raise ModelProblem(msg) from error
    if not isinstance(settings, dict) or not all(_is_plain(value) for value in settings.values()):
        msg = f"{path} must hold numbers and names alone"
        raise ModelProblem(msg)
    return settings


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, str):
        return _PLAIN_TEXT.fullmatch(value) is not None
    return value is None or isinstance(value, (bool, int, float))


def _weights_of(path: Path) -> dict[str, Any]:
    import torch

    # Before its version 2.6, torch runs code of such a file whatever it is told.
    if path.is_file() and tarfile.is_tarfile(path):
        msg = f"{path} is a tar archive, as old versions of torch wrote them: load and save the model with a new one"
        raise ModelProblem(msg)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        first = str(error).strip().partition("\n")[0][:300]
        msg = f"{path} cannot be read as weights and nothing else: {first}"
        raise ModelProblem(msg) from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        msg = f"{path} must hold tensors by name, and holds something else"
        raise ModelProblem(msg)
    return dict(weights)


def _in_single_precision(model: Any) -> Any:
    """Have `model` compute in 32 bits on a CPU, where 16 bits are a hundred times slower."""
    import torch

    class Single(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner.float()

        def forward(self, traces: Any) -> Any:
            return self.inner(traces.float()).to(traces.dtype)

    network = model.model
    network.conv = Single(network.conv)
    model.compile = lambda *_args, **_options: network.conv
    return model


# --------------------------------------------------------------------------------------------------- the sort


def sort(orders: dict[str, Any]) -> dict[str, Any]:
    """Find sequences and sort, and leave what came out as plain arrays in ``folder``."""
    threading.Thread(target=_end_with_a_killed_process, daemon=True).start()
    folder, work = Path(orders["folder"]), Path(orders["work"])
    _step("importing RT-Sort")
    algorithm, models, name = _import_provider()
    import numpy as np
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if orders["verbose"]:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    device = _device(orders["device"])
    model = load_model(models, Path(orders["model"]), work / "model", device)
    if device == "cpu":
        model = _in_single_precision(model)
    _default_device(algorithm, device)
    traces = np.load(orders["traces"], mmap_mode="r", allow_pickle=False)
    recording = _recording(traces, orders["fs_Hz"], orders["locations_um"])
    _step("detecting sequences")
    found, outputs = _detect(algorithm, model, recording, orders, device)
    if not found:
        return {"outcome": "no_sequences", "message": "0 sequences remain: no neuron was seen to propagate"}
    _step("sorting")
    samples, labels = _sort_all(found, recording, orders, outputs)
    if not samples.size:
        return {"outcome": "no_sequences", "message": "sequences were found, and no spike was assigned to them"}
    _step("averaging")
    _save(folder, traces, samples, labels, _roots(found), orders)
    if orders["save_pickle"]:
        found.save(folder / "rt_sort.pickle")
    return {
        "outcome": "done",
        "provider": name,
        "version": _version(name),
        "device": device,
        "n_sequences": len(_roots(found)),
        "n_spikes": int(samples.size),
    }


def _end_with_a_killed_process() -> None:
    """End as killed once one of RT-Sort's own processes was: its pool would wait for that one's answer for ever."""
    seen: set[Any] = set()
    while not any(process.exitcode == _KILLED for process in seen):
        time.sleep(_LOOK_S)
        seen.update(multiprocessing.active_children())
    sys.stdout.write("a process of RT-Sort's pool was killed\n")
    sys.stdout.flush()
    # A process that the pool starts in its place would keep our output open, for which the caller waits.
    os.register_at_fork(before=threading.Event().wait)
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(_EXIT_KILLED)  # noqa: TID251 - only the main thread could end otherwise, and it waits


def _recording(traces: Any, fs_Hz: float, locations_um: list[list[float]]) -> Any:
    from spikeinterface.core import NumpyRecording

    recording = NumpyRecording([traces], fs_Hz)
    recording.set_channel_locations(locations_um)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def _default_device(algorithm: Any, device: str) -> None:
    """RT-Sort makes its result on the GPU unless told otherwise, and does not tell itself."""
    made = algorithm.RTSort.__init__
    names = made.__code__.co_varnames[1 : made.__code__.co_argcount]
    defaults = list(made.__defaults__ or ())
    at = names.index("device") - (len(names) - len(defaults)) if "device" in names else -1
    if at >= 0:
        defaults[at] = device
        made.__defaults__ = tuple(defaults)


def _parameters_of(algorithm: Any) -> set[str]:
    import inspect

    return set(inspect.signature(algorithm.detect_sequences).parameters)


def _check_known(algorithm: Any, given: list[str]) -> None:
    """Raise NotInstalled when a parameter that the user has given is none of this version's."""
    unknown = sorted(set(given) - _parameters_of(algorithm))
    if unknown:
        msg = f"this version of RT-Sort has no parameter {', '.join(unknown)}"
        raise NotInstalled(msg, unknown[0])


def _detect(algorithm: Any, model: Any, recording: Any, orders: dict[str, Any], device: str) -> tuple[Any, Path | None]:
    """Return RT-Sort's sequences and the model's outputs, where those are of the whole recording."""
    inter = Path(orders["work"]) / "detection"
    takes = _parameters_of(algorithm)
    _check_known(algorithm, orders["given"])
    whole_ms = 1000 * recording.get_num_samples() / orders["fs_Hz"]
    window_ms = orders["detection_ms"]
    is_part = window_ms is not None and window_ms < whole_ms
    found = algorithm.detect_sequences(
        recording,
        inter,
        detection_model=model,
        recording_window_ms=(0, window_ms) if is_part else None,
        device=device,
        num_processes=orders["num_processes"],
        delete_inter=False,
        verbose=orders["verbose"],
        **{key: value for key, value in orders["params"].items() if key in takes},
    )
    outputs = inter / "model_outputs.npy"
    return found, None if is_part or not outputs.is_file() else outputs


def _sort_all(found: Any, recording: Any, orders: dict[str, Any], outputs: Path | None) -> tuple[Any, Any]:
    """Return the sample and the sequence of each spike, in order of time."""
    import numpy as np

    # What detection has left of the model's work is most of the work of sorting.
    known = {} if outputs is None else {"model_outputs": str(outputs)}
    inter = Path(orders["work"]) / "sorting"
    sorted_ = found.sort_offline(
        recording, inter, verbose=orders["verbose"], return_spikeinterface_sorter=True, **known
    )
    trains = [np.asarray(sorted_.get_unit_spike_train(unit)).astype(np.int64) for unit in sorted_.unit_ids]
    samples = np.concatenate([np.empty(0, np.int64), *trains])
    labels = np.repeat(np.asarray(sorted_.unit_ids, dtype=np.int64), [train.size for train in trains])
    order = np.argsort(samples, kind="stable")
    return samples[order], labels[order]


def _roots(found: Any) -> list[int]:
    return [int(electrode) for electrode in found.get_seq_root_elecs()]


def _save(folder: Path, traces: Any, samples: Any, labels: Any, roots: list[int], orders: dict[str, Any]) -> None:
    """Write spikes in samples of the recording, and what each sequence looks like on average."""
    import numpy as np

    before, after = (round(ms / 1000 * orders["fs_Hz"]) for ms in _TEMPLATE_MS)
    templates = np.zeros((len(roots), before + after, traces.shape[1]), np.float32)
    for unit in range(len(roots)):
        own = samples[labels == unit]
        own = own[(own >= before) & (own < traces.shape[0] - after)]
        own = own[:: max(1, -(-own.size // _SPIKES_PER_TEMPLATE))]
        for sample in own:
            templates[unit] += traces[sample - before : sample + after]
        templates[unit] /= max(1, own.size)
    arrays = {
        "spike_samples": samples + orders["first_sample"],
        "spike_labels": labels,
        "root_channels": np.asarray(roots, np.int64),
        "templates": templates,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except Exception:  # noqa: BLE001 - the boundary of this process: its last line is what is classified
        traceback.print_exc()
        code = 1
    sys.exit(code)
