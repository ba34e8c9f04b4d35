"""What deserves a look although a sort goes on or succeeded: warnings and suspicions, each with a code that stays.

`CODES` is the one table of codes; ``docs/when-a-sort-fails.md`` shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Kind = Literal["recording", "run", "preflight", "suspicion"]


@dataclass(frozen=True)
class Code:
    """What a code stands for.

    Parameters
    ----------
    kind : {"recording", "run", "preflight", "suspicion"}
        Who tells it: the look at the samples while loading, the run itself, the checks before the start, or the
        checks of what came out.
    meaning : str
        What was found, in general.
    advice : str
        What to look at or to do, a sentence. Checks before the start have an advice of their own for each case.
    """

    kind: Kind
    meaning: str
    advice: str = ""


@dataclass(frozen=True)
class Remark:
    """One warning or suspicion.

    Parameters
    ----------
    code : str
        Its name, for programs; one of `CODES`.
    message : str
        What was found, with numbers.
    advice : str
        What to look at or to do.

    Examples
    --------
    >>> print(remark("no-gain", "the file has no gain"))
    The file has no gain. Set gain_to_uv, so that amplitudes are in microvolts. [no-gain]
    """

    code: str
    message: str
    advice: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (sentence(self.message), self.advice, f"[{self.code}]") if part)

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON values."""
        return {"code": self.code, "message": self.message, "advice": self.advice}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Remark:
        """Return the remark that `values` (from ``to_dict``) describes; what a later version adds is ignored."""
        return cls(str(values["code"]), str(values["message"]), str(values.get("advice") or ""))


def sentence(text: str) -> str:
    """Return `text` with a full stop, and a capital unless it begins with the name of something.

    Examples
    --------
    >>> sentence("1 gap"), sentence("no unit fires"), sentence("snr_min is low")
    ('1 gap.', 'No unit fires.', 'snr_min is low.')
    """
    capital = text[:1].upper() if re.match(r"[a-z]+[ ,:;]", text) else text[:1]
    return f"{capital}{text[1:].rstrip('.')}." if text else ""


def remark(code: str, message: str, advice: str | None = None) -> Remark:
    """Return a remark of the kind `code`, with the advice of the table where `advice` is None.

    Raises
    ------
    KeyError
        The table has no such code.
    """
    known = CODES[code]
    return Remark(code, message, known.advice if advice is None else advice)


def remarks_from(values: Iterable[Mapping[str, Any]]) -> tuple[Remark, ...]:
    """Return the remarks that `values`, each from ``to_dict``, describe."""
    return tuple(map(Remark.from_dict, values))


_KEEP = "To decide yourself, name the channels to leave out in bad_channels, or set it to None."
_READ_ANEW = (
    "Read the file again with the right data type, byte order, header and number of channels; if it is right as it "
    "is, set bad_channels=None."
)

