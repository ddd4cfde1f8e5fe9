"""Holds: gateway_core.environment

Both planes read a setting in the same way, and build the same rules for upstreams.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from gateway_core.environment import FileUnreadable, listed, ports, ports_of, read, upstream_rules

Value = TypeVar("Value")


def test_a_name_is_read_before_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of the file\n")

    assert read({"NAME": "direct", "NAME_FILE": str(file)}, "NAME") == "direct"
    assert read({"NAME_FILE": str(file)}, "NAME", "default") == "of the file"
    assert read({"NAME": "", "NAME_FILE": ""}, "NAME", "default") == "default"


def test_a_file_that_cannot_be_read_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"hidden\xff")

    with pytest.raises(
        FileUnreadable, match=r"^NAME_FILE points to .*secret, which cannot be read: Unicode"
    ) as refusal:
        read({"NAME_FILE": str(file)}, "NAME")

    assert "hidden" not in str(refusal.value)


def test_a_list_has_no_empty_entries() -> None:
    assert listed(" a, b,,c ,") == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["eighty", "-1", "65536", "1, ²"])
def test_what_is_not_a_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a port number"):
        ports(text)


def test_a_server_without_a_port_has_its_default_one() -> None:
    assert ports_of("redis://host/0", "postgres://host:5433/name", "") == {6379, 5433}


def test_the_rules_know_the_ports_of_the_gateway_itself() -> None:
    environ = {"UPSTREAM_DENIED_PORTS": "1, 2", "UPSTREAM_ALLOWED_HOSTS": "ollama.internal", "DATA_PLANE_PORT": "9001"}

    def read_parsed(name: str, parse: Callable[[str], Value], default: Value) -> Value:
        return parse(environ[name]) if name in environ else default

    rules = upstream_rules(read_parsed, mode="production", servers=frozenset({6379}))

    assert rules.own_ports == {1, 2, 8000, 9001, 6379}
    assert rules.hosts == {"ollama.internal"}
    assert not rules.loopback
    assert upstream_rules(read_parsed, mode="evaluation", servers=frozenset()).loopback
