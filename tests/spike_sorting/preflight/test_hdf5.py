"""HDF5 filters: missing, present, and where they are looked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikelab.spike_sorting._exceptions import HDF5PluginMissingError
from spikelab.spike_sorting.preflight import raise_for
from spikelab.spike_sorting.preflight.checks import RECORDING_CHECKS
from spikelab.spike_sorting.preflight.elsewhere import look_at_all
from spikelab.spike_sorting.preflight.facts import look
from spikelab.spike_sorting.preflight.findings import Finding

Make = Callable[..., Any]
RAW = "wells/well000/rec0000/groups/routed/raw"
CODE = 401

_PLUGIN = r"""
#include <stddef.h>
typedef struct {
    int version, id; unsigned encoder, decoder; const char *name;
    void *can_apply, *set_local;
    size_t (*filter)(unsigned flags, size_t n, const unsigned values[], size_t used, size_t *size, void **data);
} filter_class;
static size_t invert(unsigned flags, size_t n, const unsigned values[], size_t used, size_t *size, void **data) {
    if (used < 1000) return 0;
    for (size_t k = 0; k < used; k++) ((unsigned char *)*data)[k] ^= 0xff;
    return used;
}
static const filter_class info = {1, CODE, 1, 1, "invert", NULL, NULL, invert};
int H5PLget_plugin_type(void) { return 0; }
const void *H5PLget_plugin_info(void) { return &info; }
"""


def _found(job: Any) -> list[Finding]:
    (facts,) = look_at_all([job])
    return [finding for check in RECORDING_CHECKS for finding in check(facts)]


@pytest.fixture
def compressed(maxwell: Path, tmp_path: Path) -> Path:
    """A Maxwell file whose data went through filter 401, which inverts every bit; written without a plugin."""
    return _write_filtered(maxwell, tmp_path / "compressed.raw.h5", CODE)


def _write_filtered(source: Path, path: Path, code: int) -> Path:
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        data = file[RAW][:]
        del file[RAW]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((data.shape[0], 20_000))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
        space, kind = h5py.h5s.create_simple(data.shape), h5py.h5t.STD_U16LE
        dataset = h5py.h5d.create(file[RAW.rpartition("/")[0]].id, b"raw", kind, space, properties)
        for start in range(0, data.shape[1], 20_000):
            chunk = np.ascontiguousarray(data[:, start : start + 20_000])
            dataset.write_direct_chunk((0, start), (~chunk).tobytes())
    return path


@pytest.fixture
def plugins(require_program: Make, tmp_path: Path) -> Path:
    """A folder with a plugin for filter 401, made here."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (tmp_path / "plugin.c").write_text(_PLUGIN)
    command = [require_program("gcc"), "-shared", "-fPIC", f"-DCODE={CODE}", "-o", folder / "libinvert.so"]
    subprocess.run([*command, tmp_path / "plugin.c"], check=True)
    return folder


def test_missing_filter_is_found_without_reading(make_job: Make, compressed: Path) -> None:
    """A filter that is not here is named with its number, how to get it, and as the error that the sort would raise."""
    (found,) = _found(make_job(compressed))
    assert (found.code, found.level, found.subject) == ("hdf5-plugin-missing", "error", "compressed.raw.h5")
    assert "filter 401" in found.message
    assert "hdf5_plugin_path" in found.message
    with pytest.raises(HDF5PluginMissingError):
        raise_for([found])


def test_header_is_known_although_the_data_are_not(make_job: Make, compressed: Path) -> None:
    """A file that cannot be decompressed is still projected, so that all its problems are told at once."""
    header = look(make_job(compressed)).header
    assert header is not None
    assert (header.n_channels, header.n_samples) == (8, 80_000)


def test_registered_filters_come_from_a_package(make_job: Make, maxwell: Path, tmp_path: Path) -> None:
    """For a filter that hdf5plugin brings, the advice is to install that."""
    path = _write_filtered(maxwell, tmp_path / "blosc.raw.h5", 32_001)
    (found,) = _found(make_job(path))
    assert f"{sys.executable} -m pip install hdf5plugin" in found.message


def test_filters_that_hdf5_has_are_fine(make_job: Make, maxwell: Path, tmp_path: Path) -> None:
    """gzip and shuffle need no plugin."""
    path = Path(shutil.copy(maxwell, tmp_path / "gzip.raw.h5"))
    with h5py.File(path, "r+") as file:
        data = file[RAW][:]
        del file[RAW]
        file.create_dataset(RAW, data=data, chunks=(8, 20_000), compression="gzip", shuffle=True)
    assert _found(make_job(path)) == []


