"""Clips for people: sound files that say how they were made, and spectrograms on sheets.

A picture shows the magnitude in dB over time and the mel scale, labelled in Hz: equal musical steps look about equal.
One sheet has one colour scale and one time scale, so that its tiles compare.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import soundfile
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from framework.files import write_atomically
from modalities.audio.spectrogram_picture import hertz_to_mel, mel_to_hertz, spectrum
from modalities.audio.waveforms import Waveforms

Format = Literal["wav", "flac"]
RANGE_DB = 70.0
FLOOR_DB = -120.0
COLOURS = "magma"
PAPER, INK, FAINT, WAVE, BEYOND = "#ffffff", "#1f1f1f", "#6f6f6f", "#5b5fc7", "#ededed"
DPI = 100
TILE_WIDTH, TILE_HEIGHT, ENVELOPE, MARGIN, LINE = 180, 108, 34, 14, 15
LETTER = 6.3  # mean width in pixels of a letter of a caption


def save_clips(
    waveforms: Waveforms,
    folder: str | Path,
    prompts: Sequence[str],
    metadata: Sequence[Mapping[str, str]],
    format: Format = "wav",
) -> list[Path]:
    """Write clips as 00000.wav, ...: 16 bits, the prompt as title, what else is known as JSON in the comment.

    Of a WAV, libsndfile and the programs built on it read no text beyond 2 kB; FLAC has no such limit.
    """
    if not len(waveforms) == len(prompts) == len(metadata):
        raise ValueError(f"{len(waveforms)} clips have {len(prompts)} prompts and {len(metadata)} rows of metadata")
    files = []
    for i, (clip, prompt, row) in enumerate(zip(waveforms, prompts, metadata, strict=True)):
        path = Path(folder) / f"{i:05d}.{format}"
        content = encode_clip(clip, waveforms.rate, prompt, row, format)
        write_atomically(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        files.append(path)
    return files


def encode_clip(
    clip: Float[Tensor, " t"], rate: int, prompt: str, metadata: Mapping[str, str], format: Format = "wav"
) -> bytes:
    """A sound file of one clip. One that exceeds 1 is scaled down as a whole, and `scaled` in its metadata says so.

    Raises:
        ValueError: a sample is not finite.
    """
    samples, gain = pcm16(clip)
    comment = {**metadata, **({} if gain == 1 else {"scaled": f"{20 * math.log10(gain):.2f} dB"})}
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, "PCM_16", format=format.upper()) as file:
        # Before the samples: what is set later would follow them, where players do not look.
        if prompt:  # an empty title is an error to libsndfile
            file.title = prompt
        file.comment = json.dumps(comment, ensure_ascii=False)
        # An empty clip becomes a single zero: there is no FLAC of no samples.
        file.write(samples if len(samples) else np.zeros(1, dtype=np.int16))
    return buffer.getvalue()


def pcm16(clip: Float[Tensor, " t"]) -> tuple[np.ndarray, float]:
    """16-bit samples of a clip and the gain that kept them from clipping: 1, or 1 / peak of what exceeds 1."""
    samples = clip.detach().double().cpu().numpy()
    if not np.isfinite(samples).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(samples))} of {len(samples)} samples are not finite numbers")
    gain = 1 / max(1.0, float(np.abs(samples).max(initial=0)))
    # 32768 and not 32767: clips that came from 16 bits return to the very same numbers.
    return np.clip(np.round(samples * gain * 32768), -32768, 32767).astype(np.int16), gain


def decibels(
    clip: Float[Tensor, " t"], rate: int, width: int, height: int, seconds: float
) -> Float[np.ndarray, "height width"]:
    """Magnitude in dB of full scale at `height` places of the mel scale, the highest first, and `width` times."""
    if len(clip) == 0:
        return np.full((height, width), FLOOR_DB)
    n_fft = 2 ** max(6, round(math.log2(0.04 * rate)))
    hop = max(1, min(n_fft // 4, round(seconds * rate / width)))
    magnitude = spectrum(clip.detach().float().cpu()[None], n_fft, hop)[0].double().numpy()
    levels = 20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20)))
    hertz = [mel_to_hertz(m) for m in np.linspace(hertz_to_mel(rate / 2), 0, height)]
    bins = np.array(hertz) * n_fft / rate
    times = (np.arange(width) + 0.5) * seconds / width
    columns = times * rate / hop
    shown = _between(_between(levels, bins, 0), np.minimum(columns, levels.shape[1] - 1), 1)
    shown[:, times > len(clip) / rate] = FLOOR_DB
    return shown


def colours(levels: np.ndarray, top: float) -> UInt8[np.ndarray, "... 3"]:
    """dB as colours, from 70 dB below `top`."""
    picture = matplotlib.colormaps[COLOURS](np.clip((levels - top) / RANGE_DB + 1, 0, 1), bytes=True)[..., :3]
    return np.ascontiguousarray(picture)


def scale_top(levels: Sequence[np.ndarray]) -> float:
    """The top of a colour scale that holds all these dB: the loudest of them, up to the next 5 dB; 0 of silence."""
    loudest = max((float(part.max()) for part in levels if part.size), default=FLOOR_DB)
    return 5 * math.ceil(loudest / 5) if loudest > FLOOR_DB else 0.0


def envelope(clip: Float[Tensor, " t"], rate: int, width: int, seconds: float) -> Float[np.ndarray, "width 2"]:
    """Lowest and highest sample in each of `width` stretches of time; zeros beyond the end."""
    samples = clip.detach().double().cpu().numpy()
    edges = np.linspace(0, seconds * rate, width + 1)
    result = np.zeros((width, 2))
    for i in range(width):
        start = int(edges[i])
        part = samples[start : max(start + 1, int(edges[i + 1]))]
        if part.size:
            result[i] = part.min(), part.max()
    return result


def spectrogram_figure(clip: Float[Tensor, " t"], rate: int, title: str = "") -> Image.Image:
    """One clip's spectrogram with its axes in seconds and Hz and a bar of dB relative to a full-scale sine."""
    seconds = max(len(clip), 1) / rate
    levels = decibels(clip, rate, 480, 256, seconds)
    top = scale_top([levels])
    figure = Figure(figsize=(6.4, 3.4), dpi=DPI, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    # Rows lie at equal steps of mel from 0 to the highest frequency: the axis is their number, its labels are Hz.
    image = axes.imshow(
        levels, COLOURS, vmin=top - RANGE_DB, vmax=top, aspect="auto", extent=(0, seconds, 0, hertz_to_mel(rate / 2))
    )
    ticks = hertz_ticks(rate)
    axes.set_yticks([hertz_to_mel(tick) for tick in ticks], [f"{tick:,}" for tick in ticks])
    axes.set_xlabel("seconds")
    axes.set_ylabel("Hz")
    if title:
        axes.set_title("\n".join(textwrap.wrap(title, 80)), fontsize="medium", loc="left", parse_math=False)
    figure.colorbar(image, label="dB of full scale", pad=0.02)
    return _drawn(figure)


def contact_sheet(waveforms: Waveforms, prompts: Sequence[str], columns: int | None = None) -> Image.Image:
    """Clips in rows of `columns` (None: about as many as rows): waveform, spectrogram, and prompt below."""
    if len(waveforms) != len(prompts) or len(waveforms) == 0:
        raise ValueError(f"a contact sheet has a prompt a clip; got {len(waveforms)} clips and {len(prompts)} prompts")
    columns = min(len(prompts), columns or math.ceil(math.sqrt(len(prompts))))
    captions = [textwrap.wrap(prompt, int(TILE_WIDTH / LETTER)) for prompt in prompts]
    rows = [range(start, min(start + columns, len(prompts))) for start in range(0, len(prompts), columns)]
    heights = [ENVELOPE + TILE_HEIGHT + LINE * max(len(captions[i]) for i in row) + MARGIN + 6 for row in rows]
    sheet = _Sheet([waveforms], columns * (TILE_WIDTH + MARGIN), sum(heights))
    top = float(MARGIN)
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = MARGIN + column * (TILE_WIDTH + MARGIN)
            sheet.wave(waveforms.clip(i), left, top)
            sheet.tile(0, i, left, top + ENVELOPE)
            for number, text in enumerate(captions[i]):
                sheet.text(text, left, top + ENVELOPE + TILE_HEIGHT + 4 + number * LINE)
        top += height
    return sheet.drawn()


def trajectory_sheet(steps: Sequence[Waveforms], labels: Sequence[str], prompts: Sequence[str]) -> Image.Image:
    """How clips came out of the noise: a row a sample, under its prompt; a column a step, under its label."""
    if not steps or len(steps) != len(labels) or any(len(step) != len(prompts) for step in steps):
        raise ValueError(
            f"a trajectory has a label a step and a prompt a clip; got {len(steps)} steps of "
            f"{sorted({len(step) for step in steps})} clips, {len(labels)} labels and {len(prompts)} prompts"
        )
    gap, head = 4, 22
    height = TILE_HEIGHT + 20
    sheet = _Sheet(steps, len(steps) * (TILE_WIDTH + gap) + MARGIN, head + len(prompts) * height)
    for column, label in enumerate(labels):
        left = MARGIN + column * (TILE_WIDTH + gap)
        sheet.text(label, left, 8, FAINT)
        for row in range(len(prompts)):
            sheet.tile(column, row, left, head + row * height + 18)
    for row, prompt in enumerate(prompts):
        sheet.text(prompt, MARGIN, head + row * height + 1)
    return sheet.drawn()


def hertz_ticks(rate: int) -> list[int]:
    """Round frequencies up to half the rate that stand apart on the mel scale."""
    # Doublings from 250 Hz; 0 is the foot of the axis.
    top = rate / 2
    ticks = [f for f in (250 * 2**k for k in range(12)) if f <= top]
    return [0, *ticks]


class _Sheet:
    """A figure measured in pixels from its upper left corner, with tiles of one colour and one time scale."""

    def __init__(self, batches: Sequence[Waveforms], width: float, height: float):
        clips = [clip for batch in batches for clip in batch]
        self.rate = batches[0].rate
        self.seconds = max(1, *(len(clip) for clip in clips)) / self.rate
        self.levels = [
            [decibels(clip, self.rate, TILE_WIDTH, TILE_HEIGHT, self.seconds) for clip in batch] for batch in batches
        ]
        self.top = scale_top([levels for batch in self.levels for levels in batch])
        self.lengths = [batch.seconds.tolist() for batch in batches]
        self.peak = max(float(np.abs(envelope(clip, self.rate, 64, self.seconds)).max()) for clip in clips) or 1.0
        self.width, self.height = int(width + MARGIN), int(height + MARGIN + 34)
        self.figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor=PAPER)
        self._legend()

    def text(self, text: str, left: float, top: float, colour: str = INK) -> None:
        self.figure.text(
            left / self.width, 1 - top / self.height, text, va="top", size=8, color=colour, parse_math=False
        )

    def tile(self, batch: int, i: int, left: float, top: float) -> None:
        """The spectrogram of a clip; what lies beyond its end is not silence and has a colour of its own."""
        picture = colours(self.levels[batch][i], self.top)
        picture[:, self._times() > self.lengths[batch][i]] = _rgb(BEYOND)
        self._paste(picture, left, top)

    def wave(self, clip: Tensor, left: float, top: float) -> None:
        """The envelope as a band around the middle, at the scale of the sheet's loudest clip."""
        extremes = envelope(clip, self.rate, TILE_WIDTH, self.seconds) / self.peak
        middle = (ENVELOPE - 5) / 2
        rows = np.arange(ENVELOPE - 4)[:, None]
        inside = (rows >= np.floor(middle * (1 - extremes[:, 1]))) & (rows <= np.ceil(middle * (1 - extremes[:, 0])))
        # Beyond its end a clip has no line, not even that of silence.
        inside &= self._times() <= len(clip) / self.rate
        self._paste(np.where(inside[..., None], _rgb(WAVE), _rgb(PAPER)), left, top)

    def drawn(self) -> Image.Image:
        return _drawn(self.figure)

    def _times(self) -> np.ndarray:
        """Seconds at the middle of each column of a tile."""
        return (np.arange(TILE_WIDTH) + 0.5) * self.seconds / TILE_WIDTH

    def _paste(self, picture: np.ndarray, left: float, top: float) -> None:
        self.figure.figimage(picture, round(left), round(self.height - top) - picture.shape[0], origin="upper")

    def _legend(self) -> None:
        """What the tiles' axes mean, and the colours' dB."""
        top = self.height - 26
        bar = colours(np.linspace(self.top - RANGE_DB, self.top, 90)[None].repeat(8, 0), self.top)
        self._paste(bar, MARGIN, top + 3)
        levels = f"{self.top - RANGE_DB:.0f} to {self.top:.0f} dB of full scale".replace("-", "\N{MINUS SIGN}")
        span = f"{self.seconds:.2f} s across, 0 to {self.rate / 2:,.0f} Hz upwards (mel scale)"
        self.text(f"{levels} · {span}", MARGIN + 98, top, FAINT)


def _between(levels: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of rows (axis 0) or columns (1) at fractional places."""
    low = np.clip(np.floor(places).astype(int), 0, levels.shape[axis] - 1)
    high = np.minimum(low + 1, levels.shape[axis] - 1)
    share = (places - low)[:, None] if axis == 0 else (places - low)[None]
    return np.take(levels, low, axis) * (1 - share) + np.take(levels, high, axis) * share


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)


def _drawn(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
