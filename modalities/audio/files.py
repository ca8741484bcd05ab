"""Sound files to samples and back: WAV, FLAC, OGG and MP3, through libsndfile (soundfile).

Reading is strict: a file that is empty, cut off, no sound, or of an impossible rate raises DataError with the reason.
libsndfile itself returns what is left of a cut WAV, AIFF or OGG without a word, so their declared lengths are checked
here. Writing never clips: a clip that goes beyond 1 is scaled down as a whole, and the file says by how much.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float32
from scipy.signal import resample_poly
from torch import Tensor
from torchaudio.transforms import Resample

from framework.errors import DataError, UserError
from framework.files import write_atomically

SUFFIXES = frozenset([".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"])
RATES = (1_000, 384_000)  # Hz; a header that says otherwise is broken
ENCODINGS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
TAGS = ("title", "artist", "album", "date", "genre", "copyright", "license")
KERNEL_LIMIT = 2**22  # weights; torchaudio keeps a filter for every pair of phases, which co-prime rates make huge


def read_audio(source: str | Path | bytes, rate: int) -> Float32[Tensor, " t"]:
    """The samples of a sound file at `rate` Hz, the mean of its channels.

    `source` is a path or the bytes of a file. A float file may go beyond [-1, 1].

    Raises:
        DataError: it cannot be read, or not to its end; the message is the reason, without the file's name.
    """
    samples, own_rate = _read(source)
    mono = torch.from_numpy(samples.mean(axis=1))
    if not len(mono):
        raise DataError("empty (0 samples)")
    if not torch.isfinite(mono).all():
        raise DataError("holds samples that are not finite")
    return resample(mono, own_rate, rate)


def resample(samples: Float32[Tensor, " t"], old: int, new: int) -> Float32[Tensor, " s"]:
    """Samples at `old` Hz as ceil(T new / old) samples at `new` Hz, band-limited by a windowed sinc."""
    if old == new:
        return samples
    common = math.gcd(old, new)
    if old // common * (new // common) <= KERNEL_LIMIT:
        return _resampler(old // common, new // common)(samples)
    filtered: np.ndarray = resample_poly(samples.double().numpy(), new // common, old // common)
    return torch.from_numpy(filtered).float()


@lru_cache(maxsize=32)
def _resampler(old: int, new: int) -> Resample:
    return Resample(old, new)


def write_audio(
    path: str | Path, samples: Float32[Tensor, " t"], rate: int, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a clip as 16-bit WAV, 24-bit FLAC or OGG Vorbis, as the suffix says, atomically; returns the path.

    A clip whose peak is beyond 1 is scaled down to 1 as a whole, and so is one that OGG would bring beyond 1 when it is
    decoded; the gain is then in the file's metadata as `gain_db`. The metadata is the tag `comment` as JSON, and what
    of it is named as in TAGS is a tag of its own. `read_metadata` reads it back; it cannot where a WAV's JSON is
    longer than 2 kB, but the file holds it.

    Raises:
        UserError: another suffix, or a rate that the format does not know.
        ValueError: the samples are not one clip (T,) of finite numbers, T > 0.
    """
    path = Path(path)
    if path.suffix.lower() not in ENCODINGS:
        raise UserError(f"cannot write {path.name!r}: sound is written as {', '.join(ENCODINGS)}")
    form, encoding = ENCODINGS[path.suffix.lower()]
    clip = samples.detach().cpu().double().numpy()
    if clip.ndim != 1 or not clip.size or not np.isfinite(clip).all():
        raise ValueError(f"{path}: a clip is finite samples (T,), T > 0; got {tuple(samples.shape)}")
    gain = 1 / max(abs(clip).max(), 1.0)
    content = _encode(clip * gain, rate, form, encoding, metadata or {}, gain)
    for _ in range(4 if encoding == "VORBIS" else 0):
        if (peak := float(abs(_read(content)[0]).max())) <= 1:
            break
        gain *= 0.999 / peak
        content = _encode(clip * gain, rate, form, encoding, metadata or {}, gain)
    write_atomically(path, lambda file: file.write(content))
    return path


def _encode(clip: np.ndarray, rate: int, form: str, encoding: str, metadata: Mapping[str, str], gain: float) -> bytes:
    if gain != 1:
        metadata = {**metadata, "gain_db": f"{20 * math.log10(gain):.2f}"}
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", rate, 1, encoding, format=form) as file:
            file.software = "diffract"
            for name in TAGS:
                if name in metadata:
                    setattr(file, name, metadata[name])
            if metadata:
                file.comment = json.dumps(dict(metadata), ensure_ascii=False)
            file.write(clip)
    except soundfile.LibsndfileError as error:
        raise UserError(f"cannot write {form} at {rate} Hz: {error.error_string}") from None
    return buffer.getvalue()


def read_metadata(path: str | Path) -> dict[str, str]:
    """What `write_audio` was given as metadata, with `gain_db` if it had to scale; {} for a file of another origin."""
    with soundfile.SoundFile(str(path)) as file:
        comment = file.comment
    try:
        metadata = json.loads(comment)
    except json.JSONDecodeError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _read(source: str | Path | bytes) -> tuple[np.ndarray, int]:
    """float32 (T, channels) and the rate."""
    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if not size:
            raise DataError("empty (0 bytes)")
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise DataError(f"implausible rate: {file.samplerate} Hz is not in {RATES[0]} to {RATES[1]} Hz")
            samples = file.read(dtype="float32", always_2d=True)
            if file.format == "OGG":
                _check_last_page(source)
            _check_length(file, len(samples))
            return samples, file.samplerate
    except soundfile.LibsndfileError as error:
        raise DataError(f"not readable as sound: {error.error_string}") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None


# What libsndfile found to correct in the header of a WAV or AIFF file. Programs that write into a pipe cannot know the
# length and put the largest number there is.
_CORRECTED = re.compile(r"^ *(?:data|SSND) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN = 2**31 - 2**16


def _check_length(file: soundfile.SoundFile, count: int) -> None:
    """Raise DataError if the file holds less than it declares."""
    # The length of an MP3 without a header of its own is estimated, by a few per cent.
    if count < file.frames * (0.95 if file.format in ("MP3", "MPEG") else 1):
        raise DataError(f"cut off: {count} of {file.frames} samples are there")
    for declared, found in _CORRECTED.findall(file.extra_info):
        if int(found) < int(declared) < _UNKNOWN:
            raise DataError(f"cut off: {found} of {declared} bytes are there")


def _check_last_page(source: str | Path | bytes) -> None:
    """Raise DataError unless the file ends with a whole OGG page (RFC 3533) that is marked as the last."""
    if isinstance(source, bytes):
        end = source[-(2**16 + 2**12) :]
    else:
        with open(source, "rb") as file:
            file.seek(max(0, Path(source).stat().st_size - 2**16 - 2**12))
            end = file.read()
    page = end[max(end.rfind(b"OggS"), 0) :]
    segments = page[26] if len(page) > 26 else 0
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]) or not page[5] & 4:
        raise DataError("cut off: the last page of the OGG stream is missing")
