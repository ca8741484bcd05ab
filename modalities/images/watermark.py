r"""An invisible watermark: signs of a picture's frequencies that agree with a key more than chance would have it.

Let c_k be the cosine coefficients of the luma of a picture on the unit square, in a band of low frequencies, and s_k in
{-1, 1} signs drawn from the key. With any bounded odd f the statistic

    z = sum_k s_k f(c_k) / sqrt(sum_k f(c_k)^2),      f(c) = c / sqrt(c^2 + tau^2),   tau the median of |c|,

has mean 0 and variance 1 over the draw of the key, whatever the picture, and by Hoeffding's inequality

    P(z >= y) <= exp(-y^2 / 2),

so that the rate of false alarms is bounded for every kind of picture, without a model of pictures. f is nearly a sign:
a few large coefficients (edges) say no more than the many small ones.

Embedding knows the picture (Miller, Cox & Bloom 2000, informed embedding): of the coefficients with the wrong sign
those nearest to zero are moved across, by so much as to survive what it tries on the way, JPEG at quality 75 and a
resize to three quarters, until z is high after each or the picture would lose more than PSNR allows. Frequencies count
half periods over a side, not over a pixel, so a resized picture keeps its mark. A crop loses it.

It tells whether a picture carries this key; it hides no message, and whoever knows the key can take it out.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from scipy.fft import dct

from framework.errors import DataError, UserError

BANDS = (12, 24, 48)  # half periods over a side; the widest that fits into a picture is used
FITS = 0.75  # of a picture's pixels a side
LOWEST = 3  # sums of frequencies below say what the picture shows at large
ENOUGH = 5.5  # z that is aimed at: a false alarm in 4e6
LEAST_PSNR = 32.0  # dB
MARGINS = (1.5, 3.0, 5.0, 8.0, 12.0, 17.0, 24.0)  # how far a coefficient is moved beyond zero, in grey levels
LUMA = np.array([0.299, 0.587, 0.114])

Picture = UInt8[np.ndarray, "c h w"]


def embed(image: Picture, text: str) -> Picture:
    """The picture with the watermark of which `text` is the key; PSNR is at least 32 dB.

    Raises:
        UserError: the key is empty, or the picture has less than 16 pixels a side.
    """
    band = _band(image.shape)
    signs = _signs(text, band)
    best, best_z = image, -math.inf
    for margin in MARGINS:
        tried = _towards(image, signs, band, margin)
        if tried is None:
            break
        z = min(_statistic(change(tried), signs, band) for change in CHANGES)
        if z > best_z:
            best, best_z = tried, z
        if z >= ENOUGH:
            break
    return best


def detect(image: Picture, text: str) -> float:
    """The bound on the probability that the picture looks so much like one with this key though it has none."""
    tried = [band for band in BANDS if band <= FITS * min(image.shape[1:])]
    if not tried:
        raise UserError(f"a picture of {image.shape[2]}x{image.shape[1]} pixels is too small for a watermark")
    z = max(_statistic(image, _signs(text, band), band) for band in tried)
    # Of a picture that was enlarged nobody knows the first size, so that all bands are tried.
    return min(1.0, len(tried) * math.exp(-(z**2) / 2)) if z > 0 else 1.0


def detect_in(path: Path, text: str) -> float | None:
    """Likewise for a file; None if it is no picture.

    Raises:
        DataError: it is a broken one.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except UnidentifiedImageError:
        return None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return detect(pixels, text)


