"""A process that has imported what most commands need, and runs each piece of work in a child of its own.

To import torch and Lightning takes longer than most of what is on a page. It reads one JSON object a line: the folder
to work in, Python code or the words of a command, and a file for what is printed; and answers with the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

IMPORTED = ("experiments.cli", "experiments.train", "framework.store", "framework.training.run", "lightning", "torch")
SECONDS = 600


def main() -> None:
    """Work until there are no more lines."""
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(work(asked))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def work(asked: dict[str, Any]) -> int:
    """One piece of work, in the child; its exit code."""
    signal.alarm(SECONDS)
    os.chdir(asked["folder"])
    said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, said, said)):
        os.dup2(file, number)
    try:
        if "code" in asked:
            sys.argv = ["page"]
            exec(compile(asked["code"], "page", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = ["diffract", *asked["words"]]
            sys.modules["experiments.cli"].main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
