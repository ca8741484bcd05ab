"""Laws of the object builder: what is allowed is built, everything else is refused before anything runs."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from framework.build import MODEL_FOLDER, USER_CONFIG, Allow, BuildError, build, check

PACKAGE = {
    "__init__.py": "from pathlib import Path\n\nfrom toybox.shapes import Circle\n",
    "shapes.py": """
import os
import pathlib
from dataclasses import dataclass
from subprocess import run

made = []

@dataclass
class Circle:
    radius: float
    colour: str = "red"

    def __post_init__(self):
        made.append("circle")

    @classmethod
    def unit(cls):
        return cls(1.0)

@dataclass
class Scene:
    objects: list
    title: str = ""

    def __post_init__(self):
        made.append("scene")

class Open:
    def __init__(self, size, **settings):
        self.size, self.settings = size, settings

def positional(size, /):
    return size

def square(side: float):
    return ("square", side)

class Broken:
    def __init__(self, size):
        raise RuntimeError("no room")

_hidden = square
nested = [square]
opener = open
""",
    "sub/__init__.py": "",
    "sub/more.py": "class Deep: ...\n",
    "data.py": "class Reader: ...\n",
    "faulty.py": "raise RuntimeError('half installed')\n",
}


@pytest.fixture
def toybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package of dummies, importable as `toybox`; returns its module of shapes."""
    for name, text in PACKAGE.items():
        file = tmp_path / "toybox" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import toybox.shapes

    yield toybox.shapes
    for name in [name for name in sys.modules if name.partition(".")[0] == "toybox"]:
        del sys.modules[name]


ALLOW = Allow(packages=("toybox",))
CIRCLE = {"_target_": "toybox.shapes.Circle", "radius": 2.0}


def test_nested_objects_are_built_children_first(toybox):
    scene = build({"_target_": "toybox.shapes.Scene", "objects": [CIRCLE, {"plain": [1, None]}]}, ALLOW)
    assert scene == toybox.Scene([toybox.Circle(2.0), {"plain": [1, None]}])
    assert toybox.made[:2] == ["circle", "scene"]


def test_plain_values_come_back_equal():
    config = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert build(config, ALLOW) == config


def test_function_and_re_export_inside_the_package_are_allowed(toybox):
    assert build({"_target_": "toybox.shapes.square", "side": 3}, ALLOW) == ("square", 3)
    assert isinstance(build({"_target_": "toybox.Circle", "radius": 1}, ALLOW), toybox.Circle)
    assert type(build({"_target_": "toybox.sub.more.Deep"}, ALLOW)).__name__ == "Deep"


def test_partial_waits_for_its_missing_arguments(toybox):
    later = build({"_target_": "toybox.shapes.Circle", "_partial_": True, "colour": "blue"}, ALLOW)
    assert isinstance(later, functools.partial)
    assert later(radius=1.0) == toybox.Circle(1.0, "blue")


def test_build_leaves_its_configuration_as_it_was(toybox):
    config = {"_target_": "toybox.shapes.Scene", "objects": [dict(CIRCLE)]}
    build(config, ALLOW)
    assert config == {"_target_": "toybox.shapes.Scene", "objects": [CIRCLE]}


def test_every_problem_is_reported_and_nothing_is_made(toybox):
    config = {
        "scene": {"_target_": "toybox.shapes.Scene", "objects": [CIRCLE, {**CIRCLE, "radios": 1}]},
        "trainer": {"_target_": "toybox.shapes.Circle"},
        "other": {"_target_": "os.system", "command": "true"},
        "wrong": {"_target_": "toybox.shapes.Cirkle"},
    }
    problems = check(config, ALLOW)
    assert [problem.partition(":")[0] for problem in problems] == [
        "scene.objects[1].radios",
        "trainer.radius",
        "other._target_",
        "wrong._target_",
    ]
    assert "did you mean 'radius'?" in problems[0]
    assert "needs the argument 'radius'" in problems[1]
    assert "did you mean 'Circle'?" in problems[3]
    with pytest.raises(BuildError) as caught:
        build(config, ALLOW)
    assert str(caught.value).splitlines() == problems
    assert toybox.made == []


