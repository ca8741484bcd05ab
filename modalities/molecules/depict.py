"""A molecule's graph on paper, and what is wrong with it.

The verdict is the strict one: no hydrogen is added that was not generated, no atom is a radical, all is one piece.
What fails is drawn all the same, from the graph as it is, with the atoms at fault marked.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from modalities.molecules.metrics.validity import strict_mol, strict_reason
from modalities.molecules.molecule import Molecule, canonical_smiles, to_rdkit

BAD, MARK = (200, 40, 40), (0.98, 0.62, 0.58)
BOND_LENGTH, FONT_SIZE = 30, 12
TANGLED = 14  # independent rings: beyond, there is no flat layout worth its time, and the positions' own is taken


@dataclass(frozen=True)
class Verdict:
    """What RDKit says of a molecule.

    Attributes:
        smiles: canonical, without stereochemistry; empty where the graph cannot be sanitised.
        reasons: why it is not valid, in words; none where it is.
        atoms: indices of the atoms at fault.
    """

    smiles: str
    reasons: tuple[str, ...] = ()
    atoms: tuple[int, ...] = ()

    @property
    def valid(self) -> bool:
        """Nothing is wrong with it."""
        return not self.reasons

    @property
    def words(self) -> str:
        """ "valid", or the reasons."""
        return "; ".join(self.reasons) or "valid"


def verdict(molecule: Molecule) -> Verdict:
    """Whether a molecule is strictly valid, and if not all that is wrong; atoms are counted from 1, as in its files."""
    mol = strict_mol(molecule)
    return _faults(molecule) if mol is None else Verdict(_smiles(mol))


def _faults(molecule: Molecule) -> Verdict:
    if len(molecule) == 0:
        return Verdict("", (strict_reason(molecule),))
    reasons: list[str] = []
    lost = np.flatnonzero(~np.isfinite(molecule.positions).all(1)).tolist()
    if lost:
        reasons.append(_numbered(lost, "has no finite position", "have no finite positions"))
    mol = to_rdkit(molecule)
    smiles, wrong = "", []
    with rdBase.BlockLogs():
        problems = Chem.DetectChemistryProblems(mol)
        if problems:
            wrong = sorted({problem.GetAtomIdx() for problem in problems if hasattr(problem, "GetAtomIdx")})
            each = [_valence(molecule, i) for i in wrong]
            reasons += each if len(each) < 4 else [_numbered(wrong, "", "have impossible valences")]
            reasons += [problem.Message() for problem in problems if not hasattr(problem, "GetAtomIdx")]
        else:
            Chem.SanitizeMol(mol)
            wrong = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetNumRadicalElectrons()]
            reasons += [_numbered(wrong, "lacks a bond", "lack bonds")] if wrong else []
            smiles = _smiles(mol)
    if (pieces := len(Chem.GetMolFrags(mol))) > 1:
        reasons.append(f"{pieces} fragments")
    return Verdict(smiles, tuple(reasons) or (strict_reason(molecule),), tuple(sorted({*wrong, *lost})))


def _smiles(mol: Chem.Mol) -> str:
    with rdBase.BlockLogs():
        try:
            return canonical_smiles(mol)
        except (ValueError, RuntimeError):  # it is nothing but hydrogens
            return Chem.MolToSmiles(mol)


def formula(molecule: Molecule) -> str:
    """The elements in Hill's order (carbon, hydrogen, then by name), as "C2H6O"; the charge is left out."""
    counts = Counter(symbol(element) for element in molecule.elements.tolist())
    first = [name for name in ("C", "H") if "C" in counts and name in counts]
    names = [*first, *sorted(set(counts) - set(first))]
    return "".join(f"{name}{counts[name] if counts[name] > 1 else ''}" for name in names)


def symbol(element: int) -> str:
    """The symbol of an atomic number; "*" of 0."""
    return Chem.GetPeriodicTable().GetElementSymbol(int(element))


def depict(molecule: Molecule, width: int = 240, height: int = 180, found: Verdict | None = None) -> Image.Image:
    """A 2-D drawing without its hydrogens' atoms, RGB; what is not valid has a red frame and the reason below."""
    found = found or verdict(molecule)
    if found.valid:
        return drawing(molecule, width, height, found)
    font = ImageFont.load_default(FONT_SIZE)
    lines = wrap(found.words, font, width - 12, 3)
    foot = 15 * len(lines) + 6
    picture = Image.new("RGB", (width, height), "white")
    picture.paste(drawing(molecule, width - 4, height - 4 - foot, found), (2, 2))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((width / 2, height - foot + 15 * number), line, BAD, font, anchor="ma")
    pen.rectangle((0, 0, width - 1, height - 1), outline=BAD, width=2)
    return picture


