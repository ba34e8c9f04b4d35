"""Where in a TOML file a setting stands, for messages: the parser keeps no lines."""

from __future__ import annotations

import re


def line_of(text: str, group: str, name: str | None = None) -> int | None:
    r"""Return the line, from 1, of the setting `name` in the table `group` of a TOML `text`; None where not found.

    Parameters
    ----------
    text : str
        A TOML document of tables of settings.
    group : str
        Table.
    name : str or None, default None
        Setting in it; None means the table itself, or a setting of that name before the first table.

    Examples
    --------
    >>> line_of("[curation]\n\nsnr_min = -5\n", "curation", "snr_min")
    3
    """
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line)
        if header:
            table = re.sub(r"[\"'\s]", "", header[1])
            # Settings that are mappings have a table of their own: [sorter.sorter_params].
            if table == (group if name is None else f"{group}.{name}"):
                return number
        key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line)
        if key and ".".join(filter(None, (table, key[1]))) == ".".join(filter(None, (group, name))):
            return number
    return None
