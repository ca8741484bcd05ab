"""Pictures show each atom where it is, in its colour, and what is nearer in front; pages hold all and need nothing."""

import json
import re
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

pytest.importorskip("rdkit")
pytest.importorskip("jinja2")

from PIL import Image
from rdkit import Chem

from modalities.molecules.conformers import embed
from modalities.molecules.depict import verdict
from modalities.molecules.molecule import Molecule
from modalities.molecules.page import html_page
from modalities.molecules.picture3d import View, colour_of, orientation, paint, view_of
from modalities.molecules.render import contact_sheet, render, render_trajectory


def atoms(elements, positions, bonds=(), charges=None):
    n = len(elements)
    orders = np.zeros((n, n), np.int64)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    return Molecule(
        np.array(elements, np.int64),
        np.array(charges or [0] * n, np.int64),
        orders,
        np.array(positions, np.float64).reshape(n, 3),
        {},
    )


def hue(colour):
    """A colour without its brightness, which light and distance change."""
    colour = np.asarray(colour, float)
    return np.round((colour - colour.min()) / max(np.ptp(colour), 1), 1).tolist()


@pytest.fixture(scope="module")
def molecules():
    found = [embed(smiles)[0] for smiles in ("CC(=O)N", "FCS", "C[N+](=O)[O-]")]
    found = [Molecule(m.elements, m.charges, m.bonds, m.positions, {"gap": 4.5}) for m in found]
    return [*found, atoms([6, 1, 1, 1], np.eye(4)[:, :3] * 1.1, [(0, i, 1) for i in range(1, 4)])]


STRAIGHT = View(np.eye(3), np.zeros(3), 20.0)


def test_an_atom_is_painted_where_it_is_in_its_colour():
    molecule = atoms([8, 7], [[-2, 1, 0], [2, -1, 0]])
    picture = paint(molecule, 120, 100, STRAIGHT)
    assert picture.shape == (100, 120, 3) and picture.dtype == np.uint8
    # x to the right and y upwards, from the middle: (-2, 1) at 20 pixels an Angstrom is column 20 and row 30.
    assert hue(picture[30, 20]) == hue(colour_of(8))
    assert hue(picture[70, 100]) == hue(colour_of(7))
    assert (picture[70, 20] == 255).all() and (picture[0] == 255).all()
    drawn = (picture < 250).any(-1)
    rows, columns = np.nonzero(drawn[:, :60])
    assert abs(rows.mean() - 29.5) < 0.6 and abs(columns.mean() - 19.5) < 0.6


def test_what_is_nearer_hides_what_is_behind():
    for front, back in ((8, 7), (7, 8)):
        picture = paint(atoms([back, front], [[0, 0, -3], [0, 0, 3]]), 60, 60, STRAIGHT)
        assert hue(picture[30, 30]) == hue(colour_of(front))


def test_half_of_a_bond_has_the_colour_of_each_end_and_orders_are_that_many_sticks():
    stripes = []
    for order in (1, 2, 3):
        picture = paint(
            atoms([8, 7], [[-2, 0, 0], [2, 0, 0]], [(0, 1, order)]), 160, 120, View(np.eye(3), np.zeros(3), 38.0)
        )
        middle = (picture[:, 65].astype(int).sum(-1) < 740).astype(int)
        stripes.append(int((np.diff(middle) == 1).sum()))
        left, right = picture[:, 65], picture[:, 95]
        assert left[left.sum(-1).argmin()].argmax() == 0 and right[right.sum(-1).argmin()].argmax() == 2
    assert stripes == [1, 2, 3]


def test_the_orientation_is_a_rotation_that_turns_with_the_molecule():
    rng = np.random.default_rng(0)
    for _ in range(5):
        cloud = rng.exponential(size=(12, 3)) * (4, 2, 1)  # three lengths, and lopsided
        first = orientation(cloud)
        assert np.allclose(first @ first.T, np.eye(3)) and np.linalg.det(first) > 0, "no mirror image"
        turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        moved = cloud @ (turned * np.linalg.det(turned)).T + 5
        seen, again = ((x - x.mean(0)) @ orientation(x).T for x in (cloud, moved))
        assert np.allclose(seen, again), "it looks the same from wherever it was"
        assert seen[:, 0].var() > seen[:, 2].var()


