"""Text on images, in any script: find a font that has the characters, draw names on small plates."""

from __future__ import annotations

import os
import sys
import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LONGEST_NAME = 32  # characters on a plate; longer names end in an ellipsis
_MOST_FONTS = 300

# Families that cover many scripts in a plain upright style, best first; other files are not opened.
_FAMILIES = (
    *(
        "dejavusans",
        "notosans",
        "sourcehansans",
        "wqy",
        "droidsans",
        "unifont",
        "notonaskharabic",
        "freesans",
    ),
    *("symbola", "notoemoji", "arialunicode", "arial", "segoeui", "msyh", "malgun", "meiryo", "hiragino"),
    *("pingfang", "applesdgothic", "lohit", "tlwg", "thonburi"),
)
_OTHER_STYLES = (
    *("bold", "italic", "oblique", "mono", "light", "thin", "black", "medium", "semi", "extra"),
    *("condensed", "narrow", "coloremoji", "serif", "display", "math"),
)


def drawable(name: str, number: int) -> tuple[str, str | None]:
    """Choose what to draw for a label, and the font file for it.

    A character that no font of this machine has cannot be drawn. A name with such characters becomes its number in the
    label map, as "#3", followed by the characters that can be drawn, if any.

    Args:
        name: the label.
        number: its number in the label map.

    Returns:
        The text, and the path of the font file; None for Pillow's own font.
    """
    text = " ".join(name.split())
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1].rstrip() + "…"
    path, missing = _best_font(text)
    if not missing:
        return text, path
    rest = " ".join("".join(c for c in text if c not in missing and not _joins(c)).split())
    return f"#{number} {rest}" if any(c.isalnum() for c in rest) else f"#{number}", path


def fit_line(text: str, size: int, width: int) -> tuple[str, str | None]:
    """Shorten a line of text to a width; "?" stands for a character that no font has.

    Args:
        text: the line.
        size: font size in pixels.
        width: largest width in pixels.

    Returns:
        The text, and the path of the font file; None for Pillow's own font.
    """
    path, missing = _best_font(text)
    line = "".join("?" if c in missing else c for c in " ".join(text.split()))
    font = _font(path, size)
    if font.getlength(line) <= width:
        return line, path
    while line and font.getlength(line + "…") > width:
        line = line[:-1].rstrip()
    return line + "…", path


def line_height(size: int) -> int:
    """Return the height in pixels of one line of text of a font size."""
    return round(size * 1.35)


@lru_cache(maxsize=1024)
def plate(name: str, number: int, color: tuple[int, int, int], size: int) -> np.ndarray:
    """Draw a name on a rounded plate.

    Args:
        name: the label.
        number: its number in the label map.
        color: RGB, 0 to 255, of the plate.
        size: font size in pixels.

    Returns:
        (h,w,4) float32 RGBA, read-only; colours in [0, 255], alpha in [0, 1].
    """
    text, path = drawable(name, number)
    font = _font(path, size)
    ink = (20, 20, 20) if _luminance(color) > 140 else (255, 255, 255)
    left, _, right, _ = font.getbbox(text)
    pad, height = max(4, round(size * 0.45)), round(size * 1.5)
    width = max(height, right - left + 2 * pad)
    fine = 4  # Pillow's shapes have hard edges: draw them larger, then shrink
    shape = Image.new("L", (width * fine, height * fine), 0)
    corners = (0, 0, width * fine - 1, height * fine - 1)
    ImageDraw.Draw(shape).rounded_rectangle(corners, height * fine * 0.3, fill=255)
    alpha = np.asarray(shape.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    face = Image.new("RGB", (width, height), color)
    draw_text(face, (width / 2, height / 2), text, size, ink, path, anchor="mm")
    image = np.dstack([np.asarray(face, np.float32), alpha])
    image.flags.writeable = False
    return image


def draw_text(
    image: Image.Image,
    position: tuple[float, float],
    text: str,
    size: int,
    ink: tuple[int, int, int],
    path: str | None = None,
    anchor: str = "la",
) -> None:
    """Draw one line of text onto a Pillow image.

    Args:
        image: the image.
        position: x and y in pixels.
        text: the line.
        size: font size in pixels.
        ink: RGB, 0 to 255.
        path: font file; None for Pillow's own font.
        anchor: Pillow's anchor, which says what of the text is at `position`.
    """
    ImageDraw.Draw(image).text(position, text, fill=ink, font=_font(path, size), anchor=anchor)


def _luminance(color: tuple[int, int, int]) -> float:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue


@lru_cache(maxsize=64)
def _font(path: str | None, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@lru_cache(maxsize=4096)
def _best_font(text: str) -> tuple[str | None, frozenset[str]]:
    """Find the font with the most of a text's characters, and those that it lacks."""
    best, best_missing = None, _missing(text, None)
    for path in _system_fonts() if best_missing else ():
        missing = _missing(text, path)
        if len(missing) < len(best_missing):
            best, best_missing = path, missing
        if not missing:
            break
    return best, best_missing


def _joins(character: str) -> bool:
    """Tell whether a character only shapes others and has no glyph of its own."""
    return unicodedata.category(character) in ("Cf", "Mn", "Mc", "Me")


def _missing(text: str, path: str | None) -> frozenset[str]:
    visible = {c for c in text if not c.isspace() and not _joins(c)}
    return frozenset(c for c in visible if not _has(c, path))


@lru_cache(maxsize=65536)
def _has(character: str, path: str | None) -> bool:
    """Tell whether a font has a character: one that it lacks is drawn as the font's replacement glyph."""
    try:
        return _image(character, path) not in (_image("\uffff", path), ((0, 0), b""))
    except (OSError, ValueError):
        return False  # a damaged font file, or one of fixed sizes only


def _image(character: str, path: str | None) -> tuple[tuple[int, int], bytes]:
    mask = _sample_font(path).getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=64)
def _sample_font(path: str | None) -> ImageFont.FreeTypeFont:
    """Open a font to look at single glyphs: shaping would put several in the place of one that is missing."""
    return _font(path, 24).font_variant(layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    """List this machine's font files that may have more scripts than Pillow's own, preferred ones first."""
    found = []
    for folder in _font_folders():
        for path, _, names in os.walk(folder):
            for name in names:
                stem, extension = os.path.splitext(name.lower())
                if extension in (".ttf", ".otf", ".ttc"):
                    rank = _rank("".join(c for c in stem if c.isalnum()))
                    if rank is not None:
                        found.append((rank, name, os.path.join(path, name)))
    return tuple(path for _, _, path in sorted(found)[:_MOST_FONTS])


def _rank(stem: str) -> int | None:
    for rank, family in enumerate(_FAMILIES):
        if stem.startswith(family):
            style = stem[len(family) :]
            return None if any(other in style for other in _OTHER_STYLES) else rank
    return None


def _font_folders() -> list[Path]:
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    folders = [Path(data) / "fonts", Path(os.path.expanduser("~/.fonts"))]
    if sys.platform == "darwin":
        folders += [Path("/System/Library/Fonts"), Path("/Library/Fonts")]
    elif sys.platform == "win32":
        folders.append(Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts")
    return [*folders, Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]
