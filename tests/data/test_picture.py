"""Good images come out as upright RGB; each kind of bad one is refused with one clear line."""

from __future__ import annotations

import contextlib
import copy
import io
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from ommatidia.core.errors import DataError
from ommatidia.core.picture import BytesPicture, Decoded, DrawnPicture, FilePicture


def noise(rows: int = 40, columns: int = 60, channels: int = 3) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (rows, columns, channels), dtype=np.uint8)


def smooth(rows: int = 96, columns: int = 128) -> Image.Image:
    """Something a JPEG keeps well."""
    return Image.fromarray(noise(6, 8)).resize((columns, rows), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        BytesPicture(data, name="photo.x").open()
    text = str(caught.value)
    assert "photo.x" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 40}])
def test_jpeg_has_the_pixels_that_pillow_decodes(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(smooth(), "JPEG", **options))
    image = FilePicture(path).open()
    assert image.mode == "RGB"
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(np.asarray(image).astype(int) - expected).max() <= 2  # libjpeg versions round differently


def test_gray_jpeg_becomes_three_equal_channels() -> None:
    image = BytesPicture(encoded(smooth().convert("L"), "JPEG")).open()
    pixels = np.asarray(image)
    assert image.mode == "RGB"
    assert (pixels == pixels[..., :1]).all()


def test_png_modes_become_rgb() -> None:
    rgb = Image.fromarray(noise())
    assert (np.asarray(BytesPicture(encoded(rgb, "PNG")).open()) == noise()).all()
    gray = rgb.convert("L")
    expected = np.repeat(np.asarray(gray)[..., None], 3, 2)
    assert (np.asarray(BytesPicture(encoded(gray, "PNG")).open()) == expected).all()
    palette = rgb.quantize(16)
    assert (np.asarray(BytesPicture(encoded(palette, "PNG")).open()) == np.asarray(palette.convert("RGB"))).all()
    two = rgb.convert("1")
    assert set(np.unique(np.asarray(BytesPicture(encoded(two, "PNG")).open()))) <= {0, 255}


def test_alpha_is_dropped_not_blended() -> None:
    rgba = np.concatenate([noise(), np.zeros((40, 60, 1), np.uint8)], axis=2)
    assert (np.asarray(BytesPicture(encoded(Image.fromarray(rgba, "RGBA"), "PNG")).open()) == noise()).all()
    gray_alpha = Image.merge("LA", (Image.fromarray(noise()[..., 0]), Image.new("L", (60, 40), 0)))
    assert (np.asarray(BytesPicture(encoded(gray_alpha, "PNG")).open())[..., 1] == noise()[..., 0]).all()


