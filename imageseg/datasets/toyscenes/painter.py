"""Painting of synthetic street scenes: a small world in perspective, its photograph, and the exact class of every pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.datasets.toyscenes.canvas import CIRCLE, FARTHEST, Floats, Street, noise, patches, spans, strip, upright
from imageseg.errors import InputError
from imageseg.labels import IGNORE, Label, LabelSpace

SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PERSON, POLE = range(8)
_NAMES = ("sky", "building", "road", "pavement", "tree", "car", "person", "pole")
_COLORS = [(70, 130, 180), (70, 70, 70), (128, 64, 128), (244, 35, 232)]  # as Cityscapes has them
_COLORS += [(107, 142, 35), (0, 0, 142), (220, 20, 60), (153, 153, 153)]
LABELS = LabelSpace(tuple(Label(_NAMES[index], _COLORS[index], (index,)) for index in range(8)))
SMALLEST = 64  # pixels: in smaller images persons and poles vanish

Bytes = npt.NDArray[np.uint8]
_Wall = tuple[tuple[float, float], tuple[float, float]]  # from x, z to x, z
Thing = tuple[float, Callable[[], None]]  # how far away it stands, in meters, and what paints it

_CROSSING = 7.0  # meters: how wide the street across is
# Walls, cars, clothes and bins share one table, so that a color alone never determines the class.
_PAINTS = [(166, 88, 66), (204, 178, 138), (150, 150, 152), (222, 214, 196), (112, 104, 100), (196, 140, 104)]
_PAINTS += [(142, 166, 184), (186, 196, 158), (214, 164, 158), (120, 74, 60), (88, 112, 132), (232, 204, 120)]
_PAINTS += [(38, 40, 44), (224, 226, 228), (160, 28, 30), (34, 66, 130), (92, 98, 106), (30, 84, 60), (216, 168, 44)]
_LEAVES = [(72, 104, 44), (92, 122, 50), (56, 88, 52), (118, 126, 52), (168, 112, 44), (146, 70, 44)]
_GLASS = [(54, 62, 74), (110, 138, 160), (84, 84, 82), (40, 44, 50)]
_SKINS = [(236, 196, 168), (206, 156, 122), (150, 104, 76), (92, 62, 46)]
_BODIES = (  # a car's flank from the rear bumper over the roof to the front one: shares of its length and its height
    ((0, 0.2), (0, 0.6), (0.13, 0.67), (0.26, 0.99), (0.58, 1), (0.76, 0.7), (1, 0.56), (1, 0.2)),  # saloon
    ((0, 0.2), (0, 0.6), (0.02, 0.66), (0.12, 0.98), (0.6, 1), (0.78, 0.68), (1, 0.56), (1, 0.2)),  # hatchback
    ((0, 0.17), (0, 0.5), (0.01, 0.56), (0.03, 0.99), (0.76, 1), (0.9, 0.62), (1, 0.5), (1, 0.17)),  # van
)
_Fitting = tuple[tuple[tuple[float, float], ...], tuple[float, float], tuple[int, int, int] | None]
_SCREEN: tuple[_Fitting, ...] = ((((0.08, 0.92),), (0.08, 0.9), None),)
_END: tuple[_Fitting, ...] = (  # from, to across the car; from, to above the panel's lower edge; color
    (((0.02, 0.16), (0.84, 0.98)), (-0.5, 0.05), (24, 24, 24)),  # tyres
    (((0, 1),), (0, 0.24), (52, 52, 52)),  # bumper
    (((0.36, 0.64),), (0.32, 0.5), (222, 222, 222)),  # number plate
)
_WHEELS = ((-0.3, 0.34, 22), (-0.3, 0.2, 128), (0.31, 0.34, 22), (0.31, 0.2, 128))  # where, radius, brightness
_LAMPS = ((0.03, 0.2), (0.8, 0.97)), (0.55, 0.84)
_FITTINGS = {0: (*_END, (*_LAMPS, (186, 26, 24))), 2: _SCREEN, 4: _SCREEN, 6: (*_END, (*_LAMPS, (246, 240, 214)))}


def paint_scene(generator: np.random.Generator, size: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """A street as a camera in a car sees it.

    Args:
        generator: the only source of randomness: the same state and size give the same bytes.
        size: (height, width) in pixels, each at least 64.

    Returns:
        (H, W, 3) uint8 RGB image, and (H, W) uint8 class indices of ``LABELS`` with 255 where a pixel has no class.

    Raises:
        InputError: a height or width below 64.
    """
    if min(size) < SMALLEST:
        raise InputError(f"a scene is at least {SMALLEST} pixels high and wide, found {size[0]} x {size[1]}")
    street = Street(generator, size)
    _paint_sky(street)
    _paint_ground(street)
    things = [thing for side in (-1, 1) for place in (_place_houses, _place_rows) for thing in place(street, side)]
    street.cast_shadows()  # on the bare ground: whatever stands comes later
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()
    if generator.random() < 0.4:  # the front of the car that carries the camera: no class, as in real recordings
        red, green, blue = (street.pick(_PAINTS).clip(0, 255) / 2).astype(int).tolist()
        axes = int(size[1] * 1.3), int(size[0] * generator.uniform(0.06, 0.14))
        cv2.ellipse(street.canvas, (size[1], 2 * size[0]), axes, 0, 180, 360, (red, green, blue, IGNORE), -1)
    return _photograph(street)


def _paint_sky(street: Street) -> None:
    height, width = street.size
    clouds = noise(street.generator, street.size, 5) + noise(street.generator, street.size, 13) // 2
    amount = np.clip(clouds - np.float32(street.generator.uniform(-10, 110)), 0, 64)[..., None] / np.float32(80)
    rows = np.clip(2 * np.arange(height) / street.center[1], 0, 1)[:, None, None]
    sky = (street.zenith + (street.haze - street.zenith) * rows).astype(np.float32)
    image = (sky + (np.float32(236) - sky) * amount).clip(0, 255).astype(np.uint8)
    street.canvas[..., :3] = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)


def _paint_ground(street: Street) -> None:
    draw, (left, right), junction = street.generator.uniform, street.edges, street.junction
    stone, tar, white = draw(105, 190) + draw(-14, 14, 3), draw(66, 135) + draw(-9, 9, 3), np.full(3, draw(180, 238))
    street.fill(strip(-999, 999, far=400), stone, label=PAVEMENT)
    for depth in np.arange(2, 30, draw(0.9, 2)):
        street.fill(strip(left - 9, right + 9, near=depth, far=depth + 0.05), stone * 0.86, label=PAVEMENT)
    street.fill(strip(left - 0.25, right + 0.25, far=300), stone * draw(0.7, 1.2), label=PAVEMENT)  # the kerb
    street.fill(strip(left, right, far=300), tar, label=ROAD)
    if junction < math.inf:
        street.fill(strip(-120, 120, near=junction, far=junction + _CROSSING), tar, label=ROAD)
        for x in np.arange(left + 0.4, right - 0.5, 1):
            street.fill(strip(x, x + 0.5, near=junction - 3.6, far=junction - 0.8), white, label=ROAD)
    for x, depth in draw((left, 3), (right - 1, 30), (street.generator.integers(2, 7), 2)):  # mended places
        mend = strip(x, x + draw(0.3, 1), near=depth, far=depth + draw(0.4, 6))
        street.fill(mend, tar * draw(0.8, 1.16), label=ROAD)
    middle, period = (left + right) / 2, draw(5, 10)
    for depth in np.arange(draw(0.8, 5), 90, period):
        street.fill(strip(middle - 0.07, middle + 0.07, near=depth, far=depth + period * 0.45), white, label=ROAD)
    for x in (left + 0.4, right - 0.52) if draw() < 0.5 else ():
        street.fill(strip(x, x + 0.12, far=min(junction - 4, 200)), white, label=ROAD)


def _place_houses(street: Street, side: int) -> Iterator[Thing]:
    draw, depth, storeys = street.generator.uniform, 1.5, street.generator.uniform(2, 6)
    hidden = math.inf  # as high as this, the nearer house hides the end of the next one
    for x, half, height in draw((0, 7, 7), (130, 18, 24), (12, 3)):  # the skyline where the street ends
        label, colors = (TREE, _LEAVES) if height < 12 else (BUILDING, _PAINTS)
        at = np.array([side * x, 0, 2 * FARTHEST])
        block = upright(np.array([(-half, 0), (half, 0), (half, height), (-half, height)]), at)
        yield at[2], partial(street.fill, block, street.pick(colors), label=label)
    while depth < FARTHEST:
        if street.junction - 4 < depth < street.junction + _CROSSING:
            depth, hidden = street.junction + _CROSSING, 0.0
        x = street.edges[(side + 1) // 2] + side * (street.pavement + draw(0, 0.8))
        far = min(depth + draw(6, 17), street.junction if depth < street.junction else math.inf)
        height = 3 * max(1.6, storeys + draw(-1.6, 1.8))
        if draw() < 0.88:
            street.shadow(np.array([(x, 0, depth), (x, 0, far)]), height)
            front, end = ((x, depth), (x, far)), ((x + side * 9, depth), (x, depth))
            walls = [end, front] if height > hidden else [front]
            yield far, partial(_paint_house, street, walls, side=side, height=height)
        else:
            height = 0.0
        depth, hidden = far, height


def _place_rows(street: Street, side: int) -> Iterator[Thing]:
    """All that stands along one kerb: each kind in a row of its own, and some rows empty."""
    draw, lane, away = street.generator.uniform, 1.3 - street.road / 2, street.pavement - 0.4
    for paint, across, apart, tall, wide, last in (  # meters beyond the kerb, between two, high; width per height
        (_paint_tree, (0.8, 1.4), (7, 20), (4, 9), 0.28, 65),
        (_paint_car, (-1.25, -1.0), (5.2, 16), (1.35, 1.65), 1.0, 50),  # parked
        (_paint_car, (lane, lane + 0.2), (14, 60), (1.4, 2.1), 1.0, 70),  # driving
        (_paint_person, (0.1, away), (0.8, 8), (1.5, 1.92), 0.12, 30),
        (_paint_pole, (0.3, 0.5), (14, 34), (5, 7.5), 0.01, 65),  # lamp posts
        (_paint_pole, (0.3, 0.7), (10, 50), (2.3, 3.4), 0.03, 45),  # signs
        (_paint_bin, (0.6, away), (4, 24), (0.9, 2.3), 0.3, 30),
    ):
        depth = (4.8 if wide < 1 else 7) + draw(0, apart[1] / 2)
        while depth < last:
            at = np.array([street.edges[(side + 1) // 2] + side * draw(*across), 0, depth])
            if not street.junction - 2 < depth < street.junction + _CROSSING + 2:
                height = draw(*tall)
                street.shadow(np.insert(CIRCLE * wide * height, 1, 0, axis=1) + at, height)
                yield depth, partial(paint, street, at, height=height)
            depth += draw(*apart) if draw() < 0.75 else math.inf  # a row ends anywhere
    if street.junction < math.inf and draw() < 0.5:
        at = np.array([draw(*street.edges), 0, street.junction - draw(1, 3)])
        yield float(at[2]), partial(_paint_person, street, at, height=draw(1.5, 1.92))
        at, yaw = np.array([draw(-9, 9), 0, street.junction + draw(2, 5)]), side * math.pi / 2
        yield float(at[2]), partial(_paint_car, street, at, height=draw(1.4, 2.1), yaw=yaw)


def _paint_house(street: Street, walls: list[_Wall], *, side: int, height: float) -> None:
    color, glass = 0.75 * street.pick(_PAINTS) + 38, street.pick(_GLASS)
    (x, near), (_, far) = walls[-1]
    ridge, peak = x + side * 4.5, height + street.generator.uniform(0, 3)
    roof = np.array([(ridge, peak, near), (x, height, near), (x, height, far), (ridge, peak, far)])
    street.fill(roof, street.pick(_PAINTS) * 0.6, label=BUILDING)
    foot = [(x, 0, near), (x + side * 9, 0, near), (x + side * 9, height, near)]
    street.fill(np.array([*foot, (ridge, peak, near), (x, height, near)]), color * 0.88, label=BUILDING)
    for (x0, z0), (x1, z1) in walls:
        shade = 0.88 if z0 == z1 else 1.05 if street.sun[0] * side > 0 else 0.74
        corners = np.array([(x0, 0, z0), (x1, 0, z1), (x1, height, z1), (x0, height, z0)])
        _paint_wall(street, corners, color=color * shade, glass=glass * shade)


def _paint_wall(street: Street, wall: Floats, *, color: Floats, glass: Floats) -> None:
    draw, length, height = street.generator.uniform, float(np.abs(wall[1] - wall[0]).sum()), float(wall[2, 1])
    street.fill(wall, color, label=BUILDING)
    columns, floors = spans(int(length / draw(1.8, 3.2)), draw(0.4, 0.8)), spans(int(height / 3), draw(0.4, 0.7))
    street.fill(patches(wall, columns, up=floors), color * street.generator.choice([0.7, 1.25]), label=BUILDING)
    panes = patches(wall, columns * 0.98 + 0.01, up=floors * 0.98 + 0.004)
    if wall[:, 2].min() > 55:  # no details are visible at this distance
        return
    glow, lamplight = street.generator.random(len(panes)) - street.evening, np.array([250.0, 214, 140])
    for chosen, tone in ((glow >= 0, glass), (glow < 0, lamplight), (glow > 0.8 - street.evening, glass * 1.35)):
        street.fill(panes[chosen], tone, label=BUILDING)
    door = draw(0.1, 0.8)
    parts = [((0.0, 1.0), (height - 0.5, height), color * 1.15)]  # the cornice
    if draw() < 0.45:  # a shop
        parts += [((0.0, 1.0), (0.0, 2.9), street.pick(_PAINTS)), ((0.07, 0.93), (0.4, 2.2), glass)]
    for across, up, tone in (*parts, ((door, door + 1.1 / length), (0.0, 2.1), street.pick(_PAINTS))):
        street.fill(patches(wall, np.array([across]), up=np.array([up]) / height), tone, label=BUILDING)


def _paint_tree(street: Street, at: Floats, *, height: float) -> None:
    draw, leaves = street.generator.uniform, street.pick(_LEAVES)
    trunk = draw(52, 104) * np.array([1, 0.86, 0.72])
    street.stick(at, (0, 0, draw(-0.3, 0.3), height * 0.6, height * 0.026), color=trunk, label=TREE)
    slim = draw(0.5, 1.15)
    for rise in np.linspace(0, 1, 20 if at[2] < 35 else 10):  # clumps of leaves, from shaded to sunlit ones
        x, y = CIRCLE[street.generator.integers(16)] * height * draw(0.02, 0.2) * (slim, 1.1)
        y += height * (0.62 + 0.12 * rise)
        clump = (x, y, x + draw(-0.05, 0.05) * height, y, draw(0.07, 0.13) * height)
        street.stick(at, clump, color=leaves * (0.6 + 0.6 * rise), label=TREE)


def _paint_person(street: Street, at: Floats, *, height: float) -> None:
    draw, step = street.generator.uniform, street.generator.uniform(-0.14, 0.14)
    skin, coat, trousers, hair = street.pick(_SKINS), street.pick(_PAINTS), street.pick(_PAINTS) * 0.7, draw(10, 110, 3)
    for *ends, color in (  # x, y, x, y, radius in shares of the height
        (-0.03, 0.48, -0.03 - step, 0.04, 0.034, trousers * 0.8),
        (0.03, 0.48, 0.03 + step, 0.04, 0.036, trousers),
        (-0.03 - step, 0.02, -0.01 - step, 0.02, 0.024, hair),  # the shoes match
        (0.03 + step, 0.02, 0.05 + step, 0.02, 0.024, hair),
        (-0.09, 0.78, -0.11 + step * 0.7, 0.48, 0.026, coat * 0.75),
        (0.0, 0.76, 0.0, draw(0.3, 0.52), 0.075, coat),
        (0.09, 0.78, 0.11 - step * 0.7, 0.48, 0.026, coat * 0.85),
        (0.0, 0.86, 0.0, 0.92, 0.036, skin * 0.85),
        (0.0, 0.935, 0.0, 0.945, 0.058, hair),
        (0.008, 0.91, 0.008, 0.92, 0.048, skin),
    ):
        street.stick(at, tuple(float(end) * height for end in ends), color=color, label=PERSON)


def _paint_pole(street: Street, at: Floats, *, height: float) -> None:
    draw, arm = street.generator.uniform, math.copysign(street.generator.uniform(0.8, 2), street.edges.mean() - at[0])
    metal = draw(48, 176) + draw(-12, 12, 3)
    radius = max(draw(0.05, 0.085), at[2] / street.focal)  # at least one pixel wide: no gaps in the mask
    parts = [(0.0, 0.0, 0.0, height, radius, metal), (-radius / 2, 0.3, -radius / 2, height, radius / 3, metal * 1.3)]
    if height > 4.5:
        bulb = metal * 0.7 if street.evening < 0.1 else np.array([255.0, 236, 170])
        parts += [(0.0, height, arm, height + 0.3, radius * 0.8, metal)]
        parts += [(arm * 0.8, height + 0.2, arm, height + 0.3, 0.12, bulb)]
    elif draw() < 0.65:
        parts += [(0.0, height, 0.0, height, size, street.pick(_PAINTS)) for size in (0.36, 0.27)]
    else:  # traffic lights, one of them on
        parts += [(0.0, height - 0.7, 0.0, height, 0.22, np.full(3, 34.0))]
        on = street.generator.integers(3)
        for index, color in enumerate(np.array([(235.0, 40, 34), (250, 190, 40), (40, 210, 110)])):
            up = height - 0.35 * index
            parts += [(0.0, up, 0.0, up, 0.13, color * (1 if index == on else 0.3))]
    for *ends, color in parts:
        street.stick(at, tuple(map(float, ends)), color=color, label=POLE)


def _paint_bin(street: Street, at: Floats, *, height: float) -> None:
    """Street furniture, which belongs to no class: bins, boxes, and higher ones for advertisements."""
    color, half = street.pick(_PAINTS), 0.18 + 0.2 * height
    for low, high, wide, shade in ((0, 1, 1, 1), (0.2, 0.75, 0.8, 0.7), (0.9, 1, 1.06, 0.6)):
        box = np.array([(-wide, low), (wide, low), (wide, high), (-wide, high)]) * (half, height)
        street.fill(upright(box, at), color * shade, label=IGNORE)


def _paint_car(street: Street, at: Floats, *, height: float, yaw: float | None = None) -> None:
    draw, paint, glass, length = street.generator.uniform, street.pick(_PAINTS), street.pick(_GLASS), 1.9 + 1.6 * height
    if yaw is None:  # traffic keeps to the right
        yaw = draw(-0.04, 0.04) + (math.pi if at[0] < street.edges.mean() else 0)
    sine, cosine = math.sin(yaw), math.cos(yaw)
    turn = np.array([(cosine, 0, -sine), (0, 1, 0), (sine, 0, cosine)])
    body = np.array(_BODIES[2 if height > 1.75 else street.generator.integers(2)])
    half = np.where(body[:, 1] > 0.9, 0.72, 0.9)  # the roof is narrower
    along, up = (body[:, 0] - 0.5) * length, body[:, 1] * height
    left, right = (np.stack([sign * half, up, along], -1) @ turn + at for sign in (-1, 1))
    for sign, flank in ((-1, left), (1, right)):
        if street.shows(flank[::-sign]):
            street.fill(flank, paint * (1 if street.sun[0] * sign < 0 else 0.72), label=CAR)
            windows = patches(flank[[2, 5, 4, 3]], np.array([(0.08, 0.48), (0.53, 0.92)]), up=np.array([(0.12, 0.86)]))
            street.fill(windows, glass, label=CAR)
            for middle, radius, tone in _WHEELS:
                wheel = np.insert(CIRCLE * radius + (0.34, middle * length), 0, sign * 0.91, axis=1)
                street.fill(wheel @ turn + at, np.full(3, float(tone)), label=CAR)
    for part in (3, 2, 4, 1, 5, 0, 6):  # the roof, what leans on it, then the two ends
        panel = np.stack([left[part], right[part], right[part + 1], left[part + 1]])
        if street.shows(panel):
            street.fill(panel, paint * (0.86, 1.08)[part % 2], label=CAR)
            lower_edge_first = panel if part < 4 else panel[[3, 2, 1, 0]]
            for across, rise, color in _FITTINGS.get(part, ()):
                areas = patches(lower_edge_first, np.array(across), up=np.array([rise]))
                street.fill(areas, glass if color is None else np.array(color, float), label=CAR)


def _photograph(street: Street) -> tuple[Bytes, Bytes]:
    """The canvas as a camera records it: soft edges, rough surfaces, colored light, a mild blur, sensor noise."""
    generator, (height, width) = street.generator, street.size
    mask = np.ascontiguousarray(street.canvas[::2, ::2, 3])
    rough = np.full(256, 3, np.int16)
    rough[[SKY, BUILDING, ROAD, PAVEMENT, TREE]] = (1, 8, 10, 10, 24)
    grain = noise(generator, street.size, 100) + noise(generator, street.size, 30) // 2
    image = cv2.resize(street.canvas, (width, height), interpolation=cv2.INTER_AREA)[..., :3].astype(np.int32)
    image = (image + (grain * rough[mask] >> 7)[..., None]) * street.tint.astype(np.int32) >> 8
    image = image.clip(0, 255).astype(np.uint8)
    if generator.random() < 0.5:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)
    strength = generator.integers(2, 10)
    sensor = generator.integers(-strength, strength + 1, image.shape, np.int16)
    return (image + sensor).clip(0, 255).astype(np.uint8), mask
