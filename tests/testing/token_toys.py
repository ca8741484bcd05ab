"""Modalities with tokens that keep the contract: words of five letters, and sets of points with kinds and links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import one_hot

from framework.categories import Array, Categories, Nodes, Pairs
from framework.errors import PromptError
from framework.modality import Modality, Symmetry
from framework.spaces import Product, ZeroCentreOfMass
from framework.testing import Report, check_modality
from framework.training.loader import ResumableLoader
from tests.testing.toys import png

LETTERS, LENGTH = 4, 5
KINDS, LINKS, LARGEST = 3, 2, 5


class Toy(Modality):
    """What the two share: they follow no prompts, and draw one picture."""

    def join(self, parts: Sequence[Any]) -> Any:
        return [sample for part in parts for sample in part]

    def null(self, condition: TensorDict) -> TensorDict:
        return condition

    def check(self, prompts: Sequence[Any]) -> None:
        if wrong := [prompt for prompt in prompts if prompt != ""]:
            raise PromptError(f"{self.name} follow no prompts, not even {wrong[0]!r}")

    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        (folder / "sheet.png").write_bytes(png())
        return [folder / "sheet.png"]


class Words(Toy):
    """Words of five letters out of four: states of tokens alone, which a sample is too."""

    name: ClassVar[str] = "words"

    @property
    def space(self) -> Any:
        return Categories(LETTERS, Array((LENGTH,)))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        return batch["word"], TensorDict({}, batch_size=[len(batch["word"])])

    def decode(self, state: Any, condition: TensorDict) -> Tensor:
        return state.argmax(-1) if state.is_floating_point() else state

    def join(self, parts: Sequence[Any]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        self.check(prompts)
        return TensorDict({}, batch_size=[len(prompts)])


class Graphs(Toy):
    """Sets of 3 to 5 points of the plane, each of a kind, some of them linked."""

    name: ClassVar[str] = "graphs"

    @property
    def space(self) -> Any:
        return Product({
            "points": ZeroCentreOfMass(2),
            "kinds": Categories(KINDS, Nodes()),
            "links": Categories(LINKS, Pairs()),
        })  # fmt: skip

    def encode(self, batch: Mapping[str, Any]) -> tuple[TensorDict, TensorDict]:
        condition = TensorDict({"mask": batch["mask"]}, batch_size=[len(batch["mask"])])
        parts = {name: batch[name] for name in ("points", "kinds", "links")}
        return self.space.project(TensorDict(parts, batch_size=[len(batch["mask"])]), condition), condition

    def decode(self, state: Any, condition: TensorDict) -> list[dict[str, Tensor]]:
        sizes = condition["mask"].sum(1).tolist()
        kinds, links = (x.argmax(-1) if x.is_floating_point() else x for x in (state["kinds"], state["links"]))
        return [
            {"points": state["points"][i, :n], "kinds": kinds[i, :n], "links": links[i, :n, :n]}
            for i, n in enumerate(sizes)
        ]

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        self.check(prompts)
        return TensorDict({"mask": torch.arange(LARGEST).expand(len(prompts), -1) < 4}, batch_size=[len(prompts)])

    def symmetries(self, network: nn.Module) -> Sequence[Symmetry]:
        return [Symmetry("permutation", permuted)]


def permuted(state: Any, condition: TensorDict, seed: int) -> TensorDict:
    """The first three points, which are all real, in turn."""
    order = torch.tensor([1, 2, 0, 3, 4] if seed % 2 else [2, 0, 1, 3, 4])
    links = state["links"][:, order][:, :, order]
    parts = {"points": state["points"][:, order], "kinds": state["kinds"][:, order], "links": links}
    return TensorDict(parts, batch_size=[len(links)])


def rebatch(samples: Any, batch: Any) -> Any:
    """Decoded graphs in the place of a batch's own."""
    again = {name: torch.zeros_like(part) if name != "mask" else part for name, part in batch.items()}
    for row, sample in enumerate(samples):
        n = len(sample["points"])
        again["points"][row, :n], again["kinds"][row, :n] = sample["points"], sample["kinds"]
        again["links"][row, :n, :n] = sample["links"]
    return again


class TokenData(L.LightningDataModule):
    """Twenty-four items."""

    def __init__(self, items: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.items = items

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.items, batch_size=12, seed=0, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.items, batch_size=12, seed=0, shuffle=False)  # type: ignore[arg-type]

    def prompts(self, n: int, seed: int) -> list[None]:
        return [None] * n


def word_data() -> TokenData:
    generator = torch.Generator().manual_seed(2)
    return TokenData([{"word": word} for word in torch.randint(LETTERS, (24, LENGTH), generator=generator)])


def graph_data() -> TokenData:
    generator = torch.Generator().manual_seed(3)
    points = 1.5 * torch.randn(24, LARGEST, 2, generator=generator)
    kinds = torch.randint(KINDS, (24, LARGEST), generator=generator)
    links = torch.randint(LINKS, (24, LARGEST, LARGEST), generator=generator).tril(-1)
    mask = torch.arange(LARGEST) < 3 + torch.arange(24)[:, None] % 3
    items = zip(points, kinds, links + links.mT, mask, strict=True)
    return TokenData([dict(zip(("points", "kinds", "links", "mask"), item, strict=True)) for item in items])


class WordNet(nn.Module):
    """Each letter sees all letters and the noise level."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(LENGTH * (LETTERS + 1) + 1, width)
        self.last = nn.Linear(width, LENGTH * LETTERS)
        nn.init.zeros_(self.last.weight)

    def forward(self, x_t: Tensor, level: Tensor, condition: TensorDict) -> Tensor:
        seen = one_hot(x_t, LETTERS + 1).flatten(1).to(self.first.weight.dtype)
        hidden = torch.tanh(self.first(torch.cat([seen, level[:, None].to(seen) / 1000], 1)))
        return self.last(hidden).unflatten(1, (LENGTH, LETTERS))


class GraphNet(nn.Module):
    """Each point sees itself, the sum of those that it is linked with, the mean of all, and the noise level."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(2 * (2 + KINDS + 1) + LINKS + 2, width)
        self.points, self.kinds, self.links = nn.Linear(width, 2), nn.Linear(width, KINDS), nn.Linear(width, LINKS)
        for layer in (self.points, self.kinds, self.links):
            nn.init.zeros_(layer.weight)

    def forward(self, x_t: TensorDict, level: Tensor, condition: TensorDict) -> TensorDict:
        mask = condition["mask"][..., None]
        own = torch.cat([x_t["points"], one_hot(x_t["kinds"], KINDS + 1).to(x_t["points"])], 2) * mask
        mean = own.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        linked = one_hot(x_t["links"], LINKS + 1).to(own)
        around = (linked * (mask[:, :, None] & mask[:, None])).sum(2)
        noise = (level / 1000)[:, None, None].expand(-1, own.shape[1], 1).to(own)
        hidden = torch.tanh(self.first(torch.cat([own, mean.expand_as(own), around, noise], 2))) * mask
        pairs = hidden[:, :, None] * hidden[:, None]
        said = {"points": self.points(hidden), "kinds": self.kinds(hidden), "links": self.links(pairs)}
        return TensorDict(said, batch_size=x_t.batch_size)


def check_graphs(modality: Any = None, network: Any = None, **options: Any) -> Report:
    """The kit's report on graphs."""
    return check_modality(modality or Graphs(), graph_data, network or GraphNet(), rebatch=rebatch, **options)
