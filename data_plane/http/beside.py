"""What a call beside the surfaces may do: by the model in its body, or by the provider that its header names.

Source: contract, section 9; docs/decisions/0087-calls-beside-the-surfaces.md.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from data_plane import errors
from data_plane.forwarding import headers as header_rules
from data_plane.forwarding.beside import NO_BODY, OPENAIS, USUAL_MODERATION, Asked, KeysSeveral, Passing, read_form
from data_plane.forwarding.bodies import Body, Buffer
from data_plane.forwarding.call import AttemptCall
from data_plane.forwarding.governed import check, check_form, check_routing
from data_plane.limits.held_limits import limits_of
from data_plane.limits.refusals import BatchNotLimited
from data_plane.settings import RequestLimits
from data_plane.state.held import HeldToken
from data_plane.turns import Turns
from gateway_core.catalog import BUILT_IN, Catalog, Format, Surface
from gateway_core.kept_policy import kept_by
from gateway_core.plans import Denial, DenialCode, KeySource, Plan
from gateway_core.policy import SnapshotIncomplete

# The header in which a caller names the provider that keeps what it asks for.
_PROVIDER: Final = b"gateway-provider"
_JSON: Final = b"application/json"
# Of a form only the names of its parts are judged.
_NO_VALUE: Final = msgspec.Raw(b"null")
_HINTED: Final = frozenset({DenialCode.NO_CREDENTIALS, DenialCode.PROVIDER_NOT_ALLOWED})


class Beside(NamedTuple):
    """What a call is judged by."""

    catalog: Catalog
    limits: RequestLimits
    turns: Turns
    parse: Callable[[Buffer], Awaitable[Body]]
    token: HeldToken
    # The access key as it was shown.
    text: bytes

    async def judge(self, asked: Asked, scope: Any, raw: bytes, speaks: Format) -> tuple[AttemptCall, Plan]:
        """Whether and where a call passes.

        Args:
            asked: the call.
            scope: ASGI's.
            raw: its body.
            speaks: the format that its caller shows to speak.

        Raises:
            GatewayError: it does not pass; why.
        """
        try:
            passing, surface, body, plan = await self._judged(asked, scope, raw, speaks)
        except SnapshotIncomplete:
            raise errors.SnapshotUnfit from None
        document = self.token.document
        if document is None:
            raise errors.AccessKeyUnknown
        account = self.token.account
        await check_routing(body.members, plan, account.snapshot, document.configuration, self.turns)
        call = AttemptCall(
            account=account,
            access_key=document.access_key,
            configuration=document.configuration,
            surface=surface,
            body=body,
            query=header_rules.query(scope["query_string"], self.text),
            headers=header_rules.upstream(scope["headers"], self.text),
            passing=passing,
        )
        return call, plan

    @property
    def _configuration(self) -> str | None:
        return None if self.token.document is None else self.token.document.configuration

    async def _judged(
        self, asked: Asked, scope: Any, raw: bytes, speaks: Format
    ) -> tuple[Passing, Surface, Body, Plan]:
        content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        method = scope["method"].encode("ascii")
        if not asked.is_by_model:
            surface = Surface.MESSAGES if speaks is Format.ANTHROPIC else Surface.CHAT_COMPLETIONS
            surface = Surface.RESPONSES if asked.family == "responses" else surface
            around = (raw, b"") if raw else None
            passing = Passing(asked, method, content_type if raw else b"", around, is_unmetered=True)
            return passing, surface, NO_BODY, self._kept(asked, scope, surface)
        if content_type.partition(b";")[0].strip().lower() in {_JSON, b""}:
            body, passing = await self._of_json(asked, raw), Passing(asked, method, _JSON)
        else:
            form = read_form(raw, content_type)
            members = dict.fromkeys(form.names, _NO_VALUE)
            check(members)
            check_form(form.names)
            body = Body(members, (form.model,), len(raw))
            passing = Passing(asked, method, content_type, (form.before, form.after))
        requested = tuple(f"openai:{one}" if OPENAIS.fullmatch(one) else one for one in body.requested)
        body = body._replace(requested=requested)
        return passing, Surface.CHAT_COMPLETIONS, body, self._by_model(asked, body)

    def _by_model(self, asked: Asked, body: Body) -> Plan:
        account = self.token.account
        outcome = account.resolve(
            self.catalog, self._configuration, body.requested, Surface.CHAT_COMPLETIONS, self.limits.attempts
        )
        if isinstance(outcome, Denial):
            raise errors.of_denial(outcome)
        own = account.snapshot.providers
        serving = [
            one for one in outcome.attempts if one.provider in own or asked.family in BUILT_IN[one.provider].beside
        ]
        what = asked.path[1:]
        if not serving:
            names = ", ".join(dict.fromkeys(one.provider for one in outcome.attempts))
            raise errors.SurfaceNotServed(f"{names} is not known to serve {what}.", param="model")
        # What such a call costs the operator has no price here.
        attempts = tuple(one for one in serving if one.source is not KeySource.MANAGED)
        if not attempts:
            raise errors.NoCredentials(
                f"Managed inference does not serve {what}: it needs a provider key of the account.", param="model"
            )
        return outcome._replace(attempts=attempts)

    def _kept(self, asked: Asked, scope: Any, surface: Surface) -> Plan:
        is_new_batch = scope["method"] == "POST" and asked.path.endswith("/batches")
        if is_new_batch and self.token.is_limited and any(held.is_enforced for held in limits_of(self.token)):
            raise BatchNotLimited
        named = next((value.decode("latin-1") for name, value in scope["headers"] if name == _PROVIDER), "")
        outcome = kept_by(
            self.token.account.snapshot,
            configuration=self._configuration,
            provider=named or ("anthropic" if surface is Surface.MESSAGES else "openai"),
            family=asked.family,
            most_attempts=self.limits.attempts,
        )
        if isinstance(outcome, Denial):
            if not named and outcome.code in _HINTED:
                hint = " The header 'gateway-provider' names another provider."
                outcome = outcome._replace(message=outcome.message + hint)
            raise errors.of_denial(outcome)
        if asked.family != "responses" and len(outcome.attempts) > 1:
            raise KeysSeveral(
                f"This access key may use several keys of {outcome.attempts[0].provider}, and {asked.family} belong to "
                "one of them. Use an access key whose configuration has one key for this provider."
            )
        return outcome

    async def _of_json(self, asked: Asked, raw: bytes) -> Body:
        try:
            return await self.parse(raw)
        except errors.ModelInvalid:
            if asked.family != "moderations" or b'"model"' in raw:
                raise
            # The one call whose clients leave it out.
            return await self.parse(b'{"model":"%b",' % USUAL_MODERATION.encode() + raw.lstrip()[1:])
