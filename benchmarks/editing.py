"""Every editing task on a trained model of `shapes`, measured: what stays, what obeys the prompt, what comes back.

    python -m benchmarks.editing --run outputs/shapes --n 128
    python -m benchmarks.editing --run outputs/shapes --inpaint outputs/shapes_inpaint --restore outputs/shapes_sr

`--inpaint` and `--restore` are runs of experiment=images/shapes_inpaint and images/shapes_sr, which are measured beside
the tasks that need no training of their own. The judge of captions is exact rules (modalities/images/shapes_rules.py),
and the pictures to edit are drawn from combinations that were held out. Each line is a mean with its 95 % interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import report
from framework.editing.inverted import FromInverted
from framework.editing.known import Known, TimeTravel
from framework.editing.observed import DDNM, AveragePool, PiGDM
from framework.editing.requests import Pasted
from framework.editing.shown import shown_measurement, shown_part
from framework.editing.start import FromClean
from framework.guidance.off import Off
from framework.metrics.feature_net import extract
from framework.metrics.intervals import mean_interval, wilson
from framework.metrics.pictures import feature_metrics
from framework.metrics.reconstruction import psnr
from framework.model import Model
from framework.solvers.ddim import DDIM
from framework.store import load
from modalities.images.data import ShapesData
from modalities.images.scenes import COLOURS, PLACES, SHAPES, Scene, Thing, caption, is_held_out, scenes_of
from modalities.images.shapes import draw
from modalities.images.shapes_rules import ATTRIBUTES, compare, look
from modalities.images.watermark import detect, embed, jpeg, resized

Result = dict[str, dict[str, Any]]


def measured(values: Sequence[float] | np.ndarray | Tensor) -> dict[str, Any]:
    numbers = np.asarray(values, dtype=np.float64)
    shares = bool(np.isin(numbers, (0.0, 1.0)).all())
    found = wilson(int(numbers.sum()), len(numbers)) if shares else mean_interval(numbers, seed=0)
    return {"value": round(found[0], 4), "low": round(found[1], 4), "high": round(found[2], 4), "n": len(values)}


def scenes(n: int) -> list[Scene]:
    """`n` held-out scenes in an order that mixes them."""
    held = [scene for scene in scenes_of(1) if is_held_out(scene)]
    return [held[(7 * i) % len(held)] for i in range(n)]


def other(scene: Scene, i: int, *, place: bool) -> Scene:
    """The scene with an object of another colour and shape, and at another place, if that is asked for."""
    thing = scene.things[0]
    colours, shapes = [c for c in COLOURS if c != thing.colour], [s for s in SHAPES if s != thing.shape]
    places = [p for p in PLACES if p != scene.place]
    changed = Thing(shapes[i % len(shapes)], colours[i % len(colours)], thing.size)
    return replace(scene, things=(changed,), place=places[i % len(places)] if place else scene.place)


def pictures(these: Sequence[Scene], size: int) -> Tensor:
    return torch.from_numpy(np.stack([draw(scene, size) for scene in these]))


def agrees(images: Tensor, these: Sequence[Scene], *attributes: str) -> dict[str, Any]:
    """The share of pictures in which these attributes are as in their scene; all of them, where none is named."""
    verdicts = [compare(scene, *look(image.numpy())) for image, scene in zip(images, these, strict=True)]
    return measured([float(all(getattr(v, name) for name in attributes or ATTRIBUTES)) for v in verdicts])


class Bench:
    """One model, and the pictures that it edits."""

    def __init__(self, model: Model, n: int) -> None:
        self.model, self.n, self.scenes = model, n, scenes(n)
        self.images = pictures(self.scenes, model.modality.size)  # type: ignore[attr-defined]
        self.prompts = [caption(scene) for scene in self.scenes]
        self.state, self.condition = model.modality.encode({"image": self.images, "caption": [""] * n})

    def sample(self, prompts: Sequence[Any], tasks: Sequence[Any] = (), **how: Any) -> Tensor:
        found: Tensor = self.model.sample(list(prompts), tasks=tasks, batch_size=self.n, **how).samples
        return found

    def inpainting(self, passes: int) -> Result:
        """The right half made anew under the caption; and an object at the left changed into another."""
        result: Result = {}
        modality = self.model.modality
        wishes = [other(scene, i, place=False) for i, scene in enumerate(self.scenes)]
        left = [replace(s, place="left", things=(replace(s.things[0], size="small"),)) for s in self.scenes]
        changed = [replace(w, place="left", things=(replace(w.things[0], size="small"),)) for w in wishes]
        for name, before, after, words in (
            ("completed", self.scenes, self.scenes, "x=0.5-1"),
            ("replaced", left, changed, "x=0-0.6"),
        ):
            images = pictures(before, modality.size)  # type: ignore[attr-defined]
            state, condition = modality.encode({"image": images, "caption": [""] * self.n})
            mask = ~modality.touched(words, state, condition)  # type: ignore[operator]
            pasted = Pasted(modality, {"image": images}, redo=words)
            tasks = [
                *shown_part(modality, state, mask.expand(state.shape)),
                Known(state, mask),
                TimeTravel(passes),
                pasted,
            ]  # type: ignore[union-attr]
            samples = self.sample([caption(scene) for scene in after], tasks)
            known = pixels_kept(words, modality)
            result[f"{name}, caption obeyed"] = agrees(samples, after)
            result[f"{name}, known pixels changed"] = measured(((samples != images) & known).flatten(1).sum(1).double())
        return result

    def editing(self, strength: float) -> Result:
        """Towards a caption of another colour, shape and place: what is still the input's, what is the caption's."""
        wishes = [other(scene, i, place=True) for i, scene in enumerate(self.scenes)]
        samples = self.sample([caption(wish) for wish in wishes], [FromClean(self.state, strength)])
        return {
            "place of the input": agrees(samples, self.scenes, "place"),
            "colour and shape of the prompt": agrees(samples, wishes, "colour", "shape"),
            "place of the prompt": agrees(samples, wishes, "place"),
        }

    def restoring(self, blocks: dict[int, int], method: str, data: ShapesData) -> Result:
        """PSNR and Frechet distance of what comes back from a small or grey picture, beside interpolation's."""
        operator = AveragePool(blocks)
        seen = operator.apply(self.state)
        if method == "bicubic":
            samples = torch.stack([bicubic(y, self.images.shape[-1]) for y in seen])
        elif method == "grey":
            samples = self.model.modality.decode(seen.expand(self.state.shape), self.condition)
        else:
            led = {
                "PiGDM": [PiGDM(operator, seen), DDNM(operator, seen)],
                "DDNM": [DDNM(operator, seen)],
                "conditional model": [*shown_measurement(self.model.modality, operator, seen), DDNM(operator, seen)],
            }[method.removesuffix(", no prompt")]
            asked = [None] * self.n if method.endswith("no prompt") else self.prompts
            samples = self.sample(asked, led)
        back = operator.apply(samples.float() / 127.5 - 1) - seen
        features = [extract(self.model.modality.perceptual(data), x).astype(np.float64) for x in (samples, self.images)]
        frechet = feature_metrics(features[0], features[1], seed=0)["frechet"]
        return {
            "PSNR, dB": measured(psnr(self.images, samples, 255.0)),
            "Frechet": {"value": frechet.value, "low": frechet.low, "high": frechet.high, "n": self.n},
            "caption obeyed": agrees(samples, self.scenes),
            "distance from what was seen, grey levels": measured(back.flatten(1).abs().amax(1) * 127.5),
        }

    def negating(self) -> Result:
        """How often a colour appears that the prompt leaves open, without and with it as the negative prompt."""
        backgrounds = [
            caption(replace(s, things=(Thing(s.things[0].shape, None, s.things[0].size),))) for s in self.scenes
        ]
        result: Result = {}
        for colour in COLOURS:
            for negative in (None, f"a {colour} {self.scenes[0].things[0].shape}"):
                samples = self.sample(backgrounds, negative=negative)
                shown = [bool(seen and seen[0].colour == colour) for _, seen in map(look, samples.numpy())]
                result[f"{colour}, {'no negative prompt' if negative is None else 'negative'}"] = measured(shown)
        return result

    def inverting(self, steps: int) -> Result:
        """A picture to its noise and back under its own caption, and under one with another colour."""
        modality, how = self.model.modality, {"solver": DDIM(), "steps": steps}
        task = FromInverted(modality, self.state, modality.parse(self.prompts))
        back = self.sample(self.prompts, [task], guidance=Off(), **how)
        colours = [
            replace(o.things[0], shape=s.things[0].shape) for o, s in zip(self._others(), self.scenes, strict=True)
        ]
        wishes = [replace(scene, things=(thing,)) for scene, thing in zip(self.scenes, colours, strict=True)]
        edited = self.sample([caption(wish) for wish in wishes], [task], **how)
        fresh = self.sample([caption(wish) for wish in wishes], **how)
        return {
            "reconstruction PSNR, dB": measured(psnr(self.images, back, 255.0)),
            "edit, new colour": agrees(edited, wishes, "colour"),
            "edit, all else as it was": agrees(edited, wishes, "shape", "size", "place", "background"),
            "edit, PSNR to the recoloured original, dB": measured(psnr(pictures(wishes, 16), edited, 255.0)),
            "from fresh noise, PSNR likewise, dB": measured(psnr(pictures(wishes, 16), fresh, 255.0)),
        }

    def _others(self) -> list[Scene]:
        return [other(scene, i, place=False) for i, scene in enumerate(self.scenes)]

    def watermarking(self) -> Result:
        """Detection at p < 1e-4 of the model's own samples after what files go through; false alarms of wrong keys."""
        samples = self.sample(self.prompts).numpy()
        marked = [embed(image, "a key") for image in samples]
        ways = {
            "PNG": lambda x: x,
            "JPEG 90": lambda x: jpeg(x, 90),
            "JPEG 75": jpeg,
            "resized to 3/4 and back": lambda x: resized(x, 0.75),
            "resized to 1/2 and back": lambda x: resized(x, 0.5),
            "enlarged 4 times": lambda x: x.repeat(4, 1).repeat(4, 2),
        }
        result = {
            f"found after {name}": measured([detect(way(x), "a key") < 1e-4 for x in marked])
            for name, way in ways.items()
        }  # type: ignore[no-untyped-call]
        alarms = np.array([detect(x, f"key {k}") for x in samples for k in range(100)])
        result["PSNR, dB"] = measured(psnr(torch.from_numpy(samples), torch.from_numpy(np.stack(marked)), 255.0))
        return result | {f"false alarms at p < {p:g}": measured((alarms < p).astype(float)) for p in (1e-2, 1e-4)}


