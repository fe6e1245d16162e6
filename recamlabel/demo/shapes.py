"""The drawn objects: each class is a function of position in the object's own frame.

A drawer takes coordinates ``u`` (right) and ``v`` (down), both float32 and about -1..1 over
the object, and a generator; it returns the colour ``(h, w, 3)`` of every position and whether
the position belongs to the object. Evaluated on a fine grid this gives smooth edges and exact
masks at any size and rotation. Markings cover the whole object, so that every part of it tells
its class: methods that look for evidence find the object, not one corner of it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recamlabel.demo.textures import Pixels

Inside = NDArray[np.bool_]
Colour = tuple[float, float, float]
Drawer = Callable[[Pixels, Pixels, np.random.Generator], tuple[Pixels, Inside]]


@dataclass(frozen=True)
class Shape:
    """A class of objects: how it is drawn, where it usually lies, and with what."""

    draw: Drawer
    background: str
    partner: str


def starfish(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """Five tapering arms with a ridge of pale bumps."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    arm = np.abs((angle * 5 / (2 * np.pi)) % 1 - 0.5) * 2
    inside = radius < 0.34 + 0.62 * (1 - np.clip((1 - arm) * 1.15, 0, 1)) ** 1.6
    skin = _hsv(rng.uniform(0.01, 0.07), rng.uniform(0.75, 0.95), rng.uniform(0.75, 0.95))
    colour = _paint(u.shape, skin)
    bumps = (np.cos(radius * 34) > 0.1) & (np.cos(angle * 5 * 5) > 0.0)
    _put(colour, bumps, _tint(skin, 0.65))
    colour *= (0.75 + 0.35 * (1 - np.clip((1 - arm) * radius * 2.2, 0, 1)))[..., None]
    return colour, inside


