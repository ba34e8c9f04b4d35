"""Universal detection: where a spatial blur of template responses has its largest value around.

The amplitude of a position f at a time t is the largest absolute value, over sizes s and templates k, of the
responses of the channels near f, blurred with weights w[s, :, f] of norm one. Spikes are where it exceeds a threshold
and equals the largest amplitude of the nearby positions within a few samples. Both conditions leave nearly everything
out, so that nearly nothing has to be computed:

- By the inequality of Cauchy and Schwarz, an amplitude is at most the norm of the responses, template by template.
  Positions share channels, so the norm over the channels of a group of positions bounds all of them at once.
- Where the bound stays below the threshold there is neither a spike nor a rival that could suppress one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from spikelab.spike_sorting.backends.kilosort4.kernels.convolution import Responses, sliding_max

_SLACK = 1e-2
"""Relative margin of the bound, far above the rounding of float32, and of TF32 where torch may use it."""
_COLUMNS_AT_ONCE = 1 << 14
"""Bounds the memory of one product, however many columns pass the bound."""
_VALUES_AT_ONCE = 1 << 17
"""Amplitudes that are compared over time at once on a CPU: they stay in the cache."""
_NEAREST = 9
"""Rivals that are asked first."""
_NOISE_SIGMAS = 6.0
"""How rarely noise shall pass the bound."""


@dataclass(frozen=True)
class Group:
    """Positions that lie together.

    Parameters
    ----------
    positions : Tensor, shape (n_positions,), int64
        Which they are.
    channels : Tensor, shape (n_channels,), int64
        All channels near any of them.
    weights : Tensor, shape (n_sizes * n_positions, n_channels), float32
        Of each size and position, zero for channels that are not near it.
    """

    positions: torch.Tensor
    channels: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """What the geometry alone decides, made once for all batches.

    Parameters
    ----------
    groups : tuple of Group
        Every position is in one of them.
    members : Tensor, shape (n_groups, n_channels), float32
        One where a channel is in a group, else zero.
    """

    groups: tuple[Group, ...]
    members: torch.Tensor


@dataclass(frozen=True)
class Crossings:
    """Where an amplitude exceeds the threshold.

    Parameters
    ----------
    position, time : Tensor, shape (n_crossings,), int64
    amplitude : Tensor, shape (n_crossings,), float32
    """

    position: torch.Tensor
    time: torch.Tensor
    amplitude: torch.Tensor

    def at(self, chosen: torch.Tensor) -> Crossings:
        """Return some of them."""
        return Crossings(self.position[chosen], self.time[chosen], self.amplitude[chosen])


class UniversalDetection:
    """Stands in for ``kilosort.spikedetect.template_match``; keeps the plan of the geometry it saw last."""

    def __init__(self) -> None:
        self._planned: tuple[torch.Tensor, Plan] | None = None

    def __call__(
        self,
        X: torch.Tensor,
        ops: Mapping[str, Any],
        near: torch.Tensor,
        rivals: torch.Tensor,
        weigh: torch.Tensor,
        device: torch.device | None = None,  # noqa: ARG002 - upstream passes it
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the spikes of one batch.

        Parameters
        ----------
        X : Tensor, shape (n_channels, n_times), float32
            The whitened batch, with `nt` samples of its neighbours on either side.
        ops : mapping
            Kilosort's state: `nt`, `wTEMP`, `Th_universal` and the setting `nt0min` are read.
        near : Tensor, shape (n_near, n_positions), int64
            Channels near each position.
        rivals : Tensor, shape (n_rivals, n_positions), int64
            Positions near each position, itself included.
        weigh : Tensor, shape (n_sizes, n_near, n_positions), float32
            Weights of the channels near each position, of norm one.
        device : torch.device, optional
            Where X is.

        Returns
        -------
        xy : Tensor, shape (n_spikes, 2), int64
            Position and time, in this order.
        imax : Tensor, shape (n_spikes,), int64
            ``size * n_templates + template`` of the largest value.
        amp : Tensor, shape (n_spikes,), float32
            Amplitude.
        adist : Tensor, shape (n_near, n_spikes), float32
            Responses of the channels near it, with the sign that makes the amplitude positive.
        """
        threshold = float(ops["Th_universal"])
        plan = self._plan(near, weigh, threshold)
        responses = Responses(X, ops["wTEMP"])
        crossings = find_crossings(responses, plan, threshold)
        # Spikes too near to an end are found in the batch before or after.
        inside = (crossings.time >= ops["nt"]) & (crossings.time < X.shape[1] - ops["nt"])
        reach = int(ops["settings"]["nt0min"])
        position, time = largest_around(crossings.at(inside), rivals, reach, X.shape[1])
        return describe(responses, position, time, near, weigh)

    def _plan(self, near: torch.Tensor, weigh: torch.Tensor, threshold: float) -> Plan:
        if self._planned is None or self._planned[0] is not weigh:
            self._planned = (weigh, make_plan(near, weigh, largest_group(len(near), threshold)))
        return self._planned[1]


