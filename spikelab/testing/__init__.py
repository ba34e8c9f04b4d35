"""Tests to inherit: what a sorter of your own has to pass. Needs pytest, which nothing else here does."""

import pytest

# Before the import: a failed assertion in there is told with its values, as in anybody's own tests.
pytest.register_assert_rewrite("spikelab.testing.contract")

from spikelab.testing.contract import BackendContract  # noqa: E402 - see above

__all__ = ["BackendContract"]