def test_filter_of_another_well_does_not_matter(make_job: Make, compressed: Path) -> None:
    """Only the well that is sorted must be readable."""
    from dataclasses import replace

    with h5py.File(compressed, "r+") as file:
        file.copy("wells/well000", "wells/well001")
        raw = RAW.replace("well000", "well001")
        shape = file[raw].shape
        del file[raw]
        file.create_dataset(raw, data=np.arange(np.prod(shape), dtype="u2").reshape(shape), chunks=(8, 20_000))
    job = make_job(compressed)
    first, second = (replace(job, source=replace(job.source, stream_id=f"well00{k}")) for k in (0, 1))
    assert [finding.code for finding in _found(first)] == ["hdf5-plugin-missing"]
    assert _found(second) == []


def test_configured_plugin_is_used_in_another_process(make_job: Make, compressed: Path, plugins: Path) -> None:
    """A plugin in hdf5_plugin_path is used to read the file, and this process stays as it is."""
    before = os.environ.get("HDF5_PLUGIN_PATH")
    assert _found(make_job(compressed, hdf5_plugin_path=str(plugins))) == []
    assert os.environ.get("HDF5_PLUGIN_PATH") == before
    assert not h5py.h5z.filter_avail(CODE)


def test_one_of_several_plugin_folders_is_enough(make_job: Make, compressed: Path, plugins: Path) -> None:
    """Folders joined by the path separator are all searched; one that is absent is warned of."""
    path = os.pathsep.join(["/no/such/folder", str(plugins)])
    (found,) = _found(make_job(compressed, hdf5_plugin_path=path))
    assert (found.code, found.level) == ("hdf5-plugin-folder-missing", "warning")
    assert "/no/such/folder" in found.message


def test_folder_without_the_plugin(make_job: Make, compressed: Path, tmp_path: Path) -> None:
    """A folder that lacks the plugin is named in the error."""
    (tmp_path / "empty").mkdir()
    (found,) = _found(make_job(compressed, hdf5_plugin_path=str(tmp_path / "empty")))
    assert isinstance(found.error, HDF5PluginMissingError)
    assert found.error.configured_path == str(tmp_path / "empty")
    assert str(tmp_path / "empty") in found.message


def test_damaged_data_behind_a_configured_plugin(make_job: Make, compressed: Path, plugins: Path) -> None:
    """With the plugin of the settings the data are really read: a file that was cut is found."""
    with h5py.File(compressed, "r+") as file:
        dataset = file[RAW].id
        dataset.write_direct_chunk((0, 60_000), b"too short")
    (found,) = _found(make_job(compressed, hdf5_plugin_path=str(plugins)))
    assert found.code == "recording-unreadable"
    assert "its last second cannot be read" in found.message


def test_plugin_folder_that_is_absent_is_only_a_warning_for_plain_files(make_job: Make, maxwell: Path) -> None:
    """A wrong path does not stop the sort of a file that needs no plugin."""
    (found,) = _found(make_job(maxwell, hdf5_plugin_path="/no/such/folder"))
    assert (found.code, found.level) == ("hdf5-plugin-folder-missing", "warning")


def test_a_plugin_among_several_folders_of_both_lists_round_trips(
    maxwell: Path, compressed: Path, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting and the variable both take several folders, and samples come back as they were before the filter."""
    from spikelab.spike_sorting.sources import plugin_environment

    (tmp_path / "empty").mkdir()
    code = """
import sys
import numpy as np
from spikelab.spike_sorting.sources import Source, open_source
plain, compressed = (open_source(Source((path,)))[0].get_traces() for path in sys.argv[1:])
print(np.array_equal(plain, compressed), plain.std() > 1)
"""
    lists = [f"{tmp_path / 'empty'}{os.pathsep}/no/such/folder", f"/nor/this{os.pathsep}{plugins}"]
    for setting, variable in (lists, reversed(lists)):
        monkeypatch.setenv("HDF5_PLUGIN_PATH", variable)
        done = subprocess.run(
            [sys.executable, "-c", code, str(maxwell), str(compressed)],
            env={**os.environ, **plugin_environment(setting)}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.stdout.split() == ["True", "True"], done.stderr


def test_a_filter_that_the_header_needs_is_named_too(make_job: Make, tmp_path: Path) -> None:
    """A file whose very description is compressed with a missing filter is no damaged file."""
    import recording_files as files

    path = files.write_mcs_h5(tmp_path / "a.h5", np.ones((1000, 4), "i4"), 20_000.0)
    with h5py.File(path, "r+") as file:
        stream = file["Data/Recording_0/AnalogStream/Stream_0"]
        data = stream["InfoChannel"][:]
        del stream["InfoChannel"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(data.shape)
        properties.set_filter(CODE, h5py.h5z.FLAG_OPTIONAL)
        space, kind = h5py.h5s.create_simple(data.shape), h5py.h5t.py_create(data.dtype, logical=True)
        dataset = h5py.h5d.create(stream.id, b"InfoChannel", kind, space, properties)
        dataset.write_direct_chunk((0,), data.tobytes())
    (found,) = _found(make_job(path))
    assert isinstance(found.error, HDF5PluginMissingError)
    assert "filter 401" in found.message
