"""Text as a plugin of Diffract: words or characters are tokens behind masks, prompts are texts with blanks.

A state is one array of tokens (B, N), of which condition["mask"] (B, N) says which are of the text; its process is a
mask's (Sahoo et al. 2024, arXiv:2406.07524). A prompt is the beginning of a text ("three plus"), or a text with a blank
for each unit that is to be made ("three plus _ is seven"); it says how long the text is where it has blanks.
"""

from __future__ import annotations

import copy
import html
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import default_collate

from diffract_text.data import TextData
from diffract_text.metrics import judged, perplexity, share
from diffract_text.render import write
from diffract_text.units import BLANK, Units
from framework.categories import Categories, Nodes
from framework.data.counter import uniforms
from framework.editing.known import Given
from framework.errors import DataError, PromptError, UserError
from framework.metrics.measurement import Measurement
from framework.metrics.score import Score, verdicts
from framework.modality import Modality
from framework.model import Model
from framework.noise import SampleKey
from framework.token_bound import token_bound

ASSESSED, BATCH, LEVELS = 1024, 128, 32  # held-out texts, at a time, and evaluations of each


class Text(Modality):
    """Texts of up to `length` units.

    Args:
        tokens: the vocabulary; None is the data's when a run begins, and so below.
        length: the most units.
        sizes: how many training texts have 0, 1, 2, ... units.
        separator: what stands between units: " " for words, "" for characters.
    """

    name: ClassVar[str] = "text"

    def __init__(
        self,
        tokens: Sequence[str] | None = None,
        length: int | None = None,
        sizes: Sequence[int] | None = None,
        separator: str | None = None,
    ) -> None:
        if tokens is None or length is None or sizes is None or separator is None:
            raise ValueError("text needs tokens, a length, sizes and a separator; a training run has them of its data")
        self.units, self.length, self.counts = Units(separator, tuple(tokens)), length, np.array(sizes)

    @property
    def space(self) -> Categories:  # type: ignore[override]
        return Categories(len(self.units.known), Nodes())

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        condition = self._condition(batch["size"].to(batch["tokens"].device))
        return self.space.project(batch["tokens"], condition), condition

    def decode(self, state: Tensor, condition: TensorDict) -> list[str]:  # type: ignore[override]
        """Texts; of probabilities the likeliest, and masks as blanks."""
        tokens = (state.argmax(-1) if state.is_floating_point() else state).tolist()
        return [
            self.units.text(row[:size]) for row, size in zip(tokens, condition["mask"].sum(1).tolist(), strict=True)
        ]

    def join(self, parts: Sequence[list[str]]) -> list[str]:
        return [text for part in parts for text in part]

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        """How long the texts are; those of which only the beginning is said are as long as most."""
        sizes = []
        for prompt in prompts:
            units, goes_on = self._read(prompt)
            sizes.append(max(int(self.counts.argmax()), len(units) + 1) if goes_on else len(units))
        return self._condition(torch.tensor(sizes))

    def null(self, condition: TensorDict) -> TensorDict:
        return condition

    def resized(self, condition: TensorDict, like: TensorDict) -> TensorDict:  # type: ignore[override]
        return condition.copy().update({"mask": like["mask"]})

    def complete(self, prompts: Sequence[Any], seed: int, samples: Sequence[int]) -> Sequence[str]:
        """Prompts with as many blanks behind a beginning as the data have units there."""
        drawn = uniforms(seed, "sizes of texts", np.asarray(samples), 1)[:, 0]
        made = []
        for prompt, u in zip(prompts, drawn, strict=True):
            units, goes_on = self._read(prompt)
            if goes_on:
                longer = self.counts * (np.arange(len(self.counts)) > len(units))
                law = longer.cumsum() / max(longer.sum(), 1)
                size = int((law <= u).sum()) if longer.any() else len(units) + 1
                units = [*units, *[BLANK] * (size - len(units))]
            made.append(self.units.join(units))
        return made

    def given(self, prompts: Sequence[Any], condition: TensorDict) -> Given | None:  # type: ignore[override]
        state = torch.zeros(condition["mask"].shape, dtype=torch.int64)
        known = torch.zeros(state.shape, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            for place, unit in enumerate(self._read(prompt)[0]):
                if unit != BLANK:
                    state[row, place], known[row, place] = self.units.index[unit], True
        return Given(state, known) if bool(known.any()) else None

    def read(self, path: Path) -> Mapping[str, Any]:
        """The first line of a text file."""
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).suffix == ".txt" else []
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as text in UTF-8: {error}") from error
        if not lines or not self.units.split(lines[0]):
            raise DataError(f"{path} is no .txt file with a text in its first line")
        try:
            units, _ = self._read(lines[0])
            tokens = torch.tensor([self.units.index[unit] for unit in units])
        except (PromptError, KeyError) as error:
            raise DataError(f"{path}: {error}") from error
        padded = torch.nn.functional.pad(tokens, (0, self.length - len(tokens)))
        return {"tokens": padded[None], "size": torch.tensor([len(tokens)])}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """ "places=0-3": the first three units."""
        if not text.strip():
            return torch.ones_like(state, dtype=torch.bool)
        begin, _, end = text.strip().removeprefix("places=").partition("-")
        if not (text.strip().startswith("places=") and begin.isdecimal() and end.isdecimal() and int(begin) < int(end)):
            raise UserError(f"{text!r} is no part of a text; say places=A-B, as places=0-3 for its first three units")
        place = torch.arange(state.shape[1])
        return ((place >= int(begin)) & (place < int(end))).expand(state.shape)

    def render(
        self, samples: list[str], prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """samples.txt, samples.jsonl with the metadata, and sheet.png."""
        return write(
            samples, ["" if prompt is None else str(prompt) for prompt in prompts], folder, metadata, self.units
        )

    def render_trajectory(self, states: Sequence[list[str]], prompts: Sequence[Any], folder: Path) -> list[Path]:
        """trajectory.txt: of each text what the network said of it at each step."""
        told = ("\n".join([f"# {i + 1}", *(texts[i] for texts in states), ""]) for i in range(len(states[0])))
        (folder / "trajectory.txt").write_text("\n".join(told), encoding="utf-8")
        return [folder / "trajectory.txt"]

    def evaluation_prompts(self, data: TextData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """Nothing said, and a quarter as many held-out texts with a blank, if the data have such."""
        return [*self.prompts(data, n, seed), *data.infills(max(n // 4, 1), seed)]

    def evaluate(  # type: ignore[override]
        self, samples: list[str], prompts: Sequence[Any], data: TextData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """What the language's rules say, variety, how many are copies of training texts, and of how many infills are
        true; beside held-out texts."""
        if options:
            raise UserError(f"text knows no option {', '.join(sorted(options))}")
        free = [text for text, prompt in zip(samples, prompts, strict=True) if not prompt]
        filled = [text for text, prompt in zip(samples, prompts, strict=True) if prompt]
        result: dict[str, Measurement] = {}
        if free:
            known = data.trained_on()
            real = data.reference(len(free), seed)
            held_out = judged(real, data, self.units, seed, len(real))
            result = judged(free, data, self.units, seed, len(real))
            result |= {f"ceiling/{name}": measurement for name, measurement in held_out.items()}
            result["copied"] = share(np.array([text in known for text in free]), seed)
        return result | {
            f"infilled/{name}": share(values, seed) for name, values in data.judge(filled).items() if filled
        }

    def assess(  # type: ignore[override]
        self, model: Model, data: TextData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """The bound on the perplexity of held-out texts, their lengths included, beside what it would be for who knows
        the language."""
        texts, nats = data.reference(ASSESSED, seed), []
        denoiser = model.denoiser()
        for start in range(0, len(texts), BATCH):
            batch = default_collate([data.all.item(text) for text in texts[start : start + BATCH]])
            state, condition = (part.to(model.device) for part in self.encode(batch))
            key = SampleKey(seed, tuple(range(start, start + len(state))))
            nats.append(token_bound(denoiser, model.process, state, condition, key, LEVELS))
        sizes = np.array([len(self.units.split(text)) for text in texts])
        chances = np.maximum(self.counts, 1)[sizes] / self.counts.sum()
        result = perplexity(torch.cat(nats).numpy() - np.log(chances), sizes, seed)
        if data.entropy is not None:
            best = perplexity(np.full(len(sizes), data.entropy), sizes, seed)
            result |= {f"ceiling/{name}": measurement for name, measurement in best.items()}
        return result

    def scores(  # type: ignore[override]
        self, samples: list[str], prompts: Sequence[Any], data: TextData, seed: int
    ) -> dict[str, Score]:
        """The verdicts of the language's rules."""
        return {name: verdicts(values, f"{name} texts") for name, values in data.judge(samples).items()}

    def real(self, data: TextData, n: int, seed: int) -> tuple[list[str], list[str]]:  # type: ignore[override]
        texts = data.reference(n, seed)
        return texts, [""] * len(texts)

    def show(self, samples: list[str], prompts: Sequence[Any]) -> list[str]:
        return [f"<p>{html.escape(text)}</p>" for text in samples]

    @classmethod
    def adapt(cls, config: dict[str, Any], data: TextData) -> dict[str, Any]:
        """Vocabulary, sizes and separator, where the configuration leaves them open."""
        config = copy.deepcopy(config)
        known = {
            "tokens": list(data.all.units.known),
            "length": data.all.length,
            "sizes": data.sizes().tolist(),
            "separator": data.separator,
        }
        config["modality"] |= {key: value for key, value in known.items() if config["modality"].get(key) is None}
        if config["backbone"].get("classes", 0) is None:
            config["backbone"]["classes"] = len(config["modality"]["tokens"])
        return config

    def _condition(self, sizes: Tensor) -> TensorDict:
        mask = torch.arange(self.length, device=sizes.device) < sizes[:, None]
        return TensorDict({"mask": mask}, batch_size=[len(sizes)])

    def _read(self, prompt: Any) -> tuple[list[str], bool]:
        """The units of a prompt, and whether the text goes on behind them.

        Raises:
            PromptError: a unit is not known, there are too many, or nothing is left to be made.
        """
        if prompt is not None and not isinstance(prompt, str):
            raise PromptError(f"the prompt {prompt!r} is no text")
        units = self.units.split(prompt or "")
        if unknown := [unit for unit in units if unit not in self.units.index and unit != BLANK]:
            nearest = get_close_matches(unknown[0], self.units.known, n=1, cutoff=0.0)
            raise PromptError(f"{unknown[0]!r} is not in the vocabulary; did you mean {nearest[0]!r}?")
        if len(units) > self.length:
            raise PromptError(f"{prompt!r} has {len(units)} units, and texts here have at most {self.length}")
        return units, BLANK not in units and len(units) < self.length