def jpeg(image: Picture, quality: int = 75) -> Picture:
    """The picture after JPEG."""
    buffer = io.BytesIO()
    _pillow(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as again:
        return _array(again, image.shape[0])


def resized(image: Picture, share: float) -> Picture:
    """The picture at `share` of its size and back."""
    size = (image.shape[2], image.shape[1])
    small = _pillow(image).resize([max(1, round(side * share)) for side in size], Image.Resampling.BICUBIC)
    return _array(small.resize(size, Image.Resampling.BICUBIC), image.shape[0])


CHANGES: tuple[Callable[[Picture], Picture], ...] = (lambda x: x, jpeg, lambda x: resized(x, 0.75))


def _towards(image: Picture, signs: Float[np.ndarray, " n"], band: int, margin: float) -> Picture | None:
    """The picture with as many coefficients moved to the key's side by `margin` as bring z to a third beyond ENOUGH, or
    as the least PSNR allows; None if that is none.
    """
    luma = _luma(image)
    height, width = luma.shape
    rows, columns, at = _basis(height, band), _basis(width, band), _frequencies(band)
    wanted = min(1.0, 0.5 + 0.5 * 1.33 * ENOUGH / math.sqrt(len(signs)))
    goal = luma
    for _ in range(8):  # rounding and the ends of the scale undo some of it
        c = (rows @ goal @ columns.T)[at]
        short = np.maximum(margin - signs * c, 0)
        cheapest = np.argsort(short)[: math.ceil(wanted * len(signs))]
        if not short[cheapest].any():
            break
        step = np.zeros((band, band))
        move = np.zeros(len(signs))
        move[cheapest] = (signs * short)[cheapest]
        step[at] = move
        goal = goal + rows.T @ step @ columns
        marked = _with_luma(image, goal - luma)
        goal = _luma(marked)
    marked = _with_luma(image, goal - luma)
    error = float(((marked.astype(float) - image) ** 2).mean())
    most = 255**2 / 10 ** (LEAST_PSNR / 10)
    if error > most:  # as strong as is allowed
        marked = _with_luma(image, (goal - luma) * math.sqrt(most / error) * 0.96)
    return marked


def _statistic(image: Picture, signs: Float[np.ndarray, " n"], band: int) -> float:
    """z of the module's docstring."""
    luma = _luma(image)
    c = (_basis(luma.shape[0], band) @ luma @ _basis(luma.shape[1], band).T)[_frequencies(band)]
    tau = float(np.median(abs(c)))
    f = c / np.sqrt(c**2 + max(tau, 1e-6) ** 2)
    length = math.sqrt(float((f**2).sum()))
    return float((signs * f).sum() / length) if length > 0 else 0.0


@lru_cache(maxsize=64)
def _basis(side: int, band: int) -> Float[np.ndarray, "band side"]:
    """The first rows of the orthonormal cosine transform of that many pixels."""
    return np.asarray(dct(np.eye(side), axis=0, norm="ortho"))[:band]


def _frequencies(band: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of the coefficients that carry the mark."""
    u, v = np.divmod(np.arange(band * band), band)
    chosen = u + v >= LOWEST
    return u[chosen], v[chosen]


@lru_cache(maxsize=64)
def _signs(text: str, band: int) -> Float[np.ndarray, " n"]:
    """The key's signs: bits of BLAKE2b in counter mode."""
    if not text:
        raise UserError("a watermark needs a text, which is its key")
    count = len(_frequencies(band)[0])
    blocks = -(-count // 512)
    stream = b"".join(
        hashlib.blake2b(f"{band}/{block}".encode(), key=hashlib.sha512(text.encode()).digest()).digest()
        for block in range(blocks)
    )
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[:count]
    return 2.0 * bits - 1.0


def _band(shape: tuple[int, ...]) -> int:
    fits = [band for band in BANDS if band <= FITS * min(shape[1:])]
    if not fits:
        raise UserError(f"pictures of {shape[2]}x{shape[1]} pixels are too small for a watermark: 16 a side at least")
    return fits[-1]


def _luma(image: Picture) -> Float[np.ndarray, "h w"]:
    return image[0].astype(float) if len(image) == 1 else np.tensordot(LUMA, image.astype(float), axes=1)


def _with_luma(image: Picture, change: Float[np.ndarray, "h w"]) -> Picture:
    """The picture with its luma changed, its colours as they are, where the scale allows."""
    return np.clip(np.rint(image + change), 0, 255).astype(np.uint8)


def _pillow(image: Picture) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def _array(picture: Image.Image, channels: int) -> Picture:
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
