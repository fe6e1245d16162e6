"""One drawn scene: a textured background, objects over it, light, noise, and the exact mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from recamlabel.demo.shapes import SHAPES
from recamlabel.demo.textures import TEXTURES, Pixels

SUPERSAMPLING = 3
PLACES_TRIED = 40


@dataclass(frozen=True)
class Placed:
    """Where one object lies: centre and half size in pixels, turn in radians, mirrored or not."""

    name: str
    row: float
    column: float
    radius: float
    turn: float
    mirrored: bool
    aspect: float


@dataclass(frozen=True)
class Scene:
    """A finished scene.

    Args:
        image: ``(side, side, 3) uint8``.
        mask: ``(side, side) uint8``: position in the class list + 1, or 0 for background. A
            pixel belongs to the topmost object that covers at least half of it.
        present: Class names with a pixel in the mask.
        background: Name of the background texture.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    present: tuple[str, ...]
    background: str


@dataclass(frozen=True)
class Look:
    """What scenes look like, whatever is in them.

    Args:
        side: Width and height in pixels.
        smallest, largest: Object size as a fraction of ``side``.
        overlap: Probability that an object is put where it covers a part of the one before.
        min_visible: Fraction of every object that stays in view, at least.
        noise: Standard deviation of the camera noise, 0..1.
    """

    side: int
    smallest: float
    largest: float
    overlap: float
    min_visible: float
    noise: float


def draw_scene(
    names: list[str], background: str, classes: tuple[str, ...], look: Look, rng: np.random.Generator
) -> Scene:
    """Draw objects of the given classes, first to last, over a background.

    Args:
        names: Class of every object; an object for which there is no room is left out.
        background: Name of a texture.
        classes: The class list that mask values count in.
        look: Sizes, overlap, noise.
        rng: All randomness comes from here.
    """
    side = look.side
    canvas = TEXTURES[background](side, rng) * np.float32(rng.uniform(0.8, 1.1))
    owner = np.zeros((side, side), dtype=np.uint8)
    areas: list[int] = []
    placed: list[Placed] = []
    crowd = 1.0 if len(names) < 2 else 0.92 if len(names) == 2 else 0.78
    for name in names:
        radius = side * rng.uniform(look.smallest, look.largest) * crowd / 2
        item = _place(name, radius, placed, side, rng, touching=bool(placed) and rng.random() < look.overlap)
        colour, alpha = _render(item, side, rng)
        solid = alpha >= 0.5
        after = np.where(solid, len(areas) + 1, owner)
        whole = math.pi * radius**2 * 0.2  # no drawn object fills less of its circle than this
        if not _all_visible(after, [*areas, int(solid.sum())], look.min_visible) or solid.sum() < whole:
            continue
        owner = after.astype(np.uint8)
        areas.append(int(solid.sum()))
        placed.append(item)
        canvas = _composite(canvas, colour, alpha, radius)
    ids = np.array([0, *(classes.index(item.name) + 1 for item in placed)], dtype=np.uint8)
    mask = ids[owner]
    present = tuple(name for index, name in enumerate(classes, start=1) if (mask == index).any())
    return Scene(_develop(canvas, look.noise, rng), mask, present, background)


def _place(
    name: str, radius: float, others: list[Placed], side: int, rng: np.random.Generator, touching: bool
) -> Placed:
    """The first place that fits of some random ones; the one farthest from the others if none does."""
    margin = min(radius * 0.85, side / 2)
    best, best_gap = (side / 2, side / 2), -math.inf
    wanted = rng.uniform(0.5, 0.75) if touching else 1.0
    for _ in range(PLACES_TRIED):
        row, column = rng.uniform(margin, side - margin, size=2) if margin < side / 2 else (side / 2, side / 2)
        gaps = [math.hypot(row - item.row, column - item.column) / (radius + item.radius) for item in others]
        gap = min(gaps, default=math.inf)
        fits = gap >= wanted and (not touching or gap <= wanted + 0.12)
        if fits or gap > best_gap:
            best, best_gap = (row, column), gap
        if fits:
            break
    turn, mirrored, aspect = rng.uniform(0, 2 * math.pi), bool(rng.random() < 0.5), rng.uniform(0.85, 1.18)
    return Placed(name, float(best[0]), float(best[1]), radius, turn, mirrored, aspect)


def _render(item: Placed, side: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Colour ``(side, side, 3)`` and coverage ``(side, side)`` of one object, smooth at the edges."""
    reach = math.ceil(item.radius * 1.45)
    top, left = max(0, int(item.row) - reach), max(0, int(item.column) - reach)
    bottom, right = min(side, int(item.row) + reach), min(side, int(item.column) + reach)
    rows = (np.arange((bottom - top) * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING + top - item.row
    columns = (np.arange((right - left) * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING + left - item.column
    dy, dx = np.meshgrid(rows / item.radius, columns / item.radius, indexing="ij")
    cos, sin = math.cos(item.turn), math.sin(item.turn)
    u = (dx * cos + dy * sin) / item.aspect * (-1 if item.mirrored else 1)
    v = (dy * cos - dx * sin) * item.aspect
    fine, inside = SHAPES[item.name].draw(u.astype(np.float32), v.astype(np.float32), rng)
    light = rng.uniform(0, 2 * math.pi)
    shade = rng.uniform(0.8, 1.12) * (1 + 0.16 * (dx * math.cos(light) + dy * math.sin(light)))
    fine = np.asarray(np.clip(fine * shade[..., None], 0, 1) * inside[..., None], dtype=np.float32)
    alpha, colour = np.zeros((side, side), dtype=np.float32), np.zeros((side, side, 3), dtype=np.float32)
    alpha[top:bottom, left:right] = _shrink(inside[..., None].astype(np.float32))[..., 0]
    colour[top:bottom, left:right] = _shrink(fine)
    return np.asarray(colour / np.maximum(alpha, 1e-6)[..., None], dtype=np.float32), alpha


def _shrink(fine: Pixels) -> Pixels:
    """Mean of every block of positions: one pixel."""
    steps = range(SUPERSAMPLING)
    total = sum((fine[row::SUPERSAMPLING, column::SUPERSAMPLING] for row in steps for column in steps), np.float32(0))
    return np.asarray(total / np.float32(SUPERSAMPLING**2), dtype=np.float32)


def _all_visible(owner: NDArray[np.integer], areas: list[int], min_visible: float) -> bool:
    seen = np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:]
    return all(count >= min_visible * area for count, area in zip(seen, areas, strict=True))


def _composite(canvas: Pixels, colour: Pixels, alpha: Pixels, radius: float) -> Pixels:
    """Lay an object over the canvas, with a soft shadow to its lower right."""
    soft = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius * 0.12))
    shadow = np.asarray(soft, dtype=np.float32) / 255
    step = max(1, round(radius * 0.1))
    moved = np.zeros_like(shadow)
    moved[step:, step:] = shadow[:-step, :-step]
    ground = canvas * (1 - 0.45 * moved[..., None])
    return np.asarray(ground * (1 - alpha[..., None]) + colour * alpha[..., None], dtype=np.float32)


def _develop(canvas: Pixels, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light from one side, a colour cast, and camera noise."""
    side = canvas.shape[0]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    light = 1 + rng.uniform(-0.15, 0.15) * ramp[:, None] + rng.uniform(-0.15, 0.15) * ramp[None, :]
    cast = rng.uniform(0.93, 1.07, size=3)
    picture = np.clip(canvas * light[..., None] * cast, 0, 1) + rng.normal(0, noise, canvas.shape)
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
