"""Memory as a line over the batch size: so much for each image, and so much that is fixed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.harness.published import published
from jaxresnet.errors import UserError

MIB, GIB = 2**20, 2**30
FLOAT32 = np.dtype(np.float32).itemsize  # bytes
_UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_UNITS |= {"KIB": 2**10, "MIB": MIB, "GIB": GIB, "TIB": 2**40}


def parse_size(text: str, flag: str) -> float:
    """24GiB, 24GB, 40960MiB -> bytes.

    Raises:
      UserError: it is no positive size; the flag is named.
    """
    match = re.fullmatch(r"(\d+\.?\d*)\s*([a-z]+)", text.strip(), re.IGNORECASE)
    size = float(match[1]) * _UNITS.get(match[2].upper(), 0) if match else 0
    if not size > 0:
        raise UserError(f"{flag} is {text}, but takes a size such as 24GiB, 24GB or 40960MiB")
    return size


@dataclass(frozen=True)
class MemoryLine:
    """Bytes: of each image, and besides."""

    per_image: float
    fixed: float

    def at(self, batch_size: int) -> float:
        return self.fixed + batch_size * self.per_image

    def largest_batch(self, limit: float) -> int | None:
        """That takes no more than so many bytes; 0 if none does, None if an image takes nothing."""
        if self.per_image <= 0:
            return None
        return max(0, int((limit - self.fixed) // self.per_image))


def fit_line(points: Mapping[int, float]) -> MemoryLine | None:
    """By least squares through bytes by batch size; None of fewer than two."""
    if len(points) < 2:
        return None
    per_image, fixed = np.polyfit(list(points), list(points.values()), 1).tolist()
    return MemoryLine(per_image, fixed)


def talk_line() -> MemoryLine:
    """The talk's arithmetic: its list of activations, and three copies of the parameters."""
    figures = published()["resnet152"]
    per_image = figures["bytes_per_value"] * sum(listed_values().values())
    return MemoryLine(per_image, 3 * FLOAT32 * figures["parameters_with_conv_bias"])


def listed_values() -> dict[str, int]:
    """By part of the network, the values of activations in the talk's list, of all equal blocks."""
    return {
        part["part"]: part["times"] * sum(int(np.prod(size)) for size in part["sizes"])
        for part in published()["resnet152"]["activations"]
    }


def a6000_memory() -> dict[int, float]:
    """Bytes by batch size, as nvidia-smi showed them to the talk."""
    rows = published()["resnet152"]["batch_size"]
    return {n: mib * MIB for n, mib in zip(rows["size"], rows["gpu_memory_mib"], strict=True)}


def talk_rule() -> tuple[MemoryLine, MemoryLine]:
    """The least and the most that the talk's rule gives, with nothing reserved."""
    figures = published()["resnet152"]
    per_image = figures["rule_mib_per_image"] * MIB
    least, most = (MemoryLine(per_image, n * GIB) for n in figures["rule_fixed_gib"])
    return least, most
