"""What a model's card says of where it comes from: its data, its licence, its training, and what it is not fit for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from framework.training.module import Training

UNSAID = "not said; ask whoever trained it (`licence=` of the run)"


def provenance(config: Mapping[str, Any], module: Training, step: int) -> str:
    """The sections of the card behind its parts, in Markdown.

    Args:
        config: the run's, of which `licence` and `limits` are words of the person who trains.
        module: the training, at that step.
        step: of the optimiser.
    """
    data = {
        key: value for key, value in config["data"].items() if key not in ("_target_", "num_workers", "skipped_path")
    }
    settings = "; ".join(f"{key} {json.dumps(value)}" for key, value in data.items() if value is not None)
    weights = sum(parameter.numel() for parameter in module.network.parameters())
    optimizer = "; ".join(f"{key} {value}" for key, value in config["optimizer"].items() if key != "_target_")
    begun = f"| begun from | {config['init']} |\n" if config.get("init") else ""
    said = f"- {config['limits']}\n" if config.get("limits") else ""
    return f"""
## Data, licence and training

| | |
|---|---|
| licence of the weights | {config.get("licence") or UNSAID} |
| data | `{config["data"]["_target_"]}`: {settings or "its defaults"} |
| parameters | {weights:,} |
| samples seen | {module.samples_seen:,}, in {step:,} steps |
| optimiser | {optimizer} |
| average of the weights | half-life {config["ema"]["half_life"]} samples |
| steps left out | {module.skipped}, whose loss or gradient was not finite |
{begun}
The weights may be under terms of the data, too: those of this data are where it was obtained.

## Known limits

{said}- It knows what its data show, and no more: prompts beyond them are answered all the same, and wrongly.
- It may give back training items, the more so the fewer they were; `diffract evaluate` measures what it can of that.
- Neither prompts nor samples are filtered, and samples carry no watermark unless one is asked for.
- How good it is, no number here says: `diffract evaluate run=<the run>` writes them, with intervals.
"""
