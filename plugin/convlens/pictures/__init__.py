"""Pictures of what was seen: grids, colour maps, charts and PNG files."""

from convlens.pictures.charts import curves, heat_map
from convlens.pictures.normalise import deprocess, feature_map_pixels, signed_pixels, viridis
from convlens.pictures.save import save_gif, save_png, slug
from convlens.pictures.sheet import grid, sheet

__all__ = [
    "curves",
    "deprocess",
    "feature_map_pixels",
    "grid",
    "heat_map",
    "save_gif",
    "save_png",
    "sheet",
    "signed_pixels",
    "slug",
    "viridis",
]
