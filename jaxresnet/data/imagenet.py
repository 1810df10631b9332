"""ImageNet (Russakovsky et al., 2015) and other pictures in classes: read file by file.

The list of files is made once and kept in the user's cache directory; images are decoded when the
training asks for them.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxresnet.data.cache import cached_arrays, digest_of_files
from jaxresnet.data.dataset import Dataset, OnProgress, Source, Split, Wanted, not_found
from jaxresnet.data.picture_layouts import ClassFolders, PictureLayout
from jaxresnet.data.pictures import EncodedImages
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.data.tfds_records import TfdsRecords
from jaxresnet.errors import UserError

_LAYOUTS: tuple[type[PictureLayout], ...] = (ClassFolders, TfdsRecords)
CLASSES = 1_000  # of ImageNet
_ACCEPTED = (
    "class folders (train/<class>/*.JPEG and val/<class>/*.JPEG), Kaggle's tree "
    "(ILSVRC/Data/CLS-LOC), or the directory of a data set that TFDS has prepared"
)


@dataclass(frozen=True)
class Pictures(Source):
    """Pictures in classes.

    Attributes:
      name: in SOURCES.
      is_imagenet: whether the classes of a part of ImageNet are all of its thousand: a network then
        has an output for each, whichever part it sees.
    """

    in_files = True
    name: str
    is_imagenet: bool

    def load(self, directory: Path | None, wanted: Wanted, on_progress: OnProgress) -> Dataset:
        directory = directory.expanduser() if directory else self._usual_directory()
        try:
            layout = self._find(directory)
            digest = digest_of_files(layout.watched())
            arrays = cached_arrays(self.name, digest, lambda: self._list(layout, on_progress))
            titles = layout.class_names()
        except OSError as error:
            raise UserError(f"{directory} cannot be read: {error}") from error
        classes: list[str] = [os.fsdecode(name) for name in arrays["classes"].tolist()]

        def split(name: str) -> Split:
            files = (arrays[f"{name}_{part}"] for part in ("names", "offsets", "lengths"))
            images = EncodedImages(layout.root, *files)
            return Split(images, arrays[f"{name}_labels"], self.image_size)

        train, test = split("train"), split("test")
        source = self
        if not self.is_imagenet or len(classes) != CLASSES:
            source = replace(self, title=f"{layout.name()} images", sizes={})
        return Dataset(
            self.name,
            source,
            tuple(titles.get(name, name) for name in classes),
            train,
            test,
            f"{layout.root} ({layout.title})",
            published=layout.published and source.sizes == {"train": len(train), "test": len(test)},
            class_ids=tuple(classes),
        )

    def _usual_directory(self) -> Path:
        """Raises OSError if TFDS has not prepared ImageNet where it keeps its data."""
        directory = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        if self.is_imagenet and (directory / "imagenet2012").is_dir():
            return directory / "imagenet2012"
        raise OSError(
            f"{self.title} need --data-dir DIR with {_ACCEPTED}; docs/imagenet.md says how to get "
            "them"
        )

    def _find(self, directory: Path) -> PictureLayout:
        for layout in _LAYOUTS:
            if found := layout.find(directory):
                return found
        raise not_found(self.title, directory, _ACCEPTED)

    def _list(self, layout: PictureLayout, on_progress: OnProgress) -> dict[str, np.ndarray]:
        classes = layout.classes()
        if self.is_imagenet:
            imagenet = import_tfds().builder("imagenet2012").info.features["label"].names
            unknown = sorted({*classes} - {*imagenet})
            if unknown and isinstance(layout, ClassFolders):
                raise UserError(
                    f"{layout.root} has folders that are no classes of ImageNet, such as "
                    f"{', '.join(unknown[:3])}: add --data folders for images of any classes"
                )
            classes = classes if unknown else imagenet
        names = np.array([os.fsencode(name) for name in classes])
        return {"classes": names, **layout.read(classes, on_progress)}


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of ImageNet
_SIZES = {"train": 1_281_167, "test": 50_000}
IMAGENET = Pictures("ImageNet photographs", _MEAN, _STD, 224, _SIZES, "imagenet", is_imagenet=True)
FOLDERS = Pictures("images in folders", _MEAN, _STD, 224, {}, "folders", is_imagenet=False)
