"""OpenAI's dialect, which most upstreams speak: also that of every provider without one of its own.

Source: https://platform.openai.com/docs/guides/error-codes; of DashScope, new-api and others, whose texts nobody else
writes, their own documentation.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, Meaning

# Every dialect has these: many an upstream copies them.
MEANINGS: Final = (
    Meaning(402, code="insufficient_quota"),
    Meaning(402, code="billing_hard_limit_reached"),
    Meaning(402, code="billing_not_active"),
    Meaning(402, code="insufficient_balance"),
    Meaning(402, code="insufficient_user_quota"),
    # Alibaba's DashScope.
    Meaning(402, code="arrearage"),
    Meaning(402, message="insufficient (?:account )?balance"),
    Meaning(402, message="you exceeded your current quota, please check your plan and billing"),
    Meaning(401, code="invalid_api_key"),
    Meaning(401, code="invalidapikey"),
    Meaning(401, code="authentication_error"),
    Meaning(401, message="(?:incorrect|invalid) api key"),
    Meaning(403, code="account_deactivated"),
    Meaning(403, code="organization_deactivated"),
)
DIALECT: Final = Dialect(
    id="openai", meanings=MEANINGS, stores=frozenset({Surface.CHAT_COMPLETIONS, Surface.RESPONSES})
)
