"""Probes: Kilosort's dictionary and probeinterface, both ways, in memory and in files."""
