"""A worker's settings: read from the environment once, refused at start where something is missing or malformed.

Every name may also be given as NAME_FILE, the path of a file that holds the value.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway_core import base_urls, environment
from gateway_core.base_urls import UpstreamRules
from gateway_core.catalog import BUILT_IN
from gateway_core.envelopes import DocumentKeys
from gateway_core.environment import EVALUATION, EnvironmentIncomplete, listed, mode, ports_of, upstream_rules
from gateway_core.environment import port as parse_port
from gateway_core.sealing import Keyring

_Value = TypeVar("_Value")

_KEYGEN = "from `python -m data_plane keygen`"


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
    log_level: str = "INFO"
    # Where usage is kept for the moment until Redis has it; without, it is lost with a worker that is killed.
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
        log_level=log_level,
        usage_spool=Path(usage_spool) if usage_spool else None,
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
