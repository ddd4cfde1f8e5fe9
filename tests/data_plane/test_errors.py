"""Holds: data_plane.errors

The tree of errors is whole: every class has its code, its sentence, its status, its line in the documentation.
"""

from collections.abc import Iterator

import msgspec
import pytest

from data_plane import error_forms, errors
from data_plane.errors import GatewayError
from data_plane.forwarding import beside  # noqa: F401 -- it has an error of its own
from gateway_core.catalog import Format
from gateway_core.plans import Denial, DenialCode
from tests.workers import ROOT


def tree(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Every class of errors."""
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


def test_every_error_has_a_code_of_its_own_a_sentence_and_a_line_in_the_documentation():
    documented = (ROOT / "docs/data-plane-errors.md").read_text()
    kinds = list(tree())

    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert (kind.__doc__ or "").endswith((".", "again.")), kind
        assert f"| `{kind.code}` | {kind.status} |" in documented, kind.code


@pytest.mark.parametrize("code", list(DenialCode))
def test_every_denial_has_its_error(code: DenialCode):
    error = errors.of_denial(Denial(code, "because", ()))

    assert (error.code, error.message) == (code.value, "because")


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.code)
def test_every_error_can_be_told_in_both_formats(kind: type[GatewayError]):
    openai = msgspec.json.decode(error_forms.body(kind(), Format.OPENAI))
    anthropic = msgspec.json.decode(error_forms.body(kind(), Format.ANTHROPIC))

    assert set(openai["error"]) == {"message", "type", "param", "code"}
    assert set(anthropic) == {"type", "error"}
    assert set(anthropic["error"]) == {"type", "message"}
