"""Recordings by path: the format is found from the file, and SpikeInterface's reader gives every sample of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recording_files as files
import spikeinterface as si

from spikelab.simulation import write_maxwell
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import KILOSORT4, RecordingConfig
from spikelab.spike_sorting.formats.format import BinaryLayout
from spikelab.spike_sorting.formats.table import FORMATS, open_recording, streams_of
from spikelab.spike_sorting.inputs import find_input
from spikelab.spike_sorting.jobs import plan, plan_streams
from spikelab.spike_sorting.sources import Source, find_streams, identity, open_files, open_source, recordings_in

N_SAMPLES, N_CHANNELS, FS_HZ = 5_120, 4, 20_000.0
SAMPLES = np.random.default_rng(0).integers(-400, 400, (N_SAMPLES, N_CHANNELS)).astype("int16")
FLAT = {"binary_fs": FS_HZ, "binary_n_chan": N_CHANNELS}


def _in_memory(samples: Any = SAMPLES, fs_Hz: float = FS_HZ) -> si.BaseRecording:
    import probeinterface

    recording = si.NumpyRecording([samples], fs_Hz)
    probe = probeinterface.generate_linear_probe(samples.shape[1], ypitch=20)
    probe.set_device_channel_indices(range(samples.shape[1]))
    recording.set_probe(probe)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def _save(folder: Path, format_: str) -> Path:
    _in_memory().save(folder=folder, format=format_, verbose=False, progress_bar=False, n_jobs=1)
    return folder


def _flat(path: Path) -> Path:
    SAMPLES.tofile(path)
    return path


def _maxwell(path: Path, layout: str) -> Path:
    return write_maxwell(path, _in_memory(), layout=layout)


@dataclass(frozen=True)
class Case:
    """A recording of one format: what writes it, what is expected of it."""

    name: str
    write: Callable[[Path], Path]
    streams: list[str]
    zero: int = 0
    fs_Hz: float = FS_HZ
    gain_uV: float | None = None
    options: dict[str, Any] | None = None
    n_samples: int = N_SAMPLES


NWB_SERIES = ["acquisition/ElectricalSeries"]
NEUROPIXELS = {"streams": ["imec0.ap"], "fs_Hz": 30e3, "gain_uV": 2.34375}
CASES = [
    Case("Maxwell", lambda f: _maxwell(f / "a.raw.h5", "20190530"), ["well000"], 512, gain_uV=1.0),
    Case("Maxwell, old", lambda f: _maxwell(f / "a.raw.h5", "20160704"), ["well000"], 512, gain_uV=1.0),
    Case("NWB", lambda f: files.write_nwb(f / "a.nwb", SAMPLES, FS_HZ, lfp=True), NWB_SERIES, gain_uV=0.25),
    Case("SpikeGLX file", lambda f: files.write_spikeglx(f / "a", "r", SAMPLES, 30e3), **NEUROPIXELS),
    Case("SpikeGLX folder", lambda f: files.write_spikeglx(f / "a", "r", SAMPLES, 30e3).parent, **NEUROPIXELS),
    Case("Open Ephys", lambda f: files.write_open_ephys(f / "a", SAMPLES, FS_HZ), ["0"], gain_uV=0.195),
    Case("Intan", lambda f: files.write_intan(f / "a.rhd", SAMPLES, FS_HZ), ["0"], 32768, gain_uV=0.195),
    Case("Intan, two files", lambda f: files.write_intan(f / "info.rhd", SAMPLES, FS_HZ), ["0"], gain_uV=0.195),
    Case("Blackrock", lambda f: files.write_blackrock(f / "a.ns5", SAMPLES), ["5"], fs_Hz=30e3, gain_uV=0.25),
    Case("Neuralynx", lambda f: files.write_neuralynx(f / "a", SAMPLES, 32e3), ["0"], fs_Hz=32e3, gain_uV=0.25),
    Case("MCS raw", lambda f: files.write_mcs_raw(f / "a.raw", SAMPLES, FS_HZ), ["0"], 32768, gain_uV=0.25),
    Case("MCS HDF5", lambda f: files.write_mcs_h5(f / "a.h5", SAMPLES, FS_HZ), ["0"], gain_uV=0.059605),
    Case("NeuroScope", lambda f: files.write_neuroscope(f / "a.dat", SAMPLES, FS_HZ), ["0"]),
    Case("MDA", lambda f: files.write_mda(f / "a", SAMPLES, FS_HZ), []),
    Case("SpikeInterface folder", lambda f: _save(f / "a", "binary"), [], gain_uV=1.0),
    Case("SpikeInterface zarr", lambda f: _save(f / "a.zarr", "zarr"), [], gain_uV=1.0),
    Case("flat binary", lambda f: _flat(f / "a.bin"), [], options=FLAT),
    Case("flat binary, old ending", lambda f: _flat(f / "a.bat"), [], options=FLAT),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_is_read_to_the_sample(case: Case, tmp_path: Path) -> None:
    """Samples, sampling rate and gain of each format are those that were written, and other processes read the same."""
    path = case.write(tmp_path)
    assert find_streams(path) == case.streams
    found = find_input(path, RecordingConfig(**(case.options or {})))
    assert found.problem is None
    (recording,) = open_source(Source.from_dict(json.loads(json.dumps(found.source.to_dict()))))
    np.testing.assert_array_equal(recording.get_traces().astype(int) - case.zero, SAMPLES)
    assert recording.sampling_frequency == pytest.approx(case.fs_Hz)
    if case.gain_uV is not None:
        np.testing.assert_allclose(recording.get_channel_gains(), case.gain_uV)
    assert identity(found.source) == identity(found.source)


def test_no_reader_asks_the_network(tmp_path: Path) -> None:
    """Files of every format are opened and read without a look-up, a connection or a request."""
    described = []
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = case.write(folder)
        described.append(find_input(path, RecordingConfig(**(case.options or {}))).source.to_dict())
    code = """