def test_no_atom_leaves_the_picture(molecules):
    far = atoms([6, 6, 6], [[0, 0, 0], [40, 0, 0], [0, 30, 5]])
    for molecule in [*molecules, far]:
        picture = paint(molecule, 100, 80)
        edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (edges == 255).all() and (picture < 200).any()


def test_marks_charges_and_lost_atoms(molecules):
    plain, marked = paint(molecules[0]), paint(molecules[0], marked=(0,))
    red = (np.abs(marked.astype(int) - (235, 60, 60)).sum(-1) < 40) & (plain == 255).all(-1)
    assert red.sum() > 30
    charged = atoms([7], [[0, 0, 0]], charges=[1])
    neutral = atoms([7], [[0, 0, 0]])
    assert (paint(charged, 60, 60) != paint(neutral, 60, 60)).any()
    assert (paint(atoms([6], [[np.nan] * 3]), 40, 30) == 255).all()
    assert (paint(atoms([], []), 40, 30) == 255).all()


def test_the_sheet_shows_colours_and_frames_and_says_how_many_more(molecules, monkeypatch):
    one = contact_sheet(molecules, [""] * 4)
    pixels = np.asarray(one).reshape(-1, 3).astype(int)
    for colour in ((62, 142, 84), (200, 40, 40)):
        assert (np.abs(pixels - colour).sum(1) < 6).sum() > 500, "green and red frames"
    hues = {tuple(hue(colour)) for colour in np.unique(pixels, axis=0) if np.ptp(colour) > 100}
    for element in (7, 8, 9, 16):
        assert tuple(hue(colour_of(element))) in hues
    monkeypatch.setattr("modalities.molecules.render.ON_SHEET", 4)
    more = contact_sheet(molecules * 2, [""] * 8)
    assert more.size == one.size and np.asarray(more).tobytes() != np.asarray(one).tobytes()
    assert contact_sheet([], []).width > 100


def test_render_writes_all_files_and_the_sheet_last(tmp_path, molecules):
    files = render(molecules, ["a", "b", "", "d"], tmp_path / "out", [{"seed": str(i)} for i in range(4)])
    names = [f"0000{i}.sdf" for i in range(4)] + ["samples.sdf", "samples.xyz", "samples.smi", "page.html", "sheet.png"]
    assert [file.name for file in files] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    mol = Chem.MolFromMolFile(str(files[0]), removeHs=False)
    assert mol.GetNumAtoms() == len(molecules[0])
    supplier = Chem.SDMolSupplier(str(files[4]), sanitize=False, removeHs=False)
    assert [mol.GetPropsAsDict().get("prompt") for mol in supplier] == ["a", "b", None, "d"]
    with Image.open(files[-1]) as sheet:
        assert np.asarray(sheet).std() > 10
    with pytest.raises(ValueError, match="4 molecules have 1 prompts"):
        render(molecules, [""], tmp_path, [{}] * 4)


def test_of_many_samples_the_first_have_files_of_their_own(tmp_path, molecules, monkeypatch):
    monkeypatch.setattr("modalities.molecules.render.SINGLE_FILES", 3)
    files = render(molecules[3:] * 5, [""] * 5, tmp_path, [{}] * 5)
    assert sum(re.fullmatch(r"\d{5}\.sdf", file.name) is not None for file in files) == 3
    assert len(Chem.SDMolSupplier(str(tmp_path / "samples.sdf"), sanitize=False)) == 5


