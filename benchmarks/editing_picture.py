"""The picture of docs/editing.md: every task on a trained model of `shapes`, a row each.

python -m benchmarks.editing_picture --run outputs/shapes --out docs/editing.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.editing.between import Interpolate
from framework.editing.inverted import Invert
from framework.editing.requests import Edit, Inpaint
from framework.editing.restore import Restore
from framework.solvers.ddim import DDIM
from framework.store import load
from modalities.images.outpaint import Outpaint
from modalities.images.render import save_png
from modalities.images.scenes import parse
from modalities.images.shapes import draw
from modalities.images.sheets import table
from modalities.images.style import Style

RED = "a large red circle at the left on a white background"
BLUE = "a large blue square at the left on a white background"
COLUMNS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--out", default="docs/editing.png")
    given = parser.parse_args()
    model = load(given.run)
    modality: Any = model.modality
    folder = Path(tempfile.mkdtemp())
    red = torch.from_numpy(draw(parse(RED), modality.size))
    file = str(save_png(red, folder / "red.png", {}))
    style = torch.from_numpy(draw(parse("a large yellow triangle in the centre on a black background"), modality.size))
    reference = str(save_png(style, folder / "style.png", {}))

    def made(request: Any, prompts: list[Any], **how: Any) -> list[Tensor]:
        return list(model.sample(prompts, tasks=request.tasks(modality), **how).samples)

    tiny = red.float().unflatten(2, (-1, 4)).mean(3).unflatten(1, (-1, 4)).mean(2)
    small = tiny.round().to(torch.uint8).repeat_interleave(4, 1).repeat_interleave(4, 2)
    grey = red.float().mean(0, keepdim=True).round().to(torch.uint8).expand(3, -1, -1)
    colours = [RED.replace("red", name) for name in ("red", "green", "blue", "yellow")]
    strengths = (0.05, 0.1, 0.15, 0.2, 0.4)
    rows = {
        "text to image, five seeds": [red, *model.sample(RED, 5).samples],
        "inpainting: the left made anew as a small blue square": [
            red, *made(Inpaint(file, redo="x=0-0.65"), [BLUE.replace("large", "small")] * 5)],
        f"image to image, {BLUE}, strength {', '.join(map(str, strengths))}": [
            red, *(made(Edit(file, s), [BLUE])[0] for s in strengths)],
        "inversion and edit: red, green, blue, yellow; a square": [
            red, *made(Invert(file, source=RED), [*colours, RED.replace("circle", "square")], solver=DDIM(), steps=50)],
        "super-resolution by 4": [small, *made(Restore(file, "pool=4"), [RED] * 5)],
        "colourisation: red, green, blue, yellow; no prompt": [grey, *made(Restore(file, "grey"), [*colours, None])],
        "outpainting from six tenths of each side": [
            red, *made(Outpaint(file, 0.6), [RED.replace("large", "small")] * 5)],
        "style of the first; prompts leave the colours open": [
            style,
            *made(Style(reference), ["a large square in the centre", "a large circle at the left", *[None] * 3])],
        "between two prompts": made(Interpolate(to=BLUE.replace("left", "right"), frames=COLUMNS), [RED] * COLUMNS),
        "between two noises": made(Interpolate(to_seed=3, frames=COLUMNS), [None] * COLUMNS),
    }  # fmt: skip
    images = torch.stack([image for row in rows.values() for image in row])
    sheet = table(images, list(rows), ["input", *[""] * (COLUMNS - 1)])
    save_png(sheet, given.out, {"model": given.run})


if __name__ == "__main__":
    main()
