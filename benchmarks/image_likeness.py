"""How often ``decontaminate`` finds a changed copy of an image, and takes a different image for a copy. Prints JSON.

python -m benchmarks.image_likeness [--photos FOLDER] [--each 60] [--different 400]

Of every nature of image, half are held as an evaluation set is. Copies of them, changed in every way, are looked for;
so are ``--different`` images of the same nature that have no copy there. Photographs are the images of ``--photos`` and
the four quarters of each (matplotlib's one photograph by default); drawings, charts of one template and pages of one
layout are made up, and differ in what they say alone.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from ommatidia.core.picture import FilePicture
from ommatidia.data.curation.image_index import ImageIndex
from ommatidia.data.curation.image_likeness import Thumbnail

DATA = Path(matplotlib.get_data_path())
TEXT = (
    "the of and to in that for it was with be by on not he his but at are this have from or had an they which one you "
    "were all her she there would their we him been has when who will no more if out so said what up its about than "
    "into them can only other time new some could these two may first then do any like now over such our man even"
)
WORDS = TEXT.split()
Change = Callable[[Image.Image, random.Random], Image.Image]


def font(size: int, name: str = "DejaVuSans") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(DATA / "fonts" / "ttf" / f"{name}.ttf"), size)


def page(seed: int) -> Image.Image:
    """Paragraphs of made-up text in one layout."""
    rng, image, face = random.Random(seed), Image.new("RGB", (850, 1100), "white"), font(16, "DejaVuSerif")
    draw, top = ImageDraw.Draw(image), 130
    title = " ".join(rng.choices(WORDS, k=4)).title()
    draw.text((80, 70), title, fill="black", font=font(26, "DejaVuSerif-Bold"))
    while top < 1010:
        lines = rng.randint(3, 9)
        for number in range(lines):
            text, width = "", 690 * (rng.random() if number == lines - 1 else 1)
            while draw.textlength(text, font=face) < width:
                text += rng.choice(WORDS) + " "
            draw.text((80, top), text, fill="black", font=face)
            top += 22
            if top > 1010:
                break
        top += 12
    return image


def chart(seed: int) -> Image.Image:
    """Six bars between the same axes."""
    rng, image, face = random.Random(seed), Image.new("RGB", (640, 480), "white"), font(13)
    draw = ImageDraw.Draw(image)
    draw.text((200, 15), " ".join(rng.choices(WORDS, k=3)).title(), fill="black", font=face)
    draw.line((60, 50, 60, 420, 600, 420), fill="black", width=2)
    for tick in range(6):
        draw.line((60, 420 - tick * 70, 600, 420 - tick * 70), fill="#dddddd")
        draw.text((30, 412 - tick * 70), str(tick * 20), fill="black", font=face)
    for bar in range(6):
        draw.rectangle((80 + bar * 86, 420 - rng.randint(20, 350), 136 + bar * 86, 420), fill="#4472c4")
        draw.text((85 + bar * 86, 425), rng.choice(WORDS), fill="black", font=face)
    return image


def drawing(seed: int) -> Image.Image:
    """A few shapes on white."""
    rng, image = random.Random(seed), Image.new("RGB", (500, 400), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(3, 7)):
        left, top, width, height = (rng.randint(*span) for span in ((0, 400), (0, 300), (40, 200), (40, 200)))
        colour = (rng.randint(0, 220), rng.randint(0, 220), rng.randint(0, 220))
        shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
        inside = colour if rng.random() < 0.5 else None
        shape((left, top, left + width, top + height), fill=inside, outline=colour, width=3)
    return image


def photographs(folder: Path) -> list[Image.Image]:
    """The images of a folder, and the quarters of each."""
    found: list[Image.Image] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        image = FilePicture(path).open()
        wide, high = image.width // 2, image.height // 2
        corners = [(left, top) for top in (0, high) for left in (0, wide)]
        found += [image, *(image.crop((left, top, left + wide, top + high)) for left, top in corners)]
    return found


def stored(image: Image.Image, kind: str, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, kind, quality=quality)
    return Image.open(data).convert("RGB")


def scaled(image: Image.Image, by: float) -> Image.Image:
    size = (max(16, round(image.width * by)), max(16, round(image.height * by)))
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image: Image.Image, most: float, rng: random.Random) -> Image.Image:
    """Without up to ``most`` of it at every side."""
    left, top, right, bottom = (rng.random() * most for _ in range(4))
    wide, high = image.size
    return image.crop((round(left * wide), round(top * high), round((1 - right) * wide), round((1 - bottom) * high)))


def one_side(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Without ``share`` of it at one side."""
    cut = [0.0, 0.0, 0.0, 0.0]
    cut[rng.randrange(4)] = share
    wide, high = image.size
    return image.crop(
        (round(cut[0] * wide), round(cut[1] * high), round(wide - cut[2] * wide), round(high - cut[3] * high))
    )


