"""Matching pursuit with learned templates, looking again only where the last round has changed something.

Each round takes the spikes whose explained energy is the largest within a template's length, and subtracts them.
A subtraction changes one template's length of samples on both sides; the energies of all other times stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import conv1d, pad

from spikelab.spike_sorting.backends.kilosort4.kernels.convolution import sliding_max, toeplitz

_BLOCK = 32
_CHUNK_VALUES = 1 << 18
"""Values of one chunk on a CPU: as many as stay in the cache until they are used."""
_TIE = 1e-9
"""Energies closer than this count as one."""


@dataclass
class Pursuit:
    """What is left of one batch, and how well each time is explained.

    Parameters
    ----------
    residual : Tensor, shape (n_channels, n_times), float32
        The batch without the spikes taken so far.
    fit : Tensor, shape (n_units, n_times), float32
        Product of each template with the residual around each time.
    energy : Tensor, shape (n_times,), float32
        Energy that the best unit explains; zero within `nt` samples of the ends.
    unit : Tensor, shape (n_times,), int64
        The best unit.
    """

    residual: torch.Tensor
    fit: torch.Tensor
    energy: torch.Tensor
    unit: torch.Tensor


def run_matching(
    ops: Mapping[str, Any],
    X: torch.Tensor,
    U: torch.Tensor,
    ctc: torch.Tensor,
    device: torch.device | None = None,  # noqa: ARG001 - upstream passes it
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the spikes of one batch, in the order in which they are taken; stands in for upstream's function.

    Parameters
    ----------
    ops : mapping
        Kilosort's state: `nt`, `wPCA`, `Th_learned` and `max_peels` are read.
    X : Tensor, shape (n_channels, n_times), float32
        The whitened batch, with `nt` samples of its neighbours on either side.
    U : Tensor, shape (n_units, n_pcs, n_channels), float32
        Templates, in principal components of each channel.
    ctc : Tensor, shape (n_units, n_units, 2 * nt + 1), float32
        Product of each two templates at each lag.
    device : torch.device, optional
        Where X is.

    Returns
    -------
    spikes : Tensor, shape (n_spikes, 2), int64
        Time and unit.
    amplitudes : Tensor, shape (n_spikes, 1), float32
        Size in templates.
    th_amplitudes : Tensor, shape (n_spikes, 1), float32
        Root of the explained energy, which the threshold is compared with.
    residual : Tensor, shape (n_channels, n_times), float32
        What is left.
    """
    nt, components = int(ops["nt"]), ops["wPCA"].contiguous()
    norms = (U**2).sum(-1).sum(-1)
    pursuit = _begin(X, components, U, norms, nt)
    times, units, amplitudes, energies = [], [], [], []
    for _ in range(ops["max_peels"]):
        largest = sliding_max(pursuit.energy[None], nt)[0]
        is_spike = (largest > ops["Th_learned"] ** 2) & ((largest - pursuit.energy).abs() < _TIE)
        time = is_spike.nonzero()[:, 0]
        if not len(time):
            break
        unit = pursuit.unit[time]
        amplitude = pursuit.fit[unit, time] / norms[unit]
        times.append(time)
        units.append(unit)
        amplitudes.append(amplitude)
        energies.append(largest[time])
        _subtract(pursuit, time, unit, amplitude, U, components, ctc)
        _look_again(pursuit, time, norms, nt)
    if not times:
        nothing = X.new_zeros((0, 1))
        return nothing.long().expand(0, 2), nothing, nothing, pursuit.residual
    spikes = torch.stack((torch.cat(times), torch.cat(units)), 1)
    return spikes, torch.cat(amplitudes)[:, None], torch.cat(energies)[:, None] ** 0.5, pursuit.residual


def _begin(X: torch.Tensor, components: torch.Tensor, U: torch.Tensor, norms: torch.Tensor, nt: int) -> Pursuit:
    fit = fit_templates(X, components, U)
    energy, unit = (torch.relu(fit) ** 2 / norms[:, None]).max(0)
    energy[:nt] = 0
    energy[-nt:] = 0
    return Pursuit(X.clone(), fit, energy, unit)


def fit_templates(X: torch.Tensor, components: torch.Tensor, U: torch.Tensor) -> torch.Tensor:
    """Return the product of each template with the samples around each time.

    Parameters
    ----------
    X : Tensor, shape (n_channels, n_times), float32
        Samples; zero before and after.
    components : Tensor, shape (n_pcs, nt), float32
        Waveforms of the principal components.
    U : Tensor, shape (n_units, n_pcs, n_channels), float32
        Templates.

    Returns
    -------
    Tensor, shape (n_units, n_times), float32
    """
    if X.device.type != "cpu":
        responses = conv1d(X[:, None], components[:, None], padding=components.shape[1] // 2)
        return torch.einsum("upc,cpt->ut", U, responses)
    n_channels, n_times = X.shape
    n_pcs, n_taps = components.shape
    weights = U.reshape(len(U), -1)
    matrices = toeplitz(components, _BLOCK).view(-1, n_pcs, _BLOCK).permute(1, 0, 2).contiguous()
    blocks = max(1, _CHUNK_VALUES // (n_channels * n_pcs * _BLOCK))
    n_blocks = -(-n_times // _BLOCK)
    padded = pad(X, (n_taps // 2, n_blocks * _BLOCK - n_times + n_taps // 2))
    rows = padded.as_strided((n_channels, n_blocks, matrices.shape[1]), (padded.shape[1], _BLOCK, 1))
    fit = torch.empty((len(U), n_blocks * _BLOCK))
    for first in range(0, n_blocks, blocks):
        taken = rows[:, first : first + blocks]
        responses = taken.reshape(-1, matrices.shape[1]) @ matrices
        fit[:, first * _BLOCK : (first + taken.shape[1]) * _BLOCK] = weights @ responses.view(n_pcs * n_channels, -1)
    return fit[:, :n_times]


def _subtract(
    pursuit: Pursuit,
    time: torch.Tensor,
    unit: torch.Tensor,
    amplitude: torch.Tensor,
    U: torch.Tensor,
    components: torch.Tensor,
    ctc: torch.Tensor,
) -> None:
    nt, reach = ctc.shape[2] // 2, components.shape[1] // 2
    around = torch.arange(-reach, reach + 1, device=time.device)
    lags = torch.arange(-nt, nt + 1, device=time.device)
    # Neighbours are at least nt apart and change each other's surroundings; every second one does not.
    for part in (slice(0, None, 2), slice(1, None, 2)):
        at, size = time[part, None], amplitude[part, None]
        pursuit.residual[:, at + around] -= size * torch.einsum("npc,pt->cnt", U[unit[part]], components)
        pursuit.fit[:, at + lags] -= size * ctc[:, unit[part]]


def _look_again(pursuit: Pursuit, time: torch.Tensor, norms: torch.Tensor, nt: int) -> None:
    """Update energies where a spike was subtracted, within `nt` samples of `time`."""
    n_times = len(pursuit.energy)
    around = (time[:, None] + torch.arange(-nt, nt + 1, device=time.device)).flatten()
    around = around[(around >= nt) & (around < n_times - nt)]
    energy, unit = (torch.relu(pursuit.fit[:, around]) ** 2 / norms[:, None]).max(0)
    pursuit.energy[around], pursuit.unit[around] = energy, unit
