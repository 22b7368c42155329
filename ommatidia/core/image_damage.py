"""Whether the bytes of an image were cut, zeroed or overwritten, as far as its format lets anybody know.

Decoders go on over most damage and fill something in. PNG and deflated TIFF have checksums, so every change is found.
JPEG, GIF and LZW have none, but few overwritten streams still end where they should. Lossy WebP takes any bytes, and
uncompressed pixels are what they are. The share that is found: docs/data.md and benchmarks/damaged_images.py.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import simplejpeg
from PIL import Image

_ERROR = re.compile("premature end|bad huffman|bad arithmetic|instead of rst|inconsistent progression", re.IGNORECASE)
_SKIPPED = re.compile("([0-9]+) extraneous bytes before marker 0x([0-9a-f]+)")
_FEW = 16
"""Bytes between two parts of a JPEG's header that some cameras leave there."""
_ZEROED = bytes(16)
_HELD = 8
"""Bytes that libjpeg reads ahead."""
_START_OF_SCAN, _HUFFMAN_TABLES, _END = 0xDA, 0xC4, 0xD9
_RESTARTS = range(0xD0, 0xD8)
_PARTS_BEHIND_PIXELS = (*_RESTARTS, _START_OF_SCAN, _HUFFMAN_TABLES)
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""Neither a stuffed byte of a scan nor one of its restarts."""
_COMPRESSION, _DEFLATED, _JPEG, _JPEG_TABLES = 259, (8, 32946), 7, 347
_STRIPS, _TILES = (273, 279), (324, 325)
"""Tags of a TIFF; of its strips and tiles, where they are and how long."""
_LARGEST_TILE = 1024
"""Pixels a side that a tile usually has at most; it may stand out of the image."""
_AT_ONCE = 2**20
"""Bytes."""


def check_bytes(data: bytes, image: Image.Image) -> None:
    """Raise ValueError, saying what is wrong, where the file behind an opened image is damaged and its format shows it.

    Of a JPEG this looks for zeroed bytes only; the rest its decoder says, see ``is_damage``.
    """
    if image.format == "PNG":
        _check_png(data)
    elif image.format == "TIFF":
        _check_tiff(data, image)
    elif image.format in ("JPEG", "MPO") and _ZEROED in data:
        _check_scans(data)


def is_damage(warning: str, data: bytes) -> bool:
    """Whether a warning of libjpeg about this JPEG means that pixels are wrong; Pillow and others hide it and go on."""
    if _ERROR.search(warning):
        return True
    skipped = _SKIPPED.search(warning)
    if skipped is None:
        return False
    count, marker = int(skipped[1]), int(skipped[2], 16)
    parts = list(_parts(data))
    if marker == _END:  # padding before the end is harmless: one byte again and again
        end = next((begin - 2 for kind, begin, _ in parts if kind == _END), len(data))
        return len(set(data[end - count : end])) > 1
    scans = sum(kind == _START_OF_SCAN for kind, _, _ in parts)
    return count > _FEW or marker in _RESTARTS or (scans > 1 and marker in _PARTS_BEHIND_PIXELS)


def without_stray_bytes(data: bytes) -> bytes:
    """A JPEG without what stands between its parts and belongs to none: libjpeg tells of that, and of nothing later."""
    kept = [data[:2]]
    for kind, begin, end in _parts(data):
        if kind == _END:
            break
        kept.append(data[begin - 2 : end])
        if kind == _START_OF_SCAN:
            return b"".join([*kept, data[end:]])
    return data


def _parts(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of each part of a JPEG; what a scan's header is followed by is in none of them."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        begin = found.end()
        length = int.from_bytes(data[begin : begin + 2], "big") if found[1][0] != _END else 0
        at = begin + length
        yield found[1][0], begin, at
        if found[1][0] == _END:
            return


def _check_scans(data: bytes) -> None:
    """Raise ValueError for a JPEG with zeroed pixels.

    The first symbol of a Huffman table has the code of zeros only. Where it is a coefficient, zeros in a row are blocks
    of coefficients that are all alike, which no image has; where it ends a block, they are a plain surface.
    """
    first_symbols: dict[int, int] = {}
    for (kind, begin, end), (_, next_begin, _) in pairwise([*_parts(data), (_END, len(data) + 2, 0)]):
        part = data[begin + 2 : end]
        if kind == _HUFFMAN_TABLES:
            first_symbols.update(_first_symbols(part))
        if kind != _START_OF_SCAN or len(part) < 4:
            continue
        pixels = data[end : next_begin - 2]
        if pixels.endswith(_ZEROED) and (spare := _padding(data)):
            pixels = pixels[: -spare - _HELD]
        tables = [16 | part[2 + 2 * component] & 15 for component in range(part[0])]
        last, refines = part[-2], part[-1] >> 4
        coefficient = any(first_symbols.get(table, 0) & 15 for table in tables)
        if last > 0 and not refines and coefficient and _ZEROED in pixels:
            raise ValueError(f"{len(_ZEROED)} or more zeroed bytes in the pixels")


def _padding(data: bytes) -> int:
    """Bytes before the end of a JPEG that its decoder does not need."""
    try:
        simplejpeg.decode_jpeg(data, "GRAY")
    except ValueError as error:
        found = _SKIPPED.search(str(error))
        return int(found[1]) if found is not None and int(found[2], 16) == _END else 0
    return 0


def _first_symbols(tables: bytes) -> dict[int, int]:
    """The first symbol of each Huffman table in one part of a JPEG, by class and number."""
    symbols, at = {}, 0
    while at + 17 < len(tables):
        symbols[tables[at]] = tables[at + 17]
        at += 17 + sum(tables[at + 1 : at + 17])
    return symbols


def _check_png(data: bytes) -> None:
    """Pillow looks at few of the checksums."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(f"wrong checksum of the part at byte {at}")
        if kind == b"IEND":
            return
        at = end + 4
    raise ValueError("no end of the file")


