"""Label Studio's brush encoding: the bit stream of thi.ng's rle-pack over RGBA bytes.

A header gives the number of values (32 bits), the word size less 1 (5 bits) and four run sizes
less 1 (4 bits each). Then follow runs: a bit (1 repeated, 0 literal), 2 bits that pick a run
size, the length less 1 in that many bits, and the value, once or for every word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
WORD_BITS = 8
RUN_BITS = (3, 4, 8, 16)
LONGEST = 1 << RUN_BITS[-1]


def encode(chosen: NDArray[np.bool_]) -> list[int]:
    """A region ``(H, W) bool`` as bytes; its pixels are 255 in all four channels.

    Example:
        >>> encode(np.array([[True]]))
        [0, 0, 0, 4, 57, 27, 252, 127, 224]
    """
    flat = chosen.ravel()
    header = f"{flat.size * CHANNELS:032b}{WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in RUN_BITS)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    parts = [header]
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        value = 255 if flat[start] else 0
        length = (end - start) * CHANNELS
        parts += [_run(LONGEST, value)] * (length // LONGEST)
        if length % LONGEST:
            parts.append(_run(length % LONGEST, value))
    bits = np.frombuffer("".join(parts).encode(), dtype=np.uint8) - ord("0")
    encoded: list[int] = np.packbits(bits).tolist()
    return encoded


def decode(data: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The region ``(H, W) bool`` of an encoding, by its alpha channel; repeated and literal runs.

    Raises:
        ValueError: Another number of values than the shape has, or an encoding cut short.

    Example:
        >>> region = np.array([[True, False, False]])
        >>> decode(encode(region), region.shape).tolist()
        [[True, False, False]]
    """
    bits = np.unpackbits(np.array(data, dtype=np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError(f"brush encoding cut short after {len(data)} bytes")
        place += count
        return int(bits[place - count : place].dot(1 << np.arange(count - 1, -1, -1, dtype=np.int64)))

    total = read(32)
    if total != shape[0] * shape[1] * CHANNELS:
        raise ValueError(f"brush encoding of {total} values, expected {shape[0] * shape[1] * CHANNELS}")
    word = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        repeated = read(1)
        end = done + read(sizes[read(2)]) + 1
        values[done:end] = read(word) if repeated else [read(word) for _ in range(end - done)]
        done = end
    return values.reshape(*shape, CHANNELS)[..., -1] > 0


def _run(length: int, value: int) -> str:
    size = next(number for number, bits in enumerate(RUN_BITS) if length <= 1 << bits)
    return f"1{size:02b}{length - 1:0{RUN_BITS[size]}b}{value:0{WORD_BITS}b}"
