"""DeepSeek's dialect: its statuses say what they mean; a request has an ID under a name of its own.

Source: https://api-docs.deepseek.com/quick_start/error_codes.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(id="deepseek", meanings=MEANINGS, request_ids=("x-ds-trace-id", "x-request-id"))
