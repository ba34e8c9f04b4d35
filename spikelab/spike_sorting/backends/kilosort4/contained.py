"""Kilosort4's steps in a container: our own driver, mounted, in the interpreter that the image brings.

`run_steps` is the side that asks; the module itself is the program inside. Between the two go a request, as JSON in the
folder for temporary files, one line of output for each progress, and an answer beside the request.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spikelab
from spikelab.spike_sorting._classifier import classify
from spikelab.spike_sorting._exceptions import (
    SorterCrashedError,
    SorterNotInstalledError,
    UnclassifiedSortError,
    error_from_dict,
)
from spikelab.spike_sorting.backends.child import Ended
from spikelab.spike_sorting.backends.kilosort4.request import Request
from spikelab.spike_sorting.supervision.progress import ProgressLines, progress_in
from spikelab.spike_sorting.supervision.publish import publish_json

if TYPE_CHECKING:
    from spikelab.spike_sorting.backends.base import SortJob

_MODULE = "spikelab.spike_sorting.backends.kilosort4.contained"
_PACKAGES = Path("/opt/spikelab-packages")
"""Where our package lies inside."""
_SORTER = "kilosort4"

_log = logging.getLogger(_MODULE)


def run_steps(job: SortJob, request: Request) -> Mapping[str, Any]:
    """Have `request` done in the image that the settings of `job` name; return what to note of it.

    Raises
    ------
    SpikeSortingClassifiedError
        What the program inside failed with, or what ended it.
    UnclassifiedSortError
        Likewise, where nothing is known of the failure.
    """
    from spikelab.spike_sorting.backends.containers.running import run_contained
    from spikelab.spike_sorting.backends.containers.runtime import Bind

    job.run.scratch.mkdir(parents=True, exist_ok=True)
    job.run.sorter_checkpoints.mkdir(parents=True, exist_ok=True)
    orders, answer = job.run.scratch / "request.json", job.run.scratch / "answer.json"
    answer.unlink(missing_ok=True)
    publish_json(orders, {"request": request.to_dict(), "checkpoints": str(job.run.sorter_checkpoints)})
    package = Path(spikelab.__file__).parent
    ran = run_contained(
        job,
        ("python", "-m", _MODULE, str(orders), str(answer)),
        reads=(request.binary.path, Bind(package, target=_PACKAGES / package.name)),
        writes=(job.run.sorter_checkpoints,),
        environment={"PYTHONPATH": str(_PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"},
        on_line=lambda line: _reported(line, job),
    )
    said = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    ended = Ended(ran.exit_code, ran.tail)
    why = said["failure"]["message"] if "failure" in said else ended.last_words
    if why.startswith("ModuleNotFoundError"):
        msg = f"the image {ran.image.name} does not have what Kilosort4 needs ({why}); docker/kilosort4 builds one"
        raise SorterNotInstalledError(msg, sorter=_SORTER, missing=ran.image.name)
    if "failure" in said:
        raise _rebuilt(said["failure"])
    if ran.exit_code != 0 or not said:
        msg = f"Kilosort4 in the image {ran.image.name} ended with {ended.name}: {ended.last_words}"
        log_path, log_tail = str(job.run.log), "\n".join(ran.tail)
        raise SorterCrashedError(msg, sorter=_SORTER, exit_name=ended.name, log_path=log_path, log_tail=log_tail)
    return {**said, "image": ran.image.to_dict()}


def _reported(line: str, job: SortJob) -> bool:
    """Pass on the progress in `line`, if it is one."""
    told = progress_in(line)
    if told is not None:
        job.progress.report(told.step, told.fraction, told.n_spikes)
    return told is not None


def _rebuilt(failure: Mapping[str, Any]) -> Exception:
    if failure["classified"] is not None:
        return error_from_dict(failure["classified"])
    return UnclassifiedSortError(failure["message"], stage="sort", remote_traceback=failure["traceback"])


# -------------------------------------------------------------------------------------------- inside the container


def main(arguments: list[str]) -> int:
    """Do what the request says, and leave an answer, be it what went wrong."""
    orders_path, answer_path = map(Path, arguments)
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    orders = json.loads(orders_path.read_text(encoding="utf-8"))
    request = Request.from_dict(orders["request"])
    try:
        answer = _sorted(request, Path(orders["checkpoints"]))
    except Exception as error:  # noqa: BLE001 - the boundary of this process: whoever asked rebuilds the error
        # What is told of a known failure need not have its words.
        _log.exception("Kilosort4 failed")
        classified = classify(_SORTER, request.folder, error)
        failure = {
            "message": f"{type(error).__name__}: {error}",
            "classified": classified.to_dict() if classified else None,
            "traceback": traceback.format_exc(),
        }
        publish_json(answer_path, {"failure": failure})
        return 1
    publish_json(answer_path, answer)
    return 0


def _sorted(request: Request, checkpoints: Path) -> dict[str, Any]:
    import kilosort

    from spikelab.spike_sorting.backends.kilosort4 import steps
    from spikelab.spike_sorting.backends.kilosort4.logfile import log_file

    with log_file(request.folder):
        replaced = steps.run_steps(request, ProgressLines(), checkpoints)
    return {"accelerated": list(replaced), "version": kilosort.__version__}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
