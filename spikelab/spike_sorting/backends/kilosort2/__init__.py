"""Kilosort2: MATLAB's, started by SpikeInterface's script, or compiled."""
