"""The text format of probes, ``.prb``: Python by origin, read here without running any of it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MOST_CONTACTS = 100_000
"""More than any probe has: a range or a product beyond this is a mistake, or meant to fill the memory."""


def parse_prb(text: str) -> dict[str, Any]:
    """Return Kilosort's probe dictionary of a ``.prb`` file's text.

    Literals, ``range``, ``list`` and arithmetic of numbers are understood: that is what programs write. Groups become
    shanks, numbered as they are, or in their order where they have names.

    Raises
    ------
    ValueError
        It is no ``.prb``, it computes its values in another way, or a channel has no position.
    """
    groups = _groups(text)
    shanks = {name: number for number, name in enumerate(groups)}
    if all(isinstance(name, int) for name in groups):
        shanks = {name: name for name in groups}
    rows = []
    for name, group in groups.items():
        if not isinstance(group, Mapping) or "channels" not in group:
            msg = f"group {name!r} has no 'channels'"
            raise ValueError(msg)
        rows += [(int(channel), *_position(name, group, channel), shanks[name]) for channel in group["channels"]]
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * 4
    return dict(zip(("chanMap", "xc", "yc", "kcoords"), map(list, columns), strict=True))


def format_prb(dictionary: Mapping[str, Any]) -> str:
    """Return the text of a ``.prb`` file, one group for each shank, of Kilosort's complete probe dictionary."""
    groups: dict[float, dict[int, list[float]]] = {}
    columns = (dictionary[name].tolist() for name in ("chanMap", "xc", "yc", "kcoords"))
    for channel, x_um, y_um, shank in zip(*columns, strict=True):
        groups.setdefault(shank, {})[channel] = [x_um, y_um]
    lines = ["channel_groups = {"]
    for shank, geometry in sorted(groups.items()):
        lines += [f"    {int(shank)}: {{", f"        'channels': {list(geometry)},", "        'geometry': {"]
        lines += [f"            {channel}: {position}," for channel, position in geometry.items()]
        lines += ["        },", "    },"]
    return "\n".join([*lines, "}", ""])


def _groups(text: str) -> Mapping[Any, Any]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, RecursionError) as error:
        msg = f"it is not of the format .prb ({error})"
        raise ValueError(msg) from error
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id.lower() == "channel_groups" for target in targets):
            groups = _value(statement.value) if isinstance(statement, ast.Assign) else None
            if isinstance(groups, Mapping):
                return groups
    msg = "it has no channel_groups = {...}"
    raise ValueError(msg)


def _position(name: Any, group: Mapping[str, Any], channel: int) -> tuple[float, float]:
    geometry = group.get("geometry")
    if not isinstance(geometry, Mapping) or channel not in geometry:
        msg = f"channel {channel} of group {name!r} has no position in 'geometry'"
        raise ValueError(msg)
    position = geometry[channel]
    if not isinstance(position, list) or len(position) != 2:
        msg = f"the position of channel {channel} must be [x, y], got {position!r}"
        raise ValueError(msg)
    return float(position[0]), float(position[1])


def _value(node: ast.expr) -> Any:
    """Return what `node` says, where it only says it; programs are refused."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_number(left), _number(right))
        case ast.Call(func=ast.Name(id="range" | "list" as name), args=args, keywords=[]):
            return _range(args) if name == "range" else list(_value(args[0])) if args else []
        # numpy's numbers print so, and programs have written them down.
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "numpy")), args=[ast.Constant() as only]):
            return _number(only)
    msg = (
        f"line {node.lineno} computes its values, and code in a probe file is not run; open it with a program that you "
        "trust to, such as probeinterface.read_prb, and save it with write_probe"
    )
    raise ValueError(msg)


def _key(node: ast.expr | None) -> Any:
    value = None if node is None else _value(node)
    if not isinstance(value, (int, float, str)):
        msg = "keys must be numbers or names"
        raise ValueError(msg)  # noqa: TRY004 - of the file, not of a call
    return value


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if not isinstance(value, (int, float)):
        msg = f"line {node.lineno} reckons with what is no number"
        raise ValueError(msg)  # noqa: TRY004 - of the file, not of a call
    return value


def _range(args: list[ast.expr]) -> list[int]:
    numbers = range(*(int(_number(arg)) for arg in args))
    if len(numbers) > _MOST_CONTACTS:
        msg = f"a range of {len(numbers)} contacts is longer than any probe"
        raise ValueError(msg)
    return list(numbers)