def gear(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """A toothed steel wheel with a hole and brushed rings."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    teeth = int(rng.integers(9, 13))
    wave = np.clip(np.cos(angle * teeth) * 3.0, -1, 1)
    inside = (radius < 0.84 + 0.13 * wave) & (radius > 0.24)
    steel = _hsv(rng.uniform(0.5, 0.65), rng.uniform(0.02, 0.15), rng.uniform(0.5, 0.75))
    colour = _paint(u.shape, steel)
    colour *= (1 + 0.16 * np.sin(radius * 70) + 0.28 * np.cos(angle * 2 + rng.uniform(0, 6)))[..., None]
    _put(colour, (radius > 0.66) & (radius < 0.71), _tint(steel, -0.55))
    _put(colour, (radius > 0.24) & (radius < 0.33), _tint(steel, -0.4))
    bolts = _ring_of_dots(u, v, count=6, ring=0.5, size=0.085)
    _put(colour, bolts, _tint(steel, -0.6))
    return colour, inside


def moon(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """A crescent with craters."""
    cut = np.hypot(u - rng.uniform(0.42, 0.52), v) > 0.74
    inside = (np.hypot(u, v) < 0.97) & cut
    cheese = _hsv(rng.uniform(0.12, 0.155), rng.uniform(0.3, 0.65), rng.uniform(0.9, 1.0))
    colour = _paint(u.shape, cheese)
    for _ in range(16):
        turn, distance, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.95), rng.uniform(0.05, 0.13)
        gap = np.hypot(u - distance * np.cos(turn), v - distance * np.sin(turn)) / size
        _put(colour, gap < 1, _tint(cheese, -0.28))
        _put(colour, gap < 0.7, _tint(cheese, -0.14))
    colour *= (0.9 - 0.22 * u)[..., None]
    return colour, inside


def leaf(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """A pointed blade with a midrib, side veins and a stalk; green to autumn red."""
    along = (u + 0.95) / 1.65
    width = 0.62 * np.clip(np.sin(np.pi * np.clip(along, 0, 1) ** 0.8), 0, 1) ** 0.9 * (1 + 0.05 * np.cos(along * 40))
    blade = (np.abs(v) < width) & (along > 0) & (along < 1)
    stalk = (np.abs(v) < 0.045) & (u > 0.5) & (u < 1.0)
    hue = rng.choice([0.02, 0.09, 0.16, 0.27, 0.33]) + rng.uniform(-0.02, 0.02)
    flesh = _hsv(hue, rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.85))
    colour = _paint(u.shape, flesh)
    colour *= (1.05 - 0.35 * np.abs(v) / 0.62 + 0.1 * np.sin((u + np.abs(v)) * 40))[..., None]
    slant = (u - 0.75 * np.abs(v)) * 7
    _put(colour, np.abs(slant - np.round(slant)) < 0.11, _tint(flesh, 0.45))
    _put(colour, (np.abs(v) < 0.035) | (stalk & ~blade), _tint(flesh, 0.55))
    return colour, blade | stalk


def flag(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """A chequered flag that waves on a pole."""
    wave = 0.09 * np.sin((u + rng.uniform(0, 1)) * 4.2)
    height = v - wave + 0.25
    cloth = (u > -0.82) & (u < 0.95) & (np.abs(height) < 0.56)
    pole = (np.abs(u + 0.87) < 0.06) & (v > -0.95) & (v < 0.98)
    squares = (np.floor((u + 0.82) * 4.0) + np.floor((height + 0.56) * 4.0)) % 2 > 0.5
    dark = _hsv(rng.uniform(0, 1), rng.uniform(0.3, 1.0), rng.uniform(0.05, 0.3))
    colour = _paint(u.shape, (0.95, 0.94, 0.9))
    _put(colour, squares, dark)
    colour *= (1 + 1.6 * wave)[..., None]
    _put(colour, pole, (0.62, 0.45, 0.25))
    return colour, cloth | pole


def mug(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """A striped cup with a handle and a dark drink."""
    rim = 0.16 * np.sqrt(np.clip(1 - (u + 0.2) ** 2 / 0.44, 0, 1))
    body = (np.abs(u + 0.2) < 0.66) & (v > -0.62 - rim) & (v < 0.72 + rim)
    loop = np.hypot((u - 0.5) / 1.0, (v - 0.02) / 1.15)
    handle = (loop < 0.42) & (loop > 0.24) & (u > 0.4)
    base, hue = _hsv(rng.uniform(0, 1), rng.uniform(0.05, 0.35), rng.uniform(0.85, 1.0)), rng.uniform(0, 1)
    colour = _paint(u.shape, base)
    curve = v - 0.16 * np.sqrt(np.clip(1 - (u + 0.2) ** 2 / 0.44, 0, 1))
    _put(colour, body & (np.floor((curve + 0.55) * 5) % 2 > 0.5), _hsv(hue, 0.8, 0.75))
    _put(colour, handle & ~body, _hsv(hue, 0.8, 0.75))
    colour *= (1.12 - 0.55 * np.abs(u + 0.4))[..., None]
    mouth = (u + 0.2) ** 2 / 0.66**2 + (v + 0.62) ** 2 / 0.16**2
    _put(colour, mouth < 1, _tint(base, -0.1))
    _put(colour, mouth < 0.72, (0.25, 0.13, 0.06))
    return colour, body | handle


def fish(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """Rows of scales, a barred tail, fins and an eye."""
    body = ((u + 0.15) / 0.8) ** 2 + (v / 0.5) ** 2 < 1
    tail = (u > 0.45) & (u < 0.98) & (np.abs(v) < 0.1 + 0.9 * (u - 0.45)) & (u < 0.98 - 0.25 * (1 - np.abs(v) / 0.55))
    slope = 0.35 * (np.abs(v) - 0.4)
    fins = (np.abs(u + 0.1 - slope) < 0.3 - slope) & (np.abs(v) > 0.3) & (np.abs(v) < 0.72)
    hue = rng.choice([0.05, 0.12, 0.5, 0.58, 0.8]) + rng.uniform(-0.03, 0.03)
    skin = _hsv(hue, rng.uniform(0.5, 0.9), rng.uniform(0.7, 0.95))
    colour = _paint(u.shape, skin)
    row = np.floor(v * 9)
    cell_u, cell_v = (u * 7 + 0.5 * (row % 2)) % 1 - 0.5, (v * 9) % 1
    _put(colour, np.hypot(cell_u - 0.1, (cell_v - 0.5) * 0.8) > 0.42, _tint(skin, -0.45))
    bars = (tail | fins) & ~body & (np.floor((u + np.abs(v)) * 16) % 2 > 0.5)
    _put(colour, bars, _tint(skin, 0.5))
    colour *= (1.0 - 0.35 * v)[..., None]
    _put(colour, np.hypot(u + 0.62, v + 0.12) < 0.13, (0.97, 0.97, 0.93))
    _put(colour, np.hypot(u + 0.64, v + 0.12) < 0.07, (0.05, 0.05, 0.08))
    return colour, body | tail | fins


def mushroom(u: Pixels, v: Pixels, rng: np.random.Generator) -> tuple[Pixels, Inside]:
    """A spotted cap on a ribbed stem."""
    cap = (u / 0.93) ** 2 + ((v - 0.08) / 0.98) ** 2 < 1
    cap &= v < 0.1 + 0.1 * np.cos(u * 2)
    stem = (np.abs(u) < 0.24 + 0.1 * v**2 + 0.05 * v) & (v > 0) & (v < 0.93)
    hue = rng.choice([0.0, 0.02, 0.95, 0.75]) + rng.uniform(-0.015, 0.015)
    flesh = _hsv(hue, rng.uniform(0.75, 0.95), rng.uniform(0.65, 0.9))
    pale = (0.93, 0.90, 0.80)
    colour = _paint(u.shape, pale)
    colour *= (0.85 + 0.15 * np.cos(u * 60))[..., None]
    _put(colour, cap, flesh)
    row = np.floor((v + 1) * 3.6)
    spot_u, spot_v = (u * 3 + 0.5 * (row % 2)) % 1 - 0.5, ((v + 1) * 3.6) % 1 - 0.5
    _put(colour, cap & (np.hypot(spot_u, spot_v) < rng.uniform(0.27, 0.34)), (0.97, 0.96, 0.92))
    colour *= (1.0 - 0.28 * np.abs(u + 0.2))[..., None]
    return colour, cap | stem


SHAPES: dict[str, Shape] = {
    "starfish": Shape(starfish, "sand", "fish"),
    "fish": Shape(fish, "water", "starfish"),
    "mushroom": Shape(mushroom, "grass", "leaf"),
    "moon": Shape(moon, "night", "flag"),
    "mug": Shape(mug, "wood", "gear"),
    "gear": Shape(gear, "brick", "mug"),
    "flag": Shape(flag, "sky", "moon"),
    "leaf": Shape(leaf, "stone", "mushroom"),
}


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(float(hue) % 1, float(saturation), float(value))


def _tint(colour: Colour, amount: float) -> Colour:
    """Towards white for a positive amount, towards black for a negative one."""
    goal = 1.0 if amount > 0 else 0.0
    red, green, blue = (channel + abs(amount) * (goal - channel) for channel in colour)
    return red, green, blue


def _paint(shape: tuple[int, ...], colour: Colour) -> Pixels:
    return np.broadcast_to(np.asarray(colour, dtype=np.float32), (*shape, 3)).copy()


def _put(picture: Pixels, where: Inside, colour: Colour) -> None:
    picture[where] = np.asarray(colour, dtype=np.float32)


def _ring_of_dots(u: Pixels, v: Pixels, count: int, ring: float, size: float) -> Inside:
    dots = np.zeros(u.shape, dtype=bool)
    for turn in np.arange(count) * 2 * np.pi / count:
        dots |= np.hypot(u - ring * np.cos(turn), v - ring * np.sin(turn)) < size
    return dots
