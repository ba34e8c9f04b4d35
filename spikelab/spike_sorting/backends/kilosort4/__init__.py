"""Kilosort4, natively in torch: driven step by step with upstream's functions, or with faster ones of ours."""