def drawing(molecule: Molecule, width: int, height: int, found: Verdict | None = None) -> Image.Image:
    """The bare 2-D drawing of `depict`, RGB; atoms at fault are marked."""
    found = found or verdict(molecule)
    if len(molecule) == 0:
        return Image.new("RGB", (width, height), "white")
    with rdBase.BlockLogs():
        mol = _flat(molecule, sanitise=bool(found.smiles))
        canvas = rdMolDraw2D.MolDraw2DCairo(width, height)
        options: Any = canvas.drawOptions()  # RDKit's stubs give all of its fields one wrong type
        options.prepareMolsBeforeDrawing = False
        options.fixedBondLength = BOND_LENGTH
        options.bondLineWidth = 1.6
        options.scaleBondWidth = False
        options.minFontSize, options.maxFontSize = 9, 15
        options.padding = 0.06
        options.highlightRadius = 0.42
        options.setHighlightColour(MARK)
        options.fillHighlights = True
        marked = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetIntProp("number") in set(found.atoms)]
        canvas.DrawMolecule(mol, highlightAtoms=marked, highlightBonds=[])
        canvas.FinishDrawing()
    return Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB")


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float, lines: int) -> list[str]:
    """The text in at most so many lines of so many pixels, an ellipsis where it is cut; words wider are broken."""
    done: list[str] = []
    line = ""
    for word in text.split():
        if line and font.getlength(f"{line} {word}") <= width:
            line += f" {word}"
            continue
        done += [line] if line else []
        line = word
        while font.getlength(line) > width and len(line) > 1:
            fit = max((k for k in range(1, len(line)) if font.getlength(line[:k]) <= width), default=1)
            done.append(line[:fit])
            line = line[fit:]
    done += [line] if line else []
    if len(done) <= lines:
        return done
    last = done[lines - 1]
    while last and font.getlength(f"{last}...") > width:
        last = last[:-1]
    return [*done[: lines - 1], f"{last}..."]


def _flat(molecule: Molecule, *, sanitise: bool) -> Chem.Mol:
    """With flat positions, and without the hydrogens that hang on one heavy atom by a single bond."""
    mol = to_rdkit(molecule)
    for atom in mol.GetAtoms():
        atom.SetIntProp("number", atom.GetIdx())
        if atom.GetFormalCharge() > atom.GetAtomicNum():  # more than its nucleus has: RDKit would stop at it
            atom.SetFormalCharge(0)
    mol.UpdatePropertyCache(strict=False)
    if sanitise:
        Chem.SanitizeMol(mol)
    else:
        Chem.AssignRadicals(mol)  # drawn as dots
    mol = Chem.RemoveHs(mol, implicitOnly=False, updateExplicitCount=True, sanitize=False)
    if sanitise:
        Chem.Kekulize(mol)
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    pieces = len(Chem.GetMolFrags(mol))
    if mol.GetNumBonds() - mol.GetNumAtoms() + pieces > TANGLED:
        _project(mol)
    else:
        rdDepictor.Compute2DCoords(mol)
    return mol


def _project(mol: Chem.Mol) -> None:
    """Flat positions as the 3-D ones look along their shortest axis."""
    positions = np.nan_to_num(mol.GetConformer().GetPositions(), posinf=0, neginf=0)
    positions = positions - positions.mean(0)
    flat = positions @ np.linalg.svd(positions, full_matrices=False)[2][:2].T
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.Set3D(False)
    for i, (x, y) in enumerate(flat.tolist()):
        conformer.SetAtomPosition(i, [x, y, 0.0])
    mol.RemoveAllConformers()
    mol.AddConformer(conformer, assignId=True)


def _valence(molecule: Molecule, i: int) -> str:
    charge = int(molecule.charges[i])
    sign = f"{'+' if charge > 0 else '-'}{abs(charge) if abs(charge) > 1 else ''}" if charge else ""
    return f"atom {i + 1}: {symbol(molecule.elements[i])}{sign} with valence {int(molecule.bonds[i].sum())}"


def _numbered(atoms: Iterable[int], one: str, many: str) -> str:
    numbers = [str(int(i) + 1) for i in atoms]
    if len(numbers) == 1:
        return f"atom {numbers[0]} {one}"
    shown = ", ".join(numbers[:4]) + (f" and {len(numbers) - 4} more" if len(numbers) > 4 else "")
    return f"atoms {shown} {many}"
