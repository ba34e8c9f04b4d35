"""What a call means: which recordings, which folders, and which mistakes are caught before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import spikeinterface as si
from spikeinterface.extractors import read_maxwell

from spikelab.simulation import simulate_recording, write_maxwell
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job, plan, plan_streams
from spikelab.spike_sorting.supervision.lock import hold

RECORDING = simulate_recording("tetrode", duration_s=0.1, n_units=1, gain_uV=6.294).recording
IN_MEMORY = si.NumpyRecording([RECORDING.get_traces()], 20_000.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Maxwell files: one well, two wells, and files to be put in order."""
    folder = tmp_path_factory.mktemp("files")
    one = write_maxwell(folder / "one.raw.h5", RECORDING)
    write_maxwell(folder / "plate.raw.h5", {"well000": RECORDING, "well001": RECORDING})
    for name in ("day 1", "day 2", "days"):
        (folder / name).mkdir()
    for name in ("day 1/a.raw.h5", "day 2/a.raw.h5", "days/r10.raw.h5", "days/r2.raw.h5", "days/r1.raw.h5"):
        shutil.copy(one, folder / name)
    return folder


def _folders(jobs: tuple[Job, ...]) -> list[Path]:
    return [folder for job in jobs for folder in (job.run.inter, job.run.results)]


# ------------------------------------------------------------------------------------ what becomes of an input


def test_a_file_is_a_job_beside_it(files: Path) -> None:
    """A file is sorted into folders beside it, named after the sorter and the whole file name."""
    (job,) = plan(files / "one.raw.h5", KILOSORT4)
    assert (job.name, job.path, job.n_results) == ("one.raw.h5", str(files / "one.raw.h5"), 1)
    assert job.run.results == files / "sorted_kilosort4" / "one.raw.h5"
    assert job.run.inter == files / "inter_kilosort4" / "one.raw.h5"
    assert plan(str(files / "one.raw.h5"), KILOSORT4) == plan([files / "one.raw.h5"], KILOSORT4) == (job,)


