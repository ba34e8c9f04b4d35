"""``spikelab rt-sort-env`` before it builds anything; ``make test-rtsort`` has it build for real."""

from __future__ import annotations


def test_a_folder_in_use_is_a_wrong_call(spikelab, tmp_path):
    """A folder with something in it is left as it is, and the person is told to name another one."""
    (tmp_path / "thesis.tex").write_text("Chapter 1")
    result = spikelab("rt-sort-env", tmp_path)
    assert result.exit_code == 2
    assert "Name a folder that does not exist yet" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
