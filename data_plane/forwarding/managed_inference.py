"""What may be sent with a key of the operator's: what the price of an answer's tokens pays for, and nothing else.

Members and headers pass by a list. What is charged beside tokens is refused (tools that the upstream runs, other
service tiers, answers that are made in the background), and so is what refers to objects that are stored at the
upstream: they belong to the operator's organisation there, which all accounts share.

Source: docs/decisions/0078-managed-requests.md.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.errors import NotPriced
from data_plane.forwarding.json_slices import LONG
from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect
from gateway_core.dialects.usage import USUAL_TIERS
from gateway_core.plans import DenialCode, KeySource, Plan, Skipped

_SAMPLING: Final = (
    *("model", "models", "stream", "stream_options", "temperature", "top_p", "stop", "seed", "user", "metadata"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "n", "max_tokens"),
    *("prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
)
_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls")
# What is sent upstream. `store` and `service_tier` may stand in a request and are the gateway's to set.
_SENT: Final[Mapping[Surface, frozenset[str]]] = {
    Surface.CHAT_COMPLETIONS: frozenset(
        (
            *(*_SAMPLING, *_TOOLS, "messages", "max_completion_tokens", "functions", "function_call", "verbosity"),
            *("response_format", "reasoning_effort", "modalities", "audio", "prediction", "thinking", "top_k"),
        )
    ),
    Surface.COMPLETIONS: frozenset((*_SAMPLING, "prompt", "suffix", "echo", "best_of")),
    Surface.RESPONSES: frozenset(
        (
            *(*_SAMPLING, *_TOOLS, "input", "instructions", "max_output_tokens", "max_tool_calls", "reasoning"),
            *("text", "truncation", "include", "client_metadata"),
        )
    ),
    Surface.EMBEDDINGS: frozenset(("model", "models", "input", "dimensions", "encoding_format", "user")),
    Surface.MESSAGES: frozenset(
        (
            *("model", "models", "messages", "system", "max_tokens", "metadata", "stop_sequences", "stream"),
            *("temperature", "top_k", "top_p", "tools", "tool_choice", "thinking", "output_config", "output_format"),
            *("cache_control", "context_management"),
        )
    ),
}
# Tools that the caller runs. On the surface `messages` by the beginning of their names, which end in a date.
_CALLERS_TOOLS: Final = frozenset({"function", "custom", "local_shell", "apply_patch", "computer_use_preview"})
_CALLERS_DATED_TOOLS: Final = ("bash_", "text_editor_", "computer_", "memory_")
_HEADERS: Final = frozenset(
    {b"accept", b"user-agent", b"traceparent", b"tracestate", b"anthropic-version", b"anthropic-beta"}
)
# The beginnings of Anthropic's beta names that change what tokens there are, and no price.
_BETAS: Final = (
    *("claude-code-", "interleaved-thinking-", "fine-grained-tool-streaming-", "prompt-caching-", "effort-"),
    *("extended-cache-ttl-", "context-management-", "context-1m-", "token-efficient-tools-", "output-128k-"),
    *("structured-outputs-", "computer-use-", "advanced-tool-use-", "max-tokens-", "prompt-caching-scope-"),
)
# Members, at any depth, by which a part of a request is an object that is stored at the upstream.
_REFERENCES: Final = frozenset({"fileid", "fileids", "vectorstoreids", "containerid", "skillid"})
_REFERRING_TYPES: Final = frozenset({"item_reference", "container_upload"})
# Where none of this stands, there is no reference. The last is a letter that is written as an escape.
_SUSPECTS: Final = tuple(
    re.compile(one)
    for one in (
        *(b"file_id", b"vector_store_id", b"container_id", b"skill_id", b"item_reference", b"container_upload"),
        rb"\\u00[4-7]",
    )
)
_OUTSIDE: Final = re.compile(rb'[^"]*+')
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_COLON: Final = re.compile(rb"\s*+:")
_QUOTE: Final = 0x22
# As much is searched before others get their turn, and the longest that one search may miss at its end.
_SLICE: Final = 256 * 1024
_OVERLAP: Final = 64
_AT_ONCE: Final = 1000
_LONGEST_NAME: Final = 200
_NOTHING: Final = frozenset({b"null", b"false"})

_list: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_text: Final = msgspec.json.Decoder(str)


class _Refusal(NamedTuple):
    param: str
    message: str


async def payable(plan: Plan, surface: Surface, members: Mapping[str, msgspec.Raw]) -> Plan:
    """A plan without the attempts with the operator's key, if the request asks for what they may not send.

    Args:
        plan: what the policy allows.
        surface: where the request goes.
        members: its body's.

    Raises:
        NotPriced: there are no other attempts.
    """
    if not any(attempt.source is KeySource.MANAGED for attempt in plan.attempts):
        return plan
    refusal = _refusal(surface, members) or await _reference(members)
    if refusal is None:
        return plan
    others = tuple(attempt for attempt in plan.attempts if attempt.source is not KeySource.MANAGED)
    if not others:
        raise NotPriced(refusal.message, param=refusal.param)
    left_out = (
        Skipped(one.model, one.provider, one.model, DenialCode.NO_CREDENTIALS, refusal.message, one.step)
        for one in plan.attempts
        if one.source is KeySource.MANAGED
    )
    return plan.of(others)._replace(skipped=(*plan.skipped, *left_out))


def members_sent(surface: Surface) -> frozenset[str]:
    """The members of a request that are sent with the operator's key."""
    return _SENT.get(surface, frozenset())


