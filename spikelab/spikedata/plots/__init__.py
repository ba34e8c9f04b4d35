"""Pictures of units: each takes ``ax=``, returns what it drew on, shows nothing and changes no setting of matplotlib.

Without ``ax`` a new ``matplotlib.figure.Figure`` is made beside pyplot: notebooks draw it, ``figure.savefig`` writes
it. For a window, give axes of your own: ``sd.plot_raster(ax=plt.gca())``, then ``plt.show()``.
"""

from spikelab.spikedata.plots.footprints import plot_unit_footprints
from spikelab.spikedata.plots.funnel import plot_curation_funnel
from spikelab.spikedata.plots.places import plot_unit_locations
from spikelab.spikedata.plots.trains import (
    plot_amplitudes,
    plot_autocorrelograms,
    plot_isi_histograms,
    plot_raster,
)

__all__ = [
    "plot_amplitudes",
    "plot_autocorrelograms",
    "plot_curation_funnel",
    "plot_isi_histograms",
    "plot_raster",
    "plot_unit_footprints",
    "plot_unit_locations",
]
