"""Times of stimulation from tables, arrays, and the events that amplifiers record."""

import h5py
import numpy as np
import pytest
from recording_files import write_spikeglx, write_spikeglx_nidq

from spikelab.stim_sorting import read_stim_times

PULSES_MS = [100.0, 400.0, 800.0]
N_SAMPLES = 30_000


@pytest.mark.parametrize(
    "name,text",
    [
        ("a.csv", "120.5\n300\n"),
        ("b.csv", "n;stim time (s)\n1;0.1205\n2;0.3\n"),
        ("c.tsv", "time_ms\tcurrent\n120.5\t4\n300\t4\n"),
        ("d.npy", None),
        ("e.csv", "pulse,time s\n1,0.1205\n2,0.3\n"),
        ("f.csv", "pulse,onset_s\n1,0.1205\n2,0.3\n"),
        ("g.csv", "pulse,onset\n1,120.5\n2,300\n"),
        ("h.csv", "pulse,at_usec\n1,120500\n2,300000\n"),
        ("i.csv", "stimTimeMs\n120.5\n300\n"),
        ("j.csv", "time_samples,time_second\n2410,0.1205\n6000,0.3\n"),
        ("k.csv", "duration_ms,Start (µs)\n1,120500\n1,300000\n"),
        ("l.tsv", "frame time (ns), raw\tnote\n120500000\ta;b\n300000000\t\n"),
        ("m.csv", ",0\n0,120.5\n1,300\n"),
        ("n.csv", "index,stim\n0,120.5\n1,300\n"),
        ("o.csv", "120.5,4\n300,4\n"),
    ],
)
def test_times_from_files(tmp_path, name, text):
    """Tables with and without names, in s, ms, us and ns, and arrays give times in ms."""
    path = tmp_path / name
    np.save(path, [120.5, 300.0]) if text is None else path.write_text(text)
    assert read_stim_times(path).tolist() == pytest.approx([120.5, 300.0])


