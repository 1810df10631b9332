"""The decoded uint8 copy of a data set in the user's cache directory.

One uncompressed .npz file for each source, found again by the names, sizes and times of the
source's files. It is written beside its place and renamed, so two processes or a power cut
never leave half a file under the final name; zip's checksums find damage, and a damaged copy
is made anew.
"""

import hashlib
import os
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jaxresnet.data.dataset import Split

_ABANDONED_AFTER = 3600.0  # seconds: no process takes that long to write a copy


def cache_directory() -> Path:
    """$XDG_CACHE_HOME/jaxresnet, by default ~/.cache/jaxresnet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jaxresnet"


def cached_splits(
    name: str, files: Iterable[Path], decode: Callable[[], tuple[Split, Split]]
) -> tuple[Split, Split]:
    """The (train, test) splits from the cache, or from decode(), which are then kept.

    name: how the copy is called, with a digest of the state of `files` added.
    """
    path = cache_directory() / f"{name}-{_state_of(files)}.npz"
    stored = _read(path)
    if stored is not None:
        return stored
    splits = decode()
    try:
        _write(path, *splits)
    except OSError as error:
        warnings.warn(f"no decoded copy kept in {path.parent}: {error}", stacklevel=2)
    return splits


def _state_of(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.absolute()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> tuple[Split, Split] | None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return (
                Split(arrays["train_images"], arrays["train_labels"]),
                Split(arrays["test_images"], arrays["test_labels"]),
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"decoded copy {path} is damaged ({error}): made anew", stacklevel=3)
        return None


def _write(path: Path, train: Split, test: Split) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob("*.tmp"):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER:
            abandoned.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.savez(
                file,
                train_images=train.images,
                train_labels=train.labels,
                test_images=test.images,
                test_labels=test.labels,
            )
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise
