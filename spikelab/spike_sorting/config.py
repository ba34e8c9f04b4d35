"""Every setting of the pipeline: frozen groups of values, presets, and their files.

A configuration never changes: `SortingPipelineConfig.override` returns a new one. The flat names that
`override` and ``sort_recording(**overrides)`` take are found by introspection of the groups.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from spikelab.spike_sorting._settings import (
    FrozenMap,
    check_exclusive,
    check_order,
    check_settings,
    closest,
    flat_name,
    memory_bytes,
    parse_toml,
    setting,
    thaw,
)
from spikelab.spike_sorting._toml_lines import line_of

SORTERS = ("kilosort2", "kilosort4", "rt_sort")
"""Sorters that come with spikelab; packages may add others under the entry-point group of the backends."""
BACKENDS_GROUP = "spikelab.backends"

BinaryType = Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class RecordingConfig:
    """What is read, and which part of it."""

    stream_id: str | None = setting(None, "Stream (well, probe) to read; needed where a file has several.")
    hdf5_plugin_path: str | None = setting(
        None, "Folder(s) with HDF5 filter plugins, joined by the path separator; for compressed files."
    )
    probe_path: str | None = setting(
        None,
        "Probe file (.prb, .mat, .json) that takes the place of the recording's own; None: its own, or one beside it.",
    )
    binary_fs: float | None = setting(None, "Sampling rate of flat binary files (Hz).", above=0)
    binary_n_chan: int | None = setting(
        None, "Channels of flat binary files, those without electrodes included.", low=1
    )
    binary_dtype: BinaryType = setting("int16", "Type of a sample of flat binary files.")
    binary_offset: int = setting(0, "Length of the header of flat binary files, which is skipped (bytes).", low=0)
    first_n_mins: float | None = setting(None, "Sort only the first N minutes (min).", above=0)
    mea_y_max: float | None = setting(None, "Leave out contacts above this y position (um).")
    gain_to_uv: float | None = setting(
        None, "Gain (uV per count) where the file has none or a wrong one.", low=-1e9, high=1e9
    )
    offset_to_uv: float | None = setting(
        None, "Offset (uV) where the file has none or a wrong one.", low=-1e9, high=1e9
    )
    rec_chunks: tuple[tuple[int, int], ...] | None = setting(
        None, "Periods to sort, as (start, end) in samples of the recording.", low=0
    )
    rec_chunks_s: tuple[tuple[float, float], ...] | None = setting(
        None, "Periods to sort, as (start, end) in seconds of the recording.", low=0
    )
    start_time_s: float | None = setting(None, "Start of the part that is sorted (s).", low=0)
    end_time_s: float | None = setting(None, "End of the part that is sorted (s).", above=0)
    freq_min: float = setting(300.0, "Low edge of the pass band (Hz).", above=0)
    freq_max: float = setting(6000.0, "High edge of the pass band for metrics and templates (Hz).", above=0)
    bad_channels: Literal["auto"] | tuple[str | int, ...] | None = setting(
        "auto",
        "Channels to leave out: found automatically, a list of channel ids, or None for none. With a list or None, "
        "files that seem to be read in a wrong way are sorted, too.",
    )
    stim_times_ms: tuple[float, ...] | str | None = setting(
        None,
        "Times of stimulation (ms of the recording, for one recording at a time), or a file with them; their artifacts "
        "are removed.",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.gain_to_uv == 0:
            msg = "gain_to_uv must not be 0: every sample would become 0 uV"
            raise ValueError(msg)
        check_order("freq_min", self.freq_min, "freq_max", self.freq_max)
        check_order("start_time_s", self.start_time_s, "end_time_s", self.end_time_s)
        check_exclusive("rec_chunks", self.rec_chunks, "rec_chunks_s", self.rec_chunks_s)
        for chunk in self.rec_chunks or ():
            _check_period("rec_chunks", chunk)
        for chunk_s in self.rec_chunks_s or ():
            _check_period("rec_chunks_s", chunk_s)


@dataclass(frozen=True, kw_only=True)
class StimulationConfig:
    """How artifacts of stimulation are found and removed; read where ``stim_times_ms`` are given."""

    method: Literal["polynomial", "blank"] = setting(
        "polynomial", "Follow the tail and keep its spikes, or blank the whole window.", flat="stim_method"
    )
    recenter: bool = setting(True, "Move the logged times to the artifacts first.", flat="stim_recenter")
    artifact_window_ms: float = setting(
        10.0, "Length of the tail after the last saturated sample (ms).", above=0, flat="stim_artifact_window_ms"
    )
    saturation_threshold: float | None = setting(
        None,
        "Distance from the baseline at which samples are saturated (unit of the file); None: from the data.",
        above=0,
        flat="stim_saturation_threshold",
    )
    baseline_threshold: float | None = setting(
        None,
        "Distance within which the signal is back at its baseline (unit of the file); None: 6 SD of the noise.",
        above=0,
        flat="stim_baseline_threshold",
    )
    poly_order: int = setting(3, "Order of the polynomial.", low=1, high=7, flat="stim_poly_order")
    artifact_window_only: bool = setting(True, "Follow tails within the window only.", flat="stim_artifact_window_only")
    poly_clamp_factor: float = setting(
        10.0, "The curve stays within this many times the RMS of its tail.", above=0, flat="stim_poly_clamp_factor"
    )
    max_offset_ms: float = setting(50.0, "How late an artifact may be (ms).", low=0, flat="stim_max_offset_ms")
    peak_mode: Literal["abs_max", "pos_peak", "neg_peak", "down_edge", "up_edge"] = setting(
        "abs_max", "What events are aligned to; an edge for biphasic pulses.", flat="stim_peak_mode"
    )
    n_reference_channels: int = setting(
        8, "Channels with the largest artifacts that decide.", low=1, flat="stim_n_reference_channels"
    )
    prewindow_ms: float = setting(5.0, "How early an artifact may be (ms).", low=0, flat="stim_prewindow_ms")
    warn_offset_ms: float = setting(3.0, "Warn above this median shift (ms).", low=0, flat="stim_warn_offset_ms")
    multi_peak: bool = setting(False, "Align to the first or last pulse of a train.", flat="stim_multi_peak")
    multi_peak_select: Literal["first", "last"] = setting("first", "Which of them.", flat="stim_multi_peak_select")
    multi_peak_threshold: float = setting(
        0.6, "Amplitude of a pulse that counts, of the strongest.", above=0, high=1, flat="stim_multi_peak_threshold"
    )
    multi_peak_min_separation_ms: float = setting(
        2.0, "Shortest time between two pulses (ms).", low=0, flat="stim_multi_peak_min_separation_ms"
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class SorterConfig:
    """Which sorter, where it is, and its own parameters."""

    sorter_name: str = setting("kilosort4", "Algorithm that sorts.")
    sorter_path: str | None = setting(None, "Folder of Kilosort2's MATLAB code.", flat="kilosort_path")
    sorter_params: FrozenMap = setting(
        FrozenMap(), "The sorter's own parameters by their own names.", flat="kilosort_params"
    )
    use_docker: bool | str = setting(False, "Sort in a container: True for the default image, or its name.")
    container: Literal["docker", "apptainer"] = setting("docker", "Runtime for containers.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.sorter_name not in SORTERS and self.sorter_name not in available_sorters():
            available = available_sorters()
            msg = f"Unknown sorter {self.sorter_name!r}, available: {available}{closest(self.sorter_name, available)}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class RTSortConfig:
    """Settings of RT-Sort."""

    model_path: str | None = setting(
        None,
        "Folder with the detection model (init_dict.json, state_dict.pt); None: that of RT-Sort's package, or else the "
        "small one that comes with spikelab.",
        flat="rt_sort_model_path",
    )
    probe: Literal["mea", "neuropixels"] = setting(
        "mea", "Kind of probe: decides thresholds, and the model where none is named.", flat="rt_sort_probe"
    )
    device: str = setting("auto", "Device of the detection model: auto, cuda, cuda:1, cpu.", flat="rt_sort_device")
    num_processes: int | None = setting(None, "Processes; None for one per core.", low=1, flat="rt_sort_num_processes")
    recording_window_ms: tuple[float, float] | None = setting(
        None,
        "Part that is sorted, as (start, end) in ms of the recording; None: all of it.",
        low=0,
        flat="rt_sort_recording_window_ms",
    )
    save_rt_sort_pickle: bool = setting(
        False, "Keep RT-Sort's own object, rt_sort.pickle, in the folder of the sorter.", flat="rt_sort_save_pickle"
    )
    delete_inter: bool = setting(True, "Delete RT-Sort's traces after success.", flat="rt_sort_delete_inter")
    verbose: bool = setting(True, "Write RT-Sort's progress to the log.", flat="rt_sort_verbose")
    params: FrozenMap = setting(FrozenMap(), "Thresholds by RT-Sort's own names.", flat="rt_sort_params")
    detection_window_s: float | None = setting(
        None,
        "Length of the part on which sequences are found (s), from the start of what is sorted; None: all of that.",
        above=0,
        flat="rt_sort_detection_window_s",
    )
    python: str | None = setting(
        None,
        "Interpreter of the environment that has RT-Sort, as spikelab rt-sort-env builds it; None: this one.",
        flat="rt_sort_python",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.recording_window_ms is not None:
            _check_period("rt_sort_recording_window_ms", self.recording_window_ms)


@dataclass(frozen=True, kw_only=True)
class WaveformConfig:
    """How waveforms are cut out and measured."""

    ms_before: float = setting(2.0, "Window before the spike (ms).", above=0, flat="waveforms_ms_before")
    ms_after: float = setting(2.0, "Window after the spike (ms).", above=0, flat="waveforms_ms_after")
    pos_peak_thresh: float = setting(
        2.0,
        "A unit counts as positive when its positive peak exceeds its negative one this many times.",
        above=0,
    )
    max_waveforms_per_unit: int = setting(300, "Spikes per unit that enter templates and metrics.", low=1)
    std_at_peak: bool = setting(True, "Measure the spread at the peak sample, not over a window.")
    std_over_window_ms_before: float = setting(0.5, "Window of the spread before the peak (ms).", low=0)
    std_over_window_ms_after: float = setting(1.5, "Window of the spread after the peak (ms).", low=0)
    save_waveform_files: bool = setting(False, "Keep every sampled waveform in the analyzer (large).")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """Which units stay; None disables a criterion."""

    curate_first: bool = setting(True, "Run the first stage: spikes, rate, refractory period.")
    curate_second: bool = setting(True, "Run the second stage: spikes, SNR, waveform spread.")
    curation_epoch: int | None = setting(
        None, "Judge units by this epoch (file or period, from 0) of the recording alone; None: by all of it.", low=0
    )
    fr_min: float | None = setting(0.05, "Lowest firing rate (Hz).", low=0)
    isi_viol_max: float | None = setting(
        1.0, "Highest share of refractory violations (percent, or Hill's ratio).", low=0
    )
    isi_violation_method: Literal["percent", "hill"] = setting("percent", "Measure of violations.")
    snr_min: float | None = setting(5.0, "Lowest signal-to-noise ratio.", low=0)
    spikes_min_first: int | None = setting(30, "Fewest spikes, first stage.", low=0)
    spikes_min_second: int | None = setting(50, "Fewest spikes, second stage.", low=0)
    std_norm_max: float | None = setting(1.0, "Largest spread of the waveform over its amplitude.", low=0)
    redundancy_max: float | None = setting(
        60.0,
        "Highest share of a unit's spikes that coincide with those of larger units, beyond chance (percent); above it "
        "the unit is what the larger ones left behind.",
        low=0,
        high=100,
    )
    merge_duplicates: bool = setting(False, "Merge units that are one neuron between the stages.")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class CompilationConfig:
    """Which files are written besides the standard ones."""

    compile_to_mat: bool = setting(False, "Write sorted.mat.")
    compile_to_npz: bool = setting(False, "Write sorted.npz.")
    compile_waveforms: bool = setting(False, "Put sampled waveforms into sorted.npz / sorted.mat; needs one of them.")
    save_electrodes: bool = setting(True, "Put electrode numbers into sorted.npz / sorted.mat.")
    save_raw_pkl: bool = setting(False, "Keep the uncurated units too (spikedata_raw.h5).")
    include_failed_units: bool = setting(
        False, "Put units that failed curation into sorted.npz / .mat; needs one of them."
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class FigureConfig:
    """How the report's figures look."""

    create_figures: bool = setting(True, "Draw the figures of the report.")
    create_unit_figures: bool = setting(False, "Draw one figure per unit (slow for many units).")
    figure_format: Literal["png", "svg"] = setting("png", "Kind of file of saved figures; svg for editing and print.")
    dpi: int = setting(150, "Resolution of saved figures (dots per inch).", low=30, high=1200)
    font_size: float = setting(10.0, "Font size (pt).", above=0)
    color_kept: str = setting("#0072B2", "Colour of units that passed.")
    color_removed: str = setting("#D55E00", "Colour of units that failed.")
    label_kept: str = setting("kept", "Name of units that passed.")
    label_removed: str = setting("removed", "Name of units that failed.")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How the work is done and watched."""

    n_jobs: int | None = setting(None, "Worker processes for waveforms and copies; None: one per core.", low=1)
    total_memory: str | int | None = setting(
        None, 'Memory for those together, as "16G" or bytes; None: half of what is free.'
    )
    random_seed: int = setting(0, "Seed of every random choice.", low=0)
    recompute_recording: bool = setting(False, "Do everything again, from reading the recording on.")
    recompute_sorting: bool = setting(False, "Do everything again from sorting on.")
    reextract_waveforms: bool = setting(False, "Do everything again from waveforms on.")
    recurate_first: bool = setting(False, "Do the curation again.")
    recurate_second: bool = setting(False, "Do the curation again.")
    delete_inter: bool = setting(False, "Delete the intermediate folder after success.")
    keep_binary: bool = setting(False, "Keep the binary copy of the recording after success (Phy uses it).")
    runner: Literal["process", "inline"] = setting(
        "process", "Supervised worker processes, or this process for debugging (no isolation)."
    )
    preflight: bool = setting(True, "Check machine and recordings before anything runs.")
    preflight_strict: bool = setting(False, "Treat warnings of these checks as errors.")
    preflight_min_free_inter_gb: float | None = setting(
        None, "Free disk for intermediate files (GB); None: from the size of the job.", low=0
    )
    preflight_min_free_results_gb: float | None = setting(
        None, "Free disk for results (GB); None: from the size of the job.", low=0
    )
    preflight_min_available_ram_gb: float | None = setting(
        None, "Free memory (GB); None: from the size of the job.", low=0
    )
    preflight_min_free_vram_gb: float | None = setting(
        None, "Free GPU memory (GB); None: from the size of the job.", low=0
    )
    canary_first_n_s: float = setting(0.0, "Try the sorter on the first N seconds first (s); 0: off.", low=0)
    canary_min_recording_s: float = setting(0.0, "No such trial for recordings shorter than this (s).", low=0)
    oom_retry_max: int = setting(3, "Retries after running out of memory.", low=0)
    oom_retry_factor: float = setting(0.5, "Factor on the batch size per such retry.", above=0, high=0.95)
    host_ram_watchdog: bool = setting(True, "Watch the machine's memory.")
    host_ram_warn_pct: float = setting(85.0, "Warn above this use of memory (percent).", low=0, high=100)
    host_ram_abort_pct: float = setting(92.0, "Stop above this use of memory (percent).", low=0, high=100)
    gpu_watchdog: bool = setting(True, "Watch the GPU's memory and temperature.")
    gpu_warn_pct: float = setting(85.0, "Warn above this use of GPU memory (percent).", low=0, high=100)
    gpu_abort_pct: float = setting(95.0, "Stop above this use of GPU memory (percent).", low=0, high=100)
    gpu_warn_temp_c: float = setting(85.0, "Warn above this GPU temperature (C).", low=0)
    gpu_abort_temp_c: float = setting(92.0, "Stop above this GPU temperature (C).", low=0)
    disk_watchdog: bool = setting(True, "Watch free disk space.")
    disk_warn_free_gb: float = setting(5.0, "Warn below this free space (GB).", low=0)
    disk_abort_free_gb: float = setting(1.0, "Stop below this free space (GB).", low=0)
    io_stall_watchdog: bool = setting(True, "Watch for disks and shares that no longer answer.")
    io_stall_s: float = setting(300.0, "Time without any progress of input and output that counts (s).", above=0)
    sorter_inactivity_timeout: bool = setting(True, "Stop a sorter that shows no sign of life.")
    sorter_inactivity_base_s: float = setting(600.0, "Silence that is always tolerated (s).", above=0)
    sorter_inactivity_per_min_s: float = setting(30.0, "More tolerance per minute of recording (s per min).", low=0)
    sorter_inactivity_max_s: float = setting(7200.0, "Largest tolerance (s).", above=0)
    prevent_system_sleep: bool = setting(True, "Keep the machine awake while it sorts.")
    docker_image_expected_digest: str | None = setting(None, "Digest that the sorter's image must have.")
    tee_log_policy: Literal["keep", "delete_on_success", "gzip_on_success"] = setting(
        "keep", "What becomes of the log after success."
    )
    generate_sorting_report: bool = setting(True, "Write sorting_report.md and sorting_report.html.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.total_memory is not None:
            memory_bytes(self.total_memory)
        check_order("host_ram_warn_pct", self.host_ram_warn_pct, "host_ram_abort_pct", self.host_ram_abort_pct)
        check_order("gpu_warn_pct", self.gpu_warn_pct, "gpu_abort_pct", self.gpu_abort_pct)
        check_order("gpu_warn_temp_c", self.gpu_warn_temp_c, "gpu_abort_temp_c", self.gpu_abort_temp_c)
        check_order("disk_abort_free_gb", self.disk_abort_free_gb, "disk_warn_free_gb", self.disk_warn_free_gb)


@dataclass(frozen=True, kw_only=True)
class SortingPipelineConfig:
    """All settings of a sort, in groups.

    Examples
    --------
    >>> config = KILOSORT4.override(fr_min=0.1, snr_min=6.0)
    >>> config.curation.snr_min, KILOSORT4.curation.snr_min
    (6.0, 5.0)
    """

    recording: RecordingConfig = RecordingConfig()
    stimulation: StimulationConfig = StimulationConfig()
    sorter: SorterConfig = SorterConfig()
    rt_sort: RTSortConfig = RTSortConfig()
    waveform: WaveformConfig = WaveformConfig()
    curation: CurationConfig = CurationConfig()
    compilation: CompilationConfig = CompilationConfig()
    figures: FigureConfig = FigureConfig()
    execution: ExecutionConfig = ExecutionConfig()

    def __post_init__(self) -> None:
        for group in dataclasses.fields(self):
            value = getattr(self, group.name)
            if not isinstance(value, type(group.default)):
                msg = f"{group.name} must be a {type(group.default).__name__}, got {value!r} ({type(value).__name__})"
                raise TypeError(msg)

    def override(self, **flat: Any) -> SortingPipelineConfig:
        """Return a copy with the settings of these flat names replaced.

        Parameters
        ----------
        **flat : object
            Settings by flat name, such as ``snr_min=6.0`` or ``kilosort_params={"Th_learned": 7}``.

        Raises
        ------
        TypeError
            A name is unknown, or a value has the wrong type.
        ValueError
            A value is out of its range.
        """
        homes = flat_settings()
        groups: dict[str, dict[str, Any]] = {}
        for name, value in flat.items():
            if name not in homes:
                msg = f"Unknown parameter {name!r}{closest(name, list(homes))}"
                raise TypeError(msg)
            group, field = homes[name]
            groups.setdefault(group, {})[field.name] = value
        replaced = {group: dataclasses.replace(getattr(self, group), **new) for group, new in groups.items()}
        return dataclasses.replace(self, **replaced)

    @classmethod
    def from_kwargs(cls, **flat: Any) -> SortingPipelineConfig:
        """Return the defaults with the settings of these flat names replaced."""
        return cls().override(**flat)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return groups of plain JSON values; infinities are written "inf"."""
        return {
            group.name: {
                field.name: thaw(getattr(getattr(self, group.name), field.name))
                for field in dataclasses.fields(getattr(self, group.name))
            }
            for group in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, groups: Mapping[str, Mapping[str, Any]]) -> SortingPipelineConfig:
        """Return the configuration that `groups` (from ``to_dict``) describes; missing settings are defaults.

        Raises
        ------
        ValueError
            A group or a setting is unknown, or a value is out of its range; names group and setting.
        TypeError
            A value has the wrong type.
        """
        classes = {group.name: type(group.default) for group in dataclasses.fields(cls)}
        built = {}
        for name, values in groups.items():
            if name not in classes:
                raise ValueError(_unknown_group(name, list(classes)))
            built[name] = _build_group(classes[name], name, values)
        return cls(**built)

    def to_toml(self, path: str | Path) -> Path:
        """Write all settings to `path`; ``from_toml`` reads them back the same."""
        import tomli_w

        path = Path(path)
        path.write_text(tomli_w.dumps(_for_toml(self.to_dict())), encoding="utf-8")
        return path

    @classmethod
    def from_toml(cls, path: str | Path) -> SortingPipelineConfig:
        """Read a file of ``[group]`` tables; what it leaves out keeps its default.

        Raises
        ------
        ValueError
            The file is not TOML, or holds an unknown or wrong setting; names the file, the line and the setting.
        """
        path, groups, text = Path(path), {}, ""
        try:
            text = _read_text(path)
            groups = _parse(text)
            return cls.from_dict(groups)
        except (TypeError, ValueError) as error:
            wrong = _first_wrong(groups)
            line = line_of(text, *wrong) if wrong else None
            msg = f"{path}{f', line {line}' if line else ''}: {error}"
            raise ValueError(msg) from error

    @classmethod
    def preset(cls, sorter: str | None) -> SortingPipelineConfig:
        """Return the preset of the sorter of that name; None means "kilosort4".

        Raises
        ------
        ValueError
            No such sorter.
        """
        presets = {"kilosort2": KILOSORT2, "kilosort4": KILOSORT4, "rt_sort": RT_SORT_MEA}
        name = sorter or "kilosort4"
        return presets.get(name) or cls(sorter=SorterConfig(sorter_name=name))