def test_misspelt_module_names_the_nearest(toybox):
    assert "did you mean 'shapes'?" in check({"_target_": "toybox.shape.Circle"}, ALLOW)[0]


def test_module_that_fails_to_import_is_a_problem_and_not_a_crash(toybox):
    assert "RuntimeError: half installed" in check({"_target_": "toybox.faulty.Thing"}, ALLOW)[0]


def test_open_keyword_arguments_are_accepted_and_required_ones_still_needed(toybox):
    assert check({"_target_": "toybox.shapes.Open", "size": 1, "anything": 2}, ALLOW) == []
    assert "needs the argument 'size'" in check({"_target_": "toybox.shapes.Open", "anything": 2}, ALLOW)[0]


def test_positional_only_arguments_cannot_be_configured(toybox):
    problems = check({"_target_": "toybox.shapes.positional", "size": 1}, ALLOW)
    assert any("by position only" in problem for problem in problems)


def test_error_of_a_constructor_says_where_it_was(toybox):
    with pytest.raises(RuntimeError, match="no room") as caught:
        build({"model": {"head": {"_target_": "toybox.shapes.Broken", "size": 1}}}, ALLOW)
    assert caught.value.__notes__ == ["while building model.head (toybox.shapes.Broken)"]


def test_the_trainers_argument_names_are_checked():
    problems = check({"trainer": {"_target_": "lightning.Trainer", "max_epoch": 3}}, USER_CONFIG)
    assert problems == ["trainer.max_epoch: lightning.Trainer has no argument 'max_epoch'; did you mean 'max_epochs'?"]


HOSTILE = [
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.open",
    "subprocess.run",
    "subprocess.Popen",
    "pathlib.Path",
    "shutil.rmtree",
    "importlib.import_module",
    "pickle.loads",
    "torch.load",
    "torch.hub.load",
    "torch.utils.cpp_extension.load",
    "torch.package.PackageImporter",
    "torch.nn.functional.torch.load",
    "torch.nn.modules.module.os.system",
    "torch.optim.optimizer.Any",
    "numpy.load",
    "joblib.load",
    "functools.partial",
    "runpy.run_path",
    "hydra.utils.instantiate",
    # our own packages as a way out: modules, classes and functions that they import
    "framework.build.importlib.import_module",
    "framework.build.build",
    "framework.build.functools.partial",
    "framework.plugins.load_modality",
    "framework.plugins.importlib.util.find_spec",
    "framework.plugins.Path",
    "framework.__class__",
    "framework.__loader__.load_module",
    "framework.__dict__.get",
    "framework._HOMES",
    "framework.importlib.import_module",
    "framework.schedules.torch.load",
    "framework.schedules.math.exp",
    "framework..schedules",
    "framework",
    "framework.schedules",
    "frameworks.evil.run",
    "",
    "eval",
    "framework.schedules.Cosine.__init__",
    "framework.schedules.Cosine.alpha",
    "framework.schedules;os.system",
    "framework.schedules.Cosine()",
    " os.system",
]


@pytest.mark.parametrize("allow", [MODEL_FOLDER, USER_CONFIG], ids=["model_folder", "user_config"])
@pytest.mark.parametrize("target", HOSTILE)
def test_hostile_targets_are_refused(target, allow):
    assert len(check({"x": {"_target_": target, "_partial_": True}}, allow)) == 1


@pytest.mark.parametrize(
    "target",
    [
        "toybox.shapes.os.system",
        "toybox.shapes.run",
        "toybox.shapes.pathlib.Path",
        "toybox.Path",
        "toybox.shapes.opener",
        "toybox.shapes.Circle.unit",
        "toybox.shapes._hidden",
        "toybox.shapes.nested",
        "toybox.shapes.made.append",
    ],
)
def test_what_an_allowed_package_merely_imports_is_refused(toybox, target):
    assert len(check({"_target_": target, "_partial_": True}, ALLOW)) == 1