def pixels_kept(words: str, modality: Any) -> Tensor:
    from modalities.images.regions import pixels_in

    return ~pixels_in(words, modality.size)


def bicubic(seen: Tensor, size: int) -> Tensor:
    """A small picture in [-1, 1] at `size` pixels: uint8."""
    small = ((seen.clamp(-1, 1) + 1) * 127.5).numpy()
    large = [
        np.asarray(Image.fromarray(c.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)) for c in small
    ]
    return torch.from_numpy(np.stack(large)).round().clamp(0, 255).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--inpaint")
    parser.add_argument("--restore")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--only", nargs="*", help="parts of the table: inpainting, editing, ...")
    given = parser.parse_args()
    bench = Bench(load(given.run), given.n)
    data = ShapesData(size=bench.images.shape[-1])
    data.setup("fit")
    four, two, grey = {2: 4, 3: 4}, {2: 2, 3: 2}, {1: 3}
    parts: dict[str, Any] = {f"inpainting, {k} passes": lambda k=k: bench.inpainting(k) for k in (1, 5)}
    if given.inpaint:
        parts["inpainting, model trained for it"] = lambda: Bench(load(given.inpaint), given.n).inpainting(1)
    parts |= {
        f"editing, strength {s}": lambda s=s: bench.editing(s) for s in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
    }
    for name, blocks, base in (
        ("super-resolution by 4", four, "bicubic"),
        ("super-resolution by 2", two, "bicubic"),
        ("colourisation", grey, "grey"),
    ):
        for method in (base, "DDNM", "PiGDM", "PiGDM, no prompt"):
            parts[f"{name}, {method}"] = lambda b=blocks, m=method: bench.restoring(b, m, data)
    if given.restore:
        for method in ("conditional model", "conditional model, no prompt"):
            parts[f"super-resolution by 4, {method}"] = lambda m=method: Bench(load(given.restore), given.n).restoring(
                four, m, data
            )
    parts |= {"negative prompts": bench.negating, "watermark": bench.watermarking}
    parts |= {f"inversion, {k} DDIM steps": lambda k=k: bench.inverting(k) for k in (20, 50, 100)}
    result: dict[str, Result] = {}
    for name, work in parts.items():
        if given.only and not any(name.startswith(only) for only in given.only):
            continue
        result[name] = work()
        for line, found in result[name].items():
            print(f"{name}: {line}: {found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g})", flush=True)
    if not given.only:
        report("editing", "python -m benchmarks.editing", {"n": given.n, "parts": result})


if __name__ == "__main__":
    main()
