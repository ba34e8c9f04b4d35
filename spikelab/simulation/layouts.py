"""Electrode layouts of simulated recordings, made offline and never downloaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from probeinterface import Probe

Positions = npt.NDArray[np.float64]
"""Contact positions, shape (n_channels, 2), x and y in um."""

_MEA_PITCH_UM = 17.5
_NP1_ROW_UM, _NP1_COLUMN_UM, _NP1_STAGGER_UM = 20.0, 32.0, 16.0
_NP2_ROW_UM, _NP2_COLUMN_UM, _NP2_SHANK_UM, _NP2_SHANKS = 15.0, 32.0, 250.0, 4
_LINEAR_PITCH_UM = 50.0
_TETRODE_SIDE_UM = 25.0


@dataclass(frozen=True)
class Layout:
    """One way to place contacts.

    Attributes
    ----------
    name : str
        The name that `make_probe` takes.
    description : str
        One sentence for people.
    default_n_channels : int
        Number of contacts when none is asked for.
    place : callable
        ``place(n_channels) -> (n_channels, 2) float64``: positions in um.
        Raises ``ValueError`` for a number of contacts that the layout cannot have.
    n_shanks : int, default: 1
        The contacts are numbered shank after shank, equally many on each.
    shape : {"square", "rect", "circle"}, default: "square"
        Contact shape, in probeinterface's words.
    shape_um : tuple of (str, float)
        Size of a contact in um, by probeinterface's name for it.
    """

    name: str
    description: str
    default_n_channels: int
    place: Callable[[int], Positions]
    n_shanks: int = 1
    shape: str = "square"
    shape_um: tuple[tuple[str, float], ...] = (("width", 12.0),)

    def shank_ids(self, n_channels: int) -> list[str] | None:
        """Return each contact's shank id, or None for a single shank."""
        if self.n_shanks == 1:
            return None
        return [str(channel * self.n_shanks // n_channels) for channel in range(n_channels)]


def make_probe(layout: str, n_channels: int | None = None) -> Probe:
    """Return a probe of the named layout, wired contact i to channel i.

    Parameters
    ----------
    layout : str
        One of `LAYOUTS`: "mea", "neuropixels1", "neuropixels2", "linear", "tetrode".
    n_channels : int, optional
        Number of contacts; None takes the layout's own (64, 96, 96, 32, 4).
        "mea" needs a number that fills a rectangle of at least 2 rows, "neuropixels1" an even
        number, "neuropixels2" a multiple of 8, "tetrode" 4.

    Returns
    -------
    probeinterface.Probe
        Two-dimensional, in um, with contact ids, device channel indices and, for four shanks,
        shank ids.

    Raises
    ------
    ValueError
        The layout is unknown, or cannot have that many contacts.

    Examples
    --------
    >>> from spikelab.simulation import make_probe
    >>> make_probe("mea", 16).get_contact_count()
    16
    """
    described = find_layout(layout)
    positions_um = place_contacts(described, n_channels)
    return _wire(described, positions_um)


def find_layout(name: str) -> Layout:
    """Return the layout of that name, or raise ValueError with the names that exist."""
    if name not in LAYOUTS:
        message = f"Unknown layout {name!r}. Choose one of: {', '.join(LAYOUTS)}."
        raise ValueError(message)
    return LAYOUTS[name]


def place_contacts(layout: Layout, n_channels: int | None = None) -> Positions:
    """Return contact positions, shape (n_channels, 2), float64, um."""
    n = layout.default_n_channels if n_channels is None else n_channels
    if n < 1:
        message = f"Layout {layout.name!r} needs at least one contact, but n_channels is {n}."
        raise ValueError(message)
    return layout.place(n)


def _wire(layout: Layout, positions_um: Positions) -> Probe:
    from probeinterface import Probe

    n_channels = len(positions_um)
    probe: Any = Probe(ndim=2, si_units="um")
    probe.set_contacts(
        positions=positions_um,
        shapes=layout.shape,
        shape_params=dict(layout.shape_um),
        contact_ids=[str(channel) for channel in range(n_channels)],
        shank_ids=layout.shank_ids(n_channels),
    )
    probe.set_device_channel_indices(np.arange(n_channels))
    return probe


def _grid(n_rows: int, n_columns: int, row_um: float, column_um: float) -> Positions:
    """Return a grid, numbered along x first."""
    rows, columns = np.divmod(np.arange(n_rows * n_columns), n_columns)
    return np.column_stack([columns * column_um, rows * row_um]).astype(np.float64)


def _place_mea(n_channels: int) -> Positions:
    n_rows = _most_square_side(n_channels)
    if n_rows < 2:
        message = (
            f"Layout 'mea' is a rectangle of at least 2 rows, but {n_channels} contacts do not fill one. "
            "Choose a number such as 16, 32, 64 or 100, or the layout 'linear'."
        )
        raise ValueError(message)
    return _grid(n_rows, n_channels // n_rows, _MEA_PITCH_UM, _MEA_PITCH_UM)


def _most_square_side(n: int) -> int:
    """Return the largest divisor of n that is not above its square root."""
    return next(side for side in range(math.isqrt(n), 0, -1) if n % side == 0)


def _place_neuropixels1(n_channels: int) -> Positions:
    _require_multiple("neuropixels1", n_channels, of=2)
    positions_um = _grid(n_channels // 2, 2, _NP1_ROW_UM, _NP1_COLUMN_UM)
    is_even_row = np.arange(n_channels) // 2 % 2 == 0
    positions_um[is_even_row, 0] += _NP1_STAGGER_UM
    return positions_um


def _place_neuropixels2(n_channels: int) -> Positions:
    _require_multiple("neuropixels2", n_channels, of=2 * _NP2_SHANKS)
    shank_um = _grid(n_channels // (2 * _NP2_SHANKS), 2, _NP2_ROW_UM, _NP2_COLUMN_UM)
    shifts_um = [np.array([shank * _NP2_SHANK_UM, 0.0]) for shank in range(_NP2_SHANKS)]
    return np.concatenate([shank_um + shift_um for shift_um in shifts_um])


def _place_linear(n_channels: int) -> Positions:
    return _grid(n_channels, 1, _LINEAR_PITCH_UM, 0.0)


def _place_tetrode(n_channels: int) -> Positions:
    if n_channels != 4:
        message = f"Layout 'tetrode' has 4 contacts, but n_channels is {n_channels}. Leave n_channels out."
        raise ValueError(message)
    return _grid(2, 2, _TETRODE_SIDE_UM, _TETRODE_SIDE_UM)


def _require_multiple(layout: str, n_channels: int, *, of: int) -> None:
    if n_channels % of:
        message = (
            f"Layout {layout!r} needs a multiple of {of} contacts, but n_channels is {n_channels}. "
            f"Choose {(n_channels // of + 1) * of}."
        )
        raise ValueError(message)


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        layout.name: layout
        for layout in (
            Layout(
                "mea",
                "Two-dimensional grid, 17.5 um pitch, as on high-density CMOS arrays.",
                64,
                _place_mea,
                shape="rect",
                shape_um=(("width", 5.45), ("height", 9.3)),
            ),
            Layout("neuropixels1", "One shank, four staggered columns, 20 um rows.", 96, _place_neuropixels1),
            Layout(
                "neuropixels2",
                "Four shanks 250 um apart, two columns 32 um apart, 15 um rows.",
                96,
                _place_neuropixels2,
                n_shanks=_NP2_SHANKS,
            ),
            Layout("linear", "One column, 50 um pitch.", 32, _place_linear),
            Layout(
                "tetrode",
                "Four wires on a square of 25 um.",
                4,
                _place_tetrode,
                shape="circle",
                shape_um=(("radius", 6.0),),
            ),
        )
    }
)
"""The layouts that `make_probe` and `simulate_recording` know, by name."""