CODES: Mapping[str, Code] = MappingProxyType(
    {
        # ------------------------------------------------------------- found in the samples while loading
        "no-gain": Code(
            "recording",
            "The file does not say how many microvolts one step is.",
            "Set gain_to_uv, so that amplitudes are in microvolts.",
        ),
        "probe-beside": Code(
            "recording",
            "The recording has no positions of its channels; they come from a probe file that lies beside it.",
            "Name the probe in probe_path if that is another one.",
        ),
        "channels-without-contact": Code(
            "recording",
            "The probe file has no contact on some channels: they are not sorted.",
            "Complete the probe file if these channels have electrodes.",
        ),
        "gain-unlikely": Code(
            "recording",
            "The noise is far from what amplifiers have (0.5 to 200 uV), so that the gain seems wrong.",
            "Set gain_to_uv to the microvolts of one step of the file.",
        ),
        "samples-misread": Code(
            "recording",
            "The samples look like those of another data type or byte order. A sort does not begin unless "
            "bad_channels is given.",
            _READ_ANEW,
        ),
        "channel-count": Code(
            "recording",
            "Samples repeat with another period than the number of channels: diagonals, as with a wrong number of "
            "channels. A sort does not begin unless bad_channels is given.",
            _READ_ANEW,
        ),
        "channels-flat": Code("recording", "Channels are constant in every sampled window.", _KEEP),
        "channels-not-finite": Code("recording", "Channels are NaN or infinite nearly throughout.", _KEEP),
        "channels-saturated": Code(
            "recording",
            "Channels sit at the end of their range, always or for at least a twentieth of the time.",
            f"{_KEEP} Check electrodes, ground and contact with the fluid.",
        ),
        "channels-clipped": Code(
            "recording",
            "Channels touch the end of their range, less often than saturated ones.",
            "They are kept; look for artifacts of stimulation or movement at those times.",
        ),
        "channels-dead": Code(
            "recording", "Channels have less than a fifth of the noise of the others: nothing is connected.", _KEEP
        ),
        "channels-noisy": Code("recording", "Channels have more than five times the noise of the others.", _KEEP),
        "channels-unlike": Code(
            "recording",
            "On a long probe, channels do not follow what all others share "
            "(dead by SpikeInterface's detect_bad_channels).",
            _KEEP,
        ),
        "channels-left-out": Code(
            "recording",
            "The settings leave channels out.",
            "Change mea_y_max or bad_channels if that is not meant.",
        ),
        "samples-not-finite": Code(
            "recording",
            "Single samples are NaN or infinite.",
            "They count as the middle of their channel; look at what the recording software wrote there.",
        ),
        "gaps": Code(
            "recording",
            "Frame numbers or times of the file leap: samples were lost while recording.",
            "Spikes after a gap are early by its length; look for dropped frames in the recording software.",
        ),
        "stimulation": Code(
            "recording",
            "Times of stimulation, or their artifacts, are not as expected.",
            "Compare the logged times with the artifacts in the raw traces.",
        ),
        "recording-short": Code(
            "recording",
            "The recording has only a few seconds.",
            "Sorters need minutes to tell units apart; take what is found for a first look.",
        ),
        # --------------------------------------------------------------------------------- told by the run
        "sorter-advice": Code("run", "The sorter or its settings ask for attention."),
        "rt-sort-small-model": Code(
            "run",
            "RT-Sort worked with the small detection model that comes with spikelab.",
            "Name a model that was trained for your kind of probe in rt_sort_model_path.",
        ),
        "rt-sort-model-rate": Code(
            "run",
            "The detection model of RT-Sort was trained at another sampling rate, and sees spikes at another width.",
            "Train one on recordings of this rate (spikelab train-detector), and name it in rt_sort_model_path.",
        ),
        "retried-smaller": Code(
            "run",
            "Memory ran out, and the step was done again with smaller settings.",
            "Free memory, or set those settings from the start.",
        ),
        "container-left": Code(
            "run",
            "A container of this sort, or of an earlier one here, may still be there: Docker did not remove it.",
            "Start Docker and sort again, or look for it: docker ps --filter label=spikelab.run",
        ),
        "retried-elsewhere": Code(
            "run",
            "A GPU was lost, and the sort went on from its last step on another one.",
            "Look at that GPU, its power and the driver's log (dmesg), before it is used again.",
        ),
        "retried-unchanged": Code(
            "run", "A worker died without a reason that is known, and did its work in a second try.", "Read the log."
        ),
        "worker-lost": Code(
            "run",
            "A machine of the cluster was lost, or its time was over, and another one continued.",
            "Look at the log of its Dask worker, and at the memory and time that the cluster gave it.",
        ),
        "file-touched": Code(
            "run",
            "A file of the recording was touched while it was sorted; its size and sampled content stayed the same.",
            "Sort again if something was written to it.",
        ),
        "conversion-saturated": Code(
            "run",
            "Samples lay beyond the range of 16 bits, with a step that is fine enough for the noise.",
            "Look for artifacts at those times; spikes are far smaller.",
        ),
        "canary-failed": Code(
            "run",
            "The trial on the first seconds failed in a way that says little; the whole was sorted all the same.",
            "Read the log.",
        ),
        "throughput": Code(
            "run",
            "A stage runs at less than a third of the speed that was estimated for this machine.",
            "Look what else the machine does, whether a GPU that is there is used, and at the disk of the recording; "
            "more threads than cores and wrong positions of channels slow a sort down, too.",
        ),
        "report-missing": Code("run", "The report could not be written: a disk does not answer.", "Check the disk."),
        "report-incomplete": Code(
            "run", "The report could not be drawn or written whole.", "spikelab report FOLDER writes it again."
        ),
        "journal-incomplete": Code(
            "run", "The journal of the run lacks its last lines: the disk is slow.", "Check the disk."
        ),
        "files-left": Code("run", "Intermediate files could not be removed.", "Remove them: spikelab clean FOLDER."),
        # ------------------------------------------------------------------ found by the checks before the start
        "recording-silent": Code("preflight", "Every channel is constant at the start, the middle or the end."),
        "file-cut": Code("preflight", "A file ends in the middle of a sample: its copy may have been cut short."),
        "recording-empty": Code("preflight", "The recording has no channels, or no samples."),
        "axes-swapped": Code("preflight", "The recording has more channels than samples: its axes are swapped."),
        "settings-misfit": Code("preflight", "Settings, or files of one recording, do not fit together."),
        "several-segments": Code("preflight", "The recording is no single stretch of time."),
        "sampling-rate": Code("preflight", "The sampling rate is one at which no spike can be seen."),
        "geometry": Code("preflight", "Positions of channels are missing, shared, unknown or not in um."),
        "hdf5-plugin-folder-missing": Code("preflight", "A folder for HDF5 plugins does not exist."),
        "folder-not-writable": Code("preflight", "A folder of the run cannot be written."),
        "network-file-system": Code("preflight", "A folder lies where locks may not work between machines."),
        "disk-space": Code("preflight", "A disk has less space than the sort needs."),
        "disk-space-together": Code("preflight", "A disk has less space than all sorts together need."),
        "inodes-low": Code("preflight", "A disk can hold few files more."),
        "ram-low": Code("preflight", "Less memory is free than the sort needs."),
        "vram-low": Code("preflight", "Less GPU memory is free than the sort needs."),
        "gpu-busy": Code("preflight", "Another sort has the GPU, and this one waits for it."),
        "gpu-driver": Code("preflight", "The GPU's driver does not answer."),
        "gpu-none": Code("preflight", "There is no GPU."),
        "gpu-hidden": Code("preflight", "CUDA_VISIBLE_DEVICES hides the GPU."),
        "gpu-left-out": Code("preflight", "No sort can use one of several GPUs: it is left out."),
        "gpu-unsupported": Code("preflight", "This build of torch has no code for the GPU."),
        "gpu-unusable": Code("preflight", "torch cannot use the GPU."),
        "docker-gpu": Code("preflight", "Docker may not be able to give containers the GPU."),
        "torch-broken": Code("preflight", "torch cannot be imported."),
        "torch-cpu-only": Code("preflight", "torch is built for the CPU alone, and there is a GPU."),
        "selftest-publish": Code("preflight", "A folder loses what is written to it."),
        "selftest-lock": Code("preflight", "Locks do not work in a folder."),
        "selftest-process": Code("preflight", "Processes cannot be started, or not ended."),
        "limit-nofile": Code("preflight", "Few files may be open at once."),
        "limit-nproc": Code("preflight", "Few processes may run at once."),
        # ---------------------------------------------------------------------- found in what came out of a sort
        "none-kept": Code(
            "suspicion",
            "Units were found, and curation kept none.",
            "Look at the curation table of the report: which criterion takes them, and is its threshold meant so?",
        ),
        "crossings-unexplained": Code(
            "suspicion",
            "Few of the threshold crossings of the signal have a spike of any unit beside them.",
            "Look at raw traces beside the spikes; lower the detection thresholds, or look for artifacts.",
        ),
        "batch-borders": Code(
            "suspicion",
            "Spikes are missing, or too many, where the sorter joins its batches.",
            "Look at the spikes around multiples of the batch length; change the batch size and compare.",
        ),
        "units-per-channel": Code(
            "suspicion",
            "There are far fewer, or far more, units than channels lead one to expect.",
            "Look at geometry, thresholds and the number of channels that were left out.",
        ),
        "amplitudes": Code(
            "suspicion",
            "Units are smaller or larger than spikes are (10 to 2000 uV).",
            "Look at the gain, and at the templates of these units: artifacts are often large.",
        ),
        "location": Code(
            "suspicion",
            "Units are large on channels far from each other, as if channels were swapped.",
            "Look at the probe: the order of its channels may not be that of the file.",
        ),
        "alike": Code(
            "suspicion",
            "Many units look like another unit at the same place.",
            "Look at their cross-correlograms; merge_duplicates=True merges those that are one neuron.",
        ),
        "silent-stretch": Code(
            "suspicion",
            "No unit fires for a stretch in which many spikes are expected.",
            "Look at the raw traces there: a cable, a pump, a gap in the file.",
        ),
        "all-mua": Code(
            "suspicion",
            "The sorter itself calls no unit good (KSLabel).",
            "Look at refractory periods and drift; too low thresholds and wrong geometry do that, too.",
        ),
    }
)
"""Every code: warnings of recordings, runs and checks before the start, and suspicions."""
