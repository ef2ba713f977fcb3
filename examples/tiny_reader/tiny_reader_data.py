# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Renders the images, questions and answers that `train_tiny_reader.py` learns from.

Every sample follows from its seed alone. Two kinds of scene:

* a printed word of 1-8 letters and digits, asked "What does it say?". Letters are upper case. So that no answer is a
  matter of taste, I and O appear only in words without digits (as on number plates) and never make up a whole word;
* up to six circles, squares, triangles and stars, asked how many of one kind there are, or which colour the only one
  of its kind is.

Backgrounds are plain, shaded, or crops of photographs; where the background would swallow the ink, the word is
outlined or stands on a plate. Part of the images is letterboxed and part is drawn larger and resized with the bicubic
filter, because that is what `FastVLMProcessor` does to pictures of any other size.
"""

import importlib.util
import itertools
import math
import random
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
ALPHABET = LETTERS + DIGITS
AMBIGUOUS = "IO"
MAX_WORD_LENGTH = 8
MAX_ZOOM = 2.5  # how much larger than their final size some images are drawn

READING_QUESTION = "What does it say?"
COUNT_QUESTION = "How many {kind}s are there?"
COLOUR_QUESTION = "Which colour is the {kind}?"
SHAPES = ("circle", "square", "triangle", "star")
MAX_SHAPES = 6
COLOURS = {
    "red": (215, 30, 35),
    "orange": (250, 140, 20),
    "yellow": (250, 225, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "purple": (140, 50, 170),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
}

# Font files by name; whichever of them the machine has are used. All are in Debian's fonts-* packages, the DejaVu
# ones also in matplotlib's wheel.
TRAINING_FONTS = [
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSansMono-Bold.ttf",
    "LiberationSans-Regular.ttf",
    "LiberationSans-Bold.ttf",
    "LiberationSerif-Regular.ttf",
    "LiberationSerif-Bold.ttf",
    "LiberationMono-Bold.ttf",
    "FreeSansBold.ttf",
    "Lato-Regular.ttf",
    "Lato-Bold.ttf",
    "OpenSans-Regular.ttf",
    "OpenSans-Bold.ttf",
    "RobotoSlab-Bold.ttf",
    "Carlito-Regular.ttf",
    "Carlito-Bold.ttf",
    "Caladea-Bold.ttf",
    "Hack-Bold.ttf",
    "Cantarell-Bold.otf",
]
HELD_OUT_FONTS = ("Roboto-Regular.ttf", "Roboto-Bold.ttf")

# Photographs that come inside Python packages: (package, folder, files).
PHOTOGRAPH_FOLDERS = (
    (
        "skimage",
        "data",
        "astronaut.png coffee.png rocket.jpg motorcycle_left.png camera.png coins.png brick.png grass.png gravel.png "
        "hubble_deep_field.jpg ihc.png retina.jpg moon.png chelsea.png",
    ),
    ("sklearn", "datasets/images", "flower.jpg china.jpg"),
    ("matplotlib", "mpl-data/sample_data", "grace_hopper.jpg"),
)
HELD_OUT_PHOTOGRAPHS = ("chelsea.png", "china.jpg")


@dataclass
class Sample:
    """One image, one question, one answer.

    Attributes:
        image: RGB, `size` x `size` pixels.
        marks: every character, with its centre `(x, y)` in pixels of `image` and its place in its word, from 0; or
            every shape, as "red circle", likewise, with the place of its kind in `SHAPES`.
    """

    image: Image.Image
    question: str
    answer: str
    marks: list[tuple[str, float, float, int]] = field(default_factory=list)


def find_fonts(names: tuple[str, ...] | list[str]) -> list[Path]:
    """Paths of those of the font files `names` that this machine has, in the order of `names`."""
    folders = [Path(folder) for folder in ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "/Library/Fonts")]
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None:
        folders.append(Path(spec.origin).parent / "mpl-data" / "fonts")
    paths: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.expanduser().rglob("*.[to]tf")):
            paths.setdefault(path.name, path)
    return [paths[name] for name in names if name in paths]


def find_photographs(held_out: bool) -> list[Path]:
    """Paths of the photographs in installed packages: those kept for evaluation, or those for training."""
    paths = []
    for package, folder, names in PHOTOGRAPH_FOLDERS:
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        for name in names.split():
            path = Path(spec.origin).parent / folder / name
            if path.exists() and (name in HELD_OUT_PHOTOGRAPHS) == held_out:
                paths.append(path)
    return paths


def is_held_out(word: str) -> bool:
    """Whether `word` is kept for evaluation: one word in ten, chosen by checksum; no single character is."""
    return len(word) > 1 and zlib.crc32(word.encode()) % 10 == 0


def draw_word(rng: random.Random, length: int, held_out: bool | None) -> str:
    """A random word of `length` characters; `held_out` picks the evaluation words, the training words or any."""
    while True:
        kind = rng.random()
        if kind < 0.5:
            word = "".join(rng.choices(LETTERS, k=length))
            unambiguous = any(letter not in AMBIGUOUS for letter in word)
        elif kind < 0.7:
            word = "".join(rng.choices(DIGITS, k=length))
            unambiguous = True
        else:
            word = "".join(rng.choices([c for c in ALPHABET if c not in AMBIGUOUS], k=length))
            unambiguous = True
        if unambiguous and (held_out is None or length == 1 or is_held_out(word) == held_out):
            return word


def luminance(colour: tuple[int, int, int]) -> float:
    """Luma of an RGB colour, 0-255, as PIL's `convert("L")` computes it."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def random_colour(rng: random.Random) -> tuple[int, int, int]:
    """Half of the time a grey, so that black on white is not rare."""
    if rng.random() < 0.5:
        return (rng.randrange(256),) * 3
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def contrasting_colour(rng: random.Random, low: float, high: float, contrast: float) -> tuple[int, int, int] | None:
    """A colour whose luminance lies `contrast` outside `[low, high]`, or `None` if a few attempts find none."""
    if low < contrast and high > 255 - contrast:
        return None
    for _ in range(12):
        colour = random_colour(rng)
        if not low - contrast < luminance(colour) < high + contrast:
            return colour
    if high + contrast <= 255:
        return (255, 255, 255)
    return (0, 0, 0) if low >= contrast else None