import json, sys
asked = []
def watch(event, args):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethostby", "urllib.Request")):
        asked.append((event, str(args)))
sys.addaudithook(watch)
from spikelab.spike_sorting.formats.table import streams_of
from spikelab.spike_sorting.sources import Source, open_source
from pathlib import Path
for values in json.load(sys.stdin):
    source = Source.from_dict(values)
    streams_of(Path(source.files[0]))
    open_source(source)[0].get_traces(end_frame=100)
print(asked)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(described), env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
    assert not (tmp_path / "hdf5_plugin_path_maxwell").exists()


def test_the_readers_of_the_table_are_there() -> None:
    """SpikeInterface has each reader that the table names, and it takes a path and a stream."""
    from functools import partial
    from inspect import signature

    from spikeinterface.extractors import extractor_classes

    for format_ in FORMATS:
        if isinstance(format_.read, partial):
            reader = getattr(extractor_classes, f"{format_.read.args[0]}RecordingExtractor")
            parameters = list(signature(reader).parameters)
            assert parameters[0] in {"file_path", "folder_path"}, format_.name
            assert "stream_id" in parameters, format_.name
            assert next(iter(signature(reader.map_to_neo_kwargs).parameters)) == parameters[0], format_.name
    assert len({format_.name for format_ in FORMATS}) == len(FORMATS)


