"""``spikelab sort --cluster``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


def test_a_wrong_cluster_file_is_a_wrong_call(spikelab: Any, plate: Path, tmp_path: Path) -> None:
    """A key that no cluster has is told with its line, before anything runs, and the exit code is 2."""
    path = tmp_path / "slurm.toml"
    path.write_text("[slurm]\nworkers = 2\nmemroy = '64GB'\n", encoding="utf-8")
    result = spikelab("sort", plate, "--cluster", path)
    assert result.exit_code == 2
    assert "slurm.toml, line 3: [slurm] has no 'memroy'" in result.stderr


def test_a_cluster_and_parallel_exclude_each_other(spikelab: Any, plate: Path, tmp_path: Path) -> None:
    """--parallel beside --cluster is a wrong call: it would say nothing of the machines of the cluster."""
    path = tmp_path / "local.toml"
    path.write_text("[local]\n", encoding="utf-8")
    result = spikelab("multistream", plate, "--cluster", path, "--parallel", 2)
    assert result.exit_code == 2
    assert "--parallel is for this machine" in result.stderr


def test_a_dry_run_for_a_cluster_tells_nothing_of_this_machine(spikelab: Any, plate: Path, tmp_path: Path) -> None:
    """With --cluster the plan is recordings, folders and settings: what speaks against a sort here does not count."""
    path = tmp_path / "slurm.toml"
    path.write_text("[slurm]\nworkers = 2\nmemory = '64GB'\n", encoding="utf-8")
    asked = ("multistream", plate, "--set", "preflight_min_free_inter_gb=1e6", "--dry-run", "--cluster", path)
    result = spikelab(*asked)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Would sort 2 recordings with kilosort4 on a cluster; nothing is written now."
    assert {line.split()[0] for line in lines[2:5]} == {"recording", "stream", "results"}
    assert lines[-3:-1] == [
        "Settings that differ from the preset 'kilosort4':",
        "  preflight_min_free_inter_gb = 1000000.0",
    ]
    assert "each worker looks at itself" in lines[-1]
    told = json.loads(spikelab(*asked, "--json").stdout)
    assert told["findings"] == []
    assert [one["projected"] or one["estimate"] for one in told["recordings"]] == [None, None]


def test_a_batch_runs_on_local_workers(
    spikelab: Any, fake: tuple[str, ...], plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--cluster with [local] sorts on workers of its own and tells of it as a sort without does."""
    pytest.importorskip("distributed")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    file = shutil.copy(plate, tmp_path / "a.raw.h5")
    path = tmp_path / "local.toml"
    path.write_text("[local]\nworkers = 1\n", encoding="utf-8")
    plain = ("--set", "create_figures=false", "--set", "generate_sorting_report=false")
    result = spikelab("multistream", file, "--streams", "well001", *fake, *plain, "--cluster", path, "--json")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)["records"]
    assert record["status"] == "success"
    assert "1 recording" in result.stderr
