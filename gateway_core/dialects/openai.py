"""OpenAI's dialect, which most upstreams speak: also that of every provider without one of its own.

Source: https://platform.openai.com/docs/guides/error-codes, https://platform.openai.com/docs/guides/reasoning; of
DashScope, new-api and others, whose texts nobody else writes, their own documentation.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, Meaning, NotTaken

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
_SAMPLING: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")
_SAMPLING_OF_RESPONSES: Final = ("temperature", "top_p", "top_logprobs")
_CHAT: Final = (Surface.CHAT_COMPLETIONS,)
_RESPONSES: Final = (Surface.RESPONSES,)
# Fine-tuned ones too.
_ALWAYS: Final = (
    r"(?:ft:)?(?:o(?:1|3|4)(?:(?:-|:).*)?|gpt-5(?:(?:-|:)(?!chat).*)?|gpt-5\.\d+-(?:pro|codex).*|codex-mini.*)"
)
_AS_ASKED: Final = r"gpt-5\.\d+(?:-(?!chat|pro|codex).*)?"
_NEVER: Final = r"(?:ft:)?(?:gpt-4.*|gpt-3\.5.*|chatgpt-.*|gpt-5(?:\.\d+)?-chat.*)"
NOT_TAKEN: Final = (
    NotTaken(_ALWAYS, (*_SAMPLING, "logit_bias"), surfaces=_CHAT),
    NotTaken(_ALWAYS, _SAMPLING_OF_RESPONSES, surfaces=_RESPONSES),
    # These reason when they are asked to, and else take what all models take.
    NotTaken(_AS_ASKED, (*_SAMPLING, "logit_bias"), surfaces=_CHAT, if_reasoning=True),
    NotTaken(_AS_ASKED, _SAMPLING_OF_RESPONSES, surfaces=_RESPONSES, if_reasoning=True),
    NotTaken(
        r"(?:ft:)?(?:o(?:1|3|4)|gpt-5)(?:(?:-|:|\.).*)?",
        renamed=(("max_tokens", "max_completion_tokens"),),
        surfaces=_CHAT,
    ),
    NotTaken(r"o3(?:-.*)?|o4-mini.*|gpt-5(?:(?:-|:)(?!chat).*)?", ("stop",), surfaces=_CHAT),
    NotTaken(_NEVER, ("reasoning_effort",), surfaces=_CHAT),
    NotTaken(_NEVER, ("reasoning",), surfaces=_RESPONSES),
    NotTaken(r"gpt-4o(?:-mini)?-search-preview.*", (*_SAMPLING, "logit_bias", "seed"), surfaces=_CHAT),
)
DIALECT: Final = Dialect(
    id="openai",
    meanings=MEANINGS,
    stores=frozenset({Surface.CHAT_COMPLETIONS, Surface.RESPONSES}),
    not_taken=NOT_TAKEN,
)
