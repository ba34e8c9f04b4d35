"""Recordings with known truth, stimulation artifacts, and a writer of Maxwell ``.raw.h5`` files.

Importing this package imports neither SpikeInterface nor h5py; the functions do when they are called.
"""

from spikelab.simulation.artifacts import StimTruth, add_stim_artifacts
from spikelab.simulation.axons import Axon, AxonTruth, simulate_axons
from spikelab.simulation.layouts import LAYOUTS, make_probe
from spikelab.simulation.maxwell import write_maxwell
from spikelab.simulation.recordings import GroundTruth, simulate_recording

__all__ = [
    "LAYOUTS",
    "Axon",
    "AxonTruth",
    "GroundTruth",
    "StimTruth",
    "add_stim_artifacts",
    "make_probe",
    "simulate_axons",
    "simulate_recording",
    "write_maxwell",
]
