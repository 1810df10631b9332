"""The decoded uint8 copy of a data set in the user's cache directory.

One uncompressed .npz file for each source. It is written under another name and renamed, so two
processes or a power cut never leave half a file; zip's checksums find damage, and a damaged copy
is made anew.
"""

import hashlib
import os
import time
import uuid
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
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxresnet"


def cached_splits(
    name: str, files: Iterable[Path], decode: Callable[[], Iterable[Split]]
) -> tuple[Split, Split]:
    """The (train, test) splits from the cache, or from decode(), which are then kept.

    A copy goes by `name` and a digest of the names, sizes and times of `files`.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.absolute()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    path = cache_directory() / f"{name}-{digest.hexdigest()[:16]}.npz"
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return (
                Split(arrays["train_images"], arrays["train_labels"]),
                Split(arrays["test_images"], arrays["test_labels"]),
            )
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"decoded copy {path} is damaged ({error}): made anew", stacklevel=2)
    train, test = decode()
    try:
        _write(path, train, test)
    except OSError as error:
        warnings.warn(f"no decoded copy kept in {path.parent}: {error}", stacklevel=2)
    return train, test


def _write(path: Path, train: Split, test: Split) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob("*.tmp"):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER:
            abandoned.unlink(missing_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(
                file,
                train_images=train.images,
                train_labels=train.labels,
                test_images=test.images,
                test_labels=test.labels,
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
