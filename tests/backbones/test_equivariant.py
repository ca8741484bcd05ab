"""Networks over points in space: their symmetries, to rounding in float64; padding; EDM's network, number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.peers_egnn import ScatterEGNN
from framework.backbones.egnn import EGNN, edm_weights
from framework.backbones.pair_transformer import SIZES, PairTransformer, pair_transformer
from framework.backbones.pairs import _collect, pairs
from framework.backbones.points import centred
from framework.backbones.radial import RadialBasis
from framework.backbones.set_transformer import SetTransformer
from framework.errors import DataError, UserError
from framework.rotations import haar_rotations, rotated

COUNTS = torch.tensor([7, 3, 5, 1, 2])
NODES, PAIRS, OUT_NODES, OUT_PAIRS, CONDITIONS, MORE = 4, 3, 5, 2, 3, 2
NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "egnn": (EGNN, {"width": 16, "layers": 2, "sublayers": 2}),
    "pair": (PairTransformer, {"width": 16, "pair": 8, "layers": 3, "heads": 2, "vectors": 3, "radial": 6}),
    "chiral": (
        PairTransformer,
        {"width": 16, "pair": 8, "layers": 3, "heads": 2, "vectors": 3, "radial": 6, "chiral": True},
    ),
    "set": (SetTransformer, {"width": 16, "pair": 8, "layers": 2, "heads": 2}),
}
EQUIVARIANT = ("egnn", "pair", "chiral")
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def network(name: str, kind: torch.dtype = torch.float64, **changes: Any) -> nn.Module:
    """A network with all its inputs and outputs, its zeros disturbed."""
    torch.manual_seed(0)
    of, numbers = NETWORKS[name]
    sizes = {
        "nodes": NODES, "pairs": PAIRS, "out_nodes": OUT_NODES, "out_pairs": OUT_PAIRS,
        "conditions": CONDITIONS, "more": MORE,
    }  # fmt: skip
    made = of(**(sizes | numbers | changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator) / max(p.shape[-1], 1) ** 0.5)
    return made.to(kind)


def inputs(size: int = 8, counts: Tensor = COUNTS, kind: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(kind)

    b = len(counts)
    edges = normal(b, size, size, PAIRS)
    return {
        "positions": 1.5 * normal(b, size, 3),
        "nodes": normal(b, size, NODES),
        "pairs": edges + edges.transpose(1, 2),
        "level": 1000 * torch.rand(b, generator=generator),
        "mask": torch.arange(size) < counts[:, None],
        "condition": normal(b, CONDITIONS),
        "more_positions": normal(b, size, 3, MORE),
    }


def turned(given: dict[str, Tensor], by: Tensor) -> dict[str, Tensor]:
    more = torch.einsum("bij,bnjm->bnim", by, given["more_positions"])
    return given | {"positions": rotated(given["positions"], by), "more_positions": more}


def permuted(given: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    changed = {name: given[name][:, order] for name in ("positions", "nodes", "mask", "more_positions")}
    return given | changed | {"pairs": given["pairs"][:, order][:, :, order]}


def rotations(count: int = len(COUNTS)) -> Tensor:
    """Orthogonal to rounding in float64."""
    drawn = torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    q = torch.linalg.qr(drawn).Q
    return q * torch.linalg.det(q)[:, None, None]


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_rotations_turn_positions_and_nothing_else(name: str) -> None:
    model, given, by = network(name), inputs(), rotations()
    out, other = model(**given), model(**turned(given, by))
    assert out.positions.abs().amax((1, 2))[COUNTS > 1].min() > 1e-3, "something moves"
    torch.testing.assert_close(other.positions, rotated(out.positions, by), **TIGHT)
    torch.testing.assert_close(other.nodes, out.nodes, **TIGHT)
    torch.testing.assert_close(other.pairs, out.pairs, **TIGHT)


@pytest.mark.parametrize("name", ["egnn", "pair"])
def test_reflections_mirror_positions_and_nothing_else(name: str) -> None:
    model, given, by = network(name), inputs(), -rotations()
    out, other = model(**given), model(**turned(given, by))
    torch.testing.assert_close(other.positions, rotated(out.positions, by), **TIGHT)
    torch.testing.assert_close(other.nodes, out.nodes, **TIGHT)
    torch.testing.assert_close(other.pairs, out.pairs, **TIGHT)


def test_a_chiral_network_tells_mirror_images_apart() -> None:
    model, by = network("chiral", more=0), -rotations()
    given = {name: value for name, value in inputs().items() if name != "more_positions"}
    out = model(**given)
    other = model(**(given | {"positions": rotated(given["positions"], by)}))
    differs = (other.nodes - out.nodes).abs().amax((1, 2))
    assert differs[COUNTS >= 5].min() > 1e-6
    assert differs[COUNTS <= 3].max() < 1e-9, "three points lie in a plane: they are their own mirror image"


def test_the_plain_transformer_is_not_equivariant() -> None:
    model, given, by = network("set"), inputs(), rotations()
    out, other = model(**given), model(**turned(given, by))
    assert (other.nodes - out.nodes).abs().max() > 1e-2


@pytest.mark.parametrize("name", NETWORKS)
def test_translations_change_nothing(name: str) -> None:
    model, given = network(name), inputs()
    shift = torch.tensor([3.0, -5.0, 40.0], dtype=torch.float64)
    moved = given | {
        "positions": given["positions"] + shift,
        "more_positions": given["more_positions"] - shift[:, None] * torch.tensor([1.0, 2.0]),
    }
    for displacement in (True, False):
        model.displacement = displacement
        for a, b in zip(model(**moved), model(**given), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_permutations_permute(name: str) -> None:
    model, given = network(name), inputs()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(4))
    out, other = model(**given), model(**permuted(given, order))
    torch.testing.assert_close(other.positions, out.positions[:, order], **TIGHT)
    torch.testing.assert_close(other.nodes, out.nodes[:, order], **TIGHT)
    torch.testing.assert_close(other.pairs, out.pairs[:, order][:, :, order], **TIGHT)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_is_zero_and_neither_its_content_nor_its_amount_matters(name: str) -> None:
    model, given = network(name), inputs()
    out, mask = model(**given), given["mask"]
    both = mask[:, :, None] & mask[:, None] & ~torch.eye(8, dtype=torch.bool)
    assert not out.positions[~mask].any() and not out.nodes[~mask].any() and not out.pairs[~both].any()
    assert out.nodes[mask].abs().min() > 0 and out.pairs[both].abs().min() > 0
    assert out.positions.sum(1).abs().max() < 1e-12
    torch.testing.assert_close(out.pairs, out.pairs.transpose(1, 2), **TIGHT)
    junk = given | {
        name: torch.where(mask.reshape(*mask.shape, *[1] * (given[name].ndim - 2)), given[name], torch.nan)
        for name in ("positions", "nodes", "more_positions")
    }
    junk["pairs"] = torch.where(both[..., None], given["pairs"], torch.nan)
    for a, b in zip(model(**junk), out, strict=True):
        assert torch.equal(a, b)
    for i, n in enumerate(COUNTS.tolist()):
        rows = {key: value[i : i + 1] for key, value in given.items()}
        rows |= {key: rows[key][:, :n] for key in ("positions", "nodes", "mask", "more_positions")}
        alone = model(**(rows | {"pairs": rows["pairs"][:, :n, :n]}))
        torch.testing.assert_close(alone.positions, out.positions[i : i + 1, :n], **TIGHT)
        torch.testing.assert_close(alone.nodes, out.nodes[i : i + 1, :n], **TIGHT)
        torch.testing.assert_close(alone.pairs, out.pairs[i : i + 1, :n, :n], **TIGHT)


@pytest.mark.parametrize("name", NETWORKS)
def test_positions_are_displacements_and_what_they_start_from(name: str) -> None:
    given = inputs()
    steps, places = network(name)(**given), network(name, displacement=False)(**given)
    expected = steps.positions + centred(given["positions"], given["mask"])
    torch.testing.assert_close(places.positions, expected, **TIGHT)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_input_is_heard(name: str) -> None:
    model, given = network(name), inputs()
    out = model(**given)
    for key, value in given.items():
        if key == "mask":
            continue
        if key == "pairs":  # one pair alone, both ways
            changed = value.clone()
            changed[:, 0, 1] += 1
            changed[:, 1, 0] += 1
        else:
            changed = value + torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape).sin()
        for part, before in zip(model(**(given | {key: changed})), out, strict=True):
            assert (part - before)[0].abs().max() > 1e-6, key


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter_and_no_padding(name: str) -> None:
    model, given = network(name), inputs()
    given["positions"].requires_grad_()
    out = model(**given)
    sum((part.square() * torch.rand_like(part)).sum() for part in out).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    gradient = given["positions"].grad
    assert gradient.isfinite().all() and not gradient[~given["mask"]].any() and gradient[given["mask"]].any()


@pytest.mark.parametrize("name", ["pair", "chiral", "set"])
def test_a_fresh_network_leaves_points_alone_and_a_few_steps_wake_all_of_it(name: str) -> None:
    torch.manual_seed(0)
    of, numbers = NETWORKS[name]
    model = of(NODES, PAIRS, OUT_NODES, OUT_PAIRS, CONDITIONS, MORE, **numbers)
    given = inputs(kind=torch.float32)
    assert all(part.abs().max() < 1e-6 for part in model(**given))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        sum((part - torch.linspace(0, 1, part.shape[-1])).square().mean() for part in model(**given)).backward()
        optimizer.step()
    assert [key for key, p in model.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_sixteen_bits_compute_and_float32_comes_out(name: str) -> None:
    model, given = network(name, torch.float32), inputs(kind=torch.float32)
    with torch.no_grad():
        exact = model(**given)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(**given)
    for a, b in zip(mixed, exact, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.05 * b.norm()


def test_edm_in_its_scattered_form_says_the_same_with_the_same_weights() -> None:
    torch.manual_seed(0)
    peer = ScatterEGNN(NODES, width=12, layers=3, sublayers=2, norm_constant=0.5, normalization=3.0).double()
    with torch.no_grad():
        for p in peer.parameters():
            p.add_(0.1 * torch.randn_like(p))
    ours = EGNN(
        NODES, out_nodes=NODES, width=12, layers=3, sublayers=2, norm_constant=0.5, normalization=3.0
    ).double()  # fmt: skip
    published = {f"dynamics.egnn.{name}": value for name, value in peer.state_dict().items()}
    published["gamma.gamma"] = torch.zeros(7)
    ours.load_state_dict(edm_weights(published, NODES))
    given = inputs(counts=COUNTS[COUNTS > 1])
    x = centred(given["positions"], given["mask"])
    nodes = torch.where(given["mask"][..., None], given["nodes"], 0.0)
    moved, features = peer(x, nodes, given["level"].double() / 1000, given["mask"])
    out = ours(x, nodes, given["pairs"][..., :0], given["level"].double(), given["mask"])
    assert moved.abs().max() > 0.1
    torch.testing.assert_close(out.positions, moved, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(out.nodes, features, rtol=1e-6, atol=1e-10)


def test_weights_that_are_not_of_such_a_network_are_refused() -> None:
    with pytest.raises(DataError, match="no network of EDM"):
        edm_weights({"linear.weight": torch.zeros(2, 2)}, 1)
    sines = {"embedding.weight": torch.zeros(4, 3), "e_block_0.gcl_0.edge_mlp.0.weight": torch.zeros(4, 8 + 24)}
    with pytest.raises(DataError, match="24 features of a distance"):
        edm_weights(sines, 1)


def test_maps_of_pairs_and_their_transposes() -> None:
    """Against the definitions, and by gradients of the first and the second kind."""
    at = pairs(5, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    p = torch.randn(2, 10, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    dense = at.dense(p)
    off = ~torch.eye(5, dtype=torch.bool)
    for row, (i, j) in enumerate(zip(at.first.tolist(), at.second.tolist(), strict=True)):
        assert torch.equal(dense[:, i, j], p[:, row]) and torch.equal(dense[:, j, i], p[:, row])
        torch.testing.assert_close(at.sum_of_ends(a, p)[:, row], a[:, i] + a[:, j] + p[:, row])
        torch.testing.assert_close(at.difference_of_ends(a)[:, row], a[:, i] - a[:, j])
    assert torch.equal(at.triangle(dense), p)
    torch.testing.assert_close(at.sum_around(p), (dense * off[..., None]).sum(2))
    for f, x in [
        (at.difference_of_ends, a),
        (at.flow_into, p),
        (lambda p: at.dense(p) * off[..., None], p),
    ]:
        assert torch.autograd.gradcheck(f, x) and torch.autograd.gradgradcheck(f, x)


def test_flows_are_the_same_where_they_may_not_be_scattered() -> None:
    at, p = pairs(6, torch.device("cpu")), torch.randn(2, 3, 15, 4, dtype=torch.float64)

    class Elsewhere(torch.Tensor):
        device = torch.device("meta")

    other = _collect(p.as_subclass(Elsewhere), at).as_subclass(torch.Tensor)
    torch.testing.assert_close(other, _collect(p, at))


def test_radial_features_have_their_peaks_in_order_and_never_end() -> None:
    basis = RadialBasis(8, reach=10.0)
    at = torch.expm1(torch.arange(8) * basis.width)
    assert at[-1] == pytest.approx(10.0, rel=1e-5)
    torch.testing.assert_close(basis(at).argmax(1), torch.arange(8))
    torch.testing.assert_close(basis(at).diagonal(), torch.ones(8))
    assert basis(torch.tensor([13.0]))[0, -1] > 0.5
    with pytest.raises(UserError, match="count >= 2"):
        RadialBasis(1)


def test_sizes_have_the_parameters_that_their_docstring_says() -> None:
    for size in SIZES:
        with torch.device("meta"):
            made = pair_transformer(size, 8, 4, 8, 4, more=1)
        millions = sum(p.numel() for p in made.parameters()) / 1e6
        assert f"{size} ({millions:.2g} M" in (pair_transformer.__doc__ or "")
    with pytest.raises(UserError, match="did you mean 'small'"):
        pair_transformer("smal", 5)


def test_numbers_that_do_not_go_together_are_refused() -> None:
    for name in ("pair", "set"):
        with pytest.raises(UserError, match="3 heads do not divide a width of 16"):
            network(name, heads=3)
    for name in NETWORKS:
        with pytest.raises(UserError, match="layers=0"):
            network(name, layers=0)
        given = inputs()
        with pytest.raises(ValueError, match="a condition of 3 features, got 0"):
            network(name)(**(given | {"condition": None}))
        with pytest.raises(ValueError, match="0 further sets of points, got 2"):
            network(name, more=0)(**given)


def test_rotations_are_proper_and_uniform() -> None:
    """Haar's law: any vector goes uniformly over the sphere, and the angle has the density (1 - cos) / pi."""
    turn = haar_rotations(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand_as(turn), rtol=0, atol=1e-6)
    assert (torch.linalg.det(turn) - 1).abs().max() < 1e-5
    # A coordinate of a uniform point of the sphere is uniform in [-1, 1] (Archimedes), in each of the nine entries.
    grid = torch.linspace(0, 1, 101)[1:-1]
    for entry in turn.flatten(1).T:
        assert (torch.quantile((entry + 1) / 2, grid) - grid).abs().max() < 1.95 / 20_000**0.5  # p = 0.001 each
    angle = torch.arccos(((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)).sort().values
    cumulative = (angle - angle.sin()) / torch.pi
    assert (cumulative - (torch.arange(20_000) + 0.5) / 20_000).abs().max() < 1.95 / 20_000**0.5
    x = torch.randn(20_000, 4, 3)
    torch.testing.assert_close(torch.cdist(rotated(x, turn), rotated(x, turn)), torch.cdist(x, x), rtol=0, atol=1e-2)
