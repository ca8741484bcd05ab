r"""The training loss of an autoencoder with a Gaussian bottleneck.

    loss = (|x - x'|_1  +  kl * KL(q(z | x) || N(0, 1))) / D  +  perceptual * P(x, x')  +  adversarial * A(x'),

with D the number of a sample's real elements, so that `kl` means the same at every size (the sums are those of an
evidence bound whose likelihood is a Laplacian: Kingma & Welling, arXiv 1312.6114), P the distance in the features of a
classifier of the data's own labels (as in Zhang et al., arXiv 1801.03924), A the loss that a patch discriminator sets
(Esser et al., arXiv 2012.09841). Where LPIPS's weights are at hand, P can be LPIPS. What a mask leaves out adds nothing
to any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.autoencoder import KLAutoencoder, Mask
from framework.errors import UserError
from framework.metrics.feature_net import FeatureNet
from framework.noise import NoiseKey
from framework.objectives.lpips import LPIPS
from framework.state import masked_sum


@dataclass(frozen=True)
class AutoencoderTerms:
    """Per-sample results: `loss` (B,) is minimised, `parts` are its terms before their weights, by name."""

    loss: Tensor
    parts: Mapping[str, Tensor]


class AutoencoderObjective(nn.Module):
    """See the module's docstring.

    Args:
        kl: weight of the KL divergence from the standard normal.
        perceptual: weight of the distance in features; needs data with labels.
        adversarial: weight of the discriminator's verdict; 0: there is no discriminator.
        discriminator_width: channels of its first layer.
        lpips: the perceptual distance in place of that in a classifier's features.

    Raises:
        UserError: a negative weight.
    """

    def __init__(
        self,
        kl: float = 1e-3,
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        discriminator_width: int = 32,
        lpips: LPIPS | None = None,
    ) -> None:
        super().__init__()
        if min(kl, perceptual, adversarial) < 0 or discriminator_width < 1:
            raise UserError(
                f"weights of an autoencoder's loss are not negative and the discriminator has channels; got kl={kl}, "
                f"perceptual={perceptual}, adversarial={adversarial}, discriminator_width={discriminator_width}"
            )
        self.kl, self.perceptual, self.adversarial = kl, perceptual, adversarial
        self.discriminator_width = discriminator_width
        if lpips is not None and perceptual == 0:
            raise UserError("objective.lpips is a perceptual distance: give it a weight with objective.perceptual")
        self.features: FeatureDistance | LPIPS | None = lpips
        self.discriminator: PatchDiscriminator | None = None

    def prepare(self, channels: int, features: FeatureNet | None) -> None:
        """Add what only the data can say: the pictures' channels, and the network whose features are compared.

        Raises:
            UserError: a perceptual weight without such a network, or with one of other pictures.
        """
        if isinstance(self.features, LPIPS):
            if channels != self.features.channels:
                raise UserError(f"LPIPS compares pictures of {self.features.channels} channels, not of {channels}")
        elif self.perceptual > 0:
            if features is None:
                raise UserError(
                    f"objective.perceptual={self.perceptual} compares features of a classifier of the data's labels, "
                    "and there is none for these data; set objective.perceptual=0"
                )
            if features.channels != channels:
                raise UserError(f"the classifier reads {features.channels} channels, the autoencoder has {channels}")
            self.features = FeatureDistance(features)
        if self.adversarial > 0:
            self.discriminator = PatchDiscriminator(channels, self.discriminator_width)

    def forward(
        self, network: KLAutoencoder, x: Float[Tensor, "b c h w"], mask: Mask | None, key: NoiseKey | None
    ) -> AutoencoderTerms:
        """The loss of pictures under a mask of real positions; without a key of the posterior's mean, as in validation.

        The discriminator learns in training only, from the same step: its own loss does not reach the autoencoder,
        nor the autoencoder's the discriminator.
        """
        height, width = network.latent_size(x.shape[-2], x.shape[-1])
        shape = (network.latent_channels, height, width)
        coded = network(x, mask, None if key is None else key.component("latent").normal(shape, x))
        real = None if mask is None else mask.expand(-1, x.shape[1], *x.shape[-2:])
        back = coded.x if real is None else torch.where(real, coded.x, 0.0)
        x = x if real is None else torch.where(real, x, 0.0)
        difference, count = masked_sum((back.float() - x.float()).abs(), real)
        elements = count.clamp(min=1)
        latent = None if mask is None else network.latent_mask(mask)
        divergence = kl_divergence(coded.mean.float(), coded.log_variance.float(), latent) / elements
        parts = {"l1": difference / elements, "kl": divergence}
        loss = parts["l1"] + self.kl * divergence
        if self.features is not None:
            parts["perceptual"] = self.features(back, x, mask)
            loss = loss + self.perceptual * parts["perceptual"]
        if self.discriminator is not None and key is not None:
            parts["generator"], parts["discriminator"] = self.discriminator.losses(back, x, mask)
            loss = loss + self.adversarial * parts["generator"] + parts["discriminator"]
        return AutoencoderTerms(loss, {name: part.detach() for name, part in parts.items()})


def kl_divergence(
    mean: Float[Tensor, "b d h w"], log_variance: Float[Tensor, "b d h w"], mask: Mask | None = None
) -> Float[Tensor, " b"]:
    """KL(N(mean, variance) || N(0, 1)), summed over a sample's real latents."""
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return masked_sum(each, None if mask is None else mask.expand(-1, *each.shape[1:]))[0]


class FeatureDistance(nn.Module):
    """The squared distance of unit feature vectors, averaged over real positions and over a FeatureNet's layers.

    The network is frozen: it stays in evaluation mode and takes no gradient of its own.
    """

    def __init__(self, network: FeatureNet) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(
        self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"], mask: Mask | None
    ) -> Float[Tensor, " b"]:
        net, b = self.network, len(x)
        h = functional.relu(net.stem(torch.cat([x, y])))
        distances = []
        for layer in (nn.Identity(), *net.blocks):
            h = layer(h)
            unit = h / (h.square().sum(1, keepdim=True) + 1e-6).sqrt()
            distances.append(_mean((unit[:b] - unit[b:]).square().sum(1, keepdim=True), mask))
        return torch.stack(distances).mean(0)

    def train(self, mode: bool = True) -> FeatureDistance:
        return super().train(False)


class PatchDiscriminator(nn.Module):
    """Real or decoded, for each patch of a picture: three convolutions, two of which halve; hinge losses."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 i j"]:
        """Above zero: real."""
        return self.layers(x)

    def losses(
        self, decoded: Float[Tensor, "b c h w"], real: Float[Tensor, "b c h w"], mask: Mask | None
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The autoencoder's loss, with these weights held, and the discriminator's, with the pictures held."""
        held = {name: weight.detach() for name, weight in self.named_parameters()}
        generator = _mean(-torch.func.functional_call(self, held, (decoded,)), mask)
        fooled, right = self(decoded.detach()), self(real.detach())
        own = 0.5 * (_mean(functional.relu(1 + fooled), mask) + _mean(functional.relu(1 - right), mask))
        return generator, own


def _mean(values: Float[Tensor, "b 1 h w"], mask: Mask | None) -> Float[Tensor, " b"]:
    """The mean over real positions, of a mask at any finer resolution."""
    if mask is None:
        return values.flatten(1).mean(1)
    coarse = functional.adaptive_max_pool2d(mask.float(), values.shape[-2:])
    total, count = masked_sum(values, coarse > 0)
    return total / count.clamp(min=1)
