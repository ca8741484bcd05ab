"""Plugins are found without being imported, a broken one harms nobody, and two of one name are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework import plugins
from framework.plugins import (
    CONFIGS,
    PluginError,
    config_packages,
    folder,
    load_modality,
    modalities,
    nearest,
    packages,
    parts,
    problems,
)

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with entry points and source files on the path, as pip would."""
    before = set(sys.modules)

    def put(name: str, entry_points: str, **files: str) -> Path:
        site = tmp_path / name
        info = site / f"{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(entry_points)
        for path, text in files.items():
            file = site / path.replace("__", "/").replace("/init", "/__init__")
            file = file.with_suffix(".yaml" if "/conf/" in f"{file}" and "init" not in path else ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        monkeypatch.syspath_prepend(site)
        return site

    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]


WEATHER = "[diffract.modalities]\nweather = my_weather.modality:Weather\n"


def test_images_are_declared_as_any_plugin_is():
    assert modalities()["images"].target == "modalities.images.modality:Images"
    assert config_packages()["images"].target == "modalities.images.conf"
    assert folder(config_packages()["images"]).is_dir()


def test_a_plugin_is_found_without_being_imported_and_loaded_on_demand(install):
    install("weather", WEATHER, my_weather__init="", my_weather__modality="class Weather: rain = 1")
    plugin = modalities()["weather"]
    assert (plugin.distribution, plugin.version, plugin.package) == ("weather", "1.5", "my_weather")
    assert plugin.problem() is None
    assert "my_weather" not in sys.modules
    assert load_modality("weather").rain == 1


def test_a_broken_plugin_is_named_with_its_error_and_harms_no_other(install):
    install("weather", WEATHER, my_weather__init="", my_weather__modality="import not_there_at_all")
    install("sound", "[diffract.modalities]\nsound = my_sound:Sound\n", my_sound="class Sound: pitch = 2")
    with pytest.raises(PluginError, match=r"'weather' of weather 1\.5 .* No module named 'not_there_at_all'"):
        load_modality("weather")
    assert load_modality("sound").pitch == 2


def test_a_plugin_that_exits_on_import_is_isolated(install):
    install("weather", WEATHER, my_weather__init="", my_weather__modality="raise SystemExit(3)")
    with pytest.raises(PluginError, match="SystemExit: 3"):
        load_modality("weather")


def test_a_missing_class_is_named(install):
    install("weather", WEATHER, my_weather__init="", my_weather__modality="")
    with pytest.raises(PluginError, match="has no attribute 'Weather'"):
        load_modality("weather")


def test_a_missing_package_is_reported_without_an_import(install):
    install("weather", WEATHER + "[diffract.configs]\nweather = my_weather.conf\n")
    assert "package 'my_weather' is not installed" in str(modalities()["weather"].problem())
    [first, second] = problems()
    assert str(first).startswith("plugin 'weather' of weather 1.5 (diffract.modalities): package 'my_weather' is not")
    assert "uninstall weather" in str(first) and second.plugin.group == CONFIGS
    with pytest.raises(PluginError, match=r"weather 1\.5 declares the package 'my_weather\.conf'"):
        folder(config_packages()["weather"])


def test_a_module_that_the_package_lacks_is_reported_without_an_import(install):
    install("weather", WEATHER, my_weather__init="raise RuntimeError")
    [problem] = problems()
    assert "package 'my_weather' has no 'my_weather.modality'" in problem.what and problem.left_out


def test_a_name_that_two_distributions_declare_is_nobodys_and_both_are_named(install):
    install("weather", WEATHER, my_weather__init="", my_weather__modality="class Weather: rain = 1")
    install("aaa_weather", "[diffract.modalities]\nweather = evil:Weather\n", evil="class Weather: rain = 666")
    install("sound", "[diffract.modalities]\nsound = my_sound:Sound\n", my_sound="class Sound: pitch = 2")
    assert "weather" not in modalities()
    with pytest.raises(PluginError, match=r"declared twice") as caught:
        load_modality("weather")
    assert "weather 1.5 (my_weather.modality:Weather)" in str(caught.value)
    assert "aaa_weather 1.5 (evil:Weather)" in str(caught.value)
    assert {problem.plugin.origin for problem in problems()} == {"weather 1.5", "aaa_weather 1.5"}
    assert load_modality("sound").pitch == 2


def test_what_is_built_in_cannot_be_taken(install):
    install("evil", "[diffract.modalities]\nimages = evil:Images\n", evil="class Images: pass")
    assert modalities()["images"].target == "modalities.images.modality:Images"
    [problem] = problems()
    assert problem.plugin.distribution == "evil" and "uninstall one of them" in problem.what


def test_a_part_of_python_is_no_plugin(install):
    install("sly", "[diffract.solvers]\nsly = subprocess:Popen\n")
    assert "subprocess" not in packages()
    assert "part of Python" in problems()[0].what


def test_single_parts_are_found_by_their_groups(install):
    install("mine", "[diffract.solvers]\nralston = my_parts:Ralston\n[diffract.grids]\ncubic = my_parts:Cubic\n")
    assert {plugin.name: plugin.dotted for plugin in parts()} == {
        "ralston": "my_parts.Ralston",
        "cubic": "my_parts.Cubic",
    }
    assert "my_parts" in packages() and "my_parts" not in sys.modules


def test_unknown_modality_names_the_nearest():
    with pytest.raises(PluginError, match=r"no modality 'imagse'; did you mean 'images'\?"):
        load_modality("imagse")


def test_the_configuration_of_a_plugin_is_found_without_importing_it(install):
    entries = "[diffract.configs]\nweather = my_weather.conf\n"
    site = install("weather", entries, my_weather__init="raise RuntimeError", my_weather__conf__init="")
    assert folder(config_packages()["weather"]) == site / "my_weather" / "conf"
    assert "my_weather" not in sys.modules


def test_a_checkout_that_is_not_installed_declares_what_its_pyproject_says(monkeypatch):
    def absent(name: str) -> None:
        raise plugins.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(plugins.metadata, "distribution", absent)
    monkeypatch.setattr(plugins, "_installed", list)
    assert modalities()["images"].version == "checkout"


def test_nearest_names_close_words_only():
    assert nearest("gpuu", ["cpu", "gpu", "ddp"]) == "; did you mean 'gpu'?"
    assert nearest("Solver", ["solver"]) == "; did you mean 'solver'?"
    assert nearest("zebra", ["cpu", "gpu"]) == ""
    assert nearest("x", []) == ""
