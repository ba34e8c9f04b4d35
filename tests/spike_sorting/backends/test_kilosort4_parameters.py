"""Our table of Kilosort4's parameters is the installed Kilosort4's."""

from __future__ import annotations

import math

import pytest

from spikelab.spike_sorting.backends.kilosort4.parameters import PARAMETERS, check_parameters

INSTALLED = pytest.importorskip("kilosort.parameters")
THEIRS = {**INSTALLED.MAIN_PARAMETERS, **INSTALLED.EXTRA_PARAMETERS}


def test_names_are_those_of_the_installed_version():
    """No parameter of the installed Kilosort4 is missing, and none of ours is unknown to it."""
    assert set(PARAMETERS) == set(THEIRS)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_type_and_range_are_theirs(name):
    """Type, range and excluded values agree, and the default is allowed."""
    ours, theirs = PARAMETERS[name], THEIRS[name]
    assert ours.kind is theirs["type"]
    if ours.kind in {int, float}:
        assert (ours.low, ours.high) == (theirs["min"], theirs["max"])
    assert list(ours.excluded) == theirs["exclude"]
    assert ours.problem(theirs["default"]) is None


@pytest.mark.parametrize(
    "params,said",
    [
        ({"Th_lerned": 8}, "did you mean 'Th_learned'"),
        ({"Th_learned": 0}, "not 0"),
        ({"nblocks": 1.5}, "whole number"),
        ({"nblocks": True}, "whole number"),
        ({"batch_size": None}, "at least 1"),
        ({"max_peels": 20_000}, "at most 10000"),
        ({"nt": 60}, "odd"),
        ({"templates_from_data": 1}, "True or False"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_allowed(params, said):
    """An unknown name, a wrong type and a value out of range are each refused, with what would be right."""
    with pytest.raises(ValueError, match=said):
        check_parameters(params)


def test_right_parameters_pass():
    """What Kilosort4 allows is allowed, infinity and None included."""
    check_parameters({"tmax": math.inf, "dmin": None, "nblocks": 0, "do_CAR": False, "Th_learned": 7})
