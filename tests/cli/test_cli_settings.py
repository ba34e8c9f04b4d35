"""From options to settings."""

from __future__ import annotations

import pytest

from spikelab.cli.output import UsageProblem
from spikelab.cli.settings import changed_settings, parse_value, read_assignments, read_settings
from spikelab.spike_sorting.config import KILOSORT4


@pytest.mark.parametrize(
    "text, value",
    [
        ("6", 6),
        ("0.1", 0.1),
        ("true", True),
        ("False", False),
        ("none", None),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ('"6"', "6"),
        ("16G", "16G"),
        ("well000", "well000"),
        ("/data/a b", "/data/a b"),
        ("", ""),
    ],
)
def test_values_are_toml_or_else_text(text, value):
    """A value is read as TOML, words in any spelling, and as a text when it is neither."""
    read = parse_value(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "assignment, group, name, value",
    [
        ("snr_min=6", "curation", "snr_min", 6.0),
        ("snr_min = none", "curation", "snr_min", None),
        ("first_n_mins=1.5", "recording", "first_n_mins", 1.5),
        ("stream_id=3", "recording", "stream_id", "3"),
        ("total_memory=16G", "execution", "total_memory", "16G"),
        ("total_memory=1000000", "execution", "total_memory", 1_000_000),
        ("use_docker=true", "sorter", "use_docker", True),
        ("use_docker=lab/ks:1", "sorter", "use_docker", "lab/ks:1"),
        ("rec_chunks_s=[[0, 1.5]]", "recording", "rec_chunks_s", ((0, 1.5),)),
        ("bad_channels=[1, 2]", "recording", "bad_channels", (1, 2)),
    ],
)
def test_set_gives_the_setting_its_own_type(assignment, group, name, value):
    """A setting gets a value of the type that it takes: a number where it wants a text becomes that text."""
    config = KILOSORT4.override(**read_assignments([assignment], KILOSORT4))
    assert getattr(getattr(config, group), name) == value


def test_entries_of_a_mapping_are_set_one_by_one(tmp_path):
    """A dotted key changes one entry and keeps those of the file and of other options."""
    file = KILOSORT4.override(kilosort_params={"nblocks": 0}).to_toml(tmp_path / "lab.toml")
    options = ["kilosort_params.Th_learned=7", "kilosort_params.batch_size=30000"]
    params = read_settings(None, file, options).sorter.sorter_params
    assert dict(params) == {"nblocks": 0, "Th_learned": 7, "batch_size": 30000}


def test_options_win_over_the_file(tmp_path):
    """What --set says replaces what the file says; the rest of the file stays."""
    file = KILOSORT4.override(snr_min=4.0, fr_min=0.2).to_toml(tmp_path / "lab.toml")
    curation = read_settings(None, file, ["snr_min=6"]).curation
    assert (curation.snr_min, curation.fr_min) == (6.0, 0.2)


def test_an_option_completes_the_file(tmp_path):
    """A file that says what is compiled, and an option that says into which file, are judged together."""
    file = tmp_path / "lab.toml"
    file.write_text("[compilation]\ncompile_waveforms = true\n")
    assert read_settings(None, file, ["compile_to_npz=true"]).compilation.compile_to_npz
    with pytest.raises(UsageProblem, match="set compile_to_npz or compile_to_mat"):
        read_settings(None, file, [])


def test_order_between_settings_is_judged_together():
    """Two settings that fit each other, but not the defaults, can be given."""
    recording = read_settings(None, None, ["freq_min=7000", "freq_max=9000"]).recording
    assert (recording.freq_min, recording.freq_max) == (7000, 9000)


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("snr_mim=6", "did you mean 'snr_min'"),
        ("snr_min=many", "snr_min must be a number"),
        ("snr_min=-1", "snr_min must be at least 0"),
        ("snr_min", "--set takes key=value"),
        ("=6", "--set takes key=value"),
        ("snr_min.x=6", "snr_min is a single value"),
        ("kilosort_parms.x=6", "did you mean 'kilosort_params'"),
        ("stim_times_ms=nowhere.csv", "no file of stimulation times at nowhere.csv"),
    ],
)
def test_wrong_settings_are_refused_in_the_words_of_the_configuration(assignment, words):
    """A wrong --set says what is wrong before anything runs."""
    with pytest.raises(UsageProblem, match=r".") as caught:
        read_settings(None, None, [assignment])
    assert words in str(caught.value)


def test_sorter_and_file_must_agree(tmp_path):
    """A --sorter that contradicts the file is a wrong call."""
    with pytest.raises(UsageProblem, match="contradicts"):
        read_settings("rt_sort", KILOSORT4.to_toml(tmp_path / "lab.toml"), [])


def test_changed_settings_are_those_that_differ_from_the_preset():
    """Only what differs is named, by flat name and as plain values."""
    assert changed_settings(KILOSORT4) == {}
    changed = changed_settings(read_settings(None, None, ["snr_min=6", "kilosort_params={nblocks = 0}"]))
    assert changed == {"snr_min": 6.0, "kilosort_params": {"nblocks": 0}}
