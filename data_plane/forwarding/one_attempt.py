"""One attempt: where it goes, what it shows, what it sends, and the beginning of what it gets."""

import re
from collections.abc import Sequence
from typing import Final

import aiohttp

from data_plane.errors import TotalTimeout
from data_plane.forwarding import headers as header_rules
from data_plane.forwarding import managed_inference
from data_plane.forwarding.answers import Answer
from data_plane.forwarding.beginnings import Begun, NotAnAnswer, beginning_of, close, error_body
from data_plane.forwarding.bodies import Buffer
from data_plane.forwarding.call import Running
from data_plane.forwarding.connection_faults import NOT_CONNECTED, word_for
from data_plane.forwarding.guarding import guard
from data_plane.forwarding.kept_upstream import is_not_kept, names_kept
from data_plane.forwarding.limits import lowered_maxima
from data_plane.forwarding.outcomes import (
    AttemptFailed,
    AttemptOutcome,
    KeptElsewhere,
    KeyUnusable,
    NotSent,
    RequestRefused,
    Said,
    cleaned,
    limits_of,
    outcome_of,
    wait_of,
)
from data_plane.forwarding.parameters import left_out
from data_plane.forwarding.targets import Target
from data_plane.forwarding.token_counts import NotCounted, is_not_counted
from data_plane.forwarding.upstream import Way
from gateway_core.catalog import Surface
from gateway_core.dialects import parameters_not_taken
from gateway_core.dialects.error_texts import ErrorText, read
from gateway_core.plans import Attempt, KeySource
from gateway_core.snapshot import CATALOG, MANAGED_DOCUMENT, provider_key_document

LOOP_HEADER: Final = b"gateway-loop"
_BAD_GATEWAY: Final = 502
_NOT_FOUND: Final = 404
_REDIRECTS: Final = range(300, 400)
_LONGEST_ERROR: Final = 64 * 1024
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,200}")
# With a key that is stored here these are not the caller's to choose.
_OF_THE_KEYS_OWNER: Final = (b"openai-organization", b"openai-project")
_ANTHROPIC_VERSION: Final = b"2023-06-01"


