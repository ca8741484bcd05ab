"""InceptionV3's features, in which FID is published (Heusel et al., 2017, arXiv:1706.08500).

The network is torch-fidelity's port of the original TensorFlow graph, resizing included, so that numbers
agree with the literature. Its weights are never downloaded: the user supplies the file.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


class InceptionFeatures:
    """The 2048 features of InceptionV3's last pooling.

    Arguments:
        weights_path: the file `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity's releases.
        device: where the network runs.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or holds anything but tensors.
        ImportError: if torch-fidelity is not installed.
    """

    def __init__(self, weights_path: str | Path, device: str | torch.device = "cpu"):
        path = Path(weights_path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"no Inception weights at '{path}': put torch-fidelity's {WEIGHTS} there "
                "(github.com/toshas/torch-fidelity/releases), or use the features trained on the data"
            )
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ImportError("Inception features need torch-fidelity: install 'diffract[inception]'") from error
        # torch-fidelity unpickles without restriction: only what loads as plain tensors may reach it.
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"'{path}' is not a file of plain weights, and is not opened: {error}") from error
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
        self.device = torch.device(device)
        self._network = network.eval().to(self.device)

    def features(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b 2048"]:
        """Return the features of uint8 images of one or three channels and any size."""
        features: Tensor = self._network(images.expand(-1, 3, -1, -1).to(self.device))[0]
        return features
