"""A page to listen to: players beside spectrograms in one HTML file that needs nothing else, not even a network.

Sounds and pictures lie in the file as data: addresses. All text is escaped, and a content security policy forbids
whatever would reach outside.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, StrictUndefined, Template
from PIL import Image
from torch import Tensor

from framework.files import write_text
from modalities.audio.render import (
    RANGE_DB,
    Format,
    colours,
    decibels,
    encode_clip,
    envelope,
    hertz_ticks,
    scale_top,
)
from modalities.audio.spectrogram_picture import hertz_to_mel
from modalities.audio.waveforms import Waveforms

WIDTH, HEIGHT = 360, 136
PALETTE = 64  # colours of a picture: more cannot be told apart on this scale, fewer show as steps
COLUMNS = 180  # of the waveform


def write_page(
    path: str | Path,
    waveforms: Waveforms,
    prompts: Sequence[str],
    metadata: Sequence[Mapping[str, str]],
    title: str = "Samples",
    format: Format = "flac",
) -> Path:
    """Write `html_page` to a file."""
    write_text(path, html_page(waveforms, prompts, metadata, title, format))
    return Path(path)


def html_page(
    waveforms: Waveforms,
    prompts: Sequence[str],
    metadata: Sequence[Mapping[str, str]],
    title: str = "Samples",
    format: Format = "flac",
) -> str:
    """One HTML page with a player and a spectrogram a clip.

    Arguments:
        waveforms: N clips.
        prompts: N captions.
        metadata: N rows of what else is known; what all rows share is shown once.
        title: of the page.
        format: of the sounds in it: FLAC is half of WAV, and both are played by all current browsers.
    """
    if not len(waveforms) == len(prompts) == len(metadata):
        raise ValueError(f"{len(waveforms)} clips have {len(prompts)} prompts and {len(metadata)} rows of metadata")
    rate = waveforms.rate
    levels = [decibels(clip, rate, WIDTH, HEIGHT, max(len(clip), 1) / rate) for clip in waveforms]
    top = scale_top(levels)
    peak = float(waveforms.samples.abs().max()) if waveforms.samples.numel() else 0.0
    shared = {
        key: value
        for key, value in (metadata[0] if len(metadata) else {}).items()
        if len(metadata) > 1 and all(row.get(key) == value for row in metadata)
    }
    clips = [
        {
            "prompt": prompt,
            "seconds": len(clip) / rate,
            "path": _path(clip, rate, peak or 1.0),
            "picture": _base64(_png(picture, top)),
            "sound": _base64(encode_clip(clip, rate, prompt, row, format)),
            "metadata": {key: value for key, value in row.items() if key not in shared},
        }
        for clip, picture, prompt, row in zip(waveforms, levels, prompts, metadata, strict=True)
    ]
    ticks = [{"label": _hertz(tick), "percent": 100 * _height(tick, rate)} for tick in hertz_ticks(rate)]
    bar = colours(np.linspace(top - RANGE_DB, top, 9), top)
    return _template().render(
        title=title,
        rate=rate,
        clips=clips,
        shared=shared,
        ticks=ticks,
        columns=COLUMNS,
        type=f"audio/{format}",
        scale={
            "low": f"{top - RANGE_DB:.0f} dB".replace("-", "\N{MINUS SIGN}"),
            "high": f"{top:.0f} dB".replace("-", "\N{MINUS SIGN}"),
            "colours": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in bar.tolist()],
        },
    )


def fragments(waveforms: Waveforms, prompts: Sequence[str], format: Format = "flac") -> list[str]:
    """Each clip as HTML that needs nothing else: its spectrogram, on a scale of its own, over a player."""
    found = []
    for clip, prompt in zip(waveforms, prompts, strict=True):
        levels = decibels(clip, waveforms.rate, WIDTH, HEIGHT, max(len(clip), 1) / waveforms.rate)
        picture = _base64(_png(levels, scale_top([levels])))
        sound = _base64(encode_clip(clip, waveforms.rate, prompt, {}, format))
        words = html.escape(prompt)
        found.append(
            f'<img alt="spectrogram: {words}" src="data:image/png;base64,{picture}">'
            f'<audio controls preload="none" aria-label="{words}" src="data:audio/{format};base64,{sound}"></audio>'
        )
    return found


def _template() -> Template:
    text = resources.files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(text)


def _png(levels: np.ndarray, top: float) -> bytes:
    picture = Image.fromarray(colours(levels, top)).quantize(PALETTE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _path(clip: Float[Tensor, " t"], rate: int, peak: float) -> str:
    """The envelope as the outline of an SVG path, upwards first; y from -1 to 1 downwards."""
    # A hair of width keeps silence visible as a line.
    extremes = -envelope(clip, rate, COLUMNS, max(len(clip), 1) / rate) / peak
    upper = [f"{x},{y - 0.02:.2f}" for x, y in enumerate(extremes[:, 1])]
    lower = [f"{x},{y + 0.02:.2f}" for x, y in enumerate(extremes[:, 0])]
    return f"M{' '.join(upper)} {' '.join(reversed(lower))}z"


def _height(hertz: float, rate: int) -> float:
    return hertz_to_mel(hertz) / hertz_to_mel(rate / 2)


def _hertz(hertz: int) -> str:
    return f"{hertz // 1000}k" if hertz >= 1000 else str(hertz)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
