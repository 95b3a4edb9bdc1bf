"""Roads, drawn in perspective: what is on them, what the weather is, where one can drive."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mtlkit.data.fields.drawn import Drawn, stream_of

KINDS = ("vehicle", "pedestrian", "sign")
CONDITIONS = ("day", "dusk", "night", "rain", "fog")
HEIGHT, WIDTH, CELL = 64, 96, 4  # pixels; a cell of the map of the free road
FINE = 2  # drawn so many times larger, and then made smaller


class Roads(Drawn):
    """Drawn road scenes with vehicles, pedestrians and signs, by day, at dusk, at night, in rain and in fog.

    A sample is that of `DigitScenes`, 64 x 96 pixels, with "road": `float32 [16, 24]`, 1 where the road is free and 0
    elsewhere. Its label is the condition. The farther away a thing is, the smaller; near things hide far ones, and
    what is more than two thirds hidden has no box.

    Args:
        split: "train", "val" or "test".
        n: number of scenes.
        seed: determines everything.
        night: share of scenes at night; the other conditions share the rest.
    """

    def __init__(self, split: str = "train", n: int = 2000, seed: int = 0, night: float = 0.2) -> None:
        if not 0 <= night <= 1:
            raise ValueError(f"night={night}: expected a share from 0 to 1")
        start = stream_of(split, seed)
        made = [Scene(np.random.default_rng(start + k), night) for k in range(n)]
        images = np.stack([scene.image for scene in made])
        road = torch.from_numpy(np.stack([scene.road for scene in made]))
        super().__init__(
            images,
            [scene.condition for scene in made],
            [scene.boxes for scene in made],
            CONDITIONS,
            KINDS,
            {"road": road},
        )


class Scene:
    """One picture `image [64, 96, 3]`, its `condition`, `boxes` and `road`."""

    def __init__(self, random: np.random.Generator, night: float) -> None:
        self.random = random
        others = [k for k in range(len(CONDITIONS)) if CONDITIONS[k] != "night"]
        self.condition = CONDITIONS.index("night") if random.random() < night else int(random.choice(others))
        self.horizon = random.uniform(0.3, 0.42) * HEIGHT
        self.vanishing = random.uniform(0.35, 0.65) * WIDTH
        self.left, self.right = random.uniform(-0.35, 0.05) * WIDTH, random.uniform(0.95, 1.35) * WIDTH
        self.canvas = Image.new("RGB", (FINE * WIDTH, FINE * HEIGHT))
        self.who = Image.new("I", self.canvas.size, 0)  # number of the thing that is seen at a pixel; 1 is the road
        self.draw, self.mark = ImageDraw.Draw(self.canvas), ImageDraw.Draw(self.who)
        self._ground()
        places = sorted(random.uniform(0.12, 1.0, int(random.integers(1, 7))))  # far things first: near ones hide them
        self.boxes: list[tuple[float, ...]] = []
        drawn = []
        for k, near in enumerate(places, 2):
            thing = self._thing(float(near), k)
            drawn.append((k, *thing, int((np.asarray(self.who) == k).sum())))  # all of it: nothing is before it yet
        seen = np.asarray(self.who)
        for k, corners, kind, whole in drawn:
            if (seen == k).sum() > max(8, whole / 3):
                self.boxes.append((*corners, kind))
        free = (seen == 1).reshape(HEIGHT // CELL, FINE * CELL, WIDTH // CELL, FINE * CELL).mean((1, 3))
        self.road = (free > 0.5).astype(np.float32)
        self.image = self._weather(np.asarray(self.canvas.resize((WIDTH, HEIGHT), Image.Resampling.BOX)) / 255)

    def _colour(self, *rgb: float, spread: float = 0.05) -> tuple[int, ...]:
        return tuple((255 * (np.array(rgb) + self.random.normal(0, spread)).clip(0, 1)).astype(int).tolist())

    def _polygon(self, corners: Sequence[tuple[float, float]], colour: tuple[int, ...], who: int | None = None) -> None:
        points = [(FINE * x, FINE * y) for x, y in corners]
        self.draw.polygon(points, colour)
        if who is not None:
            self.mark.polygon(points, who)

    def _ground(self) -> None:
        self.draw.rectangle((0, 0, FINE * WIDTH, FINE * self.horizon), self._colour(0.62, 0.75, 0.9))
        self.draw.rectangle((0, FINE * self.horizon, *self.canvas.size), self._colour(0.42, 0.52, 0.32))
        for _ in range(int(self.random.integers(3, 8))):  # houses
            x, wide, high = self.random.uniform((0, 5, 3), (WIDTH, 18, 14))
            grey = self._colour(0.5, 0.46, 0.42, spread=0.1)
            self._polygon(
                [
                    (x, self.horizon),
                    (x, self.horizon - high),
                    (x + wide, self.horizon - high),
                    (x + wide, self.horizon),
                ],
                grey,
            )
        top = (self.vanishing - 1, self.horizon), (self.vanishing + 1, self.horizon)
        self._polygon([*top, (self.right, HEIGHT), (self.left, HEIGHT)], self._colour(0.36, 0.36, 0.38), 1)
        for near in (0.1, 0.2, 0.34, 0.54, 0.8):  # the dashed line in the middle
            (x0, y0), (x1, y1) = self._at(near, 0.5), self._at(near * 1.2, 0.5)
            self._polygon(
                [(x0 - near, y0), (x0 + near, y0), (x1 + 1.2 * near, y1), (x1 - 1.2 * near, y1)],
                self._colour(0.9, 0.9, 0.85),
                1,
            )

    def _at(self, near: float, across: float) -> tuple[float, float]:
        """Return a place on the ground: `near` from 0 (the horizon) to 1 (below the camera), `across` the road 0..1."""
        y = self.horizon + near * (HEIGHT - self.horizon)
        left, right = (self.vanishing + near * (end - self.vanishing) for end in (self.left, self.right))
        return left + across * (right - left), y

    def _thing(self, near: float, who: int) -> tuple[tuple[float, float, float, float], int]:
        kind = int(self.random.choice(3, p=(0.45, 0.3, 0.25)))
        across = (
            self.random.uniform(0.15, 0.85)
            if kind == 0
            else self.random.choice([self.random.uniform(-0.12, 0.05), self.random.uniform(0.95, 1.12)])
        )
        if kind == 1 and self.random.random() < 0.35:  # on the road
            across = self.random.uniform(0.1, 0.9)
        x, y = self._at(near, float(across))
        x, y = float(np.clip(x, 3, WIDTH - 3)), float(min(y, HEIGHT - 1))
        high = near * self.random.uniform(*((20, 26), (22, 28), (28, 34))[kind]) + 2.5
        corners = (self._vehicle, self._pedestrian, self._sign)[kind](x, y, high, who)
        x0, y0, x1, y1 = corners
        return (max(0.0, x0), max(0.0, y0), min(float(WIDTH), x1), min(float(HEIGHT), y1)), kind

    def _box(self, x0: float, y0: float, x1: float, y1: float, colour: tuple[int, ...], who: int) -> None:
        self._polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, who)

    def _vehicle(self, x: float, y: float, high: float, who: int) -> tuple[float, float, float, float]:
        half, body = high * self.random.uniform(0.55, 0.8), self._colour(*self.random.uniform(0.1, 0.9, 3))
        self._box(x - half, y - 0.62 * high, x + half, y - 0.12 * high, body, who)
        self._polygon(
            [
                (x - 0.85 * half, y - 0.6 * high),
                (x - 0.6 * half, y - high),
                (x + 0.6 * half, y - high),
                (x + 0.85 * half, y - 0.6 * high),
            ],
            body,
            who,
        )
        self._box(x - 0.62 * half, y - 0.92 * high, x + 0.62 * half, y - 0.62 * high, self._colour(0.2, 0.25, 0.3), who)
        for side in (-1, 1):
            self._box(
                x + side * 0.75 * half - 0.14 * high,
                y - 0.2 * high,
                x + side * 0.75 * half + 0.14 * high,
                y,
                (20, 20, 20),
                who,
            )
            self._box(
                x + side * 0.8 * half - 0.08 * high,
                y - 0.5 * high,
                x + side * 0.8 * half + 0.08 * high,
                y - 0.38 * high,
                (200, 30, 30),
                who,
            )
        return x - half, y - high, x + half, y

    def _pedestrian(self, x: float, y: float, high: float, who: int) -> tuple[float, float, float, float]:
        half, coat = 0.17 * high, self._colour(*self.random.uniform(0.1, 0.8, 3))
        for side in (-1, 1):
            self._box(
                x + side * 0.5 * half - 0.06 * high,
                y - 0.45 * high,
                x + side * 0.5 * half + 0.06 * high,
                y,
                self._colour(0.15, 0.15, 0.25),
                who,
            )
        self._box(x - half, y - 0.8 * high, x + half, y - 0.4 * high, coat, who)
        self._round(x, y - 0.89 * high, 0.11 * high, self._colour(0.75, 0.6, 0.5), who)
        return x - half, y - high, x + half, y

    def _sign(self, x: float, y: float, high: float, who: int) -> tuple[float, float, float, float]:
        half = 0.2 * high
        self._box(x - 0.03 * high, y - 0.65 * high, x + 0.03 * high, y, self._colour(0.5, 0.5, 0.5), who)
        middle, kind = y - 0.8 * high, int(self.random.integers(3))
        if kind == 0:  # give way
            self._polygon(
                [(x - half, middle - half), (x + half, middle - half), (x, middle + half)], (205, 40, 40), who
            )
            self._polygon(
                [
                    (x - 0.5 * half, middle - 0.7 * half),
                    (x + 0.5 * half, middle - 0.7 * half),
                    (x, middle + 0.3 * half),
                ],
                (245, 245, 240),
                who,
            )
        elif kind == 1:  # a limit
            self._round(x, middle, half, (205, 40, 40), who)
            self._round(x, middle, 0.65 * half, (245, 245, 240), who)
        else:  # an order
            self._round(x, middle, half, (40, 80, 190), who)
        return x - half, y - high, x + half, y

    def _round(self, x: float, y: float, radius: float, colour: tuple[int, ...], who: int) -> None:
        ends = tuple(FINE * end for end in (x - radius, y - radius, x + radius, y + radius))
        self.draw.ellipse(ends, colour)
        self.mark.ellipse(ends, who)

    def _weather(self, image: NDArray[np.float64]) -> NDArray[np.uint8]:
        random, name = self.random, CONDITIONS[self.condition]
        rows = np.arange(HEIGHT)[:, None, None]
        far = 1 - ((rows - self.horizon) / (HEIGHT - self.horizon)).clip(0, 1)  # 1 at the horizon and above
        if name == "dusk":
            image = image * np.array([0.62, 0.5, 0.52]) + 0.12 * far * np.array([1.0, 0.5, 0.2])
        elif name == "night":
            light = np.exp(-(((np.arange(WIDTH)[None, :, None] - self.vanishing) / 30) ** 2)) * (1 - far)
            image = image * (0.16 + 0.5 * light) + np.array([0.0, 0.0, 0.03])
        elif name == "rain":
            image = 0.62 * image + 0.14 + 0.06 * far
            for x, y in random.uniform((0, 0), (WIDTH, HEIGHT), (40, 2)):
                image[int(y) : int(y) + 4, int(x)] += 0.12
        elif name == "fog":
            thick = random.uniform(0.75, 0.95)
            image = image * (1 - thick * far**1.5) + 0.78 * thick * far**1.5
        image = image * random.uniform(0.9, 1.1) + random.normal(0, 0.02, image.shape)
        return np.asarray(255 * image.clip(0, 1), np.uint8)
