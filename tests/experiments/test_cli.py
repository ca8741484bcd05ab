"""What a person types at `diffract`, and what answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from experiments import cli, configuration, plugged
from experiments.configuration import complete, compose, missing, plain
from experiments.errors import ConfigurationError
from framework.build import USER_CONFIG, build, check
from framework.plugins import Plugin

ROOT = Path(__file__).parents[2]
NEEDY = ("distilled",)  # options that need a value of the user's
CHOSEN = ["+modality.x=1", "+data.x=1", "+backbone.x=1"]


@pytest.fixture
def diffract(tmp_path, monkeypatch, capfd):
    """Runs `diffract WORDS` in an empty folder, with an application that only records what it is given."""
    seen: list[dict[str, Any]] = []

    def run(config: Any) -> float:
        seen.append({"config": plain(config), "argv": list(sys.argv), "overrides": configuration.given_overrides()})
        return 1.5

    for command in cli.CONFIGURED:
        application = ModuleType(f"experiments.{command}")
        application.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, application.__name__, application)
    monkeypatch.setattr(cli, "check", lambda config, allow: [])
    monkeypatch.setattr(configuration, "missing", lambda config: [])
    monkeypatch.setattr("experiments.configuration.missing", lambda config: [])
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> SimpleNamespace:
        seen.clear()
        monkeypatch.setattr(sys, "argv", ["diffract", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, jobs=list(seen))

    return call


def test_the_line_of_the_design_works(diffract):
    words = ["run=outputs/shapes", "n=16", "solver=dpmpp_2m", "steps=20", "guidance=cfg", "guidance.scale=3"]
    [job] = diffract("sample", "prompt=a red circle", *words).jobs
    config = job["config"]
    assert (config["run"], config["prompt"], config["n"], config["steps"]) == (
        "outputs/shapes",
        "a red circle",
        16,
        20,
    )
    assert config["guidance"]["scale"] == 3
    assert not Path("outputs").exists()


def test_the_folder_of_a_training_run(diffract):
    result = diffract("train", "run=outputs/mine")
    assert result.jobs[0]["config"]["run"] == "outputs/mine"
    assert Path("outputs/mine").is_dir()
    assert list(Path("outputs/mine").iterdir()) == []
    [job] = diffract("train", "name=images/shapes").jobs
    assert job["config"]["run"].startswith("outputs/images/shapes/2")
    assert job["config"]["logger"]["csv"]["folder"] == job["config"]["run"]


def test_other_processes_are_started_with_the_same_folder(diffract):
    """Lightning starts them from sys.argv; the default folder holds the time of day, which would differ."""
    [job] = diffract("train", "seed=3", "name='a, b'").jobs
    assert job["argv"] == ["diffract", "train", "seed=3", "name='a, b'", f"run='{job['config']['run']}'"]
    assert diffract(*job["argv"][1:]).jobs[0]["config"] == job["config"]


def test_each_job_of_a_multirun_has_its_own_folder(diffract):
    jobs = diffract("train", "-m", "seed=1,2", "run=outputs/sweep").jobs
    assert [(job["config"]["seed"], job["config"]["run"]) for job in jobs] == [
        (1, "outputs/sweep/0"),
        (2, "outputs/sweep/1"),
    ]
    assert jobs[1]["argv"] == ["diffract", "train", "seed=2", "run='outputs/sweep/1'"]
    jobs = diffract("train", "-m", "run=outputs/a,outputs/b").jobs
    assert [job["config"]["run"] for job in jobs] == ["outputs/a", "outputs/b"]
    jobs = diffract("train", "-m", "seed=1,2", "run=outputs/seed${seed}").jobs
    assert [job["config"]["run"] for job in jobs] == ["outputs/seed1", "outputs/seed2"]


def test_prompts_survive_a_multirun(diffract):
    jobs = diffract("sample", "-m", "run=x", "seed=1,2", "prompt=it's red, (really) ${run}").jobs
    assert [job["config"]["prompt"] for job in jobs] == ["it's red, (really) ${run}"] * 2
    jobs = diffract("sample", "-m", "run=x", "prompt='a, b','c'").jobs
    assert [job["config"]["prompt"] for job in jobs] == ["a, b", "c"]


def test_resuming_goes_on_in_the_folder_of_the_run(diffract):
    Path("outputs/old").mkdir(parents=True)
    Path("outputs/old/config.yaml").write_text("{}")
    [job] = diffract("train", "resume=outputs/old", "trainer.max_steps=7").jobs
    assert (job["config"]["run"], job["config"]["resume"]) == ("outputs/old", "outputs/old")
    assert job["overrides"] == ["resume=outputs/old", "trainer.max_steps=7", "run=outputs/old"]


def test_resuming_from_nowhere_is_refused_and_leaves_nothing(diffract):
    result = diffract("train", "resume=outputs/odl")
    assert (result.code, result.jobs) == (2, [])
    assert "no run in that folder" in result.err
    assert not Path("outputs").exists()


WRONG = [
    (("trian",), "did you mean 'train'?"),
    (("experiment=x",), "diffract train experiment=x"),
    (("train", "trainer=gpuu"), "did you mean 'gpu'?"),
    (("train", "sovler=ddim"), "did you mean 'solver'?"),
    (("train", "solver=ddim"), "solver@sampling.solver="),
    (("train", "exprmnt=x"), "did you mean 'experiment'?"),
    (("train", "trainer.max_epoch=3"), "did you mean 'trainer.max_epochs'?"),
    (("train", "max_steps=3"), "did you mean 'trainer.max_steps'?"),
    (("train", "trainer.qqq=3"), "trainer has: accelerator,"),
    (("train", "qqq=3"), "train has: name,"),
    (("train", "~optimiser"), "did you mean 'optimizer'?"),
    (("train", "seed"), "write key=value"),
    (("train", "seed=(1"), "cannot be read"),
    (("train", "seed=1,2"), "--multirun"),
    (("sample", "run=x", "solver=heunn"), "did you mean 'heun'?"),
    (("sample", "run=x", "trainer=cpu"), "there is no 'trainer'"),
    (("sample", "run=x", "guidance=cfg", "guidance.scal=3"), "did you mean 'guidance.scale'?"),
    (("sample", "run=x", "guidance.scale=3"), "as in guidance=NAME guidance.scale=...; guidance can be: cfg,"),
    (("sample", "-m", "run=x", "solver=ddim,heunn"), "did you mean 'heun'?"),
    (("sample", "run=${nope}"), "nope"),
    (("modalities", "--laod"), "--load"),
]


@pytest.mark.parametrize(("words", "hint"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_input_names_the_nearest_and_ends_with_2(diffract, words, hint):
    result = diffract(*words)
    assert result.code == 2
    assert hint in result.err
    assert "Traceback" not in result.err
    assert "Error executing job" not in result.err
    assert result.jobs == []
    assert not Path("outputs/unnamed").exists()


def test_missing_values_are_named(diffract, monkeypatch):
    monkeypatch.setattr("experiments.configuration.missing", missing)
    assert "run must be given" in diffract("sample").err
    result = diffract("train")
    assert result.code == 2
    assert "backbone, data, modality" in result.err
    assert "experiment=" in result.err


def test_misspelt_arguments_of_targets_are_found_before_work(diffract, monkeypatch):
    monkeypatch.setattr(cli, "check", check)
    result = diffract("sample", "run=x", "+grid._target_=framework.grids.Karras", "+grid.roh=7")
    assert (result.code, result.jobs) == (2, [])
    assert "grid.roh: framework.grids.Karras has no argument 'roh'; did you mean 'rho'?" in result.err
    result = diffract("sample", "run=x", "solver=ddim", "solver._target_=os.system")
    assert (result.code, result.jobs) == (2, [])
    assert "solver._target_: 'os.system' is not allowed here" in result.err


def test_packages_of_ones_own_are_allowed_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_solvers.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = compose("sample", ["run=x", "+solver={_target_: my_solvers.Mine}", "allow=[my_solvers]"])
    assert check(plain(config)["solver"], configuration.allowed(config)) == []
    assert check(plain(config)["solver"], USER_CONFIG) != []


def test_an_error_in_the_work_keeps_its_traceback(diffract, monkeypatch):
    def run(config: Any) -> None:
        raise ZeroDivisionError("in the work")

    monkeypatch.setattr(sys.modules["experiments.train"], "run", run)
    with pytest.raises(ZeroDivisionError, match="in the work"):
        diffract("train")


def test_help_lists_commands_then_groups_and_settings(diffract):
    assert all(command in diffract("--help").out for command in cli.COMMANDS)
    shown = diffract("sample", "--help").out
    solvers = sorted(path.stem for path in (ROOT / "conf" / "solver").glob("*.yaml"))
    assert f"solver: {', '.join(solvers)}" in shown
    assert "trainer" not in shown
    assert "steps: null" in shown
    assert "scale: 2.0" in diffract("sample", "--help", "guidance=cfg").out


def test_modalities_are_listed(diffract, monkeypatch):
    result = diffract("modalities")
    assert result.code == 0
    assert "images" in result.out
    monkeypatch.setattr(cli, "modalities", lambda: {"bad": Plugin("bad", "nowhere.to:Go", "badware", "1.0")})
    assert "nowhere" in diffract("modalities").out


def completions(line: str) -> list[str]:
    code = "import sys; sys.argv = ['diffract', '-sc', 'query=bash']; from experiments.cli import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", code + "; assert 'torch' not in sys.modules"],
        cwd=ROOT,
        env={"COMP_LINE": line, "COMP_POINT": str(len(line)), "PATH": "/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("diffract ", list(cli.COMMANDS)),
        ("diffract ev", ["evaluate"]),
        ("diffract train trainer=g", ["trainer=gpu"]),
        ("diffract sample run=x solver=dd", ["solver=ddim", "solver=ddpm"]),
        ("diffract train optimizer.l", ["optimizer.lr="]),
        ("diffract modalities ", []),
    ],
)
def test_completion_follows_the_command(line, words):
    assert completions(line) == words


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "trainer=gpuu"],
        ["sample", "run=x", "stpes=1"],
        ["modalities"],
    ],
)
def test_answers_without_work_do_not_import_torch(words, tmp_path):
    code = (
        "import json, sys; from experiments.cli import main\n"
        f"sys.argv = ['diffract', *{words!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(json.dumps([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules]))"
    )
    env = {"PYTHONPATH": str(ROOT), "PATH": "/bin"}
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert json.loads(shown.stdout.splitlines()[-1]) == []


def test_composing_leaves_no_hydra_behind():
    assert not GlobalHydra.instance().is_initialized()
    compose("train")
    with pytest.raises(ConfigurationError, match="did you mean 'gpu'"):
        compose("train", ["trainer=gpuu"])
    assert not GlobalHydra.instance().is_initialized()


def test_composing_works_inside_a_job(diffract, monkeypatch):
    composed = []
    monkeypatch.setattr(sys.modules["experiments.train"], "run", lambda config: composed.append(compose("sample").n))
    diffract("train")
    assert composed == [4]


def test_completion_of_overrides_leaves_a_given_run_folder():
    assert complete(["resume=a", "run=b"]) == ["resume=a", "run=b"]
    assert complete(["resume=a"]) == ["resume=a", "run=a"]
    assert complete(["resume=null"]) == ["resume=null"]


def table_of_choices(*groups: str) -> list[list[str]]:
    """Overrides that between them choose every option of the groups, one of each group at a time."""
    options = {group: sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml")) for group in groups}
    options = {group: [stem for stem in stems if stem not in NEEDY] for group, stems in options.items()}
    longest = max(map(len, options.values()))
    return [[f"{group}={stems[i % len(stems)]}" for group, stems in options.items()] for i in range(longest)]


TRAINING = ("schedule", "parametrization", "objective", "trainer", "logger", "debug", "tune")
SAMPLING = ("grid", "guidance", "solver")


def test_every_group_is_in_a_table():
    assert {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"__pycache__"} == {
        *TRAINING,
        *SAMPLING,
        "task",  # tests/experiments/test_sample_tasks.py
        "autoencoder",  # tests/experiments/test_first_stage.py
        "study",  # tests/studies/test_compare.py
    }


def test_a_distilled_model_needs_its_teacher():
    assert missing(compose("train", ["objective=distilled", *CHOSEN])) == ["objective.teacher"]


@pytest.mark.parametrize("row", table_of_choices(*TRAINING), ids=" ".join)
def test_every_option_of_training_composes_and_names_what_exists(row):
    config = compose("train", [*row, *CHOSEN])
    assert missing(config) == []
    assert check(plain(config), USER_CONFIG) == []
    for group in ("schedule", "parametrization", "objective"):
        build(plain(config)[group], USER_CONFIG)


@pytest.mark.parametrize("row", table_of_choices(*SAMPLING), ids=" ".join)
def test_every_option_of_sampling_composes_and_names_what_exists(row):
    config = plain(compose("sample", [*row, "run=x"]))
    assert check(config, USER_CONFIG) == []
    assert config["guidance"]["_target_"].endswith("Off") == ("guidance=none" in row)
    inner = [word.replace("=", f"@sampling.{word.partition('=')[0]}=", 1) for word in row]
    sampling = compose("train", inner).sampling
    assert all(sampling[group] == config[group] for group in SAMPLING)


def test_a_plugins_presets_are_found_and_completed(tmp_path, monkeypatch):
    folder = tmp_path / "weather" / "conf" / "experiment" / "weather"
    folder.mkdir(parents=True)
    (folder / "storm.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /trainer: gpu\n\nname: weather/storm\n"
    )
    (tmp_path / "weather" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    weather = {"weather": Plugin("weather", "weather.conf", "weatherware", "1.0")}
    monkeypatch.setattr(plugged, "config_packages", lambda: weather)
    config = compose("train", ["experiment=weather/storm"])
    assert (config.name, config.trainer.accelerator) == ("weather/storm", "gpu")
    assert OmegaConf.to_container(config)["run"].startswith("outputs/${name}/")
    with pytest.raises(ConfigurationError, match="did you mean 'weather/storm'"):
        compose("train", ["experiment=weather/strom"])
