"""Members of a body whose names decide something, so that an upstream obeys what the gateway judged and nothing else.

Upstreams read names differently. Go's `encoding/json` and .NET's web defaults ignore case, protocol buffers also take
`maxTokens` for `max_tokens`, C ends a text at NUL, JavaScript knows `__proto__`. So names are compared by their letters
and digits alone (`_key`), and a name that is only nearly that of a governed member is refused.

Source: contract, section 9; docs/decisions/0082-governed-members.md.
"""

import unicodedata
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from data_plane.errors import BodyTooDeep, MemberAmbiguous, MemberInvalid, MemberRoutes
from data_plane.forwarding.json_slices import LIST, LONG, OBJECT, NameTooLong, NotJson, TooMany, parts_of
from data_plane.turns import Turns
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import BUILT_IN
from gateway_core.plans import KeySource, Plan

# The members that say how long an answer may become: OpenAI's and Anthropic's, llama.cpp's, Ollama's, and of servers of
# Hugging Face's models. llama.cpp takes its own before OpenAI's.
MAXIMA: Final = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "num_predict", "max_new_tokens"),
    *("max_length", "max_gen_len", "max_gen_tokens", "max_tokens_to_sample"),
)
# The members that ask for several answers at once.
COUNTS: Final = ("n", "best_of", "n_cmpl", "num_return_sequences", "candidate_count", "num_generations")
# What the gateway reads or sets.
GOVERNED: Final = (
    *("model", "models", "stream", "stream_options", *COUNTS, "service_tier", "store", "background"),
    *("messages", "prompt", "suffix", "input", "system", "instructions", "tools", "functions", "response_format"),
    *("previous_response_id", "include_usage", *MAXIMA),
)
# Members that decide nothing, in the spelling of OpenAI and Anthropic: nearly every request has these alone.
HARMLESS: Final = (
    *("audio", "container", "context_management", "conversation", "dimensions", "echo", "encoding_format"),
    *("frequency_penalty", "function_call", "include", "logit_bias", "logprobs", "max_tool_calls", "metadata"),
    *("modalities", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "reasoning"),
    *("prompt_cache_retention", "reasoning_effort", "safety_identifier", "seed", "stop", "stop_sequences"),
    *("temperature", "text", "thinking", "tool_choice", "top_k", "top_logprobs", "top_p", "truncation", "user"),
    *("verbosity", "web_search_options", "output_config", "min_p", "repetition_penalty"),
)
# Some upstreams take these apart and read what is in them as if it stood beside them.
_CONTAINERS: Final = (
    *("extra_body", "options", "generation_config", "parameters", "params", "provider_options", "sampling_params"),
    *("optional_params", "litellm_params", "model_kwargs", "inference_config", "nvext", "config", "overrides"),
    *("additional_model_request_fields", "extra", "kwargs", "body", "request"),
)
# By these some upstream routes, retries, falls back or calls elsewhere: OpenRouter, LiteLLM, Portkey, Vercel's and
# Azure's gateways, and servers of models, some of which load another one (`lora_path`) or fetch from a host
# (`kv_transfer_params`). What only one built-in provider knows stands in its `routingMembers`.
_ROUTING: Final = (
    *("fallbacks", "fallback", "fallback_models", "default_fallbacks", "context_window_fallbacks", "preset", "presets"),
    *(
        "context_window_fallback_dict",
        "content_policy_fallbacks",
        "model_list",
        "model_group",
        "model_id",
        "model_info",
    ),
    *("model_name", "route", "router", "routing", "routing_strategy", "router_settings", "router_settings_override"),
    *("user_config", "provider", "providers", "plugins", "transforms", "engine", "deployment", "deployment_id"),
    *("deployment_name", "specific_deployment", "api_base", "api_key", "api_token", "api_type", "api_version"),
    *("base_url", "base_model", "custom_llm_provider", "llm_provider", "organization", "extra_headers", "headers"),
    *("extra_query", "proxy", "proxies", "num_retries", "max_retries", "retries", "retry", "mock_response", "targets"),
    *("target", "target_url", "strategy", "virtual_key", "custom_host", "endpoint", "host", "url", "upstream"),
    *("callback_url", "webhook", "webhook_url", "region_name", "lora", "lora_path", "lora_request", "adapter"),
    *("adapter_id", "adapter_source", "draft_model", "speculative_model", "kv_transfer_params", "bootstrap_host"),
    *("bootstrap_port", "bootstrap_room", "data_parallel_rank"),
)
_ROUTING_LEADS: Final = ("litellm", "azure", "aws", "vertex", "helicone", "portkey", "openrouter")
# To JavaScript `__proto__`, `constructor` and `prototype` are not members of the object.
_PROTOTYPE_KEYS: Final = frozenset({"proto", "constructor", "prototype"})
_LONGEST_NAME: Final = 128
# Of all containers of a body together.
_LONGEST_CONTAINERS: Final = 16 * 1024
_MARKS: Final = dict.fromkeys(one for one in range(128) if not chr(one).isalnum())
_REMEMBERED: Final = 4096