def watermarked(image: Image.Image, rng: random.Random) -> Image.Image:
    below, above = image.convert("RGBA"), Image.new("RGBA", image.size)
    place = (image.width * rng.uniform(0.05, 0.5), image.height * rng.uniform(0.1, 0.8))
    ImageDraw.Draw(above).text(
        place, "© sample", fill=(255, 255, 255, 140), font=font(max(10, image.width // 12), "DejaVuSans-Bold"),
        stroke_width=2, stroke_fill=(0, 0, 0, 140),
    )  # fmt: skip
    return Image.alpha_composite(below, above).convert("RGB")


CHANGES: dict[str, Change] = {
    "as it is": lambda image, rng: image,
    "size x 2": lambda image, rng: scaled(image, 2),
    "size / 2": lambda image, rng: scaled(image, 0.5),
    "size / 4": lambda image, rng: scaled(image, 0.25),
    "224 x 224": lambda image, rng: image.resize((224, 224), Image.Resampling.BICUBIC),
    "JPEG 75": lambda image, rng: stored(image, "JPEG", 75),
    "JPEG 30": lambda image, rng: stored(image, "JPEG", 30),
    "JPEG 10": lambda image, rng: stored(image, "JPEG", 10),
    "WebP 50": lambda image, rng: stored(image, "WEBP", 50),
    "WebP 10": lambda image, rng: stored(image, "WEBP", 10),
    "size / 2, JPEG 50": lambda image, rng: stored(scaled(image, 0.5), "JPEG", 50),
    "gray": lambda image, rng: image.convert("L").convert("RGB"),
    "watermark": watermarked,
    "crop to 2 % a side": lambda image, rng: cropped(image, 0.02, rng),
    "crop to 5 % a side": lambda image, rng: cropped(image, 0.05, rng),
    "10 % of one side": lambda image, rng: one_side(image, 0.1, rng),
}


def measure(held: list[Image.Image], others: list[Image.Image]) -> dict[str, Any]:
    """Percentages of copies found, by change; copies taken for another image; different images taken for copies."""
    with tempfile.TemporaryDirectory() as folder:
        index = ImageIndex(Path(folder))
        held = [image for image in held if index.add(image)]
        found, mistaken = {}, 0
        for name, change in CHANGES.items():
            numbers = [index.find(Thumbnail.of(change(image, random.Random(n)))) for n, image in enumerate(held)]
            found[name] = round(100 * sum(number == n for n, number in enumerate(numbers)) / len(held), 1)
            mistaken += sum(number not in (n, None) for n, number in enumerate(numbers))
        began = time.process_time()
        false = sum(index.holds(image) for image in others)
        seconds = (time.process_time() - began) / len(others)
    counts = {"held": len(held), "different": len(others), "false": false, "mistaken": mistaken}
    return {
        **counts,
        "false %": round(100 * false / len(others), 2),
        "ms an image": round(1e3 * seconds, 1),
        "found %": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "sample_data")
    parser.add_argument("--each", type=int, default=60, help="images held of each nature that is made up")
    parser.add_argument("--different", type=int, default=400, help="images of each that have no copy there")
    given = parser.parse_args()
    photos = photographs(given.photos)
    results = {"photographs": measure(photos[::2], photos[1::2])}
    for name, make in (("drawings", drawing), ("charts", chart), ("pages", page)):
        made = (make(seed) for seed in range(given.each + given.different))
        results[name] = measure(list(islice(made, given.each)), list(made))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
