"""A worker's settings: read from the environment once, refused at start where something is missing or malformed.

Every name may also be given as NAME_FILE, the path of a file that holds the value.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway_core import addresses, base_urls, environment
from gateway_core.base_urls import UpstreamRules
from gateway_core.catalog import BUILT_IN
from gateway_core.envelopes import DocumentKeys
from gateway_core.environment import EVALUATION, EnvironmentIncomplete, listed, mode, ports_of, upstream_rules
from gateway_core.environment import port as parse_port
from gateway_core.policy import MOST_ATTEMPTS, MOST_MODELS
from gateway_core.sealing import Keyring
from gateway_core.usage_events import MOST_RECORDED_ATTEMPTS

_Value = TypeVar("_Value")

_KEYGEN = "from `python -m data_plane keygen`"


class CallerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection from a caller may cost, whether a key was looked at or not. Times are seconds."""

    # Connections at one time. The process's file descriptors may allow fewer (data_plane.http.connections).
    connections: int = 4096
    # Connections at one time from one address, of IPv6 from one /64; 0 for no bound.
    connections_per_address: int = 2048
    # Bytes of a request's head with its target; also of what frames a body between two pieces of it.
    head_bytes: int = 65_536
    headers: int = 128
    # From a connection's begin, or the first byte of a later request, to the end of the head.
    head_timeout: float = 10.0
    # How long a connection may be idle between two requests.
    keepalive_timeout: float = 75.0
    # How long a caller may take nothing of an answer that waits for it.
    unread_timeout: float = 30.0


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What requests with an access key may cost: one by itself, and those in flight together."""

    # Model names that one request may ask for.
    models: int = MOST_MODELS
    # Attempts of one request, and the bytes of their bodies together; the first attempt is always made.
    attempts: int = MOST_ATTEMPTS
    upstream_bytes: int = 128 * 1024 * 1024
    # Members of one body, at its top.
    members: int = 1000
    # How many objects and lists of a long body may stand within each other.
    depth: int = 512
    # Requests in flight of this worker, of one account and of one access key.
    requests: int = 4096
    requests_per_account: int = 2048
    requests_per_key: int = 1024
    # Bytes of the bodies of requests in flight.
    body_bytes: int = 512 * 1024 * 1024
    body_bytes_per_account: int = 256 * 1024 * 1024
    body_bytes_per_key: int = 128 * 1024 * 1024
    # Seconds of the loop's own processor time in one step, over which a warning is logged.
    step_warning: float = 0.1


class UpstreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream may cost beside its answer. Times are seconds."""

    # Interim answers (1xx) before an answer.
    interim_answers: int = 8
    # How long the look-up of a name may take.
    dns_timeout: float = 2.0
    # How long the addresses of a name are used.
    dns_kept: float = 10.0
    # How long it is remembered that a look-up failed.
    dns_failures_kept: float = 5.0
    # Look-ups of names of one account at one time.
    dns_lookups_per_account: int = 8
    # The name servers that are asked, as `address` or `address:port`; none for the system's.
    dns_servers: tuple[str, ...] = ()


# What an answer may have whose request names no maximum, where something depends on it.
UNNAMED_OUTPUT: Final = 16_384


class SharedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How limits of access keys and accounts are kept (data_plane.limits)."""

    # Whether a request passes whose limits cannot be judged, because Redis is away.
    allows_without_redis: bool = False
    # How many output tokens a request may have that names no maximum, where a limit depends on it.
    output_tokens: int = UNNAMED_OUTPUT
    # For how many seconds a request may wait for a place at most.
    queue: float = 30.0


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker runs with. Times are seconds. Holds secrets: its repr shows none."""

    mode: str
    redis_url: str
    document_keys: DocumentKeys
    keyring: Keyring
    namespace: str = "gw"
    host: str = "127.0.0.1"
    port: int = 8001
    # Built-in providers' IDs to the base URLs that the operator put in the place of the packaged ones.
    upstream_base_urls: dict[str, str] = {}
    # Where custom providers may stand beside the internet; the same as the control plane's.
    upstream_rules: UpstreamRules = UpstreamRules()
    # How long the last known good serves without Redis.
    staleness: float = 86_400.0
    # A directory that keeps the last known good across restarts; without, a worker begins with what Redis has.
    snapshot_directory: Path | None = None
    # Over how long what many workers would load at one moment is spread.
    loading_spread: float = 0.5
    # How long requests in flight may take to end after SIGTERM.
    drain: float = 30.0
    # How long a caller may take to send a body.
    body_timeout: float = 60.0
    caller_limits: CallerLimits = CallerLimits()
    upstream_limits: UpstreamLimits = UpstreamLimits()
    request_limits: RequestLimits = RequestLimits()
    shared_limits: SharedLimits = SharedLimits()
    # The origins of pages in browsers that may ask, as browsers write them; `*` for any.
    cors_allowed_origins: tuple[str, ...] = ()
    log_level: str = "INFO"
    # The file that keeps usage until Redis has it. Without the file, a worker that is killed loses that usage.
    usage_spool: Path | None = None

    def __repr__(self) -> str:
        return f"WorkerSettings(mode={self.mode}, host={self.host}, port={self.port}, namespace={self.namespace})"

    @property
    def is_evaluation(self) -> bool:
        """Whether upstreams on the loopback address are allowed (architecture, decision 14)."""
        return self.mode == EVALUATION


