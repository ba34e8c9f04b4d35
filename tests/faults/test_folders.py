"""P3, P7, P9: folders of a run that others delete, move, write-protect or fill while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faults.harness import InNamespace, Tally, Undisturbed, slow, sort_options

pytestmark = [slow, pytest.mark.timeout(300)]

CASES = [
    *(("inter", how) for how in ("deleted", "renamed", "read-only")),
    *(("results", how) for how in ("deleted", "renamed", "read-only", "a file")),
]
UNHARMED = [(place, "later version") for place in ("inter", "results")]
FAILED = {"failed", "sorter_crashed"}


@pytest.fixture(scope="module")
def meddled(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Undisturbed, in_namespace: InNamespace
) -> dict[str, Any]:
    """What came of each case, and of a recording that nobody touched, in one batch; and of the same call again."""
    folder = tmp_path_factory.mktemp("meddled")
    options = [sort_options("meddle", place=place, how=how) for place, how in (*CASES, *UNHARMED)]
    options.append(sort_options())
    jobs = [_job(undisturbed, folder / str(number), chosen) for number, chosen in enumerate(options)]
    again = [{**job, "options": sort_options()} for job in jobs]
    return dict(in_namespace("meddled", jobs=jobs, again=again, template=undisturbed.inter, limit_s=250))


def _job(undisturbed: Undisturbed, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    # Each in a folder of its own: what is moved away goes beside it.
    places = {"inter": str(folder / "i" / "inter"), "results": str(folder / "r" / "results")}
    return {"file": undisturbed.file, **places, "options": options}


@pytest.mark.parametrize("place,how", CASES)
def test_a_folder_that_goes_away_is_named(place: str, how: str, meddled: dict[str, Any], tally: Tally) -> None:
    """P7: a run whose folder is deleted, moved, replaced or write-protected fails, and is told with the folder."""
    number = CASES.index((place, how))
    record = meddled["first"][number]
    folder = str(Path(record["results_folder"]).parents[1] / place[0] / place)
    held = record["status"] in FAILED and folder in meddled["told"][number]
    tally("P7", f"the folder {place} of a run: {how}", 1, held)
    assert held, (record, meddled["told"][number])


def test_a_file_in_place_of_a_folder_costs_one_recording(
    tmp_path: Path, undisturbed: Undisturbed, in_namespace: InNamespace, tally: Tally
) -> None:
    """P3: a file in the place of the intermediate folder of a run costs that run, and not the batch."""
    options = [sort_options("meddle", place="inter", how="a file"), sort_options()]
    jobs = [_job(undisturbed, tmp_path / str(number), chosen) for number, chosen in enumerate(options)]
    seen = in_namespace("meddled", jobs=jobs, again=[], template=undisturbed.inter)
    statuses = [record["status"] for record in seen["first"]]
    held = len(statuses) == 2 and statuses[0] in FAILED and statuses[1] == "success"
    tally("P3", "a file in the place of the intermediate folder of another recording", 1, held)
    assert held, (statuses, seen["complained"])
    assert f"{tmp_path}/0/i/inter" in seen["told"][0]


@pytest.mark.parametrize("place,how", UNHARMED)
def test_files_of_a_later_version_do_no_harm(
    place: str, how: str, meddled: dict[str, Any], reference: dict[str, str], tally: Tally
) -> None:
    """P9: JSON files of another version among those of a run cost neither the run nor its result."""
    number = len(CASES) + UNHARMED.index((place, how))
    held = meddled["first"][number]["status"] == "success" and meddled["content"][number] == reference
    tally("P9", f"files of a later version in {place}", 1, held)
    assert held, meddled["first"][number]


def test_the_batch_goes_on(meddled: dict[str, Any], tally: Tally) -> None:
    """P3: whatever happens to the folders of the others, a recording is sorted, and nothing is left or locked."""
    assert len(meddled["first"]) == len(CASES) + len(UNHARMED) + 1, meddled["complained"]
    last = meddled["first"][-1]
    tally(
        "P3",
        "folders of the other recordings deleted, moved, replaced, write-protected",
        1,
        last["status"] == "success",
    )
    assert last["status"] == "success"
    assert not meddled["left"]
    assert all(meddled["free"])


def test_the_same_call_finishes(meddled: dict[str, Any], reference: dict[str, str], tally: Tally) -> None:
    """P9: once the folders are back, or gone for good, the same call finishes with the result of a quiet machine."""
    same = [content == reference for content in meddled["content"]]
    tally("P9", "the same call after such a meddling", len(same), sum(same))
    assert [record["status"] for record in meddled["second"]] == ["success"] * len(same), meddled["second"]
    assert all(same)
