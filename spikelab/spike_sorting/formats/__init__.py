"""Formats of recordings: found from the file itself, read by SpikeInterface's own readers."""