def test_a_relative_path_is_made_absolute(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job does not depend on the folder in which it was planned."""
    monkeypatch.chdir(files)
    assert plan("one.raw.h5", KILOSORT4) == plan(files / "one.raw.h5", KILOSORT4)


def test_a_folder_is_one_recording_split_back_in_natural_order(files: Path) -> None:
    """A folder of recordings is one job that contributes one result per file, 2 before 10."""
    (job,) = plan(files / "days", KILOSORT4)
    assert [Path(file).name for file in job.source.files] == ["r1.raw.h5", "r2.raw.h5", "r10.raw.h5"]
    assert (job.name, job.n_results, job.source.splits) == ("days", 3, True)
    assert job.run.results == files / "sorted_kilosort4" / "days"


def test_a_folder_of_one_recording_is_that_recording(files: Path) -> None:
    """One file in a folder gives one result, whatever chunks of it are sorted."""
    (job,) = plan(files / "day 1", KILOSORT4)
    assert (job.n_results, job.source.splits) == (1, False)


def test_a_nested_list_keeps_its_order_and_a_flat_one_is_never_joined(files: Path) -> None:
    """Files in a nested list are one job in the given order; files in a flat list are jobs of their own."""
    r10, r2 = files / "days" / "r10.raw.h5", files / "days" / "r2.raw.h5"
    (joined,) = plan([[r10, str(r2)]], KILOSORT4)
    assert (joined.source.files, joined.n_results) == ((str(r10), str(r2)), 2)
    assert joined.name == "r10.raw.h5_and_1_more"
    assert [job.name for job in plan([r10, r2], KILOSORT4)] == ["r10.raw.h5", "r2.raw.h5"]


def test_a_spikeinterface_folder_is_a_recording(tmp_path: Path) -> None:
    """A saved recording is one file, not a folder of recordings."""
    RECORDING.save(folder=tmp_path / "rec", verbose=False, progress_bar=False)
    (job,) = plan(tmp_path / "rec", KILOSORT4)
    assert (job.source.files, job.problem) == ((str(tmp_path / "rec"),), None)


def test_a_recording_object_is_described(files: Path) -> None:
    """A recording object with a file behind it is sorted beside the file, under the file's name and the stream's."""
    well = read_maxwell(files / "plate.raw.h5", stream_id="well001", install_maxwell_plugin=False)
    (job,) = plan(well.frame_slice(0, 100), KILOSORT4)
    assert job.in_memory is None
    assert job.run.results == files / "sorted_kilosort4" / "plate.raw.h5_well001"


@pytest.mark.parametrize("recording", [RECORDING, IN_MEMORY], ids=["described", "in memory"])
def test_a_recording_without_a_file_needs_a_folder(recording: si.BaseRecording, tmp_path: Path) -> None:
    """What is not backed by a file is sorted into the folder that is given, and only there."""
    with pytest.raises(ValueError, match="give results_folders"):
        plan(recording, KILOSORT4)
    (job,) = plan([recording], KILOSORT4, results_folders=[tmp_path / "out"])
    assert (job.run.results, job.run.inter) == (tmp_path / "out", tmp_path / "out_inter")
    assert (job.in_memory is recording) is (recording is IN_MEMORY)


@pytest.mark.parametrize("kind", ["file", "folder", "object"])
def test_a_job_survives_its_file(kind: str, files: Path) -> None:
    """A worker gets the same job from JSON."""
    recording = {
        "file": files / "one.raw.h5",
        "folder": files / "days",
        "object": read_maxwell(files / "one.raw.h5", install_maxwell_plugin=False),
    }[kind]
    (job,) = plan(recording, KILOSORT4.override(kilosort_params={"Th_learned": 7}))
    assert Job.from_dict(json.loads(json.dumps(job.to_dict(), allow_nan=False))) == job


# ------------------------------------------------------------------------------------------------------ streams


def test_several_streams_need_a_choice(files: Path) -> None:
    """A file with several streams and no stream_id is an error that names sort_multistream and the streams."""
    with pytest.raises(
        ValueError, match=r"plate\.raw\.h5 has several streams: \['well000', 'well001'\]; use sort_multi"
    ):
        plan(files / "plate.raw.h5", KILOSORT4)


@pytest.mark.parametrize("name", ["plate.raw.h5", "one.raw.h5"])
def test_an_unknown_stream_lists_those_present(name: str, files: Path) -> None:
    """A stream that is not in the file is answered with those that are."""
    with pytest.raises(ValueError, match=r"has no stream 'well007'; it has \['well000'"):
        plan(files / name, KILOSORT4.override(stream_id="well007"))
    with pytest.raises(ValueError, match=r"has no stream 'well007'; it has \['well000'"):
        plan_streams(files / name, KILOSORT4, ["well007"])


def test_streams_are_jobs_of_their_own(files: Path) -> None:
    """Each stream is a job with its own folders; none named means all; those of sort_recording are the same."""
    jobs = plan_streams(files / "plate.raw.h5", KILOSORT4)
    assert list(jobs) == ["well000", "well001"]
    assert len(set(_folders(tuple(jobs.values())))) == 4
    assert jobs["well001"].run.results == files / "sorted_kilosort4" / "plate.raw.h5_well001"
    assert plan_streams(files / "plate.raw.h5", KILOSORT4, ["well001"]) == {"well001": jobs["well001"]}
    assert plan_streams(files / "plate.raw.h5", KILOSORT4, "well001") == {"well001": jobs["well001"]}
    assert plan(files / "plate.raw.h5", KILOSORT4.override(stream_id="well001")) == (jobs["well001"],)


def test_a_folder_of_plates_has_folders_per_well(files: Path, tmp_path: Path) -> None:
    """Wells of concatenated plates do not share folders either."""
    for name in ("a.raw.h5", "b.raw.h5"):
        shutil.copy(files / "plate.raw.h5", tmp_path / name)
    for given in (tmp_path, [[tmp_path / "a.raw.h5", tmp_path / "b.raw.h5"]]):
        jobs = [plan(given, KILOSORT4.override(stream_id=well))[0] for well in ("well000", "well001")]
        assert len(set(_folders(tuple(jobs)))) == 4
        assert jobs[1].source.stream_id == "well001"


def test_times_of_stimulation_are_those_of_one_recording(files: Path, tmp_path: Path) -> None:
    """Other files are never cleaned at the times of a first one; wells of one file share a clock, and times."""
    config = KILOSORT4.override(stim_times_ms=[10.0])
    one, day = files / "one.raw.h5", files / "day 1" / "a.raw.h5"
    with pytest.raises(ValueError, match=r"of one recording, and .*one\.raw\.h5 and .*a\.raw\.h5 are two"):
        plan([one, day], config)
    with pytest.raises(ValueError, match="of one recording"):
        plan([IN_MEMORY, IN_MEMORY], config, results_folders=[tmp_path / "a", tmp_path / "b"])
    assert len(plan([[one, day]], config)) == 1
    wells = [
        read_maxwell(files / "plate.raw.h5", stream_id=well, install_maxwell_plugin=False)
        for well in ("well000", "well001")
    ]
    assert len(plan(wells, config)) == len(plan_streams(files / "plate.raw.h5", config)) == 2
    assert len(plan([one, day], KILOSORT4.override(stim_times_ms=[]))) == 2


@pytest.mark.parametrize("stream_ids", [[], ["well000", "well000"]])
def test_streams_are_named_once(stream_ids: list[str], files: Path) -> None:
    """No stream, or one twice, is an error that says which there are."""
    with pytest.raises(ValueError, match=r"stream_ids must name each stream once, out of \['well000', 'well001'\]"):
        plan_streams(files / "plate.raw.h5", KILOSORT4, stream_ids)


# ------------------------------------------------------------------------------------------------------ folders


def test_nothing_shares_a_folder_by_itself(files: Path) -> None:
    """Two files of one name in two folders, two files of one folder, a folder of files: all folders differ."""
    given = [files / "day 1" / "a.raw.h5", files / "day 2" / "a.raw.h5", files / "one.raw.h5", files / "days"]
    folders = _folders(plan(given, KILOSORT4))
    assert len(set(folders)) == len(folders) == 8


def test_a_recording_twice_names_both(files: Path) -> None:
    """The same recording twice in one call is an error, also through a link."""
    with pytest.raises(ValueError, match=r"one\.raw\.h5 and .*one\.raw\.h5 would share the folder .*given twice"):
        plan([files / "one.raw.h5"] * 2, KILOSORT4)


def test_the_same_file_through_a_link_names_both(files: Path, tmp_path: Path) -> None:
    """A linked folder does not hide that two jobs share their folders."""
    shutil.copy(files / "one.raw.h5", tmp_path)
    (tmp_path / "real").mkdir()
    shutil.move(tmp_path / "one.raw.h5", tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ValueError, match=r"real/one\.raw\.h5 and .*link/one\.raw\.h5 would share"):
        plan([tmp_path / "real" / "one.raw.h5", tmp_path / "link" / "one.raw.h5"], KILOSORT4)


@pytest.mark.parametrize("kind", ["results_folders", "intermediate_folders"])
def test_a_shared_folder_names_both(kind: str, files: Path, tmp_path: Path) -> None:
    """Two recordings with one results or intermediate folder are an error that names both."""
    given = [files / "one.raw.h5", files / "days"]
    with pytest.raises(ValueError, match=r"one\.raw\.h5 and .*r1\.raw\.h5.* would share the folder .*out"):
        plan(given, KILOSORT4, **{kind: [tmp_path / "out", tmp_path / "x" / ".." / "out"]})


@pytest.mark.parametrize("kind", ["results_folders", "intermediate_folders"])
def test_lists_must_have_the_same_length(kind: str, files: Path, tmp_path: Path) -> None:
    """A list of folders has one folder per recording."""
    with pytest.raises(ValueError, match=rf"{kind} and .* must have the same length, got 1 and 2"):
        plan([files / "one.raw.h5", files / "days"], KILOSORT4, **{kind: [tmp_path]})


def test_results_never_lie_where_files_are_deleted(files: Path, tmp_path: Path) -> None:
    """Results in the intermediate folder of this or another recording are refused."""
    with pytest.raises(ValueError, match="would share the folder"):
        plan(files / "one.raw.h5", KILOSORT4, intermediate_folders=tmp_path / "x", results_folders=tmp_path / "x")
    with pytest.raises(ValueError, match=r"lies in .*, the intermediate folder of .*r1"):
        plan(
            [files / "one.raw.h5", files / "days"],
            KILOSORT4,
            intermediate_folders=[tmp_path / "i", tmp_path / "j"],
            results_folders=[tmp_path / "j" / "out", tmp_path / "out"],
        )


def test_no_intermediate_folder_lies_in_another_one(files: Path, tmp_path: Path) -> None:
    """What one recording still needs is not emptied when the other one is done."""
    with pytest.raises(ValueError, match=r"intermediate folder .*i/j of .*lies in .*, the intermediate folder of .*r1"):
        plan(
            [files / "one.raw.h5", files / "days"],
            KILOSORT4,
            intermediate_folders=[tmp_path / "i" / "j", tmp_path / "i"],
            results_folders=[tmp_path / "1", tmp_path / "2"],
        )


def test_a_folder_of_something_else_is_no_intermediate_folder(files: Path, tmp_path: Path) -> None:
    """A folder with other files in it is refused, an empty one and one of ours are not."""
    inter = tmp_path / "scratch"
    inter.mkdir()
    plan(files / "one.raw.h5", KILOSORT4, intermediate_folders=inter)
    with hold([inter]):
        plan(files / "one.raw.h5", KILOSORT4, intermediate_folders=inter)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ValueError, match=r"holds files of something else; give a new or empty one"):
        plan(files / "one.raw.h5", KILOSORT4, intermediate_folders=tmp_path)


def test_a_folder_of_another_recording_names_both(files: Path, tmp_path: Path) -> None:
    """A results folder that was used for another file, well or object is refused with both names."""
    out = tmp_path / "out"
    out.mkdir()
    (job,) = plan(files / "one.raw.h5", KILOSORT4, results_folders=[out])
    job.run.claim(job.source.owner_card())
    assert plan(files / "one.raw.h5", KILOSORT4, results_folders=[out]) == (job,)
    for other, name in ((files / "days", "r1.raw.h5"), (RECORDING, "recording"), (IN_MEMORY, "recording")):
        with pytest.raises(
            ValueError, match=rf"holds the results of .*one\.raw\.h5.*, not of .*{name}.*; choose another"
        ):
            plan([other], KILOSORT4, results_folders=[out])


def test_a_folder_of_another_well_names_both(files: Path, tmp_path: Path) -> None:
    """Two wells of one file are two recordings, also in a folder that is given."""
    (first,) = plan(files / "plate.raw.h5", KILOSORT4.override(stream_id="well000"), results_folders=tmp_path)
    first.run.claim(first.source.owner_card())
    with pytest.raises(ValueError, match=r"plate\.raw\.h5 \(stream well000\), not of .*\(stream well001\)"):
        plan(files / "plate.raw.h5", KILOSORT4.override(stream_id="well001"), results_folders=tmp_path)


@pytest.mark.parametrize("cut_first", [True, False])
def test_a_file_that_was_cut_off_and_copied_again_keeps_its_folder(
    cut_first: bool, files: Path, tmp_path: Path
) -> None:
    """A file that cannot be read tells no stream, and is the same recording before and after it is mended."""
    path, sound = tmp_path / "one.raw.h5", (files / "one.raw.h5").read_bytes()
    versions, folders = [sound[: len(sound) // 2], sound], []
    for content in versions if cut_first else reversed(versions):
        path.write_bytes(content)
        (job,) = plan(path, KILOSORT4)
        job.run.results.mkdir(parents=True, exist_ok=True)
        job.run.claim(job.source.owner_card())
        folders.append(job.run.results)
    assert folders[0] == folders[1]


# --------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("absent.raw.h5", None, "no such recording"),
        ("damaged.raw.h5", b"x" * 5000, "cannot be opened as HDF5"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_an_unreadable_file_is_a_job_with_a_problem(
    name: str, content: bytes | None, said: str, nested: bool, files: Path, tmp_path: Path
) -> None:
    """A missing or damaged file keeps its place in the batch, and its job says what is wrong."""
    bad = tmp_path / name
    if content is not None:
        bad.write_bytes(content)
    given: list[Any] = [files / "one.raw.h5", [files / "days" / "r1.raw.h5", bad] if nested else bad]
    good, job = plan(given, KILOSORT4)
    assert good.problem is None
    assert isinstance(job.problem, RecordingUnreadableError)
    assert said in str(job.problem)
    assert job.problem.path == str(bad)
    assert job.n_results == (2 if nested else 1)


def test_an_empty_folder_is_a_job_with_a_problem(tmp_path: Path) -> None:
    """A folder without recordings says what was expected in it."""
    (tmp_path / "empty").mkdir()
    (job,) = plan(tmp_path / "empty", KILOSORT4)
    assert job.problem is not None
    assert "is a folder that holds no recordings (it is empty). Tried as one recording: " in str(job.problem)


@pytest.mark.parametrize(
    "given,error,said",
    [
        ([], ValueError, "recording_files is empty"),
        ([[]], ValueError, "a nested list of recordings is empty"),
        (None, TypeError, "recording_files must be a path, a recording or a list of those, got NoneType"),
        ([3], TypeError, "a recording must be a path, .* got int"),
        ([[3]], TypeError, "a nested list must hold paths, got int"),
        ([[RECORDING]], TypeError, "join recordings with spikeinterface.concatenate_recordings"),
        ([["a.raw.h5", RECORDING]], TypeError, "a nested list must hold paths, got "),
        (["a.raw.h5", KILOSORT4], TypeError, "a recording must be a path, .* got SortingPipelineConfig"),
        ({"a": "a.raw.h5"}, TypeError, "recording_files must be a path, a recording or a list of those, got dict"),
    ],
)
def test_what_is_no_recording_is_refused(given: Any, error: type[Exception], said: str) -> None:
    """A wrong argument is an error that says what was expected and what was found."""
    with pytest.raises(error, match=said):
        plan(given, KILOSORT4)