def members_set(surface: Surface, dialect: Dialect) -> dict[str, msgspec.Raw]:
    """The members that the gateway sets: nothing is stored at the upstream."""
    return {"store": msgspec.Raw(b"false")} if surface in dialect.stores else {}


def headers_sent(passed: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Of a caller's headers that may pass, those that may with the operator's key."""
    sent = {name: value for name, value in passed.items() if name in _HEADERS}
    if betas := sent.pop(b"anthropic-beta", b""):
        names = (one.strip() for one in betas.decode("latin-1").split(","))
        if allowed := ",".join(one for one in names if one.startswith(_BETAS)):
            sent[b"anthropic-beta"] = allowed.encode("latin-1")
    return sent


def _refusal(surface: Surface, members: Mapping[str, msgspec.Raw]) -> _Refusal | None:
    sent = members_sent(surface)
    for name, value in members.items():
        if name == "service_tier":
            if not _is_usual_tier(value):
                return _Refusal(name, "Managed inference serves the default 'service_tier' only.")
        elif name == "tools" and name in sent:
            if len(memoryview(value)) > LONG:
                # To look at them all would keep others waiting.
                return _Refusal(name, f"Managed inference takes 'tools' of at most {LONG // 1024} KiB.")
            if (kind := next(_others_tools(surface, value), None)) is not None:
                return _Refusal(name, f"Managed inference takes only 'tools' that the caller runs, not '{kind}'.")
        elif name not in sent and name != "store" and not _says_nothing(value):
            shown = name if name.isidentifier() and len(name) <= _LONGEST_NAME else "a member"
            return _Refusal(shown, f"Managed inference does not take '{shown}' here: only what has a price passes.")
    return None


def _is_usual_tier(value: msgspec.Raw) -> bool:
    if _says_nothing(value):
        return True
    if len(memoryview(value)) > _LONGEST_NAME:
        return False
    try:
        return _text.decode(value) in USUAL_TIERS
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _says_nothing(value: msgspec.Raw) -> bool:
    view = memoryview(value)
    return len(view) <= _LONGEST_NAME and bytes(view).strip() in _NOTHING


def _others_tools(surface: Surface, value: msgspec.Raw) -> Iterator[str]:
    """The kinds of the tools that the upstream would run, and of those that nobody here knows."""
    try:
        tools = [] if _says_nothing(value) else _list.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield "a tool that is none"
        return
    for tool in tools:
        kind = _kind(tool)
        is_dated = surface is Surface.MESSAGES and kind.startswith(_CALLERS_DATED_TOOLS)
        if kind not in _CALLERS_TOOLS and not is_dated and not (surface is Surface.MESSAGES and "type" not in tool):
            yield kind if kind.isidentifier() and len(kind) <= _LONGEST_NAME else "a tool of this kind"


def _kind(tool: Mapping[str, Any]) -> str:
    try:
        return _text.decode(tool.get("type", msgspec.Raw(b'""')))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


async def _reference(members: Mapping[str, msgspec.Raw]) -> _Refusal | None:
    """The first part of a request that is stored at the upstream. Others get their turn meanwhile."""
    for name, value in members.items():
        view = memoryview(value)
        if not await _is_suspect(view):
            continue
        wanted = ""
        for number, (written, is_name) in enumerate(_texts(view)):
            if written is None or number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if (is_name and _key(written or "") in _REFERENCES) or (wanted == "type" and written in _REFERRING_TYPES):
                message = f"Managed inference takes no references in '{name}' to what is stored at the provider."
                return _Refusal(name, message)
            wanted = (written or "") if is_name else ""
    return None


async def _is_suspect(view: memoryview) -> bool:
    for begin in range(0, len(view), _SLICE):
        if begin:
            await asyncio.sleep(0)
        if any(one.search(view, begin, begin + _SLICE + _OVERLAP) for one in _SUSPECTS):
            return True
    return False


def _texts(view: memoryview) -> Iterator[tuple[str | None, bool]]:
    """Each text of a JSON value, and whether it names a member; None for a long part of anything else."""
    place, end = 0, len(view)
    while place < end:
        found = _OUTSIDE.match(view, place, min(end, place + _SLICE))
        place = found.end() if found else place
        if place == end or view[place] != _QUOTE:
            yield None, False
            continue
        begin = place = place + 1
        while place < end and view[place] != _QUOTE:
            inside = _INSIDE.match(view, place, min(end, place + _SLICE))
            # The slice's end may cut an escape in two.
            place = inside.end() if inside and inside.end() > place else place + 2
            if place - begin > _SLICE:
                yield None, False
        written = _plain(bytes(view[begin:place])) if place - begin <= _LONGEST_NAME else ""
        yield written, _COLON.match(view, place + 1, min(end, place + _SLICE)) is not None
        place += 1


def _plain(written: bytes) -> str:
    """A short JSON text as it is meant."""
    if b"\\" not in written:
        return written.decode("utf-8", "replace")
    try:
        return _text.decode(b'"%b"' % written)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _key(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
