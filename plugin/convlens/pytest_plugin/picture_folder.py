"""Find the pictures of a folder: all in it, or in one folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_MAX_NAMED = 10


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder.

    Attributes:
        folder: its path.
        files: the pictures, by class and by name.
        classes: the names of the class folders, sorted; empty where the folder has none.
        labels: the number of each picture's class among them; None where there are no classes.
    """

    folder: Path
    files: Sequence[Path]
    classes: Sequence[str] = ()
    labels: Sequence[int] | None = None

    def describe(self, used: int) -> str:
        """Return where the images came from, in words.

        Args:
            used: number of pictures that were read.
        """
        total = len(self.files)
        words = f"{used} from {self.folder}"
        if used < total:
            words = f"{used} of {total:,} from {self.folder}, evenly spaced"
        if not self.classes:
            return words
        names = [f"{number} {name}" for number, name in enumerate(self.classes[:_MAX_NAMED])]
        more = len(self.classes) - _MAX_NAMED
        return f"{words}; classes: {', '.join(names)}{f' and {more} more' if more > 0 else ''}"


def find_pictures(folder: Path) -> PictureFolder:
    """Return the pictures of a folder, or of one folder for each class within it.

    Classes are numbered by their folders' names in sorted order, as Keras's
    `image_dataset_from_directory` numbers them. Hidden files and folders are ignored, and so is
    what is not a picture by its suffix.

    Raises:
        ValueError: there is no picture; pictures lie both beside and inside of folders, or deeper
            than in folders of classes.
    """
    pictures = _pictures_in(folder)
    inner = _folders_in(folder)
    if pictures:
        stray = next((f for f in inner if _holds_pictures(f)), None)
        if stray is not None:
            raise ValueError(
                f"--convlens-images {folder}: it holds pictures, and so does its folder "
                f"{stray.name!r}: give a folder of pictures alone, or of one folder for each class"
            )
        return PictureFolder(folder, pictures)
    files: list[Path] = []
    labels: list[int] = []
    for number, one in enumerate(inner):
        deep = next((d for d in _folders_in(one) if _holds_pictures(d)), None)
        if deep is not None:
            raise ValueError(
                f"--convlens-images {folder}: pictures lie in {deep.relative_to(folder)}, one "
                "folder too deep: the folder of a class must hold its pictures itself"
            )
        own = _pictures_in(one)
        files += own
        labels += [number] * len(own)
    if not files:
        raise ValueError(f"--convlens-images {folder}: the folder holds no picture")
    return PictureFolder(folder, files, [one.name for one in inner], labels)


def _pictures_in(folder: Path) -> list[Path]:
    # A pipe by such a name would be waited for.
    return [p for p in _shown_in(folder) if p.suffix.lower() in SUFFIXES and p.is_file()]


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in _shown_in(folder) if path.is_dir()]


def _shown_in(folder: Path) -> Iterator[Path]:
    """Yield what is not hidden in a folder, sorted.

    Raises:
        ValueError: the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"--convlens-images: {folder} cannot be read ({error.strerror})") from None
    for name in names:
        if not name.startswith("."):
            yield folder / name


def _holds_pictures(folder: Path) -> bool:
    """Return whether there is a picture in a folder or deeper."""
    for place, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if _pictures_in(Path(place)):
            return True
    return False