def _key(name: str) -> str:
    """A name as the most lenient upstream might compare it: its letters and digits, without case and accents."""
    if name.isascii():
        return name.lower().translate(_MARKS)
    # Twice: what upper case makes of a letter may have an accent of its own.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).upper().casefold())
    return "".join(filter(str.isalnum, plain))


_GOVERNED_BY_KEY: Final = {_key(name): name for name in GOVERNED}
_CONTAINER_KEYS: Final = frozenset(map(_key, _CONTAINERS))
_GENERAL_ROUTING: Final = {_key(name): name for name in _ROUTING}
# What a provider's facts add to the members that route anywhere.
_ROUTING_OF: Final = {
    provider.id: {_key(name): name for name in provider.routing_members} for provider in BUILT_IN.values()
}
# Names that need no second look; of `stream_options` also the content is looked at.
_NEVER_ROUTING: Final = frozenset((*GOVERNED, *HARMLESS))
_PLAIN: Final = _NEVER_ROUTING - {"stream_options", "stream", "include_usage"}
_LONGEST_WORD: Final = 8
# Of tools that are longer than `LONG`, how many are looked at; and they stand in a body that is not too deep.
_MOST_TOOLS: Final = 4096
_ANY_DEPTH: Final = 1_000_000
_BOOLEANS: Final = frozenset({b"true", b"false", b"null"})
_list_of_objects: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


@lru_cache(maxsize=_REMEMBERED)
def _governed_name(name: str) -> str | None:
    """The governed member that an upstream may take this name for. The name itself if no body may have it."""
    key = _key(name)
    if key in _PROTOTYPE_KEYS or "\0" in name:
        return name
    return _GOVERNED_BY_KEY.get(key)


@lru_cache(maxsize=_REMEMBERED)
def _is_container(name: str) -> bool:
    return _key(name) in _CONTAINER_KEYS


def check(members: dict[str, msgspec.Raw]) -> None:
    """Refuse a body of which an upstream might read something else than the gateway does.

    Args:
        members: the body's own. `stream_options` is written again, so that no name stands in it twice.

    Raises:
        MemberAmbiguous, MemberInvalid, BodyTooDeep: the body is refused.
    """
    if members.keys() <= _PLAIN:
        return
    length = 0
    for name in members.keys() - _PLAIN:
        if name == "stream":
            if not is_one_of(members[name], _BOOLEANS):
                # Some upstreams read "true" and 1 as true.
                raise MemberInvalid("'stream' must be true or false.", param=name)
        elif name == "stream_options":
            length += _bounded(name, members[name], length)
            options = _decoded(name, members[name])
            _check_inside(name, options, but="include_usage")
            members[name] = msgspec.Raw(msgspec.json.encode(options))
        else:
            _check_name(name)
            if _is_container(name):
                length += _bounded(name, members[name], length)
                _check_inside(name, _decoded(name, members[name]))


def check_form(names: Iterable[str]) -> None:
    """Refuse a form with fields that name further models or hold members of their own: their values are not looked at.

    Raises:
        MemberAmbiguous: it has one.
    """
    for name in names:
        if name == "models" or _is_container(name):
            raise MemberAmbiguous(f"A form may not have the field '{_shown(name)}'.", param=_shown(name))


def is_one_of(value: msgspec.Raw, words: Collection[bytes]) -> bool:
    """Whether a value is one of some short words. A value of many MiB is not copied."""
    return len(memoryview(value)) <= _LONGEST_WORD and bytes(value) in words


def _check_name(name: str) -> None:
    _check_length(name)
    known = _governed_name(name)
    if known is not None and name != known:
        raise MemberAmbiguous(f"A member is named nearly like '{known}', and an upstream may read it so.", param=known)
    if known is not None and known not in _PLAIN:
        raise MemberAmbiguous(f"'{_shown(known)}' may not stand here.", param=_shown(known))