class Renderer:
    """Draws samples.

    Args:
        size: side of the images in pixels.
        fonts: font files; without any, the font inside PIL is used.
        photographs: image files to cut backgrounds from; without any, all backgrounds are plain or shaded.
        held_out_words: `True` draws only evaluation words, `False` only training words, `None` any.
        reading_fraction: share of samples that show a word; the others show shapes.
        font_sizes: smallest and largest font size, relative to the image's side.
        max_words: more than 1 stacks up to so many words in an image; the answer is then the topmost. Such images
            teach an encoder more characters in the same time.
        photograph_fraction: share of backgrounds cut from photographs.
        words: what words are taken from; without any, they are made up.
    """

    def __init__(
        self,
        size: int = 128,
        fonts: list[Path] | tuple[Path, ...] = (),
        photographs: list[Path] | tuple[Path, ...] = (),
        held_out_words: bool | None = False,
        reading_fraction: float = 0.75,
        font_sizes: tuple[float, float] = (0.125, 0.33),
        max_words: int = 1,
        photograph_fraction: float = 0.5,
        words: list[str] | tuple[str, ...] = (),
    ):
        self.size = size
        self.fonts = list(fonts)
        self.held_out_words = held_out_words
        self.reading_fraction = reading_fraction
        self.font_sizes = font_sizes
        self.max_words = max_words
        self.words = list(words)
        self.photograph_fraction = photograph_fraction if photographs else 0.0
        self.photographs = [self._load_photograph(path) for path in photographs]
        noise = random.Random(0).randbytes((2 * size) ** 2 * 3)
        self._noise = Image.frombytes("RGB", (2 * size, 2 * size), noise)
        self._font_cache: dict[tuple[int, int], ImageFont.FreeTypeFont] = {}

    def _load_photograph(self, path: Path) -> list[Image.Image]:
        """The photograph at three scales, so that crops show coarse and fine structure."""
        with Image.open(path) as image:
            image = image.convert("RGB")
        scaled = []
        for shortest in (1.0, 1.6, MAX_ZOOM):
            scale = shortest * self.size / min(image.size)
            scaled.append(image.resize((math.ceil(image.width * scale), math.ceil(image.height * scale))))
        return scaled

    def _font(self, index: int, size: int) -> ImageFont.FreeTypeFont:
        key = index, size
        if key not in self._font_cache:
            if self.fonts:
                basic = ImageFont.Layout.BASIC  # Latin capitals need no shaping, and it is faster
                self._font_cache[key] = ImageFont.truetype(self.fonts[index], size, layout_engine=basic)
            else:
                self._font_cache[key] = ImageFont.load_default(size)
        return self._font_cache[key]

    def render(self, seed: int | str, difficulty: float = 1.0) -> Sample:
        """Draws the sample that belongs to `seed`.

        Args:
            difficulty: 0 draws words of up to 3 large characters, 1 up to 8 and down to the smallest legible size.
        """
        rng = random.Random(seed)
        if rng.random() < self.reading_fraction:
            return self._render_words(rng, difficulty)
        return self._render_shapes(rng)

    def _background(self, rng: random.Random, width: int, height: int) -> Image.Image:
        kind = rng.random()
        if kind < self.photograph_fraction:
            scales = rng.choice(self.photographs)
            photograph = rng.choice([image for image in scales if min(image.size) >= max(width, height)])
            left = rng.randint(0, photograph.width - width)
            top = rng.randint(0, photograph.height - height)
            image = photograph.crop((left, top, left + width, top + height))
            if rng.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if rng.random() < 0.3:
                image = Image.merge("RGB", rng.sample(image.split(), 3))
            if rng.random() < 0.5:
                image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.4, 1.4))
            return image
        if kind < self.photograph_fraction + 0.35 * (1 - self.photograph_fraction):
            corners = Image.new("RGB", (2, 2))
            corners.putdata([random_colour(rng) for _ in range(4)])
            plain = Image.new("RGB", (2, 2), random_colour(rng))
            shaded = Image.blend(plain, corners, rng.uniform(0.1, 0.6))
            return shaded.resize((width, height), Image.Resampling.BILINEAR)
        return Image.new("RGB", (width, height), random_colour(rng))

    def _finish(
        self, rng: random.Random, canvas: Image.Image, width: int, height: int
    ) -> tuple[Image.Image, float, float]:
        """Resizes the canvas to `width` x `height`, centres it on a black square and degrades it a little.

        Returns the image and the offset `(x, y)` of the canvas in it.
        """
        if canvas.size != (width, height):
            canvas = canvas.resize((width, height), Image.Resampling.BICUBIC)
        if rng.random() < 0.1:
            canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7)))
        if rng.random() < 0.25:
            x, y = rng.randint(0, self.size), rng.randint(0, self.size)
            noise = self._noise.crop((x, y, x + width, y + height))
            canvas = Image.blend(canvas, noise, rng.uniform(0.03, 0.15))
        if (width, height) == (self.size, self.size):
            return canvas, 0, 0
        image = Image.new("RGB", (self.size, self.size))
        x, y = (self.size - width) // 2, (self.size - height) // 2
        image.paste(canvas, (x, y))
        return image, x, y

    def _render_words(self, rng: random.Random, difficulty: float) -> Sample:
        count = rng.randint(1, self.max_words)
        if self.words:
            words = rng.choices(self.words, k=count)
        else:
            lengths = [rng.randint(1, round(3 + (MAX_WORD_LENGTH - 3) * difficulty)) for _ in range(count)]
            words = [draw_word(rng, length, self.held_out_words) for length in lengths]
        width = height = self.size
        shape = rng.random()
        if shape < 0.3:
            height = round(self.size * rng.uniform(0.5 if count == 1 else 0.8, 0.95))
        elif shape < 0.4 and max(map(len, words)) <= 4:
            width = round(self.size * rng.uniform(0.55, 0.95))
        zoom = rng.uniform(1.2, MAX_ZOOM) if rng.random() < 0.35 else 1.0
        canvas = self._background(rng, round(width * zoom), round(height * zoom))

        placed = []
        band = canvas.height // count
        for row, word in enumerate(words):
            font, angle = self._choose_font(rng, word, (canvas.width, band), zoom, difficulty)
            mask, centres = word_mask(font, word, angle)
            while mask.width > canvas.width or mask.height > band:  # the size is an estimate
                font = font.font_variant(size=int(0.9 * font.size))
                mask, centres = word_mask(font, word, angle)
            left = rng.randint(0, canvas.width - mask.width)
            top = row * band + rng.randint(0, band - mask.height)
            outline = word_mask(font, word, angle, outlined=True)[0] if font.size > 20 * zoom else None
            ink_word(rng, canvas, mask, outline, left, top)
            placed += [(word[place], left + x, top + y, place) for place, (x, y) in enumerate(centres)]

        image, offset_x, offset_y = self._finish(rng, canvas, width, height)
        scale_x, scale_y = width / canvas.width, height / canvas.height
        marks = [(mark, x * scale_x + offset_x, y * scale_y + offset_y, place) for mark, x, y, place in placed]
        return Sample(image, READING_QUESTION, words[0], marks)

    def _choose_font(
        self, rng: random.Random, word: str, canvas_size: tuple[int, int], zoom: float, difficulty: float
    ) -> tuple[ImageFont.FreeTypeFont, float]:
        """A font in a size with which `word`, turned by the returned angle in degrees, fits the canvas."""
        width, height = canvas_size
        index = rng.randrange(max(len(self.fonts), 1))
        angle = rng.uniform(-6, 6) if rng.random() < 0.3 else 0.0
        cosine, sine = math.cos(math.radians(angle)), abs(math.sin(math.radians(angle)))
        length, capital = self._font(index, 32).getlength(word) + 6, 32.0  # with room for the outline
        largest = 32 * min(
            0.96 * width / (length * cosine + capital * sine), 0.96 * height / (length * sine + capital * cosine)
        )
        smallest = self.size * zoom * (self.font_sizes[0] + 0.09 * (1 - difficulty))
        upper = min(largest, self.size * zoom * self.font_sizes[1])
        size = upper if upper <= smallest else math.exp(rng.uniform(math.log(smallest), math.log(upper)))
        return self._font(index, int(size)), angle

    def _render_shapes(self, rng: random.Random) -> Sample:
        width = height = self.size
        if rng.random() < 0.3:
            height = round(self.size * rng.uniform(0.6, 0.95))
        canvas = self._background(rng, width, height)
        grey = rng.randrange(70, 190)
        canvas = Image.blend(canvas, Image.new("RGB", canvas.size, (grey, grey, grey)), rng.uniform(0.5, 0.9))
        kind = rng.choice(SHAPES)
        others = [other for other in SHAPES if other != kind]
        if rng.random() < 0.5:
            count = rng.randint(0, MAX_SHAPES)
            kinds = [kind] * count + rng.choices(others, k=rng.randint(0 if count else 1, MAX_SHAPES - min(count, 5)))
            kinds = kinds[: max(count, MAX_SHAPES)]
            question, asks_colour = COUNT_QUESTION.format(kind=kind), False
        else:
            kinds = [kind, *rng.choices(others, k=rng.randint(0, 3))]
            question, asks_colour = COLOUR_QUESTION.format(kind=kind), True
        # Drawn at twice the size and reduced, because PIL's polygons have no smooth edges.
        canvas = canvas.resize((2 * width, 2 * height), Image.Resampling.NEAREST)
        drawn = self._draw_shapes(rng, canvas, kinds)
        image, left, top = self._finish(rng, canvas.reduce(2), width, height)
        answer = drawn[0][1] if asks_colour else str([shape for shape, *_ in drawn].count(kind))
        marks = [
            (f"{colour} {shape}", left + x / 2, top + y / 2, SHAPES.index(shape)) for shape, colour, x, y in drawn
        ]
        return Sample(image, question, answer, marks)

    def _draw_shapes(
        self, rng: random.Random, canvas: Image.Image, kinds: list[str]
    ) -> list[tuple[str, str, float, float]]:
        """Draws shapes that do not touch, leaving out any that finds no room; returns shape, colour and centre."""
        draw = ImageDraw.Draw(canvas)
        scale = self.size / 64  # canvas pixels per 1/128 of the image
        placed: list[tuple[float, float, float]] = []
        drawn = []
        for shape in kinds:
            for _ in range(30):
                radius = rng.uniform(9, 15) * scale
                x, y = rng.uniform(radius, canvas.width - radius), rng.uniform(radius, canvas.height - radius)
                if any(math.hypot(x - px, y - py) < radius + other + 2 * scale for px, py, other in placed):
                    continue
                under = canvas.getpixel((int(x), int(y)))
                distinct = [name for name, rgb in COLOURS.items() if sum(abs(a - b) for a, b in zip(rgb, under)) > 130]
                colour = rng.choice(distinct)
                rgb = tuple(min(255, max(0, part + rng.randint(-12, 12))) for part in COLOURS[colour])
                draw_shape(draw, shape, x, y, radius, rng.uniform(0, 2 * math.pi), rgb)
                placed.append((x, y, radius))
                drawn.append((shape, colour, x, y))
                break
        return drawn


