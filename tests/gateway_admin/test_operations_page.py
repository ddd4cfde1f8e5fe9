"""Holds: docs/operations.md

docs/operations.md names no command and no option that is not there.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from data_plane.__main__ import app

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
MANAGED = sorted(set(re.findall(r"python manage\.py ([^`|#\n]+)", PAGE)))
OF_THE_DATA_PLANE = sorted(set(re.findall(r"python -m data_plane ([a-z][^`|#\n]*)", PAGE)))


def test_the_page_names_commands():
    assert len(MANAGED) > 10
    assert len(OF_THE_DATA_PLANE) > 2


@pytest.mark.parametrize("command", MANAGED)
def test_a_command_of_the_control_plane_takes_what_the_page_gives_it(command):
    name, *arguments = shlex.split(command)

    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)

    parser.parse_args(arguments)


@pytest.mark.parametrize("command", OF_THE_DATA_PLANE)
def test_a_command_of_the_data_plane_takes_what_the_page_gives_it(command):
    import typer.main

    name, *arguments = shlex.split(command)

    found: Any = typer.main.get_command(app)

    found.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(gateway_[a-z_]+?)(?:_total)?[`{]", PAGE))))
def test_a_metric_of_the_page_is_counted_somewhere(name):
    sources = [
        path.read_text()
        for room in ("data_plane", "snapshots", "providers", "usage", "gateway_admin")
        for path in (ROOT / room).rglob("*.py")
    ]

    assert any(f'"{name}"' in source for source in sources)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z][A-Z_]{5,})=?[a-z,]*`", PAGE)) - {"SIGTERM"}))
def test_a_setting_of_the_page_is_a_setting(name):
    assert f"`{name}`" in (ROOT / "docs/settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", PAGE))))
def test_a_link_of_the_page_leads_somewhere(target):
    assert (ROOT / "docs" / target).exists()


@pytest.mark.parametrize("line", sorted(set(re.findall(r"in the log[^:|`]*:? `([^`]+)`", PAGE))))
def test_a_log_line_of_the_page_is_logged(line):
    sources = [
        path.read_text() for room in ("data_plane", "snapshots", "providers") for path in (ROOT / room).rglob("*.py")
    ]

    assert any(f'"{line}"' in source for source in sources)
