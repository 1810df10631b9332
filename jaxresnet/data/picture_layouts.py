"""Layouts of images in classes, each of which finds and lists itself: folders of files."""

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxresnet.data.dataset import OnProgress
from jaxresnet.errors import UserError

# torchvision.datasets.ImageFolder's.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
TEST_NAMES = ("val", "validation", "test")
# Beside or above the folder CLS-LOC, in Kaggle's copy.
_SOLUTION, _CLASS_NAMES = "LOC_val_solution.csv", "LOC_synset_mapping.txt"

Entry = tuple[str, int, int, str]  # a file's name, offset and length in bytes, class
_COLUMNS = [("name", object), ("offset", np.int64), ("length", np.int64), ("class", object)]


@dataclass(frozen=True)
class PictureLayout(ABC):
    """A copy of a data set.

    Attributes:
      root: the folder that names are relative to.
    """

    title: ClassVar[str]
    root: Path

    @classmethod
    @abstractmethod
    def find(cls, directory: Path) -> "PictureLayout | None":
        """The copy that the directory holds."""

    @property
    def published(self) -> bool:
        """Whether ImageNet in this layout has the published files."""
        return True

    @abstractmethod
    def watched(self) -> list[Path]:
        """The files and folders that change with the list of pictures."""

    @abstractmethod
    def classes(self) -> list[str]:
        """As entries name them."""

    @abstractmethod
    def entries(self, on_progress: OnProgress) -> Iterator[tuple[str, Iterable[Entry]]]:
        """The pictures of "train" and then of "test", in an order that is always the same.

        Raises:
          UserError: parts are missing, or damaged.
        """

    def name(self) -> str:
        """Of the data set."""
        return self.root.resolve().name

    def class_names(self) -> dict[str, str]:
        """Names for people, where there are any, by class."""
        return {}

    def read(self, classes: list[str], on_progress: OnProgress) -> dict[str, np.ndarray]:
        """The list as arrays: names, offsets, lengths and labels of both splits.

        Raises:
          UserError: a picture is of none of the classes, a split is empty, or see `entries`.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        arrays = {}
        for split, entries in self.entries(on_progress):
            rows = ((os.fsencode(name), *others) for name, *others in entries)
            table = np.fromiter(rows, _COLUMNS)  # a list of tuples would take three times as much
            if not len(table):
                raise UserError(f"{self.root}: there are no {split} images in it")
            if unknown := sorted({*table["class"]} - {*numbers}):
                raise UserError(
                    f"{self.root}: {split} images are of unknown classes, such as "
                    f"{', '.join(unknown[:5])}"
                )
            arrays |= {
                f"{split}_names": table["name"].astype(np.bytes_),
                f"{split}_offsets": table["offset"].copy(),
                f"{split}_lengths": table["length"].copy(),
                f"{split}_labels": np.array([numbers[each] for each in table["class"]], np.int32),
            }
        return arrays


@dataclass(frozen=True)
class ClassFolders(PictureLayout):
    """train/<class>/* and val/<class>/*, by themselves or in the tree that Kaggle's archive has.

    In Kaggle's tree val may hold all files at once, with their classes in LOC_val_solution.csv.
    """

    title = "class folders"

    @classmethod
    def find(cls, directory: Path) -> "ClassFolders | None":
        for below in ("", "CLS-LOC", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC"):
            root = directory / below
            if (root / "train").is_dir() and cls(root)._test.is_dir():
                return cls(root)
        return None

    @property
    def _test(self) -> Path:
        """The folder of evaluation images; the last of its names if there is none."""
        folders = (self.root / name for name in TEST_NAMES)
        return next(filter(Path.is_dir, folders), self.root / TEST_NAMES[-1])

    def _beside(self, name: str) -> Path | None:
        """Kaggle's file of that name: here, or up to where the folder ILSVRC lies."""
        folders = (self.root, *self.root.absolute().parents[:3])
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def watched(self) -> list[Path]:
        folders = [self.root / "train", self._test]
        files = filter(None, (self._beside(name) for name in (_SOLUTION, _CLASS_NAMES)))
        return [*folders, *(path for each in folders for path in _folders(each)), *files]

    def classes(self) -> list[str]:
        return [folder.name for folder in _folders(self.root / "train")]

    def class_names(self) -> dict[str, str]:
        path = self._beside(_CLASS_NAMES)
        lines = path.read_text(encoding="utf-8").splitlines() if path else []
        return {name: title for name, _, title in (line.partition(" ") for line in lines)}

    def entries(self, on_progress: OnProgress) -> Iterator[tuple[str, Iterable[Entry]]]:
        train, test = (_folders(folder) for folder in (self.root / "train", self._test))
        total = len(train) + (len(test) or 1)
        yield "train", self._in_folders(train, lambda done: on_progress(done, total))
        if test:
            yield "test", self._in_folders(test, lambda done: on_progress(len(train) + done, total))
        else:
            yield "test", self._by_solution()
            on_progress(total, total)

    def _in_folders(self, folders: list[Path], report: Callable[[int], None]) -> Iterator[Entry]:
        for number, folder in enumerate(folders, 1):
            for name, size in _files(folder):
                yield f"{folder.parent.name}/{folder.name}/{name}", 0, size, folder.name
            report(number)

    def _by_solution(self) -> Iterator[Entry]:
        path = self._beside(_SOLUTION)
        if path is None:
            raise UserError(
                f"{self._test} has no class folders, and there is no {_SOLUTION} beside ILSVRC, "
                "which has the images' classes: fetch it from Kaggle's page, or sort the images "
                "into folders by their classes"
            )
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            # The class is the first word of what is to be predicted; boxes follow.
            classes = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        except (AttributeError, LookupError, ValueError, csv.Error) as error:
            raise UserError(
                f"{path} is damaged: expected the columns ImageId and PredictionString; fetch it "
                "again"
            ) from error
        for name, size in _files(self._test):
            image = Path(name).stem
            if image not in classes:
                raise UserError(f"{self._test / name} is not in {path}: fetch both again")
            yield f"{self._test.name}/{name}", 0, size, classes[image]


def _folders(path: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_dir())


def _files(folder: Path) -> Iterable[tuple[str, int]]:
    """The images in a folder with their sizes in bytes, by name."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if entry.name.lower().endswith(_SUFFIXES)
        )
