"""What the codecs of sound cost and keep: round trips of spoken digits, and Griffin-Lim beside torchaudio's.

Round trips: each codec of conf/codec/audio encodes and decodes clips of the Free Spoken Digit Dataset (8 kHz; means
taken off, peaks at 0.95), all at once on one thread. The row `torchaudio` is the default log-mel made, inverted and
given phases by torchaudio's transforms (MelSpectrogram, InverseMelScale, GriffinLim at as many iterations). Distances
are those of modalities.audio.distances, in frames that are nobody's own (400 samples, hop 100); times are processor
seconds, the median over rounds.

Griffin-Lim: both are given the magnitudes of the clips' spectrograms (n_fft 512, hop 128, each framed in its own way)
and nothing else: ours is not told where clips end, torchaudio's starts with random phases, as it does by default.
They run in turns in one process and are timed in processor seconds. Inconsistency is | |STFT(x)| - S | / |S| in the
framing of each.

    python -m benchmarks.audio_codecs --data FOLDER [--clips 60] [--rounds 7]       (FOLDER/recordings/3_name_7.wav)
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor

from benchmarks.machine import RESULTS, report
from framework.errors import UserError
from modalities.audio.codecs.griffin_lim import griffin_lim
from modalities.audio.codecs.log_mel import LogMel
from modalities.audio.codecs.mdct import MDCT
from modalities.audio.codecs.stft import ComplexSTFT, hann
from modalities.audio.distances import log_spectral_distance, mel_error, si_sdr, stoi
from modalities.audio.waveforms import Waveforms

CODECS = {"log_mel": LogMel(), "log_mel_fine": LogMel(n_fft=256, hop=64), "stft": ComplexSTFT(), "mdct": MDCT()}
ITERATIONS = (8, 16, 32, 64)
BATCHES = (1, 16)
RATE, LONGEST, PEAK = 8000, 8192, 0.95
MOMENTUM = 0.99
NEUTRAL = (400, 100)  # frames of the distances


def read(folder: Path, count: int) -> Waveforms:
    """`count` clips, spread evenly over the sorted files, cut to LONGEST and padded to it."""
    files = sorted((folder / "recordings").glob("*.wav"))
    if len(files) < count:
        raise SystemExit(f"{folder / 'recordings'} holds {len(files)} WAV files; {count} are asked for")
    samples, lengths = torch.zeros(count, LONGEST), []
    for i in range(count):
        clip = torch.from_numpy(soundfile.read(files[i * len(files) // count], dtype="float32")[0])[:LONGEST]
        clip = clip - clip.mean()
        samples[i, : len(clip)] = PEAK * clip / clip.abs().max()
        lengths.append(len(clip))
    return Waveforms(samples, torch.tensor(lengths), RATE)


def median_seconds(run: Callable[[], Any], rounds: int) -> float:
    """The median of processor seconds."""
    return statistics.median(seconds(run) for _ in range(rounds))


def seconds(run: Callable[[], Any]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def distances(decoded: Tensor, clips: Waveforms) -> dict[str, float | None]:
    """Means over the clips."""
    time = torch.arange(decoded.shape[1])
    estimate = Waveforms(torch.where(time < clips.lengths[:, None], decoded, 0.0), clips.lengths, clips.rate)
    try:
        intelligible = {"stoi": stoi(estimate, clips), "estoi": stoi(estimate, clips, extended=True)}
    except UserError:
        intelligible = {"stoi": None, "estoi": None}
    return {
        "lsd_db": float(log_spectral_distance(estimate, clips, *NEUTRAL).mean()),
        "mel_error_db": float(mel_error(estimate, clips, 40, *NEUTRAL).mean()),
        "si_sdr_db": float(si_sdr(estimate, clips).mean()),
        **intelligible,
    }


def torchaudio_log_mel(codec: LogMel) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The same log-mel spectrogram, there and back, of torchaudio's transforms."""
    kinds = {"norm": codec.norm, "mel_scale": codec.scale}
    mel = torchaudio.transforms.MelSpectrogram(
        codec.rate, codec.n_fft, hop_length=codec.hop, n_mels=codec.bands, power=1, **kinds
    )
    inverse = torchaudio.transforms.InverseMelScale(codec.n_fft // 2 + 1, codec.bands, codec.rate, **kinds)
    phases = their_griffin_lim(codec, codec.iterations)
    floor = codec.reference * 10 ** (-codec.floor_db / 20)
    return lambda x: mel(x).clamp_min(floor).log10(), lambda x: phases(inverse(10**x))


def their_griffin_lim(codec: LogMel, iterations: int) -> torchaudio.transforms.GriffinLim:
    """torchaudio's, set as ours."""
    return torchaudio.transforms.GriffinLim(
        codec.n_fft, iterations, hop_length=codec.hop, power=1, momentum=MOMENTUM, length=LONGEST
    )


def round_trips(clips: Waveforms, rounds: int) -> dict[str, dict[str, Any]]:
    """Distances and milliseconds a clip of each codec."""
    results: dict[str, dict[str, Any]] = {}
    pairs: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
        name: (codec.encode, lambda x, codec=codec: codec.decode(x, clips.lengths)) for name, codec in CODECS.items()
    }
    pairs["torchaudio"] = torchaudio_log_mel(LogMel())
    for name, (encode, decode) in pairs.items():
        x = encode(clips.samples)
        decoded = decode(x)
        results[name] = {
            "values_a_clip": x[0].numel(),
            "encode_ms": 1e3 * median_seconds(lambda e=encode: e(clips.samples), rounds) / len(clips),
            "decode_ms": 1e3 * median_seconds(lambda d=decode, x=x: d(x), rounds) / len(clips),
            **distances(decoded, clips),
        }
    return results