def test_a_refused_name_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "boobytrap.py").write_text("import pathlib; pathlib.Path(__file__).with_suffix('.sprung').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert check({"_target_": "boobytrap.Thing"}, USER_CONFIG)
    assert "boobytrap" not in sys.modules
    assert not (tmp_path / "boobytrap.sprung").exists()


def test_libraries_offer_classes_only_and_only_to_the_user():
    linear = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    assert check(linear, USER_CONFIG) == []
    assert len(check(linear, MODEL_FOLDER)) == 1
    assert len(check({"_target_": "torch.nn.functional.relu", "input": 1}, USER_CONFIG)) == 1


def test_rooms_that_read_and_write_are_closed_to_a_model_folder(toybox):
    reader = {"_target_": "toybox.data.Reader"}
    assert check(reader, USER_CONFIG.plus("toybox")) == []
    assert "closed" in check(reader, MODEL_FOLDER.plus("toybox"))[0]


def test_the_mathematics_is_open_to_a_model_folder():
    assert check({"_target_": "framework.schedules.Cosine"}, MODEL_FOLDER) == []


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a ${x} b", "${framework.schedules.Cosine:}"])
def test_interpolations_are_refused(toybox, text):
    assert "interpolation" in check({"_target_": "toybox.shapes.square", "side": text}, ALLOW)[0]
    assert "interpolation" in check([{"deep": [text]}], ALLOW)[0]


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "toybox.shapes.square", "side": 1, "_args_": [1]},
        {"_target_": "toybox.shapes.square", "side": 1, "_recursive_": False},
        {"_target_": "toybox.shapes.square", "side": 1, "__class__": "x"},
        {"_target_": ["toybox.shapes.square"], "side": 1},
        {"_target_": {"_target_": "os.system"}},
        {"_target_": "toybox.shapes.square", "side": 1, "_partial_": "yes"},
        {"_partial_": True},
        {"_taget_": "toybox.shapes.square"},
        {1: "x"},
        {"a": object()},
        {"a": Path("x")},
        {"a": b"x"},
    ],
)
def test_only_the_small_language_is_understood(toybox, config):
    assert check(config, ALLOW)


def test_nesting_is_bounded():
    config: object = 1
    for _ in range(10_000):
        config = [config]
    assert "nested deeper" in check(config, ALLOW)[0]


def test_a_name_must_match_whole_components():
    @dataclass
    class Case:
        name: str
        permitted: bool

    allow = Allow(packages=("ours",), libraries=("torch.nn",))
    for case in [Case("ours", True), Case("ours.x", True), Case("oursx.y", False), Case("torch.nnx", False)]:
        assert allow.permits(case.name) is case.permitted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": "fast"}, "optimizer.lr: framework.training.optimizer.AdamW takes float for 'lr', not 'fast'"),
        ({"lr": True}, "takes float for 'lr', not True"),
        ({"warmup_steps": 2.5}, "takes int for 'warmup_steps', not 2.5"),
    ],
)
def test_values_of_another_type_are_found_before_work(changes, said):
    config = {"optimizer": {"_target_": "framework.training.optimizer.AdamW", **changes}}
    assert any(said in problem for problem in check(config, USER_CONFIG))


def test_values_that_fit_pass():
    """Integers are floats; unions take each of their parts; what is not plain is left to the constructor."""
    fits = [
        {"_target_": "framework.training.optimizer.AdamW", "lr": 1, "betas": [0.9, 0.99]},
        {"_target_": "framework.parametrizations.V", "input_variance": None},
        {"_target_": "framework.parametrizations.V", "input_variance": 0.25},
        {"_target_": "lightning.Trainer", "_partial_": True, "max_steps": 10, "precision": "bf16-mixed"},
    ]
    assert check(fits, USER_CONFIG) == []
    assert check({"_target_": "framework.parametrizations.V", "input_variance": "no"}, USER_CONFIG) != []


def test_a_model_folder_may_name_classes_and_no_functions():
    """Also functions of modules that are open to it: a function is an action."""
    function = {"_target_": "framework.solvers.plan.table", "plan": []}
    assert check(function, USER_CONFIG) == []
    [problem] = check(function, MODEL_FOLDER)
    assert "is the function 'framework.solvers.plan.table', which is not allowed here" in problem
    assert check({"_target_": "framework.solvers.ddim.DDIM"}, MODEL_FOLDER) == []
