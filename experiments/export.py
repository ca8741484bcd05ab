"""`diffract export run=RUN out=FOLDER`: a trained model as other software of its field reads it.

Images become a pipeline folder of diffusers, which `diffract sample run=FOLDER` reads too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import ConfigurationError

USAGE = "  diffract export run=outputs/RUN out=FOLDER [allow=PACKAGE]"


def main(arguments: Sequence[str]) -> None:
    """Write the folder; ConfigurationError where an argument is missing or unknown, or the folder holds something."""
    if not arguments or {"-h", "--help"}.intersection(arguments):
        print(f"diffract export: {__doc__.partition(chr(10))[2].strip()}\n\n{USAGE}")
        return
    given = {key: value for key, _, value in (word.partition("=") for word in arguments)}
    if {"run", "out"} - {key for key, value in given.items() if value} or set(given) - {"run", "out", "allow"}:
        raise ConfigurationError(f"an export takes the model and the folder to write:\n{USAGE}")
    out = Path(given["out"])
    if out.exists() and any(out.iterdir()):
        raise ConfigurationError(f"out={out} is not empty; name a folder that is not there yet")
    from framework.build import MODEL_FOLDER
    from framework.store import load

    model = load(given["run"], allow=MODEL_FOLDER.plus(*filter(None, [given.get("allow")])))
    files = model.modality.export(model, out)
    print(f"wrote {len(files)} files to {out}", flush=True)
