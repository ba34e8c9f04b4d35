"""Durable files: the old one or the new one, complete, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spikelab.spike_sorting.supervision.publish import (
    publish,
    publish_folder,
    publish_json,
    publish_text,
    publish_with,
    remove_partials,
)

N_BYTES = 400_000
N_KILLS = 15


def _assert_only(folder: Path, content: dict[str, str]) -> None:
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_replaced(before: str | None, tmp_path: Path) -> None:
    """The file is there with the new content, and nothing else is."""
    path = tmp_path / "report.json"
    if before is not None:
        path.write_text(before)
    publish(path, b"new")
    _assert_only(tmp_path, {"report.json": "new"})
    publish_text(path, "n\u00ebuer")
    assert path.read_bytes() == "n\u00ebuer".encode()
    publish_json(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}


def test_a_writer_that_is_killed_leaves_old_or_new(tmp_path: Path) -> None:
    """Killing the writer at any instant leaves a complete file, and a reader never sees anything else."""
    path = tmp_path / "data.bin"
    code = f"""
import sys
from pathlib import Path
from spikelab.spike_sorting.supervision.publish import publish
k = 0
while True:
    publish(Path(sys.argv[1]), bytes([97 + k % 26]) * {N_BYTES})
    k += 1
"""
    publish(path, b"a" * N_BYTES)
    n_versions, n_leftovers = set(), 0
    for k in range(N_KILLS):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        ends = time.monotonic() + 0.15 + 0.013 * k
        while time.monotonic() < ends:
            content = path.read_bytes()
            assert len(content) == N_BYTES
            assert len(set(content)) == 1
            n_versions.add(content[0])
        writer.kill()
        writer.wait()
        n_leftovers += len(list(tmp_path.iterdir())) - 1
        remove_partials(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["data.bin"]
    assert len(n_versions) > 3, "the writer never wrote while it was read"
    assert n_leftovers > 0, "no kill came in the middle of a write"


def _write_to_full_disk(partial: Path) -> None:
    partial.symlink_to("/dev/full")
    partial.write_bytes(b"x" * 100)


def _write_what_cannot_be_synced(partial: Path) -> None:
    partial.symlink_to("/dev/null")


def _fail(partial: Path) -> None:
    partial.write_text("half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "write,number", [(_write_to_full_disk, errno.ENOSPC), (_write_what_cannot_be_synced, errno.EINVAL)]
)
def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(
    write: Callable[[Path], None], number: int, tmp_path: Path
) -> None:
    """A full disk or a failed fsync is an OSError with the file's name; the old content stays, nothing else does."""
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(OSError, match=r"report\.json") as caught:
        publish_with(path, write)
    assert caught.value.errno == number
    _assert_only(tmp_path, {"report.json": "old"})


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Whatever is raised while the content is written, the old file stays."""
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        publish_with(path, _fail)
    with pytest.raises(ValueError, match="JSON compliant"):
        publish_json(path, {"snr": math.nan})
    _assert_only(tmp_path, {"report.json": "old"})


def test_the_writer_gets_a_path_with_the_same_ending(tmp_path: Path) -> None:
    """Libraries that choose the format by the ending write the right one."""
    given: list[Path] = []
    publish_with(tmp_path / "page.html", lambda partial: (given.append(partial), partial.write_text("x")))
    assert (given[0].suffix, given[0].parent) == (".html", tmp_path)


def test_a_full_file_system_leaves_the_old_file(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    """On a real file system that runs full, the old file stays and the half-written one goes."""
    unshare = require_program("unshare")
    if subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "none", tmp_path], check=False).returncode:
        pytest.skip("this user may not mount a tmpfs in a namespace of its own")
    code = """
import errno, sys
from pathlib import Path
from spikelab.spike_sorting.supervision.publish import publish
path = Path(sys.argv[1], "data.bin")
publish(path, b"old")
try:
    publish(path, b"x" * 4_000_000)
except OSError as error:
    assert (error.errno, error.filename) == (errno.ENOSPC, str(path)), error
    print([file.name for file in path.parent.iterdir()], path.read_bytes())
"""
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, "sh", tmp_path, sys.executable, code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "['data.bin'] b'old'", done.stderr


@pytest.mark.strace
@pytest.mark.parametrize("nth,left", [(1, "old"), (2, "new")])
def test_a_failed_fsync_is_final(nth: int, left: str, require_program: Callable[[str], Path], tmp_path: Path) -> None:
    """An error of the first fsync (the file's) keeps the old file; one of the second (the folder's) is an error too."""
    path = tmp_path / "data.bin"
    path.write_text("old")
    code = "import sys; from pathlib import Path; from spikelab.spike_sorting.supervision.publish import publish; "
    code += "publish(Path(sys.argv[1]), b'new')"
    done = subprocess.run(
        [require_program("strace"), "-f", "-qq", "-o", os.devnull, "-e", f"inject=fsync:error=EIO:when={nth}",
         sys.executable, "-c", code, path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "data.bin" in done.stderr.splitlines()[-1]
    _assert_only(tmp_path, {"data.bin": left})


def _folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / "deep").mkdir(parents=True, exist_ok=True)
        (path / "deep" / name).write_text(text)
    return path


def _content(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (path / "deep").iterdir()}


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    """The new folder stands in the place of the old one, whole, and nothing is left beside it."""
    final = tmp_path / "sort"
    publish_folder(_folder(tmp_path / "sort.partial", a="1", b="1"), final)
    assert _content(final) == {"a": "1", "b": "1"}
    _folder(tmp_path / "sort.old.partial", left="by a crash")
    publish_folder(_folder(tmp_path / "sort.partial", a="2"), final)
    assert _content(final) == {"a": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["sort"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    """When the new folder cannot be put in place, the old one is back."""
    final = _folder(tmp_path / "sort", a="1")
    with pytest.raises(FileNotFoundError):
        publish_folder(tmp_path / "absent.partial", final)
    assert _content(final) == {"a": "1"}