def available_sorters() -> list[str]:
    """Return the names of all sorters: ours, and those that other installed packages add."""
    return sorted({*SORTERS, *(point.name for point in entry_points(group=BACKENDS_GROUP))})


@cache
def flat_settings() -> Mapping[str, tuple[str, dataclasses.Field[Any]]]:
    """Return where each flat name lives: name -> (group, field)."""
    homes: dict[str, tuple[str, dataclasses.Field[Any]]] = {}
    defaults = SortingPipelineConfig()
    for group in dataclasses.fields(defaults):
        for field in dataclasses.fields(getattr(defaults, group.name)):
            homes[flat_name(field)] = (group.name, field)
    return MappingProxyType(homes)


def _check_period(name: str, period: tuple[float, float]) -> None:
    check_order(f"start in {name}", period[0], f"end in {name}", period[1])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        msg = f"it is no text in utf-8 ({error.reason} at byte {error.start}); save it with that encoding"
        raise ValueError(msg) from error


def _parse(text: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        place = re.search(r"at line (\d+)", str(error))
        if place is None:
            raise
        msg = f"{error}: {text.splitlines()[int(place[1]) - 1].strip()!r}"
        raise ValueError(msg) from error


def _unknown_group(name: str, groups: list[str]) -> str:
    if name in flat_settings():
        group, field = flat_settings()[name]
        return f"setting {name!r} stands outside of its group; write it as {field.name} under [{group}]"
    return f"unknown group [{name}]{closest(name, groups)}; the groups are {groups}"


def _build_group(cls: type[Any], group: str, values: Any) -> Any:
    if not isinstance(values, Mapping):
        msg = f"[{group}] must be a group of settings, got {values!r} ({type(values).__name__})"
        raise TypeError(msg)
    known = [field.name for field in dataclasses.fields(cls)]
    for name in values:
        if name not in known:
            msg = f"[{group}] has no setting {name!r}{closest(name, known)}"
            raise ValueError(msg)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        msg = f"[{group}] {error}"
        raise type(error)(msg) from error


def _first_wrong(groups: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Return group and setting of what is wrong in `groups`, or the group alone; None where it is no single one."""
    classes = {group.name: type(group.default) for group in dataclasses.fields(SortingPipelineConfig)}
    for group, values in groups.items():
        if group not in classes or not isinstance(values, Mapping):
            return group, None
        for name, value in values.items():
            if _is_wrong(classes[group], group, {name: value}):
                return group, name
    return None


def _is_wrong(cls: type[Any], group: str, values: Mapping[str, Any]) -> bool:
    try:
        _build_group(cls, group, values)
    except (TypeError, ValueError):
        return True
    return False


def _for_toml(value: Any) -> Any:
    """TOML has no null: None is written "none", which every setting that may be None reads as None."""
    if isinstance(value, Mapping):
        return {key: _for_toml(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_for_toml(item) for item in value]
    return "none" if value is None else value


KILOSORT2 = SortingPipelineConfig(sorter=SorterConfig(sorter_name="kilosort2"))
"""Kilosort2 in MATLAB; needs ``kilosort_path``."""
KILOSORT2_DOCKER = KILOSORT2.override(use_docker=True)
"""Kilosort2, compiled, in a container."""
KILOSORT4 = SortingPipelineConfig(sorter=SorterConfig(sorter_name="kilosort4"))
"""Kilosort4, natively in torch, on a GPU where there is one."""
KILOSORT4_DOCKER = KILOSORT4.override(use_docker=True)
"""Kilosort4 in a container."""
RT_SORT_MEA = SortingPipelineConfig(sorter=SorterConfig(sorter_name="rt_sort"))
"""RT-Sort on multi-electrode arrays."""
RT_SORT_NEUROPIXELS = RT_SORT_MEA.override(rt_sort_probe="neuropixels")
"""RT-Sort on Neuropixels probes."""
