"""Pretrained networks that turn a mel spectrogram into a waveform, in place of Griffin-Lim.

A vocoder understands one kind of mel spectrogram and returns noise for any other, without a word. So each declares its
profile, and a codec of another one is refused with the settings to change. What differs in form alone is converted
here: the natural logarithm of max(mel, clamp), and which axis comes first.

    Vocos               Siuzdak 2023               pip install vocos
    BigVGAN             Lee et al. 2022            pip install bigvgan
    SpeechT5HifiGan     Kong et al. 2020           pip install transformers       (AudioLDM's and AudioLDM2's vocoder)

A network is read at its first use. Weights are read as tensors alone, never as pickled code.
"""

from __future__ import annotations

import importlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
import yaml
from jaxtyping import Float
from torch import Tensor, nn

from framework.errors import UserError
from modalities.audio.codecs.filterbank import MelProfile

VOCOS_24K = MelProfile(24000, 1024, 256, 100, 0.0, 12000.0, "htk", None, lead=512)
BIGVGAN_22K = MelProfile(22050, 1024, 256, 80, 0.0, 11025.0, "slaney", "slaney", lead=384)
AUDIOLDM_16K = MelProfile(16000, 1024, 160, 64, 0.0, 8000.0, "slaney", "slaney", lead=512)


class Vocoder(ABC):
    """A mel spectrogram as a waveform."""

    @property
    @abstractmethod
    def profile(self) -> MelProfile:
        """The mel spectrogram that it was trained on."""

    @abstractmethod
    def __call__(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b t"]:
        """Readings of the filters (linear, 0 or more) as waveforms of about L hop samples, on the readings' device."""


def check_profile(profile: MelProfile, vocoder: Vocoder) -> None:
    """Raise UserError when a codec's mel is not the vocoder's, naming what to set."""
    if differences := profile.differences(vocoder.profile):
        changes = ", ".join(f"{name}={wanted} (is {here})" for name, (here, wanted) in differences.items())
        raise UserError(f"{type(vocoder).__name__} was trained on another mel spectrogram; set the codec's {changes}")


@dataclass(frozen=True)
class NetworkVocoder(Vocoder):
    """A vocoder in a package of its own.

    Args:
        path: a local folder, or a name on the Hugging Face hub.
        mel: its profile; the default is that of the weights which its authors published.

    Raises:
        UserError: at first use, the package is not installed, a file is missing, or the network says that its mel is
            another one.
    """

    path: str
    mel: MelProfile

    package: ClassVar[str]
    clamp: ClassVar[float]

    @property
    def profile(self) -> MelProfile:
        return self.mel

    @abstractmethod
    def load(self, package: ModuleType) -> tuple[nn.Module, dict[str, Any]]:
        """The network, and what it says itself about its profile."""

    @abstractmethod
    def run(self, network: nn.Module, log_mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b t"]:
        """Its forward pass."""

    @cached_property
    def network(self) -> nn.Module:
        """The network, read once."""
        try:
            package = importlib.import_module(self.package)
        except ImportError as error:
            name = self.package.partition(".")[0]
            raise UserError(f"{type(self).__name__} needs the package {name} ({error}): pip install {name}") from None
        network, said = self.load(package)
        for name, value in said.items():
            if value is not None and value != getattr(self.mel, name):
                raise UserError(
                    f"the {type(self).__name__} in {self.path!r} has {name}={value}, and its profile says "
                    f"{getattr(self.mel, name)}; give the vocoder a mel=MelProfile(...) of its own"
                )
        return network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b t"]:
        return self.run(self.network.to(mel.device), mel.clamp_min(self.clamp).log()).float()

    def file(self, name: str) -> Path:
        """A file of the folder, or of the hub."""
        if Path(self.path).is_dir():
            if not (Path(self.path) / name).is_file():
                raise UserError(f"{self.path!r} holds no {name}, which {type(self).__name__} reads")
            return Path(self.path) / name
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.path, name))
        except Exception as error:  # offline, unknown, forbidden: the hub has many words for it
            raise UserError(
                f"{self.path!r} is no folder here, and the hub gives no {name} of that name ({error}); "
                "put the files into a folder and name it as path"
            ) from None


