"""A molecule as a fragment of HTML that can be turned: an SVG of balls and sticks, and the few lines that turn it.

It needs nothing around it and nothing from elsewhere. Without scripts, and on paper, it is the picture alone.
"""

from __future__ import annotations

import html
import json
from typing import Any

import numpy as np

from modalities.molecules.molecule import Molecule
from modalities.molecules.picture3d import colour_of, orientation, radius_of

SIZE = 100.0  # half of the picture's side in its own units
BALL = 0.32  # of an atom's radius

# Balls and sticks are sorted by depth; dragging and the arrow keys turn them about the picture's own axes.
SCRIPT = """(()=>{const g=document.currentScript.previousElementSibling,m=JSON.parse(g.dataset.molecule);
let p=m.p,held=null;const turn=(a,b)=>{const c=Math.cos(a),s=Math.sin(a),d=Math.cos(b),t=Math.sin(b);
p=p.map(([x,y,z])=>{[x,z]=[c*x+s*z,c*z-s*x];return[x,d*y-t*z,d*z+t*y]});draw()};
const at=q=>q[0].toFixed(1)+" "+q[1].toFixed(1);
const draw=()=>{const o=m.b.map(([i,j,w])=>[(p[i][2]+p[j][2])/2-.1,`<path d="M${at(p[i])}L${at(p[j])}"
stroke="#888" stroke-width="${w}"/>`]);p.forEach(([x,y,z],i)=>o.push([z,`<circle cx="${x}" cy="${y}" r="${m.r[i]}"
fill="${m.c[i]}" stroke="#555"/>`]));g.innerHTML=o.sort((a,b)=>a[0]-b[0]).map(e=>e[1]).join("")};
g.onpointerdown=e=>{held=[e.clientX,e.clientY];g.setPointerCapture(e.pointerId)};g.onpointerup=()=>held=null;
g.onpointermove=e=>{if(held){turn((e.clientX-held[0])/60,(e.clientY-held[1])/60);held=[e.clientX,e.clientY]}};
g.onkeydown=e=>{const k={ArrowLeft:[-.2,0],ArrowRight:[.2,0],ArrowUp:[0,-.2],ArrowDown:[0,.2]}[e.key];
if(k){turn(...k);e.preventDefault()}}})()"""


def fragment(molecule: Molecule, words: str) -> str:
    """The SVG of a molecule, `words` for who cannot see it, and its script."""
    shown = np.flatnonzero(np.isfinite(molecule.positions).all(1))
    places = molecule.positions[shown] @ orientation(molecule.positions).T if len(shown) else np.zeros((0, 3))
    middle = (places.max(0) + places.min(0)) / 2 if len(places) else 0.0
    reach = max(float(np.linalg.norm(places - middle, axis=1).max(initial=0.0)), 1.0) + 0.8
    places = (places - middle) / reach * SIZE * np.array([1.0, -1.0, 1.0])
    elements = molecule.elements[shown].tolist()
    number = {int(old): new for new, old in enumerate(shown)}
    pairs = [(int(i), int(j)) for i, j in np.argwhere(np.triu(molecule.bonds, 1)) if i in number and j in number]
    data: dict[str, list[Any]] = {
        "p": [[round(x, 1) for x in row] for row in places.tolist()],
        "r": [round(BALL * radius_of(element) / reach * SIZE * 2, 1) for element in elements],
        "c": ["#{:02x}{:02x}{:02x}".format(*colour_of(element)) for element in elements],
        "b": [[number[i], number[j], 2 + 3 * int(molecule.bonds[i, j])] for i, j in pairs],
    }
    code, said = html.escape(json.dumps(data, separators=(",", ":"))), html.escape(words)
    return (
        f'<svg viewBox="{-SIZE:g} {-SIZE:g} {2 * SIZE:g} {2 * SIZE:g}" role="img" aria-label="{said}" tabindex="0" '
        f'style="touch-action:pan-y;cursor:grab" data-molecule="{code}">{_drawn(data)}</svg><script>{SCRIPT}</script>'
    )


def _drawn(data: dict[str, list[Any]]) -> str:
    """What the script draws at first."""
    places, found = data["p"], []
    for i, j, width in data["b"]:
        (a, b, c), (d, e, f) = places[i], places[j]
        found.append(((c + f) / 2 - 0.1, f'<path d="M{a} {b}L{d} {e}" stroke="#888" stroke-width="{width}"/>'))
    found += [
        (z, f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}" stroke="#555"/>')
        for (x, y, z), radius, colour in zip(places, data["r"], data["c"], strict=True)
    ]
    return "".join(drawn for _, drawn in sorted(found))
