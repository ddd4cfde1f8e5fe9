"""How both planes log: one JSON object per line in production, readable lines in evaluation, without secrets in both.

The redaction is a second line of defence. The first is that no code of ours passes a secret to a logger.
"""

import logging
from typing import Any

import structlog

from gateway_admin import environment
from gateway_core.redaction import redact


def redact_event(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Redact every text of an event, at any depth, that looks like a token or an upstream's key."""
    return {name: _redacted(value) for name, value in event.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    if isinstance(value, bool | int | float) or value is None:
        return value
    return redact(repr(value))


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Redacts every formatted line, including those of libraries that do not use structlog."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


_BEFORE = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_RENDERER = (
    structlog.processors.JSONRenderer()
    if environment.mode() == environment.PRODUCTION
    else structlog.dev.ConsoleRenderer(colors=False)
)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": RedactingFormatter,
            "foreign_pre_chain": _BEFORE,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_event,
                _RENDERER,
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "django_structlog": {"level": "INFO"},
        "axes": {"level": "WARNING"},
    },
}
