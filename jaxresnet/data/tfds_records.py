"""The layout of images in classes in which tensorflow_datasets prepares them: TFRecord files."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from jaxresnet.data.dataset import OnProgress
from jaxresnet.data.picture_layouts import TEST_NAMES, Entry, PictureLayout
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds
from jaxresnet.errors import UserError, first_line

_IMAGENET, _INFO = "imagenet2012", "dataset_info.json"  # of ImageNet; of any set
_BELOW = ("*", "*/*", "*/*/*")  # a set, its variant and its version
_RECORD_HEADER, _RECORD_FOOTER = 12, 4  # bytes: length and its checksum; the data's checksum


@dataclass(frozen=True)
class TfdsRecords(PictureLayout):
    """As tensorflow_datasets prepares a set of classified images, in TFRecord files.

    Pictures lie in the records as they were encoded, so that they can be read where they are.
    """

    title = "TFDS"

    @classmethod
    def find(cls, directory: Path) -> "TfdsRecords | None":
        """ImageNet if it is among several sets, else the only one, in its newest version.

        Raises:
          UserError: there are several sets, of which none, or more than one, is ImageNet.
        """
        if (directory / _INFO).is_file():
            return cls(directory)
        folders = [p.parent for below in _BELOW for p in directory.glob(f"{below}/{_INFO}")]
        sets: dict[Path, Path] = {}
        for folder in sorted(folders, key=lambda folder: (_version(folder), folder)):
            sets[folder.parent if _version(folder) else folder] = folder
        found = [name for name in sets if name.name == _IMAGENET] or sorted(sets)
        if len(found) > 1:
            raise UserError(
                f"{directory} holds several data sets of TFDS "
                f"({', '.join(str(each.relative_to(directory)) for each in found)}): give the "
                f"directory of one of them, such as --data-dir {found[0]}"
            )
        return cls(sets[found[0]]) if found else None

    @property
    def published(self) -> bool:
        return self.name() == _IMAGENET

    def watched(self) -> list[Path]:
        return [path for path in self.root.iterdir() if path.is_file()]

    def name(self) -> str:
        return json.loads((self.root / _INFO).read_text(encoding="utf-8"))["name"]

    @cached_property
    def _info(self) -> tuple[Any, str, str]:
        """What TFDS says of the set, and under which keys it has an image and its label.

        Raises:
          UserError: it has none, or is damaged.
        """
        tfds = import_tfds()
        try:
            info = tfds.builder_from_directory(self.root).info
            image, label = info.supervised_keys or ("image", "label")
            features = info.features[image], info.features[label]
        except Exception as error:  # protobuf, JSON and TFDS each raise errors of their own
            raise UserError(
                f"{self.root} cannot be read as a TFDS data set of images and labels: prepare it "
                f"again, or choose another ({first_line(error)})"
            ) from error
        for feature, kind in zip(features, ("Image", "ClassLabel"), strict=True):
            if not isinstance(feature, getattr(tfds.features, kind)):
                raise UserError(
                    f"{self.root} is a TFDS data set of other things than images in classes"
                )
        return info, image, label

    def classes(self) -> list[str]:
        info, _, label = self._info
        return info.features[label].names

    def entries(self, on_progress: OnProgress) -> Iterator[tuple[str, Iterable[Entry]]]:
        (info, *keys), names = self._info, dict(enumerate(self.classes()))
        test = next((name for name in TEST_NAMES if name in info.splits), None)
        if test is None or "train" not in info.splits:
            raise UserError(
                f"{self.root} has the splits {', '.join(info.splits)}: expected train, and "
                "validation or test"
            )
        splits = {"train": info.splits["train"], "test": info.splits[test]}
        total, done = sum(split.num_examples for split in splits.values()), count(1)

        def entries(split: Any) -> Iterator[Entry]:
            for shard in sorted(split.filenames):
                for name, offset, length, label in self._in_shard(shard, *keys):
                    yield name, offset, length, names.get(label, str(label))
                    on_progress(next(done), total)

        for name, split in splits.items():
            yield name, entries(split)

    def _in_shard(
        self, shard: str, image_key: str, label_key: str
    ) -> Iterator[tuple[str, int, int, int]]:
        """Name, offset and length of its pictures, and their labels."""
        tf = import_tensorflow()
        position = 0
        try:
            for record in tf.data.TFRecordDataset(str(self.root / shard)).as_numpy_iterator():
                features = tf.train.Example.FromString(record).features.feature
                image = features[image_key].bytes_list.value[0]
                (label,) = features[label_key].int64_list.value
                offset = position + _RECORD_HEADER + record.index(image)
                yield shard, offset, len(image), label
                position += _RECORD_HEADER + len(record) + _RECORD_FOOTER
        except (tf.errors.OpError, ValueError, IndexError) as error:
            raise UserError(
                f"{self.root / shard} cannot be read as TFRecords of encoded images: prepare the "
                f"data set again ({first_line(error)})"
            ) from error


def _version(folder: Path) -> tuple[int, ...]:
    """(5, 1, 0) of 5.1.0; empty if the folder's name is no version."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", folder.name):
        return ()
    return tuple(map(int, folder.name.split(".")))
