"""How upstreams write what an answer used: one table of names for all, since none uses a name in another's sense.

They differ in what contains what. Caches stand within the input (OpenAI) or beside it (Anthropic), reasoning within the
output (OpenAI) or beside it (xAI), or nowhere but in the total (Gemini's API in OpenAI's form). The total settles it.

Source: https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api/messages,
https://docs.x.ai/docs/models, https://ai.google.dev/gemini-api/docs/openai, https://api-docs.deepseek.com,
https://openrouter.ai/docs/use-cases/usage-accounting; docs/decisions/0089-reading-usage.md.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from gateway_core.usage_events import MAX_COUNT, fit

_IN: Final = ("prompt_tokens", "input_tokens")
_OUT: Final = ("completion_tokens", "output_tokens")
_IN_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
# Within the input: of the usage itself, and of its details.
_READ: Final = ("prompt_cache_hit_tokens", "cached_tokens")
_READ_DETAILS: Final = ("cached_tokens", "cache_read_tokens", "cache_read_input_tokens")
_WRITTEN_DETAILS: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING: Final = ("reasoning_tokens", "thinking_tokens")
# A usage with these alone, nothing in its details and a total that fits them, says nothing else.
_PLAIN: Final = frozenset((*_IN, *_OUT, *_IN_DETAILS, *_OUT_DETAILS, "total_tokens"))
_WITHOUT_DETAILS: Final = frozenset((*_IN, *_OUT, "total_tokens"))
_NOTHING: Final[Mapping[str, Any]] = {}
# The usual tier: our word, and those of others.
USUAL_TIER: Final = "default"
USUAL_TIERS: Final = frozenset({USUAL_TIER, "standard", "on_demand", "auto", "standard_only"})


class Used(NamedTuple):
    """What an answer used, as a usage event counts it: tokens of a kind are part of the input or of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    stop_reason: str = ""
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    cache_read_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    cache_read_image_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0
    # USUAL_TIER where the answer names the usual one, empty where it names none.
    service_tier: str = ""
    usage_estimated: bool = False


def used_of(usage: Mapping[str, Any], *, stop_reason: str = "", tier: object = None) -> Used:
    """What an upstream's usage says.

    Args:
        usage: as it came; what is not as expected counts as zero.
        stop_reason: as the event holds it.
        tier: the service tier that the answer names beside its usage.
    """
    get = usage.get
    given_in, given_out = _first(usage, _IN), _first(usage, _OUT)
    if usage.keys() <= _PLAIN and get("total_tokens") == given_in + given_out and not _has_details(usage):
        # Of most answers nothing more can be said.
        return Used(given_in, given_out, stop_reason=stop_reason, service_tier=tier_of(tier))
    into, out_of = _details(usage, _IN_DETAILS), _details(usage, _OUT_DETAILS)
    within_read, within_written = _most(usage, _READ), 0
    if into:
        within_read, within_written = max(within_read, _most(into, _READ_DETAILS)), _most(into, _WRITTEN_DETAILS)
    beside_read, beside_written = count(get("cache_read_input_tokens")), count(get("cache_creation_input_tokens"))
    beside = beside_read + beside_written
    if beside and _is_within(beside, usage, within_read + within_written):
        beside = 0
    read, written = max(within_read, beside_read), max(within_written, beside_written)
    given_in = max(given_in + beside, read + written)
    reasoning = max(_most(out_of, _REASONING) if out_of else 0, count(get("reasoning_tokens")))
    rest = count(get("total_tokens")) - given_in - given_out
    if rest > 0 and not any(name in usage for name in _OUT):
        # Embeddings have no output.
        given_in += rest
    elif rest > 0:
        given_out += rest
        reasoning = max(reasoning, min(rest, given_out))
    elif reasoning > given_out:
        given_out += reasoning
    given_out = max(given_out, reasoning)
    if iterations := get("iterations"):
        again_in, again_out = _of_compactions(iterations)
        given_in, given_out = given_in + again_in, given_out + again_out
    used = Used(
        min(given_in, MAX_COUNT),
        min(given_out, MAX_COUNT),
        read,
        written,
        reasoning,
        stop_reason,
        web_searches=max(_searches(get("server_tool_use")), count(get("num_search_queries"))),
        service_tier=tier_of(get("speed"), get("service_tier"), tier),
    )
    if into or out_of or "cache_creation" in usage:
        return _with_kinds(used, usage, into, out_of)
    return used


