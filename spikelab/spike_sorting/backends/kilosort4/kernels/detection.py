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
        amplitudes = find_crossings(responses, plan, threshold, X.shape[1])
        amplitudes[:, : ops["nt"]] = 0
        amplitudes[:, -ops["nt"] :] = 0
        position, time = largest_around(amplitudes, rivals, int(ops["settings"]["nt0min"]))
        return describe(responses, position, time, near, weigh, len(ops["wTEMP"]))

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


def find_crossings(responses: Responses, plan: Plan, threshold: float, n_times: int) -> torch.Tensor:
    """Return every amplitude above the threshold, and zero for the others.

    Parameters
    ----------
    responses : Responses
        Computed here, chunk by chunk.
    plan : Plan
        The groups of positions.
    threshold : float
        The smallest amplitude of a spike.
    n_times : int
        Length of the batch.

    Returns
    -------
    Tensor, shape (n_positions, n_times), float32
    """
    passed = [_columns_above(chunk, plan, threshold) for chunk in responses.chunks()]
    group, column = torch.cat(passed).unbind(1)
    counts = torch.tensor([len(pairs) for pairs in passed], device=group.device)
    chunk = torch.repeat_interleave(torch.arange(len(passed), device=group.device), counts)
    n_positions = sum(len(one.positions) for one in plan.groups)
    amplitudes = torch.zeros((n_positions, n_times), device=group.device)
    for number, one in enumerate(plan.groups):
        for few in torch.split((group == number).nonzero()[:, 0], _COLUMNS_AT_ONCE):
            _add_crossings(amplitudes, responses, one, chunk[few], column[few], threshold)
    return amplitudes


def _columns_above(chunk: torch.Tensor, plan: Plan, threshold: float) -> torch.Tensor:
    """Return the pairs of group and column whose bound passes the threshold, shape (n_pairs, 2)."""
    bound = plan.members @ (chunk[: plan.members.shape[1]] ** 2)
    return (bound > threshold**2 * (1 - _SLACK)).nonzero()


def _add_crossings(
    amplitudes: torch.Tensor,
    responses: Responses,
    group: Group,
    chunk: torch.Tensor,
    column: torch.Tensor,
    threshold: float,
) -> None:
    """Raise `amplitudes` to those of the group's positions in these columns, where they exceed the threshold."""
    found = group.weights @ responses.columns(group.channels, chunk, column)
    n_sizes = len(group.weights) // len(group.positions)
    found = found.abs_().view(n_sizes, len(group.positions), len(column)).amax(0)
    _, time = responses.locate(chunk, column)
    # The last block may reach beyond the end of the batch.
    position, number = ((found > threshold) & (time < amplitudes.shape[1])).nonzero(as_tuple=True)
    where = group.positions[position] * amplitudes.shape[1] + time[number]
    amplitudes.view(-1).scatter_reduce_(0, where, found[position, number], "amax")


def largest_around(amplitudes: torch.Tensor, rivals: torch.Tensor, reach: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return position and time of the amplitudes that none of their rivals exceeds, ordered by them.

    Parameters
    ----------
    amplitudes : Tensor, shape (n_positions, n_times), float32
        Zero wherever there is neither a spike nor a rival.
    rivals : Tensor, shape (n_rivals, n_positions), int64
        Positions near each position, itself included.
    reach : int
        How many samples before and after count.

    Returns
    -------
    position, time : Tensor, shape (n_spikes,), int64
    """
    at = times_around(amplitudes.amax(0) > 0, reach)
    amplitudes = amplitudes[:, at]
    in_time = sliding_max(amplitudes, reach)
    position, column = ((amplitudes == in_time) & (amplitudes > 0)).nonzero(as_tuple=True)
    is_spike = in_time[rivals[:, position], column].amax(0) == amplitudes[position, column]
    return position[is_spike], at[column[is_spike]]


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
    n_templates: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `UniversalDetection` returns, for spikes at these positions and times."""
    templates = torch.arange(n_templates, device=time.device)[:, None, None]
    nearby = responses.at(near[:, position], templates, time)
    blurred = torch.einsum("scn,kcn->skn", weigh[:, :, position], nearby).flatten(0, 1)
    amplitude, largest = blurred.abs().max(0)
    numbers = torch.arange(len(time), device=time.device)
    sign = blurred[largest, numbers].sign()
    responses_of_largest = nearby[largest % n_templates, :, numbers].T * sign
    return torch.stack((position, time), 1), largest, amplitude, responses_of_largest
