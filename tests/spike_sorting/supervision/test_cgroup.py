"""Control groups of both versions are found and read as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikelab.spike_sorting.supervision.cgroup import memory_group
from spikelab.spike_sorting.supervision.readings import oom_kills


def kernel(folder: Path, membership: str, mounts: str) -> Path:
    """A /proc in which process 7 is a member of these groups."""
    for pid in ("self", "7"):
        (folder / "proc" / pid).mkdir(parents=True)
    (folder / "proc" / "7" / "cgroup").write_text(membership)
    (folder / "proc" / "self" / "mountinfo").write_text(mounts)
    return folder / "proc"


def files(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(text)


def v2(folder: Path, usage: int, limit: str = "max", cache: int = 0, kills: int = 0) -> None:
    events = f"low 0\nhigh 0\nmax 4\noom 2\noom_kill {kills}\noom_group_kill 0\n"
    stat = f"anon 5\nfile 9\ninactive_file {cache}\n"
    files(folder, memory__current=f"{usage}\n", memory__max=f"{limit}\n", memory__stat=stat, memory__events=events)


def test_version_2(tmp_path: Path):
    """Usage without the page cache that is not in use, the limit of a group around it, and its kills."""
    mount = tmp_path / "cg"
    line = f"30 23 0:26 / {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,memory_recursiveprot\n"
    proc = kernel(tmp_path, "0::/job.slice/run\n", line)
    v2(mount / "job.slice", 900, limit="1000", cache=100)
    v2(mount / "job.slice" / "run", 600, cache=150, kills=1)
    group = memory_group(7, proc=proc)
    assert group.used_bytes() == 450
    assert group.limit_bytes() is None
    assert group.oom_kills() == oom_kills(group) == 1
    assert [(g.used_bytes(), g.limit_bytes()) for g in group.limited()] == [(800, 1000)]


def test_version_2_in_a_container(tmp_path: Path):
    """Where only the container's own part is mounted, its root is the group."""
    mount = tmp_path / "with\\040space"
    line = f"30 23 0:26 / {mount} ro - cgroup2 cgroup rw\n"
    proc = kernel(tmp_path, "0::/\n", line)
    v2(tmp_path / "with space", 60, limit="64")
    assert memory_group(7, proc=proc).limited()[0].limit_bytes() == 64


def test_version_1(tmp_path: Path):
    """Version 1 says the same under other names, and "no limit" with a number."""
    mount = tmp_path / "memory"
    lines = (
        f"35 31 0:32 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu\n"
        f"36 31 0:33 / {mount} rw - cgroup cgroup rw,memory\n"
        f"37 31 0:34 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    )
    proc = kernel(tmp_path, "4:memory:/a/b\n1:name=systemd:/\n0::/\n", lines)
    names = {"memory__usage_in_bytes": "500\n", "memory__stat": "cache 9\ntotal_inactive_file 200\n"}
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
    files(mount / "a" / "b", **names, memory__limit_in_bytes="9223372036854771712\n", memory__oom_control=control)
    files(mount / "a", **names, memory__limit_in_bytes="400\n", memory__oom_control=control)
    group = memory_group(7, proc=proc)
    assert (group.used_bytes(), group.limit_bytes(), group.oom_kills()) == (300, None, 2)
    assert [g.limit_bytes() for g in group.limited()] == [400]


@pytest.mark.parametrize(
    "membership, mounts",
    [
        ("0::/\n", "30 23 0:26 / /nowhere rw - cgroup2 cgroup2 rw\n"),
        ("", ""),
        ("1:cpu:/\n", "30 23 0:26 / /nowhere rw - ext4 /dev/sda rw\n"),
    ],
)
def test_no_group(tmp_path: Path, membership: str, mounts: str):
    """Without a memory controller, without groups, or without /proc there is none, and no error."""
    assert memory_group(7, proc=kernel(tmp_path, membership, mounts)) is None
    assert memory_group(8, proc=tmp_path / "proc") is None
    assert memory_group(7, proc=tmp_path / "none") is None


def test_this_machine_is_read():
    """Whatever this machine has is read without an error."""
    group = memory_group()
    if group is None:
        pytest.skip("no memory control groups here")
    assert group.used_bytes() > 0
    assert all(g.limit_bytes() for g in group.limited())
