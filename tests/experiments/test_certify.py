"""`diffract certify`: which solvers it takes, what it writes, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import certify, cli
from experiments.certify import chosen_solvers
from experiments.configuration import compose, plain
from experiments.errors import ConfigurationError
from experiments.words import several

MINE = '''
from itertools import pairwise
from framework.solvers.plan import first_order, nodes


class Right:
    """Euler, for what it is."""

    order, evaluations_per_step, stochastic = 1, 1, False

    def plan(self, schedule, times):
        return tuple(first_order(i, t, s) for i, (t, s) in enumerate(pairwise(nodes(schedule, times))))


class Boastful(Right):
    order = 2


class Nothing: ...
'''


def chosen(*overrides: str) -> dict[str, Any]:
    return chosen_solvers(plain(compose("certify", overrides)))


@pytest.fixture
def diffract(tmp_path, monkeypatch, capfd):
    """Runs `diffract certify WORDS` in an empty folder beside a file of one's own, measuring little."""
    from framework.certify.certificate import Effort
    from framework.certify.gaussian import GAUSSIAN
    from framework.schedules import Flow

    def little(settings: Any, allow: Any) -> Effort:
        return Effort(steps=(20, 40, 80), points=8, beds=(GAUSSIAN,), schedules={"flow": Flow()}, laws=("seed",))

    (tmp_path / "solvers_of_mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(certify, "_effort", little)

    def call(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["diffract", "certify", "workers=1", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        sys.modules.pop("solvers_of_mine", None)
        return SimpleNamespace(code=code, out=out, err=err)

    return call


def test_all_is_every_file_and_every_variant():
    settings = plain(compose("certify"))
    files = {path.stem for path in (Path(__file__).parents[2] / "conf" / "solver").glob("*.yaml")}
    assert set(chosen("solver=all")) == set(chosen()) == files | set(settings["variants"])


def test_names_lists_and_patterns():
    assert list(chosen("solver=heun")) == ["heun"]
    assert list(chosen("solver=heun,ddim")) == list(chosen("solver=[heun,ddim]")) == ["heun", "ddim"]
    assert set(chosen("solver=ddim*")) == {"ddim", "ddim_eta_half", "ddim_eta_one"}
    assert chosen("solver=ddim_eta_half")["ddim_eta_half"] == {"_target_": "framework.solvers.ddim.DDIM", "eta": 0.5}


def test_ones_own_solver_is_named_by_its_path_or_with_arguments():
    assert chosen("solver=my.Thing") == {"my.Thing": {"_target_": "my.Thing"}}
    given = chosen("+solver._target_=my.Thing", "+solver.eta=0.5")
    assert given == {"my.Thing": {"_target_": "my.Thing", "eta": 0.5}}


def test_wrong_names_have_their_nearest():
    with pytest.raises(ConfigurationError, match="no solver 'unpic'; did you mean 'unipc'"):
        chosen("solver=unpic")
    settings = plain(compose("certify", ["solver=heun", "grid=karas"]))
    with pytest.raises(ConfigurationError, match="no grid 'karas'; did you mean 'karras'"):
        certify._effort(settings, certify.allowed(settings))
    settings = plain(compose("certify", ["schedule=cosin"]))
    with pytest.raises(ConfigurationError, match="no schedule 'cosin'; did you mean 'cosine'"):
        certify._effort(settings, certify.allowed(settings))


def test_all_schedules_with_all_grids_are_the_fixed_grids_only(capsys):
    settings = plain(compose("certify", ["schedule=all", "grid=all"]))
    effort = certify._effort(settings, certify.allowed(settings))
    assert "gits, ld3: fitted to a model, and left out" in capsys.readouterr().out
    paths = {(path.schedule_name, path.grid_name) for path in effort.paths}
    assert {("flow", "uniform"), ("cosine", "karras"), ("edm", "log_snr")} <= paths
    assert ("edm", "karras") not in paths  # it is measured anyhow
    assert not any(grid in ("gits", "ld3") for _, grid in paths)
    settings = plain(compose("certify", ["grid=gits"]))
    with pytest.raises(ConfigurationError, match="fitted to a model"):
        certify._effort(settings, certify.allowed(settings))


def test_what_other_schedules_and_grids_do_not_apply_to_is_said(capsys, monkeypatch, tmp_path):
    kinds = {"heun": "continuous", "rk45": "continuous", "tau_leaping": "categorical"}
    certificates = {name: SimpleNamespace(kind=kind) for name, kind in kinds.items()}
    monkeypatch.setattr(certify, "_certify", lambda *_: certificates)
    for name in ("_show", "_write"):
        monkeypatch.setattr(certify, name, lambda *_: None)
    for more, said in (["grid=flow"], True), ([], False):
        certify.run(plain(compose("certify", ["solver=heun,rk45,tau_leaping", f"out={tmp_path}", *more])))
        assert ("grid than the base's: rk45, tau_leaping" in capsys.readouterr().out) is said


def test_several_names_are_neither_a_sweep_nor_a_choice():
    assert several("solver=a,b", "certify") == "solvers=['a','b']"
    assert several("grid=all", "certify") == "grids=['all']"
    assert several("solver=a", "sample") == "solver=a"
    assert several("out=x", "certify") == "out=x"


def test_what_is_sound_ends_with_0_and_a_file(diffract):
    result = diffract("solver=euler,solvers_of_mine.Right", "out=here", "table=page.md")
    assert result.code == 0, result.err
    written = json.loads(Path("here/certify.json").read_text())
    assert set(written) == {"euler", "solvers_of_mine.Right"}
    assert written["euler"]["passed"] and written["solvers_of_mine.Right"]["declared_order"] == 1
    assert written["euler"]["measured_order"] == pytest.approx(1, abs=0.1)
    assert "solvers_of_mine.Right" in result.out and "wrote here/certify.json and page.md" in result.out
    assert "| `euler` | 1 |" in Path("page.md").read_text()


def test_what_is_not_ends_with_1_after_the_file_is_written(diffract):
    result = diffract("solver=solvers_of_mine.Boastful")
    assert result.code == 1
    assert "NO: order" in result.out and "declared 2" in result.out
    assert not json.loads(Path("outputs/certify/certify.json").read_text())["solvers_of_mine.Boastful"]["passed"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("solver=solvers_of_mine.Rigth", "did you mean 'Right'?"),
        ("solver=solvers_of_mine.Nothing", "Nothing is no solver: it has no order"),
        ("solver=nowhere_at_all.Mine", "cannot be imported"),
        ("+solver._target_=solvers_of_mine.Right", "not allowed here"),
        ("solver=huen", "did you mean 'heun'"),
    ],
)
def test_wrong_input_ends_with_2_and_words(diffract, word, said):
    result = diffract(word)
    assert result.code == 2
    assert said in result.err and "Traceback" not in result.err
    assert not Path("outputs").exists()


def test_allowed_packages_may_be_named_with_arguments(diffract):
    result = diffract("+solver._target_=solvers_of_mine.Right", "allow=[solvers_of_mine]")
    assert result.code == 0, result.err


def test_two_processes_find_the_same(tmp_path, monkeypatch, diffract):
    assert diffract("solver=euler,ddim", "out=one").code == 0
    assert diffract("solver=euler,ddim", "workers=2", "out=two").code == 0
    one, two = (json.loads(Path(out, "certify.json").read_text()) for out in ("one", "two"))
    for name in one:
        for part in ("measured_order", "order_low", "order_high"):
            assert one[name][part] == pytest.approx(two[name][part], abs=1e-6)


def test_help_names_the_choices(diffract):
    shown = diffract("--help").out
    assert "diffract certify solver=all" in shown
    assert "  schedule: cosine, edm, flow" in shown and "unipc" in shown