# ------------------------------------------------------------------------------------------------- what was tried


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("a.bin", b"1234", "cannot be read. Tried SpikeGLX: there is no a.meta beside it; flat binary: .*: set "),
        ("a.raw", b"1234", "Tried Multi Channel Systems raw: it has no header that ends with EOH; flat binary"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "Tried Maxwell, NWB, .*: it cannot be opened as HDF5"),
        ("a.rhd", b"nonsense", "cannot be read as Intan \\(.*; expected the .rhd or .rhs file"),
        ("a.ns5", b"", "cannot be read as Blackrock \\("),
        ("a.plx", b"nonsense", "cannot be read as Plexon \\("),
        ("a.edf", b"nonsense", "cannot be read as EDF \\("),
        ("a.pl2", b"nonsense", "cannot be sorted: .pl2 is Plexon's library, .* export to .plx or NWB"),
        ("a.ncs", b"", "give its folder"),
        ("a.txt", b"", "is of no known format: nothing is read that ends in .txt. Known are .*Intan \\(.rhd, .rhs\\)"),
        ("noending", b"", "nothing is read that ends in nothing"),
    ],
)  # fmt: skip
def test_what_was_tried_is_listed(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    """When no format fits, the message lists each that was tried with its reason, or what to give instead."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingUnreadableError, match=said) as caught:
        open_recording(path)
    assert caught.value.path == str(path)


def test_hdf5_is_known_by_its_content(tmp_path: Path) -> None:
    """A file whose name says nothing is still read when it holds a known kind of HDF5."""
    path = write_maxwell(tmp_path / "a.raw.h5", _in_memory()).rename(tmp_path / "renamed.data")
    assert open_recording(path).get_num_channels() == N_CHANNELS


def test_an_unknown_hdf5_file_tells_what_it_holds(tmp_path: Path) -> None:
    """HDF5 of another kind is refused with what was looked for and what is there."""
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volts"] = np.zeros(3)
    with pytest.raises(
        RecordingUnreadableError, match=r"it has no Data/Recording_0/AnalogStream; it holds \['volts'\]"
    ):
        open_recording(tmp_path / "a.h5")


# -------------------------------------------------------------------------------------------------------- streams


def test_only_streams_with_spikes_are_sorted_by_default(tmp_path: Path) -> None:
    """Of a probe with LFP and synchronisation the wide band is meant; any other is still there for who names it."""
    run = tmp_path / "run_g0"
    files.write_spikeglx(run / "run_g0_imec0", "run", SAMPLES, 30e3)
    files.write_spikeglx(run / "run_g0_imec0", "run", SAMPLES[::12], 2.5e3, band="lf")
    assert len(streams_of(run)) == 4
    (job,) = plan(run, KILOSORT4)
    assert (job.source.stream_id, job.name) == ("imec0.ap", "run_g0_imec0.ap")
    (lfp,) = plan(run, KILOSORT4.override(stream_id="imec0.lf"))
    assert open_source(lfp.source)[0].sampling_frequency == 2.5e3


def test_probes_are_streams(tmp_path: Path) -> None:
    """Two probes of a run need a choice, and all means each of the two."""
    for probe in (0, 1):
        files.write_spikeglx(tmp_path / "run" / f"run_imec{probe}", "run", SAMPLES, 30e3, probe=probe)
    with pytest.raises(ValueError, match=r"several streams: \['imec\d.ap', 'imec\d.ap'\]; use sort_multistream"):
        plan(tmp_path / "run", KILOSORT4)
    jobs = plan_streams(tmp_path / "run", KILOSORT4)
    assert sorted(jobs) == ["imec0.ap", "imec1.ap"]
    assert {job.run.results.name for job in jobs.values()} == {"run_imec0.ap", "run_imec1.ap"}


def test_a_stream_is_chosen_by_its_name_too(tmp_path: Path) -> None:
    """Names of streams that people know are as good as the reader's numbers, and messages have both."""
    path = files.write_intan(tmp_path / "a.rhd", SAMPLES, FS_HZ)
    chosen = find_input(path, RecordingConfig(stream_id="RHD2000 auxiliary input channel"))
    assert chosen.source.stream_id == "1"
    with pytest.raises(ValueError, match=r"no stream '7'; it has \['0 \(RHD2000 amplifier channel\)', '1 \(RHD2000"):
        find_input(path, RecordingConfig(stream_id="7"))


def test_a_stream_whose_name_no_folder_can_have(tmp_path: Path) -> None:
    """The series of an NWB file are paths; the folders of their results are not."""
    path = files.write_nwb(tmp_path / "a.nwb", SAMPLES, FS_HZ, lfp=True)
    (job,) = plan(path, KILOSORT4)
    assert job.run.results == tmp_path / "sorted_kilosort4" / "a.nwb_acquisition_ElectricalSeries"


# ----------------------------------------------------------------------------------------- folders of recordings


def test_a_folder_holds_recordings_or_is_one(tmp_path: Path) -> None:
    """Folders of one recording are told from folders of recordings, in which LFP and notes do not count."""
    day = tmp_path / "day"
    files.write_spikeglx(day / "run_g0", "run", SAMPLES, 30e3)
    files.write_neuralynx(day / "cheetah", SAMPLES, 32e3)
    files.write_open_ephys(day / "2020-01-01", SAMPLES, FS_HZ)
    files.write_blackrock(day / "b.ns5", SAMPLES)
    files.write_blackrock(day / "b.ns2", SAMPLES, period=30)
    files.write_intan(day / "c.rhd", SAMPLES, FS_HZ)
    (day / "notes").mkdir()
    for name in ("b.nev", "temp_wh.dat", "probe.prb", "x.npz"):
        (day / name).touch()
    assert [path.name for path in recordings_in(day)] == ["2020-01-01", "b.ns5", "c.rhd", "cheetah", "run_g0"]


def test_flat_binary_files_count_where_nothing_else_is(tmp_path: Path) -> None:
    """A folder of flat binary files is one recording of several files."""
    for name in ("a10.bin", "a9.bin"):
        _flat(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (job,) = plan(tmp_path, KILOSORT4.override(**FLAT))
    assert job.source.names == ("a9.bin", "a10.bin")
    assert job.source.layout == BinaryLayout(FS_HZ, N_CHANNELS)
    assert [recording.get_num_samples() for recording in open_source(job.source)] == [N_SAMPLES, N_SAMPLES]


def test_one_of_several_triggers(tmp_path: Path) -> None:
    """A SpikeGLX file is read by itself, whatever else lies in its folder."""
    first = files.write_spikeglx(tmp_path, "run", SAMPLES, 30e3)
    second = files.write_spikeglx(tmp_path, "run", SAMPLES[:1000], 30e3).rename(tmp_path / "run_g0_t1.imec0.ap.bin")
    meta = first.with_suffix(".meta")
    second.with_suffix(".meta").write_text(meta.read_text().replace("_t0.", "_t1."))
    with_sync = np.hstack([SAMPLES, np.zeros((N_SAMPLES, 1), "int16")])
    with_sync.tofile(first)
    assert [open_recording(path).get_num_samples() for path in (first, second)] == [N_SAMPLES, 1000]
    assert open_recording(tmp_path, "imec0.ap").get_num_segments() == 2


def test_parts_of_an_open_ephys_session(tmp_path: Path) -> None:
    """A session that was stopped and started is no single stretch; its parts, in a nested list, are one recording."""
    session = files.write_open_ephys(tmp_path / "session", SAMPLES, FS_HZ, n_recordings=2)
    assert open_recording(session, "0").get_num_segments() == 2
    parts = sorted((session / "Record Node 101" / "experiment1").iterdir())
    (job,) = plan([parts], KILOSORT4)
    assert [recording.get_num_samples() for recording in open_source(job.source)] == [N_SAMPLES, N_SAMPLES]
    assert job.source.names == ("recording1", "recording2")


def test_a_file_shorter_than_its_description(tmp_path: Path) -> None:
    """A SpikeGLX file that was cut is read as far as it goes, and the run says that it was cut."""
    path = files.write_spikeglx(tmp_path / "run", "run", SAMPLES, 30e3)
    path.write_bytes(path.read_bytes()[: 1000 * (N_CHANNELS + 1) * 2])
    for place in (path, path.parent):
        (opened,) = open_files(Source((str(place),), "imec0.ap"))
        assert opened.recording.get_num_samples() == 1000
        assert [told.code for told in opened.remarks] == ["file-cut"]
        assert "has 10000 bytes, and its .meta says 51200" in opened.remarks[0].message
