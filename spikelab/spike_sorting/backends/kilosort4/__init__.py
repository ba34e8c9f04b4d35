"""Kilosort4, natively in torch: driven step by step with upstream's own functions."""