def beside_torchaudio(clips: Waveforms, rounds: int) -> list[dict[str, Any]]:
    """Speed and quality of both Griffin-Lims at equal iterations."""
    codec, window = LogMel(), hann(LogMel().n_fft, torch.device("cpu"))

    def our_spectrum(x: Tensor) -> Tensor:
        return torch.fft.rfft(codec.framing.split(x) * window).abs()

    def their_spectrum(x: Tensor) -> Tensor:
        return torch.stft(x, codec.n_fft, codec.hop, window=window, return_complex=True).abs()

    whole = torch.full_like(clips.lengths, LONGEST)
    ours, theirs = our_spectrum(clips.samples), their_spectrum(clips.samples)
    results = []
    for iterations in ITERATIONS:
        module = their_griffin_lim(codec, iterations)

        def their_run(rows: slice, module: torchaudio.transforms.GriffinLim = module) -> Tensor:
            return module(theirs[rows])

        def run(rows: slice, n: int = iterations) -> Tensor:
            return griffin_lim(ours[rows], codec.framing, window, whole[rows], n, MOMENTUM)

        case: dict[str, Any] = {"iterations": iterations}
        for batch in BATCHES:
            rows = slice(0, batch)
            run(rows), their_run(rows)
            times = [(seconds(partial(run, rows)), seconds(partial(their_run, rows))) for _ in range(rounds)]
            case[f"batch_{batch}"] = {
                "ours_ms_a_clip": 1e3 * statistics.median(a for a, _ in times) / batch,
                "torchaudio_ms_a_clip": 1e3 * statistics.median(b for _, b in times) / batch,
                "ratio": statistics.median(a / b for a, b in times),
            }
        every = slice(None)
        for name, found, spectrum, wanted in (
            ("ours", run(every), our_spectrum, ours),
            ("torchaudio", their_run(every), their_spectrum, theirs),
        ):
            error = (spectrum(found) - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
            case[name] = {"inconsistency": float(error.mean()), **distances(found, clips)}
        results.append(case)
    return results


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def markdown(trips: dict[str, dict[str, Any]], lims: list[dict[str, Any]]) -> str:
    """Two tables."""
    lines = [
        "Round trips, means over clips; milliseconds a clip.",
        "",
        "| codec | numbers a clip | LSD, dB | mel error, dB | SI-SDR, dB | STOI | eSTOI | encode, ms | decode, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in trips.items():
        keys = (("lsd_db", 2), ("mel_error_db", 2), ("si_sdr_db", 1), ("stoi", 3), ("estoi", 3), ("encode_ms", 2))
        cells = [number(row[key], digits) for key, digits in (*keys, ("decode_ms", 2))]
        lines.append(f"| {name} | {row['values_a_clip']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Griffin-Lim from exact magnitudes, ours / torchaudio's.",
        "",
        "| iterations | inconsistency | LSD, dB | STOI | "
        + " | ".join(f"ms a clip, batch {b} | ratio" for b in BATCHES)
        + " |",
        "|---|---|---|---|" + "---|---|" * len(BATCHES),
    ]
    for case in lims:
        quality = [
            " / ".join(number(case[who][key], digits) for who in ("ours", "torchaudio"))
            for key, digits in (("inconsistency", 4), ("lsd_db", 2), ("stoi", 3))
        ]
        speed = []
        for batch in BATCHES:
            row = case[f"batch_{batch}"]
            speed += [f"{row['ours_ms_a_clip']:.1f} / {row['torchaudio_ms_a_clip']:.1f}", f"{row['ratio']:.2f}"]
        lines.append(f"| {case['iterations']} | " + " | ".join(quality + speed) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds recordings/")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the random phases
    clips = read(arguments.data, arguments.clips)
    trips = round_trips(clips, arguments.rounds)
    lims = beside_torchaudio(clips, arguments.rounds)
    (RESULTS / "audio_codecs.md").write_text(markdown(trips, lims))
    command = f"python -m benchmarks.audio_codecs --data FOLDER --clips {arguments.clips} --rounds {arguments.rounds}"
    versions = {"torchaudio": torchaudio.__version__}
    report("audio_codecs", command, {"versions": versions, "round_trips": trips, "griffin_lim": lims})
    print(markdown(trips, lims))


if __name__ == "__main__":
    main()
