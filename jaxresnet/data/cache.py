"""What is kept of a data set in the user's cache directory: decoded images, or a list of files.

One uncompressed .npz file for each source. It is written under another name and renamed, so two
processes or a power cut never leave half a file; zip's checksums find damage, and a damaged file
is made anew.
"""

import hashlib
import os
import time
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

_ABANDONED_AFTER = 3600.0  # seconds: no process takes that long to write a file


def cache_directory() -> Path:
    """$XDG_CACHE_HOME/jaxresnet, by default ~/.cache/jaxresnet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxresnet"


def digest_of_files(files: Iterable[Path]) -> str:
    """Of the names, sizes and times of files and directories, as hex digits."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        line = f"{file.absolute()}|{status.st_size}|{status.st_mtime_ns}\n"
        digest.update(os.fsencode(line))
    return digest.hexdigest()


def cached_arrays(
    name: str, digest: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Named arrays from the cache, or from make(), which are then kept.

    digest: of what they depend on, as hex digits.
    """
    path = cache_directory() / f"{name}-{digest[:16]}.npz"
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"cached copy {path} is damaged ({error}): made anew", stacklevel=2)
    made = make()
    try:
        _write(path, made)
    except OSError as error:
        warnings.warn(f"no copy kept in {path.parent}: {error}", stacklevel=2)
    return dict(made)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob("*.tmp"):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER:
            abandoned.unlink(missing_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, **cast(dict[str, Any], arrays))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
