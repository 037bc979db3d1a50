"""ipywidgets applications, each with a static figure for pages without a kernel."""

from .neighbour_explorer import NeighbourExplorer

__all__ = ["NeighbourExplorer"]