def _check_tiff(data: bytes, image: Any) -> None:
    """Raise ValueError for strips or tiles that are damaged: libtiff stops reading before their checksum."""
    tags = image.tag_v2
    where, lengths = next((pair for pair in (_STRIPS, _TILES) if pair[0] in tags and pair[1] in tags), (0, 0))
    compression = tags.get(_COMPRESSION)
    if not where or compression not in (*_DEFLATED, _JPEG):
        return
    most = 8 * (image.width + _LARGEST_TILE) * (image.height + _LARGEST_TILE)
    for number, (begin, length) in enumerate(zip(tags[where], tags[lengths], strict=False), 1):
        piece = data[int(begin) : int(begin) + int(length)]
        fault = _jpeg_fault(piece, tags.get(_JPEG_TABLES)) if compression == _JPEG else _deflate_fault(piece, most)
        if fault is not None:
            raise ValueError(f"strip or tile {number}: {fault}")


def _jpeg_fault(piece: bytes, tables: bytes | None) -> str | None:
    if tables:
        piece = bytes(tables)[:-2] + piece[2:]
    try:
        _check_scans(piece)
        simplejpeg.decode_jpeg(piece, "GRAY")
    except ValueError as error:
        if is_damage(str(error), piece) or _SKIPPED.search(str(error)) is None:
            return str(error)
    return None


def _deflate_fault(piece: bytes, most: int) -> str | None:
    """What is wrong with a compressed strip that may hold so many bytes; read bit by bit, for it may be a bomb."""
    stream, read = zlib.decompressobj(), 0
    try:
        while piece and not stream.eof and read <= most:
            read += len(stream.decompress(piece, _AT_ONCE))
            piece = stream.unconsumed_tail
    except zlib.error as error:
        return str(error)
    return None if stream.eof else "premature end" if read <= most else "more pixels than the image has"