def test_a_trajectory_keeps_the_view_of_its_end(tmp_path, molecules):
    def at(scale):
        return [Molecule(m.elements, m.charges, m.bonds, m.positions * scale, {}) for m in molecules[:2]]

    states = [at(scale) for scale in (3.0, 2.0, 1.0)]
    files = render_trajectory(states, ["one", "two"], tmp_path)
    assert [file.name for file in files] == ["trajectory.xyz", "trajectory.png", "trajectory.gif"]
    frames = files[0].read_text().split("Properties=")
    assert len(frames) == 4 and "step=3" in frames[-1]
    with Image.open(files[2]) as film:
        assert film.n_frames == 3
    view = view_of([state[0].positions for state in states], 100, 80)
    assert np.array_equal(view.rotation, orientation(states[-1][0].positions))
    # All of a larger first frame is seen, unless half of the picture would be lost to it.
    alone = view_of([states[-1][0].positions], 100, 80).scale
    assert alone / 2 <= view.scale < alone
    with pytest.raises(ValueError, match="a prompt at each time"):
        render_trajectory(states, ["one"], tmp_path)


def page_data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_page_holds_each_molecule_turned_and_nothing_from_outside(molecules):
    rows = [{"seed": str(i), "solver": "ddim"} for i in range(4)]
    page = html_page(molecules, [f"prompt {i}" for i in range(4)], rows)
    data = page_data(page)
    assert len(data["molecules"]) == 4 == page.count("<canvas ")
    for item, molecule in zip(data["molecules"], molecules, strict=True):
        assert item["elements"] == molecule.elements.tolist()
        shape = np.array(item["positions"]).reshape(-1, 3)
        for positions in (shape, molecule.positions):
            assert len(positions) == len(molecule)
        distances = [np.linalg.norm(x[:, None] - x, axis=-1) for x in (shape, molecule.positions)]
        assert np.abs(distances[0] - distances[1]).max() < 2e-3
        # A mirror image has the same distances, and the opposite volume.
        volumes = [np.linalg.det(x[1:4] - x[0]) for x in (shape, molecule.positions)]
        assert abs(volumes[0] - volumes[1]) < 2e-2
        bonds = np.zeros((len(molecule),) * 2, int)
        for i, j, order in item["bonds"]:
            bonds[i, j] = bonds[j, i] = order
        assert np.array_equal(bonds, molecule.bonds)
        assert str(verdict(molecule).words) in page
    assert data["molecules"][3]["marked"] == [0] and sorted(data["molecules"][2]["charges"].values()) == [-1, 1]
    for i in range(4):
        assert f"prompt {i}" in page
    assert page.count("ddim") == 1, "what all share is said once"
    written = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|src=\"?//|url\(|@import|<link|<iframe|\bfetch\(", written)
    assert "default-src 'none'" in page


def test_the_page_escapes_what_people_write(molecules):
    evil = "</script><script>alert(1)</script>"
    named = Molecule(*(getattr(molecules[0], f) for f in ("elements", "charges", "bonds", "positions")), {evil: 1.0})
    page = html_page([named], [evil], [{evil: evil}], title=evil)
    assert "<script>alert" not in page and page.count("</script>") == 2


def test_the_page_leaves_out_lost_atoms_and_says_how_many_more_there_are(molecules, monkeypatch):
    monkeypatch.setattr("modalities.molecules.page.ON_PAGE", 4)
    lost = molecules[0].positions.copy()
    lost[1] = np.nan
    broken = Molecule(molecules[0].elements, molecules[0].charges, molecules[0].bonds, lost, {})
    page = html_page([broken] + [molecules[3]] * 4, [""] * 5, [{}] * 5)
    data = page_data(page)
    assert len(data["molecules"]) == 4 and "the first 4 are shown" in page
    first = data["molecules"][0]
    assert first["numbers"] == [1, *range(3, len(broken) + 1)] and len(first["positions"]) == 3 * (len(broken) - 1)
    assert max(max(i, j) for i, j, _ in first["bonds"]) < len(broken) - 1
    assert html_page([], [], []).count("<canvas ") == 0


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_viewers_script_parses(tmp_path):
    script = resources.files("modalities.molecules").joinpath("viewer.js.jinja").read_text(encoding="utf-8")
    (tmp_path / "viewer.js").write_text(script)
    subprocess.run(["node", "--check", tmp_path / "viewer.js"], check=True)
