"""Features of sound from networks that others trained, for distances that compare with the literature.

Nothing is downloaded by itself: weights are files that the user has. A distance is meant for one embedding alone (a
Frechet distance in CLAP is not one in VGGish), and depends on the very checkpoint: name it with the number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import resample

from framework.errors import UserError
from modalities.audio.waveforms import Waveforms

CLIPS_AT_ONCE = 16


class Embedding(Protocol):
    """What the metrics need of a network: clips to one row of features each."""

    def features(self, waveforms: Waveforms) -> Float[np.ndarray, "n d"]: ...


class ClapEmbedding:
    """The audio embedding of CLAP (Wu et al., 2023, arXiv:2211.06687), as transformers has it.

    Arguments:
        path: a folder with the model and its feature extractor (`config.json`, `model.safetensors`,
            `preprocessor_config.json`), or the name of one in the local cache of the Hugging Face Hub.
        device: where the network runs.

    Raises:
        UserError: there is no such model, it holds no safetensors, or transformers is not installed.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu"):
        try:
            from transformers import ClapFeatureExtractor, ClapModel
        except ImportError as error:
            raise UserError("CLAP needs transformers: install 'diffract[text]'") from error
        try:
            # local_files_only: a number must not change because a download did; safetensors: no pickled code.
            model = ClapModel.from_pretrained(str(path), local_files_only=True, use_safetensors=True)
            self.extractor = ClapFeatureExtractor.from_pretrained(str(path), local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no CLAP at '{path}': it should be a folder with config.json, model.safetensors and "
                f"preprocessor_config.json, such as that of laion/clap-htsat-unfused ({error})"
            ) from error
        self.model = model.eval().to(device)
        self.device = torch.device(device)

    def features(self, waveforms: Waveforms) -> Float[np.ndarray, "n d"]:
        """Embeddings of unit length of clips resampled to the rate of CLAP, 48 kHz, and cropped to its 10 s.

        Cropped at the end and not at random, as the extractor would: a clip has one embedding.
        """
        rate, longest = int(self.extractor.sampling_rate), int(self.extractor.nb_max_samples)
        rows = []
        for start in range(0, len(waveforms), CLIPS_AT_ONCE):
            clips = [
                _at_rate(clip, waveforms.rate, rate)[:longest].numpy()
                for clip in waveforms[start : start + CLIPS_AT_ONCE]
            ]
            inputs = self.extractor(clips, sampling_rate=rate, return_tensors="pt")["input_features"]
            # The extractor marks one clip of a batch as longer at random, for the training of some models.
            longer = torch.zeros(len(clips), 1, dtype=torch.bool, device=self.device)
            with torch.inference_mode():
                found = self.model.get_audio_features(input_features=inputs.to(self.device), is_longer=longer)
            embedded: Tensor = found if isinstance(found, Tensor) else found.pooler_output
            rows.append(F.normalize(embedded.float().cpu(), dim=-1))
        return torch.cat(rows).numpy()


class TorchScriptEmbedding:
    """A network saved with `torch.jit.save` that maps waveforms (1, T) at `rate` to features (1, D) or (1, frames, D).

    PANNs' Cnn14 and VGGish are brought into this form where they are installed, with their own spectrograms inside.
    Such a file holds code as well as weights: use only those that you trust.

    Arguments:
        path: of the file.
        rate: samples a second that the network expects, in Hz.
        min_seconds: shorter clips are padded with silence to this length.
        device: where the network runs.

    Raises:
        UserError: there is no such file, or it is no TorchScript.
    """

    def __init__(self, path: str | Path, rate: int, min_seconds: float = 1.0, device: str | torch.device = "cpu"):
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(f"no embedding network at '{path}': save one there with torch.jit.save")
        try:
            self.network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise UserError(f"'{path}' is not a TorchScript file, as torch.jit.save writes it: {error}") from error
        self.path, self.rate, self.min_seconds, self.device = path, rate, min_seconds, torch.device(device)

    def features(self, waveforms: Waveforms) -> Float[np.ndarray, "n d"]:
        """Features clip by clip, so that none depends on the padding of others; the mean over frames, if any."""
        return torch.cat([self._row(clip, waveforms.rate) for clip in waveforms]).numpy()

    def _row(self, clip: Float[Tensor, " t"], rate: int) -> Float[Tensor, "1 d"]:
        samples = _at_rate(clip, rate, self.rate)
        samples = F.pad(samples, (0, max(0, round(self.min_seconds * self.rate) - len(samples))))
        with torch.inference_mode():
            found = self.network(samples[None].to(self.device))
        if not isinstance(found, Tensor) or found.ndim not in (2, 3) or len(found) != 1:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"'{self.path}' should turn samples (1, T) into features (1, D) or (1, frames, D), got {shape}"
            )
        row: Tensor = (found.mean(1) if found.ndim == 3 else found).float().cpu()
        return row


def _at_rate(clip: Float[Tensor, " t"], rate: int, wanted: int) -> Float[Tensor, " u"]:
    """The clip at another rate; one without samples as a single zero."""
    return resample(clip if len(clip) else clip.new_zeros(1), rate, wanted)
