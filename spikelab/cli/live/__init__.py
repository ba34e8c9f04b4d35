"""``spikelab watch``: a local page that shows a running batch, from the folders of its runs alone."""