class _Environment:
    """Reads settings and gathers what is wrong with them, so that the refusal names everything at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        try:
            return environment.read(self.environ, name, default)
        except environment.FileUnreadable as fault:
            self.faults.append(str(fault).rstrip("."))
            return default

    def required(self, name: str, parse: Callable[[str], _Value], hint: str) -> _Value | None:
        text = self.text(name)
        if not text:
            if not any(fault.startswith(f"{name}_FILE ") for fault in self.faults):
                self.faults.append(f"{name} ({hint})")
            return None
        return self._parsed(name, text, parse)

    def optional(self, name: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
        text = self.text(name)
        if not text:
            return default
        parsed = self._parsed(name, text, parse)
        return default if parsed is None else parsed

    def _parsed(self, name: str, text: str, parse: Callable[[str], _Value]) -> _Value | None:
        # The parsers name what is wrong and never repeat a secret.
        try:
            return parse(text)
        except ValueError as fault:
            # A setting may be read twice: a port is the worker's own, and one of the gateway's.
            if (said := f"{name} ({fault})") not in self.faults:
                self.faults.append(said)
            return None


def load(environ: Mapping[str, str]) -> WorkerSettings:
    """The settings of an environment.

    Raises:
        EnvironmentIncomplete: something is missing or malformed; the message names everything that is.
    """
    chosen = mode(environ)
    env = _Environment(environ)
    redis_url = env.required("REDIS_URL", _redis_url, "redis://:password@host:6379/0")
    document_keys = env.required("DOCUMENT_KEYS", DocumentKeys.parse, f"as the control plane has them, {_KEYGEN}")
    keyring = env.required("SEALING_PRIVATE_KEYS", Keyring.parse, _KEYGEN)
    port = env.optional("DATA_PLANE_PORT", parse_port, 8001)
    base_urls = env.optional("UPSTREAM_BASE_URLS", _base_urls, _base_urls(""))
    rules = upstream_rules(env.optional, mode=chosen, servers=ports_of(redis_url or ""))
    staleness = env.optional("SNAPSHOT_STALENESS", _seconds, 86_400.0)
    loading_spread = env.optional("LOADING_SPREAD", _seconds_or_none, 0.5)
    drain = env.optional("DRAIN_TIMEOUT", _seconds, 30.0)
    log_level = env.optional("LOG_LEVEL", _log_level, "INFO")
    origins = env.optional("CORS_ALLOWED_ORIGINS", _origins, _origins(""))
    body_timeout = env.optional("REQUEST_BODY_TIMEOUT", _seconds, 60.0)
    caller_limits = _caller_limits(env)
    upstream_limits = _upstream_limits(env)
    request_limits = _request_limits(env)
    shared_limits = _shared_limits(env)
    snapshot_directory = env.text("SNAPSHOT_DIRECTORY")
    usage_spool = env.text("USAGE_SPOOL")
    if redis_url is None or document_keys is None or keyring is None or env.faults:
        raise EnvironmentIncomplete(f"The data plane in {chosen} mode needs: {'; '.join(env.faults)}.")
    return WorkerSettings(
        mode=chosen,
        redis_url=redis_url,
        document_keys=document_keys,
        keyring=keyring,
        namespace=env.text("REDIS_NAMESPACE", "gw"),
        host=env.text("DATA_PLANE_HOST", "127.0.0.1" if chosen == EVALUATION else "0.0.0.0"),  # noqa: S104 -- production serves its network
        port=port,
        upstream_base_urls=base_urls,
        upstream_rules=rules,
        staleness=staleness,
        snapshot_directory=Path(snapshot_directory) if snapshot_directory else None,
        loading_spread=loading_spread,
        drain=drain,
        body_timeout=body_timeout,
        caller_limits=caller_limits,
        upstream_limits=upstream_limits,
        request_limits=request_limits,
        shared_limits=shared_limits,
        cors_allowed_origins=origins,
        log_level=log_level,
        usage_spool=Path(usage_spool) if usage_spool else None,
    )


def _caller_limits(env: _Environment) -> CallerLimits:
    default = CallerLimits()
    return CallerLimits(
        connections=env.optional("CONNECTIONS", _count, default.connections),
        connections_per_address=env.optional(
            "CONNECTIONS_PER_ADDRESS", _count_or_none, default.connections_per_address
        ),
        head_bytes=env.optional("REQUEST_HEAD_BYTES", _count, default.head_bytes),
        headers=env.optional("REQUEST_HEADERS", _count, default.headers),
        head_timeout=env.optional("REQUEST_HEAD_TIMEOUT", _seconds, default.head_timeout),
        keepalive_timeout=env.optional("KEEPALIVE_TIMEOUT", _seconds, default.keepalive_timeout),
        unread_timeout=env.optional("UNREAD_ANSWER_TIMEOUT", _seconds, default.unread_timeout),
    )


def _request_limits(env: _Environment) -> RequestLimits:
    default = RequestLimits()
    return RequestLimits(
        models=env.optional("REQUEST_MODELS", _count, default.models),
        attempts=env.optional("REQUEST_ATTEMPTS", _attempts, default.attempts),
        upstream_bytes=env.optional("REQUEST_UPSTREAM_BYTES", _count, default.upstream_bytes),
        members=env.optional("REQUEST_MEMBERS", _count, default.members),
        depth=env.optional("REQUEST_DEPTH", _count, default.depth),
        requests=env.optional("REQUESTS_IN_FLIGHT", _count, default.requests),
        requests_per_account=env.optional("REQUESTS_IN_FLIGHT_PER_ACCOUNT", _count, default.requests_per_account),
        requests_per_key=env.optional("REQUESTS_IN_FLIGHT_PER_KEY", _count, default.requests_per_key),
        body_bytes=env.optional("BODY_BYTES_IN_FLIGHT", _count, default.body_bytes),
        body_bytes_per_account=env.optional("BODY_BYTES_IN_FLIGHT_PER_ACCOUNT", _count, default.body_bytes_per_account),
        body_bytes_per_key=env.optional("BODY_BYTES_IN_FLIGHT_PER_KEY", _count, default.body_bytes_per_key),
        step_warning=env.optional("STEP_WARNING", _seconds, default.step_warning),
    )


def _shared_limits(env: _Environment) -> SharedLimits:
    default = SharedLimits()
    return SharedLimits(
        allows_without_redis=env.optional("LIMITS_WITHOUT_REDIS", _allows, default.allows_without_redis),
        output_tokens=env.optional("LIMITS_OUTPUT_TOKENS", _count, default.output_tokens),
        queue=env.optional("LIMITS_QUEUE", _seconds_or_none, default.queue),
    )


def _upstream_limits(env: _Environment) -> UpstreamLimits:
    default = UpstreamLimits()
    return UpstreamLimits(
        interim_answers=env.optional("UPSTREAM_INTERIM_ANSWERS", _count, default.interim_answers),
        dns_timeout=env.optional("DNS_TIMEOUT", _seconds, default.dns_timeout),
        dns_kept=env.optional("DNS_KEPT", _seconds_or_none, default.dns_kept),
        dns_failures_kept=env.optional("DNS_FAILURES_KEPT", _seconds_or_none, default.dns_failures_kept),
        dns_lookups_per_account=env.optional("DNS_LOOKUPS_PER_ACCOUNT", _count, default.dns_lookups_per_account),
        dns_servers=env.optional("DNS_SERVERS", _name_servers, default.dns_servers),
    )


def load_keyring(environ: Mapping[str, str]) -> Keyring:
    """The private sealing keys alone: all that a command needs that only opens and seals.

    Raises:
        EnvironmentIncomplete: they are missing or malformed.
    """
    env = _Environment(environ)
    keyring = env.required("SEALING_PRIVATE_KEYS", Keyring.parse, _KEYGEN)
    if keyring is None:
        raise EnvironmentIncomplete(f"This command needs: {'; '.join(env.faults)}.")
    return keyring


def _redis_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("not a URL like redis://:password@host:6379/0")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError("not a number of seconds above zero")
    return seconds


def _seconds_or_none(text: str) -> float:
    return 0.0 if text.strip() == "0" else _seconds(text)


def _count_or_none(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("not a whole number")
    return int(text)


def _count(text: str) -> int:
    if not (number := _count_or_none(text)):
        raise ValueError("not a whole number above zero")
    return number


def _attempts(text: str) -> int:
    number = _count(text)
    if number > MOST_RECORDED_ATTEMPTS:
        raise ValueError(f"above {MOST_RECORDED_ATTEMPTS}")
    return number


def _name_servers(text: str) -> tuple[str, ...]:
    servers = tuple(filter(None, (part.strip() for part in text.split(","))))
    for server in servers:
        # As in a URL: an IPv6 address stands in brackets.
        parts = urlsplit(f"//{server}")
        if parts.hostname is None or parts.port == 0:
            raise ValueError(f"{server!r} is not an address or address:port")
        addresses.parse(parts.hostname)
    return servers


def _origins(text: str) -> tuple[str, ...]:
    origins = listed(text)
    for origin in origins:
        parts = urlsplit(origin)
        written = f"{parts.scheme}://{parts.netloc}"
        if origin != "*" and (
            not parts.hostname or "@" in parts.netloc or origin != written or origin != origin.lower()
        ):
            raise ValueError(f"{origin!r} is not * or an origin like https://app.example")
        if origin != "*" and _ports_default(parts.scheme) == parts.port:
            raise ValueError(f"{origin!r} names the port that browsers leave out")
    return tuple(origins)


def _ports_default(scheme: str) -> int:
    return {"https": 443, "http": 80}.get(scheme, 0)


def _allows(text: str) -> bool:
    if text not in {"refuse", "allow"}:
        raise ValueError("not `refuse` or `allow`")
    return text == "allow"


def _log_level(text: str) -> str:
    level = text.upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("not one of DEBUG, INFO, WARNING, ERROR")
    return level


def _base_urls(text: str) -> dict[str, str]:
    """`openai=http://127.0.0.1:9901/v1,anthropic=…`: where built-in providers stand instead."""
    found: dict[str, str] = {}
    for entry in listed(text):
        provider, _, url = entry.partition("=")
        if provider not in BUILT_IN:
            raise ValueError(f"{provider!r} is not a built-in provider")
        try:
            base_urls.parse(url)
        except base_urls.BaseUrlRefused as refusal:
            raise ValueError(f"{provider}: {refusal}") from None
        found[provider] = url
    return found
