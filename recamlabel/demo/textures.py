"""Textured backgrounds, drawn from noise: sand, water, grass, night, wood, brick, sky, stone.

Every function takes the side of a square picture and a generator and returns ``(side, side, 3)
float32`` in about 0..1 (a little over is fine, the caller clips).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
Texture = Callable[[int, np.random.Generator], Pixels]


def value_noise(
    shape: tuple[int, int], cells: tuple[float, float], rng: np.random.Generator, octaves: int = 1
) -> Pixels:
    """Smooth noise ``(H, W)`` in 0..1: random grids of ``cells`` (rows, columns), resized bicubically and summed."""
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        rows, columns = (max(2, round(count * 2**octave)) for count in cells)
        grid = rng.random((rows, columns), dtype=np.float32)
        layer = Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.5**octave
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), dtype=np.float32)


def mix(amount: Pixels, dark: tuple[float, float, float], light: tuple[float, float, float]) -> Pixels:
    """Colour ramp: ``dark`` where ``amount`` is 0, ``light`` where it is 1."""
    low, high = np.asarray(dark, dtype=np.float32), np.asarray(light, dtype=np.float32)
    return np.asarray(low + amount[..., None] * (high - low), dtype=np.float32)


def _grid(side: int) -> tuple[Pixels, Pixels]:
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    return rows, columns


def sand(side: int, rng: np.random.Generator) -> Pixels:
    """Dunes with ripples and grains."""
    rows, columns = _grid(side)
    warp = value_noise((side, side), (3, 3), rng, 3)
    ripples = 0.5 + 0.5 * np.sin((rows * rng.uniform(9, 14) + columns * rng.uniform(-3, 3) + 2.2 * warp) * 2 * np.pi)
    grains = rng.random((side, side), dtype=np.float32)
    return mix(0.35 * ripples + 0.4 * warp + 0.25 * grains, (0.62, 0.50, 0.34), (0.96, 0.87, 0.68))


def water(side: int, rng: np.random.Generator) -> Pixels:
    """Waves with glints."""
    rows, columns = _grid(side)
    warp = value_noise((side, side), (6, 3), rng, 3)
    waves = np.sin((rows * rng.uniform(7, 10) + 1.6 * warp + 0.7 * columns) * 2 * np.pi)
    waves += np.sin((rows * rng.uniform(15, 20) - 2.0 * warp - columns) * 2 * np.pi)
    height = np.asarray(0.5 + 0.25 * waves, dtype=np.float32)
    glints = np.clip(height - 0.86, 0, 1)[..., None] * 4
    return np.asarray(mix(0.7 * height + 0.3 * warp, (0.05, 0.25, 0.42), (0.30, 0.62, 0.76)) + glints, dtype=np.float32)


def grass(side: int, rng: np.random.Generator) -> Pixels:
    """Blades: noise that is much finer across than along."""
    long = value_noise((side, side), (side / 14, side / 2.2), rng)
    short = value_noise((side, side), (side / 7, side / 2.2), rng)
    patches = value_noise((side, side), (4, 4), rng, 2)
    return mix(0.42 * long + 0.28 * short + 0.3 * patches, (0.08, 0.22, 0.05), (0.55, 0.72, 0.26))


def night(side: int, rng: np.random.Generator) -> Pixels:
    """A dark sky with faint clouds and points of light."""
    clouds = value_noise((side, side), (3, 3), rng, 4)
    picture = mix(clouds, (0.02, 0.03, 0.10), (0.15, 0.16, 0.34))
    for _ in range(rng.integers(25, 55)):
        row, column = rng.integers(0, side - 1, size=2)
        picture[row : row + 2, column : column + 2] += rng.uniform(0.3, 0.9)
    return picture


def wood(side: int, rng: np.random.Generator) -> Pixels:
    """Planks with grain and dark seams."""
    rows, columns = _grid(side)
    planks = rng.integers(3, 6)
    index = np.minimum((rows * planks).astype(int), planks - 1)
    shift = rng.random(planks).astype(np.float32)[index]
    tone = rng.uniform(-0.12, 0.12, planks).astype(np.float32)[index]
    warp = value_noise((side, side), (8, 2), rng, 2)
    grain = 0.5 + 0.5 * np.sin((rows * 26 + 3 * warp + 7 * shift + columns * 0.8) * 2 * np.pi)
    fibres = value_noise((side, side), (side / 2, 6), rng)
    seam = np.abs(rows * planks - np.round(rows * planks)) < 0.02 * planks / 4
    shade = np.clip(0.45 * grain + 0.3 * fibres + 0.25 * warp + tone, 0, 1) * np.where(seam, 0.25, 1.0)
    return mix(shade.astype(np.float32), (0.26, 0.14, 0.07), (0.76, 0.53, 0.32))


def brick(side: int, rng: np.random.Generator) -> Pixels:
    """Courses of bricks with mortar between them."""
    rows, columns = _grid(side)
    courses, across = int(rng.integers(8, 12)), int(rng.integers(4, 6))
    course = (rows * courses).astype(int)
    along = columns * across + 0.5 * (course % 2)
    tone = rng.uniform(0, 1, (courses + 1, across + 2)).astype(np.float32)[course, along.astype(int)]
    rough = value_noise((side, side), (side / 5, side / 5), rng)
    picture = mix(0.6 * tone + 0.4 * rough, (0.42, 0.16, 0.11), (0.74, 0.38, 0.28))
    mortar = (rows * courses % 1 < 0.13) | (along % 1 < 0.06)
    picture[mortar] = mix(rough, (0.62, 0.60, 0.56), (0.82, 0.80, 0.75))[mortar]
    return picture


def sky(side: int, rng: np.random.Generator) -> Pixels:
    """Blue with clouds."""
    rows, _ = _grid(side)
    clouds = np.clip(value_noise((side, side), (3, 2), rng, 5) * 2.2 - 1.0, 0, 1)[..., None]
    blue = mix(rows, (0.25, 0.50, 0.85), (0.68, 0.84, 0.97))
    return np.asarray(blue * (1 - clouds) + clouds * np.float32(0.97), dtype=np.float32)


def stone(side: int, rng: np.random.Generator) -> Pixels:
    """Cobbles: the cells nearest to scattered points, dark in the gaps."""
    rows, columns = _grid(side)
    count = int(rng.integers(8, 12))
    # One point in every cell of a jittered grid: cobbles of about equal size.
    base = (np.arange(-1, count + 1, dtype=np.float32) + 0.5) / count
    points = np.stack(np.meshgrid(base, base, indexing="ij"), axis=-1).reshape(-1, 2)
    points += rng.uniform(-0.36, 0.36, points.shape).astype(np.float32) / count
    first = np.full((side, side), np.inf, dtype=np.float32)
    second, tone = first.copy(), np.zeros_like(first)
    for (row, column), shade in zip(points, rng.random(len(points)), strict=True):
        distance = np.hypot(rows - row, columns - column)
        nearest = distance < first
        second = np.where(nearest, first, np.minimum(second, distance))
        first, tone = np.where(nearest, distance, first), np.where(nearest, np.float32(shade), tone)
    gap = np.clip((second - first) * count / 0.3, 0, 1)
    rough = value_noise((side, side), (side / 4, side / 4), rng)
    return mix(gap * (0.45 + 0.3 * tone + 0.25 * rough), (0.16, 0.16, 0.17), (0.72, 0.71, 0.70))


TEXTURES: dict[str, Texture] = {
    "sand": sand,
    "water": water,
    "grass": grass,
    "night": night,
    "wood": wood,
    "brick": brick,
    "sky": sky,
    "stone": stone,
}