@pytest.mark.parametrize(
    "name,text,said",
    [
        ("a.csv", "one\nx\n", "no number"),
        ("a.csv", "pulse,time_ms\n", "no times"),
        ("a.csv", "", "empty"),
        ("a.npy", "", "No data left"),
        ("a.csv", "time_samples\n2410\n", "in 'samples', which are no times"),
        ("a.csv", "frames\n2410\n", "in 'frames'"),
        ("a.csv", "stim,amplitude\n1,2\n", "'stim', 'amplitude' may be"),
        ("a.csv", "pulse,time (min)\n1,2\n", "in 'min'"),
        ("a.csv", "index\n1\n", "in 'index'"),
        ("a.csv", "on_s,off_s\n1,2\n", "'on_s', 'off_s' may be"),
        ("a.csv", "pulse;time_s\n1;0,5\n", "no number"),
        ("a.xls", "", "expected a .npy"),
        ("a.raw.h5", "not HDF5", "cannot be read as HDF5"),
    ],
)
def test_files_without_times_are_named(tmp_path, name, text, said):
    """A file that holds no times is named, with what was expected."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_stim_times(tmp_path / name)


def test_a_line_is_no_part_of_a_table(tmp_path):
    """A digital line chosen in a file of times is an error, not ignored."""
    (tmp_path / "a.csv").write_text("1\n")
    with pytest.raises(ValueError, match="file of times"):
        read_stim_times(tmp_path / "a.csv", line="XD1")


# ------------------------------------------------------------------------------------------------ SpikeGLX


def digital_word(*lines):
    """Return the word of the NI card, each of `lines` as (number, times at which it goes up (ms), how long (ms))."""
    word = np.zeros(N_SAMPLES, dtype=np.int16)
    for number, times_ms, length_ms in lines:
        for time_ms in times_ms:
            start = round(time_ms * 25)
            word[start : start + round(length_ms * 25)] |= 1 << number
    return word


def test_spikeglx_gives_when_a_line_went_up(tmp_path):
    """The one line of the NI card with events gives their onsets in its own clock, each pulse once, beside a probe."""
    write_spikeglx(tmp_path, "run", np.zeros((300, 4), dtype=np.int16), 30_000.0)
    write_spikeglx_nidq(tmp_path, "run", digital_word((1, PULSES_MS, 1.0)), 25_000.0, "0:3")
    assert read_stim_times(tmp_path).tolist() == pytest.approx(PULSES_MS)


def test_of_several_lines_one_is_chosen(tmp_path):
    """A clock on another line is not mixed with the pulses: the lines are named, and one is chosen."""
    word = digital_word((0, np.arange(50.0, 1_000, 100), 50.0), (1, PULSES_MS, 1.0))
    write_spikeglx_nidq(tmp_path, "run", word, 25_000.0, "0:2")
    with pytest.raises(ValueError, match=r"'XD0' \(10\), 'XD1' \(3\).*line="):
        read_stim_times(tmp_path)
    assert read_stim_times(tmp_path, line="XD1").tolist() == pytest.approx(PULSES_MS)
    with pytest.raises(ValueError, match="'XD9'; expected one of: XD0, XD1, XD2"):
        read_stim_times(tmp_path, line="XD9")


def test_lines_that_spikeinterface_mistakes_are_refused(tmp_path):
    """Lines above XD7, of which SpikeInterface reads other bits, are an error that says so."""
    write_spikeglx_nidq(tmp_path, "run", digital_word((0, PULSES_MS, 1.0)), 25_000.0, "0:8")
    with pytest.raises(ValueError, match="XD0 to XD7"):
        read_stim_times(tmp_path)
    assert read_stim_times(tmp_path, line="XD0").size == 3


def test_a_probe_alone_has_no_events(tmp_path):
    """A folder without files of the NI card says where SpikeInterface looks for events."""
    write_spikeglx(tmp_path, "run", np.zeros((300, 4), dtype=np.int16), 30_000.0)
    with pytest.raises(ValueError, match=r"no \.nidq\.bin with any"):
        read_stim_times(tmp_path)


def test_several_triggers_are_refused(tmp_path):
    """Of several triggers, SpikeInterface reads the events of one: that is an error, and not a part of the times."""
    for trigger in (0, 1):
        write_spikeglx_nidq(tmp_path, "run", digital_word((0, PULSES_MS, 1.0)), 25_000.0, "0", trigger=trigger)
    with pytest.raises(ValueError, match="2 gates or triggers"):
        read_stim_times(tmp_path)


# ------------------------------------------------------------------------------------------------- Maxwell


def write_maxwell_events(path, changes, *, first_frame=2_000_000, version=b"20160704"):
    """Write a file of the old layout with trigger states; `changes` has (ms, state of all lines)."""
    frames = first_frame + np.arange(20)
    with h5py.File(path, "w") as file:
        file["version"] = np.array([version], dtype="S8")
        samples = np.full((4, frames.size), 512, dtype="<u2")
        file["sig"] = np.vstack([samples, frames & 0xFFFF, frames >> 16]).astype("<u2")
        if changes is not None:
            bits = np.zeros(len(changes), dtype=[("frameno", "<i8"), ("bits", "<u2")])
            bits["frameno"] = [first_frame + round(time_ms * 20) for time_ms, _ in changes]
            bits["bits"] = [state for _, state in changes]
            file["bits"] = bits
    return path


def test_maxwell_gives_when_the_trigger_went_up(tmp_path):
    """Triggers count from the first sample of the file, whatever the number of its frame, each pulse once."""
    changes = [change for time_ms in PULSES_MS for change in ((time_ms, 1), (time_ms + 1, 0))]
    path = write_maxwell_events(tmp_path / "old.raw.h5", changes)
    assert read_stim_times(path).tolist() == pytest.approx(PULSES_MS)


def test_of_several_maxwell_lines_one_is_chosen(tmp_path):
    """A line that goes up while another one is up is told apart from it."""
    changes = [(100.0, 1), (200.0, 3), (300.0, 1), (400.0, 0), (500.0, 2), (600.0, 0)]
    path = write_maxwell_events(tmp_path / "old.raw.h5", changes)
    with pytest.raises(ValueError, match=r"'0' \(1\), '1' \(2\)"):
        read_stim_times(path)
    assert read_stim_times(path, line="1").tolist() == pytest.approx([200.0, 500.0])


@pytest.mark.parametrize(
    "options,said",
    [
        ({"changes": None}, "no events"),
        ({"changes": []}, "no digital line went up"),
        ({"changes": [(100.0, 1)], "version": b"20190530"}, "20160704 only, and this one is 20190530"),
    ],
)
def test_maxwell_files_without_events_say_so(tmp_path, options, said):
    """Files of the newer layout, and those without triggers, say what to give instead."""
    path = write_maxwell_events(tmp_path / "old.raw.h5", **options)
    with pytest.raises(ValueError, match=rf"{said}.*give the times as \.csv or \.npy"):
        read_stim_times(path)
