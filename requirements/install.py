"""Makes the virtual environment that `make` works in, and installs one of the lists beside this file into it.

    python requirements/install.py local .venv

It checks first, shows each step, and installs wheels alone, so no compiler is needed. pip fetches uv (installer.txt),
and uv installs in seconds the packages that would take pip a minute. uv does not read pip's configuration: where it
finds no registry, pip installs the rest as well.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
# A file in the environment while packages are installed: an environment that has it is half made.
UNFINISHED: Final = "unfinished"
WHEELS_ALONE: Final = ("--require-hashes", "--only-binary", ":all:")


def show(text: str) -> None:
    """Write one line, at once."""
    print(text, flush=True)  # noqa: T201 - progress for the person who typed `make`


def succeeds(*command: str | Path) -> bool:
    """Run a command whose output the person sees; returns whether it ended with status 0."""
    return subprocess.run([*map(str, command)], check=False).returncode == 0  # noqa: S603 - our own commands


def check_this_python() -> None:
    """End with words where this Python comes without venv or pip, as Debian's own does."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        import ensurepip  # noqa: F401 - looked for
        import venv  # noqa: F401 - looked for
    except ImportError as absence:
        sys.exit(
            f"{sys.executable} (Python {version}) comes without {absence.name}, which makes .venv. On Debian and "
            f"Ubuntu, `apt install python{version}-venv` adds it. Or name another Python: `make run PYTHON=python3.12`."
        )


def is_usable(environment: Path) -> bool:
    """Whether an earlier try left a whole environment: its Python runs, is new enough, and has pip."""
    if (environment / UNFINISHED).exists():
        return False
    look = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        found = subprocess.run(  # noqa: S603 - our own command
            [environment / "bin" / "python", "-c", look], check=False, capture_output=True
        )
    except OSError:
        return False
    return found.returncode == 0


def make_environment(environment: Path) -> None:
    """Make the environment where it is absent or cannot be used."""
    if is_usable(environment):
        return
    again = " again: the one that is there does not work" if environment.exists() else ""
    show(f"[1/3] Making {environment}{again}. Python {sys.version.split()[0]}.")
    if not succeeds(sys.executable, "-m", "venv", "--clear", environment):
        sys.exit(f"{environment} could not be made; the lines above say why.")


def install(name: str, environment: Path) -> None:
    """Install requirements/<name>.txt; end with words if that fails."""
    python, packages = environment / "bin" / "python", HERE / f"{name}.txt"
    pip = (python, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", *WHEELS_ALONE)
    unfinished = environment / UNFINISHED
    unfinished.touch()
    show("[2/3] Fetching uv, the installer.")
    has_uv = succeeds(*pip, "--requirement", HERE / "installer.txt")
    show(f"[3/3] Installing the packages of {packages.name}.")
    uv = (python, "-m", "uv", "pip", "install", "--python", python, *WHEELS_ALONE)
    is_installed = has_uv and succeeds(*uv, "--requirement", packages)
    if not is_installed:
        show("      uv could not. pip does it, which takes a minute or two.")
        is_installed = succeeds(*pip, "--requirement", packages)
    if not is_installed:
        sys.exit(f"The packages of {packages.name} could not be installed; the lines above say why.")
    unfinished.unlink()


def main() -> None:
    """Do both, for the list and the environment that the command line names."""
    name, environment = sys.argv[1], Path(sys.argv[2])
    check_this_python()
    # The person's own environment is not the one that this makes.
    os.environ.pop("VIRTUAL_ENV", None)
    make_environment(environment)
    install(name, environment)


if __name__ == "__main__":
    main()