@dataclass(frozen=True)
class Vocos(NetworkVocoder):
    """Vocos at 24 kHz (charactr/vocos-mel-24khz): config.yaml and pytorch_model.bin."""

    mel: MelProfile = VOCOS_24K

    package: ClassVar[str] = "vocos.pretrained"
    clamp: ClassVar[float] = 1e-7

    def load(self, package: ModuleType) -> tuple[nn.Module, dict[str, Any]]:
        config = yaml.safe_load(self.file("config.yaml").read_text())
        for part in config.values():
            if not str(part["class_path"]).startswith("vocos."):
                raise UserError(f"{self.path!r} names {part['class_path']!r}, which is no part of vocos")
        network = package.Vocos.from_hparams(str(self.file("config.yaml")))
        network.load_state_dict(_weights(self.file("pytorch_model.bin")))
        features = config["feature_extractor"].get("init_args", {})
        names = {"rate": "sample_rate", "n_fft": "n_fft", "hop": "hop_length", "bands": "n_mels"}
        said = {ours: features.get(theirs) for ours, theirs in names.items()}
        centred = {"center": self.mel.n_fft // 2, "same": (self.mel.n_fft - self.mel.hop) // 2}
        return network, {**said, "lead": centred.get(features.get("padding"))}

    def run(self, network: nn.Module, log_mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b t"]:
        if self.mel.lead == self.mel.n_fft // 2:  # then L frames are L - 1 hops: one more, of silence
            silence = log_mel.new_full((len(log_mel), 1, log_mel.shape[2]), math.log(self.clamp))
            log_mel = torch.cat([log_mel, silence], 1)
        return network.decode(log_mel.transpose(1, 2))  # type: ignore[operator]


@dataclass(frozen=True)
class BigVGAN(NetworkVocoder):
    """BigVGAN v2 at 22.05 kHz (nvidia/bigvgan_v2_22khz_80band_256x): config.json and bigvgan_generator.pt."""

    mel: MelProfile = BIGVGAN_22K

    package: ClassVar[str] = "bigvgan.bigvgan"
    clamp: ClassVar[float] = 1e-5

    def load(self, package: ModuleType) -> tuple[nn.Module, dict[str, Any]]:
        settings = json.loads(self.file("config.json").read_text())
        network = package.BigVGAN(package.AttrDict(settings), use_cuda_kernel=False)
        weights = _weights(self.file("bigvgan_generator.pt"))["generator"]
        normed = any(name.endswith("weight_g") or "parametrizations" in name for name in weights)
        if not normed:
            network.remove_weight_norm()
        network.load_state_dict(weights)
        if normed:
            network.remove_weight_norm()
        names = {"rate": "sampling_rate", "n_fft": "n_fft", "hop": "hop_size", "bands": "num_mels", "low": "fmin"}
        high = settings.get("fmax") or settings["sampling_rate"] / 2
        return network, {**{ours: settings.get(theirs) for ours, theirs in names.items()}, "high": high}

    def run(self, network: nn.Module, log_mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b t"]:
        return network(log_mel.transpose(1, 2))[:, 0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SpeechT5HifiGan(NetworkVocoder):
    """The HiFi-GAN of AudioLDM2 at 16 kHz (cvssp/audioldm2, subfolder "vocoder")."""

    mel: MelProfile = AUDIOLDM_16K
    subfolder: str = ""

    package: ClassVar[str] = "transformers"
    clamp: ClassVar[float] = 1e-5

    def load(self, package: ModuleType) -> tuple[nn.Module, dict[str, Any]]:
        try:
            network = package.SpeechT5HifiGan.from_pretrained(self.path, subfolder=self.subfolder)
        except OSError as error:
            raise UserError(f"no SpeechT5HifiGan in {self.path!r}: {error}") from None
        config = network.config
        hop = math.prod(config.upsample_rates)
        return network, {"rate": config.sampling_rate, "hop": hop, "bands": config.model_in_dim}

    def run(self, network: nn.Module, log_mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b t"]:
        return network(log_mel)  # type: ignore[no-any-return]


def _weights(path: Path) -> dict[str, Any]:
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
