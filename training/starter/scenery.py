"""Backgrounds: each place under each time of day as one SVG, in a 128 x 128 unit square."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Light:
    """What a time of day does: sky gradient, the tint of everything below, sun or moon."""

    top: str
    bottom: str
    tint: tuple[float, float, float]
    cloud: str
    disc: str
    disc_y: tuple[int, int]
    stars: int = 0


LIGHTS: dict[str, Light] = {
    "day": Light("#3f97e8", "#c9ecff", (1, 1, 1), "#ffffff", "#ffe14d", (12, 30)),
    "sunset": Light("#8a2a68", "#ff8f3c", (1, 0.72, 0.62), "#ffb08a", "#ffe08a", (42, 58)),
    "night": Light("#050a26", "#1c2c66", (0.36, 0.40, 0.62), "#2a3566", "#fff6d8", (12, 30), 45),
    "dawn": Light("#8fb4f0", "#ffd9cf", (0.95, 0.88, 0.98), "#fff0ec", "#fff2b0", (40, 56)),
    "storm": Light("#3a424c", "#8a939c", (0.58, 0.61, 0.66), "#6a737d", "", (0, 0)),
    "rain": Light("#5a6f86", "#a9b8c4", (0.72, 0.78, 0.86), "#8795a3", "", (0, 0)),
    "fog": Light("#c3cace", "#e3e6e6", (0.88, 0.89, 0.90), "#d6dadc", "", (0, 0)),
    "purple": Light("#4a1486", "#c78be6", (0.78, 0.66, 0.95), "#d9b3f0", "#ffd9f5", (14, 34)),
}

#: A sprite is tinted less than the ground, so that a fox stays orange at night.
SPRITE_TINT = 0.55


def blend(colour: Rgb, light: Light, share: float = 1.0) -> str:
    """``colour`` under ``light`` as "#rrggbb"; ``share`` is how much of the tint applies."""
    channels = (c * (1 + (t - 1) * share) for c, t in zip(colour, light.tint, strict=True))
    return "#" + "".join(f"{min(255, int(c)):02x}" for c in channels)


def _rect(y: float, height: float, fill: str) -> str:
    return f'<rect x="0" y="{y:.1f}" width="128" height="{height:.1f}" fill="{fill}"/>'


def _shape(points: list[tuple[float, float]], fill: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{path}" fill="{fill}"/>'


def _circle(x: float, y: float, r: float, fill: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{fill}"/>'


def _wave(rng: random.Random, y: float, height: float, fill: str) -> str:
    """Ground whose upper edge is a slow wave around ``y``."""
    phase, length = rng.uniform(0, 6.28), rng.uniform(55, 95)
    edge = [(x, y + height * math.sin(phase + 6.28 * x / length)) for x in range(0, 129, 8)]
    return _shape([(0, 128), *edge, (128, 128)], fill)


def _sky(rng: random.Random, light: Light, clouds: tuple[int, int]) -> str:
    """Gradient, stars, sun or moon, clouds."""
    gradient = (
        '<defs><linearGradient id="s" x1="0" y1="0" x2="0" y2="1">'
        f'<stop offset="0" stop-color="{light.top}"/>'
        f'<stop offset="0.75" stop-color="{light.bottom}"/></linearGradient></defs>'
    )
    parts = [gradient, _rect(0, 128, "url(#s)")]
    parts += [
        _circle(rng.uniform(2, 126), rng.uniform(2, 90), rng.choice((0.6, 0.8, 1.1)), "#e8ecff")
        for _ in range(light.stars)
    ]
    if light.disc:
        x = rng.choice((rng.uniform(14, 40), rng.uniform(88, 114)))
        parts.append(_circle(x, rng.uniform(*light.disc_y), rng.uniform(8, 10), light.disc))
    low, high = clouds
    for _ in range(rng.randint(low, high)):
        x, y, s = rng.uniform(15, 113), rng.uniform(10, 40), rng.uniform(5, 8)
        parts += [
            f'<ellipse cx="{x + dx * s:.1f}" cy="{y + dy * s:.1f}" rx="{rx * s:.1f}" '
            f'ry="{ry * s:.1f}" fill="{light.cloud}"/>'
            for dx, dy, rx, ry in ((0, 0, 2.2, 0.7), (-0.6, -0.5, 0.9, 0.8), (0.6, -0.6, 1.1, 0.9))
        ]
    return "".join(parts)


def _beach(rng: random.Random, light: Light) -> str:
    sea, shore = rng.uniform(56, 64), rng.uniform(84, 90)
    return (
        _rect(sea, 72, blend((38, 140, 200), light))
        + _wave(rng, shore - 2.5, 1.5, blend((245, 250, 250), light))
        + _wave(rng, shore, 1.5, blend((242, 212, 146), light))
    )


def _ocean(rng: random.Random, light: Light) -> str:
    sea = rng.uniform(56, 64)
    foam = blend((120, 195, 235), light)
    lines = "".join(
        f'<rect x="{rng.uniform(0, 108):.1f}" y="{rng.uniform(sea + 4, 124):.1f}" '
        f'width="{rng.uniform(8, 18):.1f}" height="1.4" fill="{foam}"/>'
        for _ in range(12)
    )
    return _rect(sea, 72, blend((32, 125, 190), light)) + lines


def _mountains(rng: random.Random, light: Light) -> str:
    parts = []
    rock, cap = blend((112, 112, 126), light), blend((250, 252, 255), light, 0.8)
    for centre in (rng.uniform(10, 30), rng.uniform(95, 118), rng.uniform(50, 78)):
        peak, half = rng.uniform(24, 40), rng.uniform(34, 46)
        slope = half / (84 - peak)
        snow = peak + (84 - peak) * 0.32
        w = (snow - peak) * slope
        parts.append(_shape([(centre - half, 84), (centre, peak), (centre + half, 84)], rock))
        zigzag = [(centre + w / 2, snow - 4), (centre, snow + 2), (centre - w / 2, snow - 4)]
        parts.append(_shape([(centre, peak), (centre + w, snow), *zigzag, (centre - w, snow)], cap))
    return "".join(parts) + _wave(rng, 83, 2, blend((96, 150, 84), light))


def _hills(rng: random.Random, light: Light) -> str:
    return (
        _wave(rng, 64, 8, blend((128, 196, 96), light))
        + _wave(rng, 78, 7, blend((98, 176, 76), light))
        + _wave(rng, 94, 5, blend((74, 152, 62), light))
    )


def _desert(rng: random.Random, light: Light) -> str:
    return (
        _wave(rng, 68, 6, blend((240, 192, 108), light))
        + _wave(rng, 80, 6, blend((226, 170, 84), light))
        + _wave(rng, 96, 4, blend((210, 148, 66), light))
    )


def _snow(rng: random.Random, light: Light) -> str:
    return (
        _wave(rng, 66, 5, blend((206, 222, 238), light))
        + _wave(rng, 80, 4, blend((234, 242, 250), light))
        + _wave(rng, 98, 3, blend((250, 252, 255), light))
    )


def _city(rng: random.Random, light: Light) -> str:
    parts, x = [], rng.uniform(-8, 0)
    dark = light.disc != LIGHTS["day"].disc
    window = "#ffe08a" if dark else "#cfe2f2"
    while x < 128:
        width, top = rng.uniform(15, 23), rng.uniform(26, 58)
        wall = rng.choice(((92, 104, 128), (118, 108, 124), (78, 90, 112)))
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width - 1.5:.1f}" height="70" '
            f'fill="{blend(wall, light)}"/>'
        )
        parts += [
            f'<rect x="{x + 3 + 5 * i:.1f}" y="{y:.1f}" width="2.6" height="4" fill="{window}"/>'
            for i in range(int((width - 4) // 5))
            for y in range(int(top) + 5, 84, 9)
            if rng.random() < 0.75
        ]
        x += width
    return "".join(parts) + _rect(90, 38, blend((120, 122, 128), light))


def _forest(rng: random.Random, light: Light) -> str:
    parts = [_wave(rng, 80, 2, blend((88, 150, 70), light))]
    for x in range(-2, 134, 13):
        x0, top, base = x + rng.uniform(-4, 4), rng.uniform(24, 44), rng.uniform(82, 90)
        leaf = blend(rng.choice(((34, 106, 62), (44, 122, 70), (26, 92, 56))), light)
        parts.append(
            f'<rect x="{x0 - 1.5:.1f}" y="{base:.1f}" width="3" height="5" '
            f'fill="{blend((110, 76, 50), light)}"/>'
        )
        middle = (top + base) / 2
        parts.append(_shape([(x0 - 8, middle + 4), (x0, top), (x0 + 8, middle + 4)], leaf))
        parts.append(_shape([(x0 - 11, base), (x0, middle - 8), (x0 + 11, base)], leaf))
    return "".join(parts)


def _meadow(rng: random.Random, light: Light) -> str:
    parts = [_wave(rng, 70, 3, blend((142, 206, 92), light))]
    flowers: tuple[Rgb, ...] = ((250, 110, 160), (255, 240, 120), (255, 255, 255), (190, 120, 240))
    for _ in range(46):
        y = rng.uniform(76, 126)
        r = 1.2 + (y - 76) / 50
        parts.append(_circle(rng.uniform(1, 127), y, r, blend(rng.choice(flowers), light, 0.6)))
    return "".join(parts)


def _farm(rng: random.Random, light: Light) -> str:
    """A red barn, a fence and rows of wheat."""
    x, wheat = rng.choice((rng.uniform(4, 20), rng.uniform(74, 88))), blend((226, 190, 84), light)
    wall, roof = blend((186, 52, 44), light), blend((110, 70, 60), light)
    trim, post = blend((245, 240, 232), light), blend((176, 130, 84), light)
    parts = [
        _wave(rng, 72, 2, blend((132, 188, 88), light)),
        f'<rect x="{x:.1f}" y="44" width="36" height="32" fill="{wall}"/>',
        _shape([(x - 3, 45), (x + 8, 32), (x + 28, 32), (x + 39, 45)], roof),
        f'<rect x="{x + 12:.1f}" y="56" width="12" height="20" fill="{trim}"/>',
        _wave(rng, 88, 2, wheat),
    ]
    rows = [y + rng.uniform(-1, 1) for y in range(92, 128, 7)]
    parts += [_rect(y, 2, blend((206, 164, 60), light)) for y in rows]
    parts += [_rect(y, 1.6, post) for y in (78, 83)]
    parts += [
        f'<rect x="{at}" y="75" width="2.4" height="13" fill="{post}"/>' for at in range(4, 128, 15)
    ]
    return "".join(parts)


_GROUNDS: dict[str, Callable[[random.Random, Light], str]] = {
    "beach": _beach,
    "ocean": _ocean,
    "mountains": _mountains,
    "hills": _hills,
    "desert": _desert,
    "snow": _snow,
    "city": _city,
    "forest": _forest,
    "meadow": _meadow,
    "farm": _farm,
}


def _space(rng: random.Random) -> str:
    stars = "".join(
        _circle(rng.uniform(1, 127), rng.uniform(1, 127), rng.choice((0.6, 0.9, 1.2)), "#ffffff")
        for _ in range(90)
    )
    x, y, r = rng.choice((24, 104)), rng.uniform(16, 40), rng.uniform(9, 13)
    planet = rng.choice(("#d8804a", "#6aa0d8", "#b07ad0"))
    return _rect(0, 128, "#04030c") + stars + _circle(x, y, r, planet)


def _underwater(rng: random.Random) -> str:
    gradient = (
        '<defs><linearGradient id="w" x1="0" y1="0" x2="0" y2="1">'
        '<stop offset="0" stop-color="#3fb6d8"/><stop offset="1" stop-color="#0b3f78"/>'
        "</linearGradient></defs>"
    )
    parts = [gradient, _rect(0, 128, "url(#w)")]
    for _ in range(3):  # sunbeams
        x = rng.uniform(5, 110)
        beam = _shape([(x, 0), (x + 9, 0), (x + 26, 108), (x + 6, 108)], "#c8f2ff")
        parts.append(f'<g opacity="0.16">{beam}</g>')
    parts.append(_wave(rng, 110, 3, "#d9c48f"))
    for _ in range(7):
        x, height = rng.uniform(2, 126), rng.uniform(16, 34)
        weed = rng.choice(("#1f8a5b", "#2fa36b", "#e0607e", "#f0915a"))
        stem = f"M{x:.0f} 118q-6 {-height / 2:.0f} 0 {-height / 2:.0f}t0 {-height / 2:.0f}"
        line = f'stroke="{weed}" stroke-width="3.4" stroke-linecap="round" fill="none"'
        parts.append(f'<path d="{stem}" {line}/>')
    for _ in range(9):
        x, y, r = rng.uniform(2, 126), rng.uniform(6, 100), rng.uniform(1, 2.6)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="none" stroke="#dff6ff" '
            'stroke-width="0.8"/>'
        )
    return "".join(parts)


def backdrop(place: str, time: str, rng: random.Random) -> str:
    """The SVG body of ``place`` at ``time``; every random choice comes from ``rng``."""
    if place == "space":
        return _space(rng)
    if place == "underwater":
        return _underwater(rng)
    clouded = time in ("storm", "rain")
    if place not in _GROUNDS:
        return _sky(rng, LIGHTS[time], (3, 5) if clouded else (1, 3))
    ground = _sky(rng, LIGHTS[time], (2, 4) if clouded else (0, 2))
    return ground + _GROUNDS[place](rng, LIGHTS[time])


def foreground(time: str, seed: int) -> str:
    """The SVG body of what falls or drifts before everything; mostly nothing."""
    rng = random.Random(seed)
    if time == "rain":
        drops = []
        for _ in range(70):
            x, y, length = rng.uniform(-6, 128), rng.uniform(-4, 124), rng.uniform(5, 9)
            drops.append(f"M{x:.1f} {y:.1f}l{length * 0.3:.1f} {length:.1f}")
        path = "".join(drops)
        return f'<path d="{path}" stroke="#dce9f5" stroke-width="0.9" opacity="0.8"/>'
    if time == "fog":
        bands = [
            f'<ellipse cx="{rng.uniform(0, 128):.0f}" cy="{y}" rx="{rng.uniform(60, 100):.0f}" '
            f'ry="{rng.uniform(7, 12):.0f}" fill="#eef0f0" opacity="0.22"/>'
            for y in range(40, 128, 11)
        ]
        return '<rect width="128" height="128" fill="#e6e9e9" opacity="0.3"/>' + "".join(bands)
    return ""


def plain_ground(rng: random.Random) -> str:
    """A white or pale ground for objects alone."""
    shades = ("#ffffff", "#ffffff", "#f4efe6", "#e6f0f8", "#f8e8ec")
    return _rect(0, 128, rng.choice(shades))
