"""Pictures: grids, color maps, charts and PNG files."""

from convlens.pictures.charts import curves, heat_map
from convlens.pictures.figures import Curves, ExpectedActual, Figure, HeatMap, Pairs, Table, Tiles
from convlens.pictures.normalize import (
    Pixels,
    deprocess,
    feature_map_pixels,
    heat_pixels,
    signed_pixels,
    stretched_pixels,
    viridis,
)
from convlens.pictures.save import save_gif, save_png, slug
from convlens.pictures.sheet import grid, sheet

__all__ = [
    "Curves",
    "ExpectedActual",
    "Figure",
    "HeatMap",
    "Pairs",
    "Pixels",
    "Table",
    "Tiles",
    "curves",
    "deprocess",
    "feature_map_pixels",
    "grid",
    "heat_map",
    "heat_pixels",
    "save_gif",
    "save_png",
    "sheet",
    "signed_pixels",
    "slug",
    "stretched_pixels",
    "viridis",
]
