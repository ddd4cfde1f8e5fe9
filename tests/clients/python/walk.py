"""Walks packages that nobody here wrote through their cases, and writes what came of each as a line of JSON.

All in one process, because each package takes seconds to import and they share most of what takes them:
`python walk.py of_openai of_anthropic`. It runs in an environment of its own (requirements/clients.txt) and knows
nothing of this project.
"""

import contextlib
import importlib
import io
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

from place import SCOPED, UNKNOWN

# That a model is old, or a package, is nothing to these tests.
warnings.simplefilter("ignore")
CASES = ("ask", "stream", "tools", "retry", "cut")


def walk(name: str, client: str, case: Callable[[], Any]) -> None:
    """Write a line: what a case gave back, or what it raised."""
    line: dict[str, Any] = {"client": client, "case": name}
    try:
        line["gave"] = case()
    except Exception as error:  # noqa: BLE001 -- every class is a result here
        kinds = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
        line |= {"raised": kinds, "text": str(error)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def documented(code: str) -> list[str]:
    """Run a snippet of the documentation; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/clients.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


def main() -> None:
    """Every case of every client of the packages that the command line names, and the snippets from standard input."""
    for package in sys.argv[1:]:
        module: Any = importlib.import_module(package)
        for client in module.CLIENTS:
            for name in CASES:
                if hasattr(client, name):
                    walk(name, client.name, getattr(client, name))
            walk("not allowed", client.name, lambda client=client: client.ask(token=SCOPED))
            walk("unknown key", client.name, lambda client=client: client.ask(token=UNKNOWN))
            walk("refused", client.name, lambda client=client: client.ask(prompt="refuse"))
        if hasattr(module, "more"):
            walk("more", package, module.more)
    for number, code in enumerate(json.load(sys.stdin)):
        walk(str(number), "docs/clients.md", lambda code=code: documented(code))


if __name__ == "__main__":
    main()
