"""Images in every encoding, with the RGB that they stand for."""

import array
from types import SimpleNamespace

import numpy as np

HEIGHT, WIDTH = 12, 18
RNG = np.random.default_rng(3)
RGB8 = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
RGB16 = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
GRAY16 = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
ALPHA8 = RNG.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
ALPHA16 = RNG.integers(0, 65536, (HEIGHT, WIDTH, 1), np.uint16)
YUV = RNG.integers((16, 60, 60), (236, 200, 200), (HEIGHT, WIDTH, 3))
YUV[:, 1::2, 1:] = YUV[:, 0::2, 1:]  # two pixels of a row share their colour
YUV420 = YUV.copy()
YUV420[1::2, :, 1:] = YUV420[0::2, :, 1:]
BAYER = {"rggb": ("rg", "gb"), "bggr": ("bg", "gr"), "gbrg": ("gb", "rg"), "grbg": ("gr", "bg")}
FLAT = {"r": 200, "g": 90, "b": 20}


def eight_bits(samples):
    """Scale 16-bit samples to 8 bits in exact integer arithmetic: round(v / 257)."""
    return ((samples.astype(np.int64) + 128) // 257).astype(np.uint8)


def bt601(yuv):
    """Convert video-range YUV to RGB by the formula of ITU-R BT.601."""
    y, u, v = np.moveaxis(yuv.astype(float), -1, 0)
    y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 112, (v - 128) * 255 / 112
    red, blue = y + 0.701 * v, y + 0.886 * u
    green = y - 0.886 * 0.114 / 0.587 * u - 0.701 * 0.299 / 0.587 * v
    return np.clip(np.stack([red, green, blue], -1), 0, 255)


def gray(samples):
    return np.repeat(samples[..., None], 3, axis=-1)


def mosaic(order, scale, dtype):
    """Lay a flat colour out as a sensor sees it through the 2x2 pattern of colour filters."""
    tile = np.array([[FLAT[color] * scale for color in row] for row in BAYER[order]], dtype)
    return np.tile(tile, (HEIGHT // 2, WIDTH // 2))


def semi_planar(first, second):
    """Stack a luma plane on one of alternating chroma samples at half height and half width."""
    chroma = np.stack([YUV420[::2, ::2, first], YUV420[::2, ::2, second]], -1).reshape(HEIGHT // 2, WIDTH)
    return np.concatenate([YUV420[:, :, 0], chroma]).astype(np.uint8)


def packed_422(luma_at):
    samples = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    samples[..., luma_at] = YUV[..., 0]
    samples[:, 0::2, 1 - luma_at], samples[:, 1::2, 1 - luma_at] = YUV[:, 0::2, 1], YUV[:, 0::2, 2]
    return samples


CASES = {
    "rgb8": (RGB8, RGB8),
    "bgr8": (RGB8[..., ::-1], RGB8),
    "8UC3": (RGB8[..., ::-1], RGB8),
    "rgba8": (np.concatenate([RGB8, ALPHA8], -1), RGB8),
    "bgra8": (np.concatenate([RGB8[..., ::-1], ALPHA8], -1), RGB8),
    "8UC4": (np.concatenate([RGB8[..., ::-1], ALPHA8], -1), RGB8),
    "mono8": (RGB8[..., 0], gray(RGB8[..., 0])),
    "8UC1": (RGB8[..., 0], gray(RGB8[..., 0])),
    "mono16": (GRAY16, gray(eight_bits(GRAY16))),
    "16UC1": (GRAY16, gray(eight_bits(GRAY16))),
    "rgb16": (RGB16, eight_bits(RGB16)),
    "bgr16": (RGB16[..., ::-1], eight_bits(RGB16)),
    "rgba16": (np.concatenate([RGB16, ALPHA16], -1), eight_bits(RGB16)),
    "bgra16": (np.concatenate([RGB16[..., ::-1], ALPHA16], -1), eight_bits(RGB16)),
    "yuv422": (packed_422(luma_at=1), bt601(YUV)),
    "uyvy": (packed_422(luma_at=1), bt601(YUV)),
    "yuv422_yuy2": (packed_422(luma_at=0), bt601(YUV)),
    "yuyv": (packed_422(luma_at=0), bt601(YUV)),
    "nv12": (semi_planar(1, 2), bt601(YUV420)),
    "nv21": (semi_planar(2, 1), bt601(YUV420)),
}
for _order in BAYER:
    _flat = np.tile(np.array([FLAT[color] for color in "rgb"], np.uint8), (HEIGHT, WIDTH, 1))
    CASES[f"bayer_{_order}8"] = (mosaic(_order, 1, np.uint8), _flat)
    CASES[f"bayer_{_order}16"] = (mosaic(_order, 257, np.uint16), _flat)

WIDE = [name for name, (samples, _) in CASES.items() if samples.dtype == np.uint16]


def message_of(samples, encoding, padding=0, big_endian=False):
    """Write samples as a driver would: row after row, with garbage in the padding."""
    rows = samples.astype(samples.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(samples), -1)
    garbage = RNG.integers(0, 256, (len(rows), padding), np.uint8)
    data = array.array("B", np.concatenate([rows, garbage], 1).tobytes())
    step = rows.shape[1] + padding
    return SimpleNamespace(
        height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=int(big_endian), step=step, data=data
    )
