"""Solvers and grids as the configuration tree names them, so that a benchmark runs whatever is shipped."""

from __future__ import annotations

from typing import Any

import yaml

from experiments.configuration import config_folder
from framework.build import USER_CONFIG, build


def group(name: str) -> dict[str, Any]:
    """The objects of a configuration group by the names of its files: `group("solver")["ddim"]` is `DDIM(eta=0.0)`.

    A file that needs more than itself (a folder of learned times, say) is left out.
    """
    files = sorted((config_folder() / name).glob("*.yaml"))
    configs = {file.stem: yaml.safe_load(file.read_text()) for file in files}
    return {
        key: build(config, USER_CONFIG)
        for key, config in configs.items()
        if isinstance(config, dict) and "???" not in str(config) and "${" not in str(config)
    }