def test_sixteen_bits_keep_the_upper_eight() -> None:
    values = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) * 27
    pixels = np.asarray(BytesPicture(encoded(Image.fromarray(values), "PNG")).open())
    assert (pixels[..., 0] == values >> 8).all()
    assert (pixels[..., 2] == values >> 8).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_orientation_is_applied_once_in_every_format(form: str, turned: int) -> None:
    image = smooth(32, 80)
    exif = Image.Exif()
    exif[0x0112] = turned
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    found = BytesPicture(encoded(image, form, exif=exif, **options))
    how = (None, None, 0, 3, 1, 5, 4, 6, 2)[turned]  # by Pillow's numbers of Transpose
    expected = image if how is None else image.transpose(Image.Transpose(how))
    assert found.open().size == expected.size == found.size()[::-1]
    assert np.abs(np.asarray(found.open()).astype(int) - np.asarray(expected).astype(int)).mean() < 8


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("place", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("length", [200, 2000])
def test_a_hole_is_refused(form: str, place: float, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = photo(form)
    at = int(len(data) * place)
    damaged = data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]
    assert len(damaged) == len(data)
    assert "broken or truncated" in refusal(damaged)
    assert "broken or truncated" in refusal(data[:at])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF deflated", "TIFF JPEG"])
@pytest.mark.parametrize("length", [16, 64, 512])
def test_zeroed_bytes_are_always_found(form: str, length: int) -> None:
    data = photo(form)
    for place in np.random.default_rng(length).uniform(0.3, 0.7, 20):
        at = int(len(data) * place)
        assert "broken or truncated" in refusal(data[:at] + bytes(length) + data[at + length :])


@pytest.mark.parametrize("form", ["PNG", "TIFF deflated"])
def test_one_changed_bit_is_found_where_there_are_checksums(form: str) -> None:
    data = photo(form)
    for at in np.random.default_rng(0).integers(int(len(data) * 0.3), int(len(data) * 0.7), 20):
        assert "broken or truncated" in refusal(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


@pytest.mark.parametrize("colour", ["white", "black", "red"])
@pytest.mark.parametrize("options", [{"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 8}])
def test_plain_images_are_not_taken_for_zeroed_ones(colour: str, options: dict[str, object]) -> None:
    data = encoded(Image.new("RGB", (512, 512), colour), "JPEG", **options)
    assert BytesPicture(data).open().size == (512, 512)
    if "optimize" in options:
        assert bytes(500) in data


def test_stray_bytes_in_a_header_do_not_hide_damage_behind_it() -> None:
    data = photo("JPEG")
    header = data.index(b"\xff\xdb")  # libjpeg tells of the stray bytes there, and of nothing behind them
    stray = data[:header] + bytes(4) + data[header:]
    expected = np.asarray(BytesPicture(data).open())
    assert (np.asarray(BytesPicture(stray).open()) == expected).all()
    middle = len(stray) // 2
    assert "broken or truncated" in refusal(stray[:middle] + stray[-2:])


@pytest.mark.parametrize("spare", [b"\x12\x34" * 6, b"\x00\x01\x02" * 5])
def test_pixels_that_are_left_over_are_damage(spare: bytes) -> None:
    data = photo("JPEG")
    assert "extraneous bytes before marker 0xd9" in refusal(data[:-2] + spare + data[-2:])


def photo(form: str) -> bytes:
    """Smooth colours and grain, as photographs have them."""
    grain = np.random.default_rng(0).integers(0, 30, (192, 192, 3))
    image = Image.fromarray((np.asarray(smooth(192, 192)) // 2 + grain).astype(np.uint8))
    form, _, compression = form.partition(" ")
    options = {"compression": {"deflated": "tiff_adobe_deflate", "JPEG": "jpeg"}[compression]} if compression else {}
    return encoded(image, form, **options)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of tags that it skips
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF deflated", "TIFF JPEG", "TIFF"])
@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(st.floats(0, 1), st.integers(0, 255), max_size=6), header=st.booleans())
def test_any_bytes_are_an_image_or_refused(form: str, changes: dict[float, int], header: bool) -> None:
    data = bytearray(small(form))
    for place, value in changes.items():
        data[int(place * (min(len(data), 300) if header else len(data) - 1))] = value
    picture = BytesPicture(bytes(data))
    for act in (picture.size, picture.open):
        with contextlib.suppress(DataError):
            act()


def test_a_tiff_whose_offsets_are_text_is_refused() -> None:
    data = small("TIFF")
    offsets = struct.pack("<HHI", 273, 4, 1)
    assert offsets in data
    assert "broken or truncated" in refusal(data.replace(offsets, struct.pack("<HHI", 273, 2, 1)))


def test_zeros_up_to_the_end_are_a_hole_or_padding() -> None:
    data = photo("JPEG")
    assert BytesPicture(data[:-2] + bytes(400) + data[-2:]).open().size == (192, 192)
    assert "broken or truncated" in refusal(data[:-402] + bytes(400) + data[-2:])


@cache
def small(form: str) -> bytes:
    form, _, compression = form.partition(" ")
    options = {"compression": {"deflated": "tiff_adobe_deflate", "JPEG": "jpeg"}[compression]} if compression else {}
    return encoded(smooth(48, 64), form, **options)


def test_padding_before_the_end_is_no_damage() -> None:
    data = encoded(smooth(), "JPEG")
    padded = data[:-2] + bytes(40) + data[-2:]
    found, expected = BytesPicture(padded).open(), BytesPicture(data).open()
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(form: str) -> None:
    image = smooth(20, 80)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: what the camera stored as a row is a column
    data = encoded(image, form, exif=exif)
    upright = BytesPicture(data).open()
    assert upright.size == (20, 80)
    expected = Image.open(io.BytesIO(data)).convert("RGB").transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize(("at_least", "factor"), [(1, 8), (60, 8), (61, 4), (121, 2), (240, 2), (241, 1), (9000, 1)])
@pytest.mark.parametrize("turned", [1, 6])
def test_reduced_decoding_keeps_its_promise(tmp_path: Path, at_least: int, factor: int, turned: int) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = turned
    path.write_bytes(encoded(smooth(479, 641), "JPEG", exif=exif))
    whole, reduced = FilePicture(path), FilePicture(path, at_least=at_least)
    size = -(-479 // factor), -(-641 // factor)
    assert reduced.size() == (size if turned == 1 else size[::-1])
    assert reduced.open().size == reduced.size()[::-1]
    assert whole.open().size == whole.size()[::-1]
    assert whole.digest != reduced.digest


def test_a_jpeg_that_pillow_must_judge_is_reduced_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise ValueError("bytes between markers")

    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(smooth(479, 641), "JPEG"))
    picture = FilePicture(path, at_least=100)
    expected = picture.open()
    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    found = picture.open()
    assert found.size == expected.size
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int)).max() <= 2


def test_what_a_decoder_left_is_a_picture_like_any_other() -> None:
    data = encoded(smooth(), "JPEG")
    expected = np.asarray(BytesPicture(data).open())
    held = BytesPicture(data).open()
    assert isinstance(held, Decoded)
    assert held.pixels is not None
    assert (held.pixels[..., :3] == expected).all()
    for act in (Image.Image.copy, lambda image: image.crop((0, 0, *image.size)), lambda image: image.convert("RGB")):
        assert (np.asarray(act(BytesPicture(data).open())) == expected).all()
    held.paste((1, 2, 3), (0, 0, 4, 4))
    assert held.pixels is None  # the decoder's bytes no longer tell what the image shows
    assert (np.asarray(held)[:4, :4] == (1, 2, 3)).all()
    assert (np.asarray(held)[4:] == expected[4:]).all()
    again = copy.deepcopy(BytesPicture(data).open())
    assert (np.asarray(again) == expected).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    picture = FilePicture(tmp_path / "gone.jpg")
    for act in (picture.open, lambda: picture.digest):
        with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
            act()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_truncated(form: str) -> None:
    data = encoded(Image.fromarray(noise(200, 200)), form)
    assert "expected a complete" in refusal(data[: len(data) // 2])


def test_truncated_in_the_header() -> None:
    assert "expected" in refusal(encoded(smooth(), "JPEG")[:20])


def test_not_an_image() -> None:
    assert "not an image; expected JPEG, PNG" in refusal(b"<html>404</html>" * 10)
    assert "an empty file; expected JPEG" in refusal(b"")


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_one_pixel_sides(size: tuple[int, int]) -> None:
    for form in ("PNG", "JPEG"):
        assert f"{size[0]} x {size[1]} pixels; expected at least 2 x 2" in refusal(
            encoded(Image.new("RGB", size), form)
        )
    BytesPicture(encoded(Image.new("RGB", (2, 2)), "PNG")).open()


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form: str) -> None:
    text = refusal(encoded(Image.new("CMYK", (8, 8)), form))
    assert "CMYK" in text
    assert 'convert("RGB")' in text


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated(form: str) -> None:
    frames = [Image.fromarray(noise()), Image.fromarray(255 - noise()), Image.new("RGB", (60, 40), "red")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert "3 frames; expected a single image" in refusal(data)


def test_one_frame_of_an_animated_format_is_a_picture() -> None:
    assert BytesPicture(encoded(Image.fromarray(noise()), "GIF")).open().size == (60, 40)


def test_float_pixels() -> None:
    assert "8 or 16 bits" in refusal(encoded(Image.new("F", (4, 4)), "TIFF"))


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    said = refusal(encoded(Image.new("RGB", (100, 100)), "PNG"))
    assert "too large an image" in said
    assert "broken" not in said


def test_digests_follow_content(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise()), "PNG")
    path, copy = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(data)
    copy.write_bytes(data)
    first = FilePicture(path).digest
    assert first == FilePicture(copy).digest == BytesPicture(data).digest
    path.write_bytes(encoded(Image.fromarray(255 - noise()), "PNG", compress_level=0))
    assert FilePicture(path).digest != first


def test_drawn_pictures_are_drawn_when_opened() -> None:
    drawn: list[int] = []

    def draw() -> Image.Image:
        drawn.append(1)
        return Image.new("RGB", (4, 4))

    picture = DrawnPicture("d" * 64, draw, (4, 4))
    assert picture.digest == "d" * 64
    assert not drawn
    assert picture.open().size == (4, 4)
    assert drawn


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n0 0 20 20 rectfill\nshowpage\n%%EOF\n"


def test_no_image_starts_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")  # as where Ghostscript is installed
    monkeypatch.setattr("subprocess.Popen", lambda *args, **options: pytest.fail(f"started {args}"))
    with Image.open(io.BytesIO(EPS)) as image:
        assert image.format == "EPS"  # Pillow itself knows it, and would load it through Ghostscript
    assert "not an image; expected JPEG, PNG" in refusal(EPS)
    with pytest.raises(DataError, match="not an image; expected JPEG, PNG"):
        BytesPicture(EPS).size()


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000"])
def test_only_the_listed_formats_are_opened(form: str) -> None:
    assert "not an image; expected JPEG, PNG" in refusal(encoded(smooth(64, 64), form))