def word_mask(
    font: ImageFont.FreeTypeFont, word: str, angle: float, outlined: bool = False
) -> tuple[Image.Image, list[tuple[float, float]]]:
    """Draws `word`, turned by `angle` degrees, into a tight greyscale mask with room for its outline.

    Returns the mask and the centres `(x, y)` of its characters in mask pixels.
    """
    border = max(1, round(font.size / 14))
    x0, y0, x1, y1 = font.getbbox(word, anchor="ls", stroke_width=border)
    origin = 1 - x0, 1 - y0
    mask = Image.new("L", (math.ceil(x1 - x0) + 2, math.ceil(y1 - y0) + 2))
    draw = ImageDraw.Draw(mask)
    draw.text(origin, word, fill=255, font=font, anchor="ls", stroke_width=border if outlined else 0)
    edges = [font.getlength(word[:count]) for count in range(len(word) + 1)]
    middle = origin[1] + (y0 + border) / 2
    centres = [(origin[0] + (a + b) / 2, middle) for a, b in itertools.pairwise(edges)]
    if angle:
        old_x, old_y = mask.width / 2, mask.height / 2
        mask = mask.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        # PIL turns counter-clockwise, and y points down.
        centres = [
            (
                (x - old_x) * cosine + (y - old_y) * sine + mask.width / 2,
                -(x - old_x) * sine + (y - old_y) * cosine + mask.height / 2,
            )
            for x, y in centres
        ]
    return mask, centres