def _check_length(name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise MemberInvalid(f"A member's name is longer than {_LONGEST_NAME} characters.")


def _check_inside(container: str, value: Any, *, but: str = "") -> None:
    for name in _names(value):
        _check_length(name)
        if name != but and (known := _governed_name(name)) is not None:
            raise MemberAmbiguous(
                f"'{_shown(known)}' is set beside '{_shown(container)}', not in it.", param=_shown(known)
            )


async def check_routing(
    members: Mapping[str, msgspec.Raw], plan: Plan, account: AccountSnapshot, scope: str | None, turns: Turns
) -> None:
    """Refuse a member by which an upstream may leave the access scope, or spend the operator's money elsewhere.

    Only a request whose configuration names models, or that may use a managed key, is looked at. A custom provider that
    lists its `supportedParams` gets no others, and those that it lists are its account's own choice.

    Args:
        members: the body's own.
        plan: where the request may go.
        account: the access key's.
        scope: the `aigac_…` ID of the access key's configuration, if it has one.
        turns: long tools are looked at in steps.

    Raises:
        MemberRoutes: the request has such a member, at its top, in a container or in a tool.
        MemberInvalid: it has more tools than can be looked at.
    """
    if members.keys() <= _NEVER_ROUTING and "tools" not in members:
        return
    is_scoped = scope is not None and account.configurations[scope].models is not None
    if not is_scoped and not any(attempt.source is KeySource.MANAGED for attempt in plan.attempts):
        return
    providers = {attempt.provider for attempt in plan.attempts if _takes_anything(account, attempt.provider)}
    if not providers:
        return
    names = [*_deciding_names(members)]
    if (tools := members.get("tools")) is not None:
        # A tool that the upstream runs by itself may name a model of its own.
        names += filter(_names_a_model, await _names_of_tools(tools, turns))
    for name in names:
        if (known := _routing_name(name, providers)) is not None:
            raise MemberRoutes(
                f"'{known}' may make the upstream use another model than was judged, and this access key may not.",
                param=known,
            )


def _takes_anything(account: AccountSnapshot, provider: str) -> bool:
    custom = account.providers.get(provider)
    return custom is None or any(support.parameters is None for support in custom.surfaces)


def _deciding_names(members: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    for name in members.keys() - _PLAIN:
        yield name
        if _is_container(name):
            yield from _names(_decoded(name, members[name]))


def _names_a_model(name: str) -> bool:
    return _key(name[:_LONGEST_NAME]) == "model"


async def _names_of_tools(tools: msgspec.Raw, turns: Turns) -> Iterable[str]:
    """The names of the members of each tool."""
    if len(memoryview(tools)) > LONG:
        return await turns.run(_names_in_steps(memoryview(tools)))
    try:
        return [name for tool in _list_of_objects.decode(tools) for name in tool]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def _names_in_steps(tools: memoryview) -> Generator[None, None, set[str]]:
    names: set[str] = set()
    try:
        for tool in (yield from parts_of(tools, LIST, most=_MOST_TOOLS, depth=_ANY_DEPTH)):
            members = yield from parts_of(tools[tool.begin : tool.end], OBJECT, most=_MOST_TOOLS, depth=_ANY_DEPTH)
            names.update(member.name for member in members)
    except NotJson:
        # Not objects, or not a list of them.
        return names
    except (TooMany, NameTooLong):
        raise MemberInvalid(f"There are more than {_MOST_TOOLS} tools.", param="tools") from None
    return names


def _routing_name(name: str, providers: Iterable[str]) -> str | None:
    key = _key(name[:_LONGEST_NAME])
    if key.startswith(_ROUTING_LEADS):
        return next(lead for lead in _ROUTING_LEADS if key.startswith(lead)) + "…"
    if known := _GENERAL_ROUTING.get(key) or ("model" if key == "model" else None):
        return known
    return next((found for one in providers if (found := _ROUTING_OF.get(one, {}).get(key))), None)


def _bounded(name: str, value: msgspec.Raw, before: int) -> int:
    """The length of a container, where it and those before it are not too long together."""
    length = len(memoryview(value))
    if before + length > _LONGEST_CONTAINERS:
        raise MemberInvalid(
            f"'{_shown(name)}' and its like are longer than {_LONGEST_CONTAINERS} bytes.", param=_shown(name)
        )
    return length


def _decoded(name: str, value: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(value)
    except RecursionError:
        raise BodyTooDeep from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MemberInvalid(f"'{_shown(name)}' is not well formed.", param=_shown(name)) from None


def _names(value: Any) -> Iterator[str]:
    """Every name in a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _shown(name: str) -> str:
    """A member's name for an error. It is a name that this module knows, in any case and with any marks in it."""
    return "".join(character for character in name if character.isalnum() or character == "_")
