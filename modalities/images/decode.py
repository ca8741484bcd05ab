"""Encoded images (PNG, JPEG, ...) to square RGB pixels: upright, centre-cropped, resized with anti-aliasing.

Decoding is strict: a file that ends early or is no image raises DataError with the reason, never a picture
that is half grey.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from framework.data.bad_items import DataError

SMOOTH, BOX = Image.Resampling.LANCZOS, Image.Resampling.BOX


def decode(encoded: bytes, size: int, resampling: Image.Resampling = SMOOTH) -> UInt8[np.ndarray, "3 size size"]:
    """The centre square of an encoded image at `size` pixels; DataError says why it cannot be read."""
    if not encoded:
        raise DataError("empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow warns of images that may exhaust memory, and refuses those of twice that size.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:
                image.load()
                pixels = np.asarray(ImageOps.fit(_rgb(ImageOps.exif_transpose(image)), (size, size), resampling))
    except UnidentifiedImageError:
        raise DataError("not an image in a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"too large: {error}") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
    ) as error:
        # Broken files make Pillow's parsers raise all of these.
        raise DataError(f"broken image: {error}") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    """Colours as seen on a screen: transparency over white, 16-bit grey scaled to 8."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