class OneAttempt:
    """An attempt of a plan, on its way to an upstream."""

    __slots__ = ("attempt", "is_managed", "running", "target", "value")

    def __init__(self, running: Running, attempt: Attempt) -> None:
        """
        Args:
            running: the request.
            attempt: of its plan.

        Raises:
            AttemptFailed: its provider is gone, or its key cannot be opened here.
            NotCounted: tokens are to be counted, and its provider does not count them.
        """
        self.running = running
        self.attempt = attempt
        # Whether it shows a key of the operator's.
        self.is_managed = attempt.source is KeySource.MANAGED
        self.target = self._target()
        if running.call.counts_tokens and self.target.counting is None:
            raise NotCounted
        # The secret that it shows; "" for none.
        self.value = self._value()

    def _target(self) -> Target:
        call = self.running.call
        try:
            return self.running.shared.targets.find(call.account, self.attempt.provider, call.surface)
        except (KeyError, ValueError):
            # The provider was deleted after the plan was made, or its base URL is not valid.
            raise NotSent("no_target") from None

    def _value(self) -> str:
        attempt = self.attempt
        if attempt.source is KeySource.NONE:
            return ""
        store, keyring = self.running.shared.store, self.running.shared.keyring
        account, key = self.running.call.account, attempt.provider_key
        if attempt.source is KeySource.MANAGED:
            value, is_news = store.managed_value(attempt.provider, keyring)
        elif key is not None and key in account.snapshot.provider_keys:
            value, is_news = account.value_of(key, keyring)
        else:
            raise KeyUnusable("key_unusable")
        if value is None:
            if is_news:
                place = (account.id, provider_key_document(key)) if key else (CATALOG, MANAGED_DOCUMENT)
                store.refuse_document(*place, "its value does not open")
            raise KeyUnusable("key_unusable")
        return value

    async def begin(self, *, is_last: bool, is_settled: bool = False) -> Begun:
        """Send it and wait for the beginning of its answer.

        Args:
            is_last: whether no other candidate follows, so that a refusal of the request is the answer.
            is_settled: whether no other key can know better what an upstream keeps, so that "not found" is the answer.

        Raises:
            AttemptFailed: there is no answer, or none that counts.
            TotalTimeout: there is no time for another attempt.
            NotCounted: as above.
        """
        running = self.running
        usage = running.usage
        response: Answer | None = None
        is_kept = False
        running.exchange.attempts += 1
        mask = mask_of(running, self.attempt)
        usage.begin(self.attempt, mask)
        try:
            with running.limit.until(running.bound):
                body = self._body()
                running.sent += sum(map(len, body))
                response = await running.shared.upstream.send(self._way(), self._headers(), body, self._query())
                guard(response, self.value, mask)
                usage.status = response.status
                usage.note_first_byte()
                running.exchange.upstream_request_id = self._request_id(response)
                begun = await self._judged(response, is_last=is_last, is_settled=is_settled)
                is_kept = True
                if begun.is_event_stream:
                    usage.note_first_byte()
                return begun
        except TimeoutError:
            usage.is_timed_out = True
            if running.clock() >= running.deadline:
                raise TotalTimeout from None
            raise AttemptFailed("timeout") from None
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            word = word_for(fault)
            if word in NOT_CONNECTED:
                usage.was_sent = False
            raise AttemptFailed(f"connection_failed ({word})" if word else "connection_failed") from None
        finally:
            if response is not None and not is_kept:
                close(response)

    def _query(self) -> bytes:
        return b"" if self.is_managed else self.running.call.query

    def _way(self) -> Way:
        if (passing := self.running.call.passing) is not None:
            return self.target.way_beside(passing.asked.path, passing.method)
        return self.target.way_for(self.attempt.model, counts_tokens=self.running.call.counts_tokens)

    async def _judged(self, response: Answer, *, is_last: bool, is_settled: bool) -> Begun:
        verdict = outcome_of(response.status)
        if self.running.call.counts_tokens and is_not_counted(response.status, is_custom=bool(self.target.way.account)):
            raise NotCounted
        if verdict is AttemptOutcome.FAILED:
            # The body of a redirect says nothing about a failure, so it is not read.
            body = b"" if response.status in _REDIRECTS else await error_body(response)
            raise self._failed(response, read(body), response.status)
        try:
            begun = await beginning_of(response, self.running)
        except NotAnAnswer as failure:
            error = failure.error
            raise self._failed(response, error, error.status or _BAD_GATEWAY) from None
        if verdict is AttemptOutcome.REFUSED:
            error = read(begun.first) if len(begun.first) <= _LONGEST_ERROR else ErrorText()
            if means := self.target.dialect.meaning(error):
                raise self._failed(response, error, means)
            if not is_settled and self._is_kept_elsewhere(response.status, error):
                raise KeptElsewhere(str(response.status), means=response.status, said=self._said(response, error))
            if not is_last:
                raise RequestRefused(str(response.status), said=self._said(response, error))
        return begun

    def _is_kept_elsewhere(self, status: int, error: ErrorText) -> bool:
        call = self.running.call
        if call.passing is not None:
            return status == _NOT_FOUND and not call.passing.asked.is_by_model
        return is_not_kept(error) and names_kept(call.body.members)

    def _failed(self, response: Answer, error: ErrorText, status: int) -> AttemptFailed:
        means = self.target.dialect.meaning(error) or status
        self.running.usage.was_refused = bool(error.codes or error.status)
        if means != response.status:
            self.running.usage.meant_status = means
        told = str(response.status)
        if outcome_of(response.status) is AttemptOutcome.ANSWERED:
            told += " without an answer"
        return AttemptFailed(told, means=means, said=self._said(response, error))

    def _said(self, response: Answer, error: ErrorText) -> Said:
        if self.is_managed:
            # It would speak of the operator's account.
            return Said(wait=wait_of(response))
        return Said(cleaned(error.message), wait_of(response), limits_of(response))

    def _request_id(self, response: Answer) -> bytes:
        names = self.target.dialect.request_ids
        for name in names:
            found = response.header(name.encode())
            if found and _REQUEST_ID.fullmatch(found):
                return found
        return b""

    def _body(self) -> Sequence[Buffer]:
        call, target, changes = self.running.call, self.target, {}
        if call.passing is not None:
            return call.passing.body(call.body, self.attempt.model)
        if (option := self.running.usage_option) is not None and target.takes_stream_options:
            changes["stream_options"] = option
        limit = call.output_cap
        if limit is not None and not call.counts_tokens:
            changes |= lowered_maxima(
                call.surface,
                call.body.members,
                limit,
                call.answers,
                provider=self.attempt.provider,
                parameters=target.parameters,
            )
        parameters = target.parameters
        if self.is_managed:
            parameters = managed_inference.members_sent(call.surface)
            changes |= managed_inference.members_set(call.surface, target.dialect)
        not_taken = parameters_not_taken(target.dialect_name, self.attempt.model, call.surface)
        dropped, told = left_out(call.body.members, parameters, changes, not_taken)
        self.running.exchange.removed = told
        return call.body.forwarded(self.attempt.model, parameters, changes, dropped)

    def _headers(self) -> dict[bytes, bytes]:
        sent = header_rules.for_provider(self.running.call.headers, self.attempt.provider)
        if self.value:
            for owners in _OF_THE_KEYS_OWNER:
                sent.pop(owners, None)
        if self.is_managed:
            sent = managed_inference.headers_sent(sent)
        sent.update(self.target.headers)
        key_header = self.target.key_header
        name = key_header.name.encode("ascii")
        if self.value:
            sent[name] = (key_header.prefix + self.value).encode("ascii")
        else:
            # Where the upstream looks for a key nothing of the caller's stands.
            sent.pop(name, None)
        passing = self.running.call.passing
        if content_type := b"application/json" if passing is None else passing.content_type:
            sent[b"content-type"] = content_type
        # An error event can only follow plain text, and the answer's usage must be readable.
        sent[b"accept-encoding"] = b"identity"
        sent[LOOP_HEADER] = self.running.shared.loop_marker
        if self.running.call.surface is Surface.MESSAGES:
            sent.setdefault(b"anthropic-version", _ANTHROPIC_VERSION)
        return sent


def mask_of(running: Running, attempt: Attempt) -> str | None:
    """The mask of an attempt's provider key as it is now, if it uses one."""
    known = running.call.account.snapshot.provider_keys.get(attempt.provider_key or "")
    return None if known is None else known.mask


def shown_key(running: Running, attempt: Attempt) -> str:
    """What a caller may see of an attempt's key."""
    mask = mask_of(running, attempt)
    return mask or ("the operator's key" if attempt.source is KeySource.MANAGED else "no key")
