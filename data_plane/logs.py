"""How a worker logs: one JSON object a line in production, readable lines in evaluation, secrets redacted in each.

Code passes no body, token or key to a logger. The redaction is a second fence.
"""

import logging
import sys
from typing import Final

import structlog

from gateway_core.redaction import redact

# uvicorn's message for an answer that we cut on purpose, because its upstream cut it.
_CUT_ON_PURPOSE: Final = "ASGI callable returned without completing response."

_BEFORE: Final[list[structlog.typing.Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Redacts every line, including those of libraries that do not use structlog."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(*, is_json: bool, level: str) -> None:
    """Send every log line of this process to standard error, redacted."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        RedactingFormatter(
            foreign_pre_chain=_BEFORE,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != _CUT_ON_PURPOSE)
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    logging.getLogger("asyncio").setLevel("WARNING")
    structlog.configure(
        processors=[*_BEFORE, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
