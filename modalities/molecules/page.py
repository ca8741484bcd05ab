"""A page to turn molecules on: viewers in one HTML file that needs nothing else, not even a network.

The molecules lie in it as JSON, the drawings as data: addresses, and the viewer is a few lines of JavaScript. All text
is escaped, and a content security policy forbids whatever would reach outside.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from PIL import Image

from framework.files import write_text
from modalities.molecules.depict import Verdict, drawing, formula, symbol, verdict
from modalities.molecules.molecule import Molecule
from modalities.molecules.picture3d import STICKS, colour_of, orientation, radius_of

ON_PAGE = 256
WIDTH, HEIGHT = 240, 160  # of a drawing
PALETTE = 24  # its colours: few elements and their blends with white
DIGITS = 3  # of positions in Angstrom: less than a pixel at any zoom


def write_page(
    path: str | Path,
    samples: Sequence[Molecule],
    prompts: Sequence[str],
    metadata: Sequence[Mapping[str, str]],
    title: str = "Molecules",
    verdicts: Sequence[Verdict] | None = None,
) -> Path:
    """Write `html_page` to a file."""
    write_text(path, html_page(samples, prompts, metadata, title, verdicts))
    return Path(path)


def html_page(
    samples: Sequence[Molecule],
    prompts: Sequence[str],
    metadata: Sequence[Mapping[str, str]],
    title: str = "Molecules",
    verdicts: Sequence[Verdict] | None = None,
) -> str:
    """One HTML page with a viewer a molecule, for the first 256; it says how many more there are.

    Arguments:
        samples: N molecules.
        prompts: N captions.
        metadata: N rows of what else is known; what all rows share is shown once.
        title: of the page.
        verdicts: on the molecules, if they are known.
    """
    if not len(samples) == len(prompts) == len(metadata):
        raise ValueError(f"{len(samples)} molecules have {len(prompts)} prompts and {len(metadata)} rows of metadata")
    found = verdicts if verdicts is not None else [verdict(molecule) for molecule in samples]
    shared = {
        key: value
        for key, value in (metadata[0] if metadata else {}).items()
        if len(metadata) > 1 and all(row.get(key) == value for row in metadata)
    }
    shown = list(zip(samples, prompts, metadata, found, strict=True))[:ON_PAGE]
    cards = [
        {
            "prompt": prompt,
            "smiles": v.smiles,
            "formula": formula(molecule),
            "valid": v.valid,
            "words": v.words,
            "picture": _base64(drawing(molecule, WIDTH, HEIGHT, v)),
            "properties": {name: f"{value:.6g}" for name, value in molecule.properties.items()},
            "metadata": {key: value for key, value in row.items() if key not in shared},
        }
        for molecule, prompt, row, v in shown
    ]
    return _template().render(
        title=title,
        cards=cards,
        shared=shared,
        total=len(samples),
        valid=sum(v.valid for v in found),
        width=WIDTH,
        height=HEIGHT,
        data={
            "molecules": [_compact(molecule, v) for molecule, _, _, v in shown],
            "elements": {
                str(element): {"symbol": symbol(element), "colour": colour_of(element), "radius": radius_of(element)}
                for element in sorted({e for molecule, *_ in shown for e in molecule.elements.tolist()})
            },
            "sticks": {str(order): stick for order, stick in STICKS.items()},
        },
    )


def _compact(molecule: Molecule, found: Verdict) -> dict[str, Any]:
    """What the viewer draws, turned as in the pictures; atoms without finite positions cannot be, and are left out."""
    shown = np.flatnonzero(np.isfinite(molecule.positions).all(1))
    number = {int(old): new for new, old in enumerate(shown)}
    places = molecule.positions[shown] @ orientation(molecule.positions).T
    if len(places):
        places = places - (places.max(0) + places.min(0)) / 2
    bonds = molecule.bonds[np.ix_(shown, shown)]
    pairs = np.argwhere(np.triu(bonds, 1))
    return {
        "elements": molecule.elements[shown].tolist(),
        "positions": [round(x, DIGITS) for x in places.ravel().tolist()],
        "bonds": [[int(i), int(j), int(bonds[i, j])] for i, j in pairs],
        "charges": {str(number[int(i)]): int(molecule.charges[i]) for i in shown if molecule.charges[i]},
        "numbers": (shown + 1).tolist(),
        "marked": [number[i] for i in found.atoms if i in number],
    }


def _template() -> Template:
    folder = resources.files(__package__)
    loader = FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template("page.html.jinja")


def _base64(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