def ink_word(
    rng: random.Random, canvas: Image.Image, mask: Image.Image, outline: Image.Image | None, left: int, top: int
) -> None:
    """Paints the word where a person can read it: bare, outlined if `outline` is given, or on a plate."""
    area = (left, top, left + mask.width, top + mask.height)
    low, high = canvas.crop(area).convert("L").reduce(3).getextrema()
    colour = contrasting_colour(rng, low, high, 70) if rng.random() < 0.85 else None
    if colour is None:
        backing = random_colour(rng)
        colour = contrasting_colour(rng, luminance(backing), luminance(backing), 90)
        if outline is not None and rng.random() < 0.6:
            canvas.paste(backing, (left, top), outline)
        else:
            canvas.paste(backing, area)
    canvas.paste(colour, (left, top), mask)


def draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, turn: float, colour: tuple[int, ...]
) -> None:
    """Draws one of `SHAPES` inside the circle around `(x, y)`; polygons are turned by `turn` radians."""
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        return
    corners = {"square": 4, "triangle": 3, "star": 10}[shape]
    points = []
    for corner in range(corners):
        distance = radius * (0.42 if shape == "star" and corner % 2 else 1.0)
        angle = turn + 2 * math.pi * corner / corners
        points.append((x + distance * math.cos(angle), y + distance * math.sin(angle)))
    draw.polygon(points, fill=colour)
