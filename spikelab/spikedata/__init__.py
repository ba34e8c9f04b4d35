"""What a result is: the spike trains of units with their attributes, and its file."""

from spikelab.spikedata.spikedata import SpikeData

__all__ = ["SpikeData"]