def largest_group(n_near: int, threshold: float) -> int:
    """Return how many channels a group may have so that noise of unit variance rarely passes the bound.

    The energy of n channels of such noise is n, with a standard deviation of ``sqrt(2 n)``.
    """
    root = (2 * _NOISE_SIGMAS**2 + 4 * threshold**2) ** 0.5 - 2**0.5 * _NOISE_SIGMAS
    return max(n_near, int((root / 2) ** 2))


def make_plan(near: torch.Tensor, weigh: torch.Tensor, n_channels_at_most: int) -> Plan:
    """Return the positions in groups of few channels.

    Parameters
    ----------
    near, weigh : Tensor
        Both as in `UniversalDetection`.
    n_channels_at_most : int
        A group grows while the channels near its positions are no more.
    """
    n_channels, n_positions = int(near.max()) + 1, near.shape[1]
    is_near = torch.zeros((n_positions, n_channels), device=near.device).scatter_(1, near.T, 1.0)
    dense = torch.zeros((len(weigh), n_positions, n_channels), device=near.device)
    dense.scatter_(2, near.T.expand(len(weigh), -1, -1), weigh.transpose(1, 2).contiguous())
    gathered = gather_groups(is_near.bool().cpu().numpy(), n_channels_at_most)
    groups = tuple(_group(dense, is_near, torch.from_numpy(positions).to(near.device)) for positions in gathered)
    return Plan(groups, torch.stack([is_near[group.positions].amax(0) for group in groups]))


