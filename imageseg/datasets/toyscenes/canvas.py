"""The canvas of the street painter: a camera's view of a world in meters, its light, and basic shapes."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FARTHEST = 100.0  # meters: where the street ends
CIRCLE = np.array([(math.cos(step * math.pi / 8), math.sin(step * math.pi / 8)) for step in range(16)])
_FRACTION_BITS = 4  # OpenCV takes corners in sixteenths of a pixel
_DOWNWARD = np.array([1.0, -1.0])  # y points up in the world and down in an image
_WEATHER = (  # zenith, horizon, the light's color (256: neutral), the light left in a shadow (255: all), lit windows
    ((70, 125, 205), (185, 212, 235), (262, 258, 250), 135, 0.03),  # clear
    ((120, 165, 215), (226, 230, 228), (256, 254, 248), 165, 0.03),  # haze
    ((150, 156, 164), (208, 210, 212), (226, 232, 240), 210, 0.15),  # overcast
    ((72, 84, 140), (246, 178, 128), (240, 206, 182), 160, 0.6),  # dusk
    ((112, 150, 205), (252, 226, 180), (276, 252, 214), 125, 0.08),  # low sun
)


class Street:
    """The world in meters (x to the right, y up, z ahead of the camera) and the canvas that it is painted on."""

    def __init__(self, generator: np.random.Generator, size: tuple[int, int]) -> None:
        self.generator, self.size, draw = generator, size, generator.uniform
        height, width = 2 * size[0], 2 * size[1]
        self.canvas = np.zeros((height, width, 4), np.uint8)  # red, green, blue, class: they share each edge
        self.light = np.full((height, width), 255, np.uint8)  # how much light reaches the ground
        self.focal = min(height, width) * draw(0.85, 1.2)
        self.center = np.array([width * draw(0.36, 0.64), height * draw(0.4, 0.52)])  # where the street vanishes
        self.bend = np.array([draw(-1, 1) * draw(0, 0.3) * width / self.focal / FARTHEST, 0])
        self.eye = np.array([0, draw(1.35, 2.1)])
        self.road, self.pavement = draw(7.6, 10.5), draw(3, 6.5)
        self.edges = np.array([-0.5, 0.5]) * self.road - 1.5  # the camera drives in the right lane
        self.junction = draw(12, 40) if draw() < 0.4 else math.inf
        zenith, haze, tint, shade, self.evening = _WEATHER[generator.integers(len(_WEATHER))]
        self.zenith, self.haze = zenith + draw(-14, 14, 3), haze + draw(-10, 10, 3)
        self.tint, self.shade = np.array(tint) * draw(0.84, 1.06), int(shade + draw(-20, 20))
        self.sun = np.array([draw(-1.3, 1.3), 0.0, draw(-0.6, 0.9)])  # the shadow of one meter of height

    def project(self, corners: Floats) -> npt.NDArray[np.int32]:
        """(..., 3) meters to (..., 2) sixteenths of a canvas pixel."""
        depth = np.maximum(corners[..., 2:], 0.7)
        pixels = (corners[..., :2] * _DOWNWARD + self.eye) / depth + self.bend * depth
        pixels *= self.focal * (1 << _FRACTION_BITS)
        pixels += self.center * (1 << _FRACTION_BITS)
        return np.asarray(np.rint(pixels, pixels), np.int32)

    def fill(self, corners: Floats, color: Floats, *, label: int) -> None:
        """Paints polygons, (K, 3) or (N, K, 3) meters, in one color that fades with distance."""
        if corners.size:
            polygons = self.project(corners).reshape(-1, corners.shape[-2], 2)
            distance = float(corners[..., 2].flat[-1])
            faded = color + (self.haze - color) * (distance / (distance + 160))
            red, green, blue = (min(max(int(channel), 0), 255) for channel in faded.tolist())
            cv2.fillPoly(self.canvas, list(polygons), (red, green, blue, label), shift=_FRACTION_BITS)

    def stick(self, at: Floats, ends: tuple[float, ...], *, color: Floats, label: int) -> None:
        """Paints a rounded stick that faces the camera: x, y, x, y of its ends from where it stands, and its radius."""
        first, last = np.array(ends[:2]), np.array(ends[2:4])
        around = np.where((CIRCLE @ (last - first) > 0)[:, None], last, first)  # half of a circle about each end
        self.fill(upright(around + CIRCLE * ends[4], at), color, label=label)

    def shows(self, corners: Floats) -> bool:
        """Whether a face, its corners in order, is turned to the camera."""
        return cv2.contourArea(self.project(corners), oriented=True) < 0

    def shadow(self, base: Floats, height: float) -> None:
        """Darkens the ground from (K, 3) meters, where a thing stands, to where the shadow of its top falls."""
        outline = cv2.convexHull(self.project(np.concatenate([base, base + self.sun * height])))
        cv2.fillConvexPoly(self.light, outline, self.shade, shift=_FRACTION_BITS)

    def cast_shadows(self) -> None:
        """Lays the shadows, with soft edges, on what is painted so far."""
        light = cv2.blur(self.light, (self.size[0] // 64 * 2 + 1, self.size[0] // 96 * 2 + 1)).astype(np.uint16)
        self.canvas[..., :3] = (self.canvas[..., :3] * light[..., None]) >> 8

    def pick(self, colors: list[tuple[int, int, int]]) -> Floats:
        """One row of a table of colors, varied."""
        color = np.array(colors[self.generator.integers(len(colors))]) + self.generator.uniform(-14, 14, 3)
        return np.asarray(color * self.generator.uniform(0.82, 1.12))


def noise(generator: np.random.Generator, size: tuple[int, int], cells: int) -> npt.NDArray[np.int16]:
    """(H, W) values from -127 to 128 that vary smoothly: ``cells`` of them along the shorter side."""
    cell = max(1, min(size) // cells)
    grid = generator.integers(0, 256, (size[0] // cell + 2, size[1] // cell + 2), np.uint8)
    # the exact variant gives the same bytes on every CPU
    return cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int16) - 127


def strip(left: float, right: float, *, near: float = 0.7, far: float) -> Floats:
    """A strip of ground between two distances, in steps short enough for the bend of the street."""
    depth = near * (far / near) ** np.linspace(0, 1, 12)
    sides = [np.stack([np.full(12, x), np.zeros(12), depth], -1) for x in (left, right)]
    return np.concatenate([sides[0], sides[1][::-1]])


def upright(outline: Floats, at: Floats) -> Floats:
    """(K, 2) meters across and up, standing there and facing the camera."""
    corners = np.zeros((len(outline), 3))
    corners[:, :2] = outline
    return corners + at


def spans(count: int, share: float) -> Floats:
    """(count, 2): even intervals from 0 to 1, each filling that share of its cell."""
    return np.asarray((np.arange(max(1, count))[:, None] + (0.5 - share / 2, 0.5 + share / 2)) / max(1, count))


def patches(quad: Floats, across: Floats, *, up: Floats) -> Floats:
    """(N * M, 4, 3): the N x M parts of a quad, from intervals along its lower edge and along its height."""
    u = np.tile(across[:, [0, 1, 1, 0]], (len(up), 1))[..., None]
    v = np.repeat(up[:, [0, 0, 1, 1]], len(across), axis=0)[..., None]
    bottom, top = quad[0] + (quad[1] - quad[0]) * u, quad[3] + (quad[2] - quad[3]) * u
    return np.asarray(bottom + (top - bottom) * v)
