"""The form of a dialect: the facts that the data plane asks for."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway_core.catalog import KeyHeader, Surface
from gateway_core.dialects.error_texts import ErrorText

_BEARER: Final = KeyHeader()
_USUAL_KEY_HEADERS: Final = {Surface.MESSAGES: KeyHeader(name="x-api-key", prefix="")}


class Meaning(NamedTuple):
    """An error that means another status than the one that it comes under. One of `code` and `message` is given.

    Only an error's own members are compared, never all of an answer: a caller's words that an upstream repeats mean
    nothing.
    """

    # 401 an invalid key, 402 nothing to pay with, 403 not allowed to this key.
    means: int
    # One of the error's codes (`code`, `type`, `status`, `reason`), lower case.
    code: str = ""
    # What the error's message begins with, lower case; a regular expression.
    message: str = ""


class NotTaken(NamedTuple):
    """Parameters that some models of an upstream refuse. They are left out, or sent under another name."""

    # The models: a regular expression of the whole name, lower case, without the provider's own prefix.
    models: str
    removed: tuple[str, ...] = ()
    # (name, other name): sent as the other, unless the request has that one too.
    renamed: tuple[tuple[str, str], ...] = ()
    # Where; empty for everywhere.
    surfaces: tuple[Surface, ...] = ()
    # Only in a request that asks for reasoning.
    if_reasoning: bool = False
    # Only beside this other parameter.
    beside: str = ""


class NotTakenBy(NamedTuple):
    """What one model does not take on one surface."""

    rules: tuple[NotTaken, ...] = ()
    # All parameters of these rules: nearly every request has none of them.
    names: frozenset[str] = frozenset()


class Dialect(NamedTuple):
    """How one upstream deviates from the format that it speaks."""

    id: str
    # By surface, for those that do not take their key as `Authorization: Bearer`.
    key_headers: Mapping[Surface, KeyHeader] = _USUAL_KEY_HEADERS
    # The first that fits counts.
    meanings: tuple[Meaning, ...] = ()
    # The headers in which it names a request, the best first.
    request_ids: tuple[str, ...] = ("x-request-id", "request-id")
    # The surfaces where it keeps requests and answers unless it is asked not to.
    stores: frozenset[Surface] = frozenset()
    # Whether it counts the tokens of a request that is not made, at the path of the surface `messages` and this.
    counts_tokens: bool = False
    # All that fit count.
    not_taken: tuple[NotTaken, ...] = ()

    def parameters_not_taken(self, model: str, surface: Surface) -> NotTakenBy:
        """The parameters that a model does not take on a surface.

        Args:
            model: as the provider spells it.
        """
        name = model.lower().removeprefix(f"{self.id}/")
        rules = tuple(
            rule
            for rule in self.not_taken
            if (not rule.surfaces or surface in rule.surfaces) and re.fullmatch(rule.models, name)
        )
        names = (one for rule in rules for one in (*rule.removed, *(old for old, _ in rule.renamed)))
        return NotTakenBy(rules, frozenset(names))

    def key_header(self, surface: Surface) -> KeyHeader:
        """The header in which the key is sent on this surface."""
        return self.key_headers.get(surface, _BEARER)

    def meaning(self, error: ErrorText) -> int:
        """The status that an error means; 0 where it means the one that it comes under."""
        message = error.message.lower()
        for known in self.meanings:
            if known.code in error.codes if known.code else re.match(known.message, message):
                return known.means
        return 0