def _with_kinds(used: Used, usage: Mapping[str, Any], into: Mapping[str, Any], out_of: Mapping[str, Any]) -> Used:
    """The same with the kinds that few answers have: caches for an hour, sounds and pictures."""
    kept = into.get("cached_tokens_details")
    kept = kept if isinstance(kept, dict) else _NOTHING
    hour = max(_of_an_hour(usage), _of_an_hour(into))
    return used._replace(
        cache_write_tokens=max(used.cache_write_tokens, hour),
        cache_write_1h_tokens=hour,
        input_audio_tokens=count(into.get("audio_tokens")),
        cache_read_audio_tokens=count(kept.get("audio_tokens")),
        output_audio_tokens=count(out_of.get("audio_tokens")),
        input_image_tokens=count(into.get("image_tokens")),
        cache_read_image_tokens=count(kept.get("image_tokens")),
        output_image_tokens=count(out_of.get("image_tokens")),
    )


def tier_of(*named: object) -> str:
    """The first that is not the usual tier, lower case; else USUAL_TIER if it is named; else ""."""
    tier = ""
    for one in named:
        if isinstance(one, str) and (text := fit(one).lower()):
            if text not in USUAL_TIERS:
                return text
            tier = USUAL_TIER
    return tier


def merged(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Two reports of one answer as one: no number falls, and what only one of them says stays."""
    if not before:
        return {name: value for name, value in now.items() if value is not None}
    both = dict(before)
    for name, value in now.items():
        known = both.get(name)
        if isinstance(value, dict):
            both[name] = merged(known if isinstance(known, dict) else {}, value)
        elif _is_number(value):
            both[name] = max(known, value) if _is_number(known) else value
        elif value is not None:
            both[name] = value
    return both


def count(value: object) -> int:
    """A number of things within an event's bounds; zero for what is none."""
    if value is None:
        return 0
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    if not _is_number(value) or value != value:  # noqa: PLR0124 -- not a number
        return 0
    return int(max(0, min(value, MAX_COUNT)))


def _is_number(value: object) -> TypeGuard[int | float]:
    # As JSON is decoded; a look at the type alone takes a fifth of the time of `isinstance`.
    return type(value) is int or type(value) is float


def _is_within(beside: int, usage: Mapping[str, Any], within: int) -> bool:
    """Whether the input contains the caches, though they are written as Anthropic does, who counts them beside it.

    Args:
        beside: tokens of the caches, in Anthropic's spelling.
        usage: it all.
        within: tokens of the caches, in OpenAI's spelling.
    """
    given_in, total = _first(usage, _IN), count(usage.get("total_tokens"))
    if given_in < beside:
        return False
    if total:
        return total < given_in + _first(usage, _OUT) + beside
    return "prompt_tokens" in usage or within > 0


def _of_compactions(iterations: object) -> tuple[int, int]:
    """What summaries of a long conversation took: Anthropic lists it, and leaves it out of the sums."""
    into = out_of = 0
    for one in iterations if isinstance(iterations, list) else ():
        if isinstance(one, dict) and one.get("type") == "compaction":
            into += count(one.get("input_tokens"))
            out_of += count(one.get("output_tokens"))
    return into, out_of


def _of_an_hour(usage: Mapping[str, Any]) -> int:
    created = usage.get("cache_creation")
    return count(created.get("ephemeral_1h_input_tokens")) if isinstance(created, dict) else 0


def _searches(tools: object) -> int:
    return count(tools.get("web_search_requests")) if isinstance(tools, dict) else 0


def _details(usage: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    """The first of these that is there; nothing, if nothing in it is above zero."""
    for name in names:
        if isinstance(found := usage.get(name), dict):
            return found if any(found.values()) else _NOTHING
    return _NOTHING


def _has_details(usage: Mapping[str, Any]) -> bool:
    for name in usage.keys() - _WITHOUT_DETAILS:
        value = usage[name]
        if not isinstance(value, dict) or any(value.values()):
            return True
    return False


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        if name in usage:
            return count(usage[name])
    return 0


def _most(usage: Mapping[str, Any], names: tuple[str, ...]) -> int:
    most = 0
    for name in names:
        if (value := usage.get(name)) is not None:
            most = max(most, count(value))
    return most