def gather_groups(is_near: npt.NDArray[np.bool_], n_channels_at_most: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield groups of positions: each begins with the first one left, and takes what adds the fewest channels.

    Parameters
    ----------
    is_near : ndarray, shape (n_positions, n_channels), bool
        Whether a channel is near a position.
    n_channels_at_most : int
        As in `make_plan`.
    """
    left = np.arange(len(is_near))
    while left.size:
        chosen, channels = [left[0]], is_near[left[0]]
        left = left[1:]
        while left.size:
            added = (is_near[left] & ~channels).sum(1)
            best = int(added.argmin())
            if channels.sum() + added[best] > n_channels_at_most:
                break
            chosen.append(left[best])
            channels = channels | is_near[left[best]]
            left = np.delete(left, best)
        yield np.array(chosen, dtype=np.int64)


def _group(dense: torch.Tensor, is_near: torch.Tensor, positions: torch.Tensor) -> Group:
    channels = is_near[positions].amax(0).nonzero()[:, 0]
    weights = dense[:, positions][:, :, channels].reshape(-1, len(channels)).contiguous()
    return Group(positions, channels, weights)


def find_crossings(responses: Responses, plan: Plan, threshold: float) -> Crossings:
    """Return every amplitude above the threshold.

    Parameters
    ----------
    responses : Responses
        Computed here, chunk by chunk.
    plan : Plan
        The groups of positions.
    threshold : float
        The smallest amplitude of a spike.
    """
    n_positions = sum(len(group.positions) for group in plan.groups)
    found = []
    for number, chunk in enumerate(responses.chunks()):
        amplitudes = chunk.new_zeros((n_positions, responses.span))
        for group, column in _columns_above(chunk, plan, threshold):
            _, time = responses.locate(column)
            _raise(amplitudes, group, chunk, column, time, threshold)
        position, time = amplitudes.nonzero(as_tuple=True)
        found.append((position, number * responses.span + time, amplitudes[position, time]))
    return Crossings(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _columns_above(chunk: torch.Tensor, plan: Plan, threshold: float) -> Iterator[tuple[Group, torch.Tensor]]:
    """Yield groups with the columns in which their bound passes the threshold, so many at a time as memory allows."""
    bound = plan.members @ (chunk[: plan.members.shape[1]] ** 2)
    for group, is_above in zip(plan.groups, bound > threshold**2 * (1 - _SLACK), strict=True):
        for column in torch.split(is_above.nonzero()[:, 0], _COLUMNS_AT_ONCE):
            yield group, column


def _raise(
    amplitudes: torch.Tensor,
    group: Group,
    chunk: torch.Tensor,
    column: torch.Tensor,
    time: torch.Tensor,
    threshold: float,
) -> None:
    """Raise `amplitudes` to those of the group's positions in these columns, where they exceed the threshold."""
    responses = torch.take(chunk, group.channels[:, None] * chunk.shape[1] + column)
    found = (group.weights @ responses).abs_()
    n_sizes = len(found) // len(group.positions)
    found = found.view(n_sizes, len(group.positions), len(column)).amax(0)
    position, which = (found > threshold).nonzero(as_tuple=True)
    where = group.positions[position] * amplitudes.shape[1] + time[which]
    amplitudes.view(-1).scatter_reduce_(0, where, found[position, which], "amax")


def largest_around(
    crossings: Crossings, rivals: torch.Tensor, reach: int, n_times: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return position and time of the amplitudes that none of their rivals exceeds, ordered by them.

    Parameters
    ----------
    crossings : Crossings
        All amplitudes that count.
    rivals : Tensor, shape (n_rivals, n_positions), int64
        Positions near each position, itself included, the nearest first.
    reach : int
        How many samples before and after count.
    n_times : int
        Length of the batch.

    Returns
    -------
    position, time : Tensor, shape (n_spikes,), int64
    """
    is_there = torch.zeros(n_times, dtype=torch.bool, device=rivals.device)
    is_there[crossings.time] = True
    at = times_around(is_there, reach)
    column = torch.searchsorted(at, crossings.time)
    amplitudes = torch.zeros((rivals.shape[1], len(at)), device=rivals.device)
    where = crossings.position * len(at) + column
    amplitudes.view(-1)[where] = crossings.amplitude
    in_time = torch.empty_like(amplitudes)
    at_once = max(1, _VALUES_AT_ONCE // max(1, len(at))) if at.device.type == "cpu" else len(amplitudes)
    for some, largest in zip(torch.split(amplitudes, at_once), torch.split(in_time, at_once), strict=True):
        largest.copy_(sliding_max(some, reach))
    spikes = ((amplitudes == in_time) & (amplitudes > 0)).nonzero()
    # The nearest rivals leave few of them for all the others.
    for some_rivals in (rivals[:_NEAREST], rivals[_NEAREST:]):
        position, column = spikes.unbind(1)
        exceeded = (in_time[some_rivals[:, position], column] > amplitudes[position, column]).any(0)
        spikes = spikes[~exceeded]
    return spikes[:, 0], at[spikes[:, 1]]


def times_around(is_there: torch.Tensor, reach: int) -> torch.Tensor:
    """Return, sorted, the indices within `reach` of any that is there.

    Where indices are left out, they are more than `reach` away from any that is there: a window of `reach` entries
    of this list on both sides of such an index holds the same ones as a window of `reach` indices.

    Parameters
    ----------
    is_there : Tensor, shape (n_times,), bool
        Which are there.
    reach : int
        How far to look around.

    Returns
    -------
    Tensor, shape (n_around,), int64
    """
    seen = pad(is_there.cumsum(0), (1 + reach, reach), value=0)
    seen[len(seen) - reach :] = seen[len(seen) - reach - 1]
    return (seen[2 * reach + 1 :] > seen[: len(is_there)]).nonzero()[:, 0]


def describe(
    responses: Responses,
    position: torch.Tensor,
    time: torch.Tensor,
    near: torch.Tensor,
    weigh: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `UniversalDetection` returns, for spikes at these positions and times."""
    nearby = responses.at(near[:, position], time)
    n_templates = len(nearby)
    blurred = torch.einsum("scn,kcn->skn", weigh[:, :, position], nearby).flatten(0, 1)
    amplitude, largest = blurred.abs().max(0)
    numbers = torch.arange(len(time), device=time.device)
    sign = blurred[largest, numbers].sign()
    responses_of_largest = nearby[largest % n_templates, :, numbers].T * sign
    return torch.stack((position, time), 1), largest, amplitude, responses_of_largest
