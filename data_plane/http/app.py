"""The worker's HTTP side: raw ASGI, one function a route.

A request is judged in this order: route, routing loop, access key, body, policy. What it is judged by is in memory;
only a token that was never shown here makes its request wait for the follower.
"""

import asyncio
import time
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from data_plane import errors
from data_plane.forwarding import bodies, codings, managed_inference
from data_plane.forwarding import headers as header_rules
from data_plane.forwarding.attempts import AttemptMachine, format_of
from data_plane.forwarding.beside import NO_BODY, Asked, asked_of
from data_plane.forwarding.bodies import Body, Buffer, ClientLeft, Receive
from data_plane.forwarding.budget import Budget
from data_plane.forwarding.call import AttemptCall, Machinery
from data_plane.forwarding.cooling import Cooling
from data_plane.forwarding.exchange import Exchange, Send
from data_plane.forwarding.governed import check_routing
from data_plane.forwarding.json_slices import LONG
from data_plane.forwarding.limiting import MOST_OUTPUT_TOKENS, Limiting
from data_plane.forwarding.limits import check_input, check_output
from data_plane.forwarding.one_attempt import LOOP_HEADER
from data_plane.forwarding.targets import Targets
from data_plane.forwarding.thinking import check_budgets
from data_plane.forwarding.time_limit import TimeLimit
from data_plane.forwarding.token_counts import NotCounted, answer_estimated, not_metered
from data_plane.forwarding.upstream import Upstream
from data_plane.http import paths
from data_plane.http.beside import Beside
from data_plane.http.cross_origin import CrossOrigin
from data_plane.http.models import ModelLists, Page
from data_plane.http.protocol import Caller
from data_plane.http.readiness import readiness
from data_plane.limits.admission import Admission
from data_plane.limits.shares import Shares
from data_plane.metrics import CONTENT_TYPE, Metrics
from data_plane.settings import WorkerSettings
from data_plane.state.follower import Follower
from data_plane.state.held import HeldToken
from data_plane.turns import Turns
from data_plane.usage.durations import Durations
from data_plane.usage.emitter import UsageEmitter
from gateway_core import tokens
from gateway_core.catalog import Format, Surface
from gateway_core.envelopes import DocumentKeys, NotAuthentic, Purpose
from gateway_core.plans import Denial, DenialCode, Plan
from gateway_core.policy import SnapshotIncomplete
from gateway_core.snapshot import TokenDocument
from gateway_core.usage_events import UsageEvent

log = structlog.get_logger("data_plane.http.app")

# What watches a worker asks for these, every few seconds and before it is ready. They are not requests of callers.
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_READ: Final = frozenset({paths.MODELS, *_PROBES, *paths.GREETINGS})
_READS: Final = ("GET", "HEAD")
_JSON: Final = (b"content-type", b"application/json")
# RFC 9110, section 15.5.22: it names what is spoken instead.
_INSTEAD_OF_WEBSOCKET: Final = ((b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade"))
_LOOP_PLACE: Final = "routing loop"
_TELL_SECONDS: Final = 2.0
_TOKEN_BEGIN: Final = tokens.ACCESS_KEY_PREFIX.encode()
_MICROSECONDS: Final = 1_000_000


class App:
    """The application that the server calls."""

    def __init__(
        self,
        settings: WorkerSettings,
        follower: Follower,
        upstream: Upstream,
        usage: UsageEmitter,
        metrics: Metrics,
        *,
        shares: Shares,
    ) -> None:
        self.is_draining = False
        # How many requests came in, for the worker's report.
        self.requests = 0
        # Which keys are passed over, for the worker's report too.
        self.cooling = Cooling(time.monotonic)
        self._settings = settings
        self._follower = follower
        self._usage = usage
        self._metrics = metrics
        self._durations = Durations(self._is_catalogued)
        metrics.add(self._durations)
        self._loop_guard = LoopGuard(settings.document_keys)
        self._model_lists = ModelLists()
        self._cross_origin = CrossOrigin(settings.cors_allowed_origins)
        self._turns = Turns()
        self._budget = Budget(settings.request_limits)
        self._limiting = Limiting(
            shares,
            output_tokens=settings.shared_limits.output_tokens,
            longest_queue=settings.shared_limits.queue,
            allows_without_redis=settings.shared_limits.allows_without_redis,
        )
        # Of all requests, once there is one.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._machinery = Machinery(
            store=follower.store,
            keyring=settings.keyring,
            targets=Targets(settings.upstream_rules, settings.upstream_base_urls),
            upstream=upstream,
            metrics=self._metrics,
            loop_marker=self._loop_guard.marker,
            record_usage=self._record,
            limits=settings.request_limits,
            cooling=self.cooling,
        )
        self._unmetered = self._machinery._replace(record_usage=not_metered)

    def _record(self, event: UsageEvent) -> None:
        self._usage.record(event)
        self._durations.note(event)

    def _is_catalogued(self, provider: str, model: str) -> bool:
        return self._follower.store.catalog.find(provider, model) is not None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        surface = paths.surface_of(scope)
        # Taken out: scope and caller would hold each other.
        caller: Caller = scope.pop("caller")
        exchange = Exchange(scope, receive, send, _format(scope, surface), surface)
        self.requests += 1
        try:
            if self._cross_origin.is_on and await self._is_preflight(scope, exchange):
                pass
            elif (asked := surface or asked_of(scope["path"])) is not None:
                await self._forward(scope, exchange, asked, caller)
            else:
                await self._read(scope, exchange)
        except errors.GatewayError as error:
            await _tell(exchange, error)
        except ClientLeft:
            exchange.has_left = True
        except asyncio.CancelledError:
            # The caller left, or the server's drain ran out of time. This task ends here either way.
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            if not exchange.has_left:
                await _tell(exchange, errors.ShuttingDown())
        except Exception:
            log.exception("a request failed for a reason that was not foreseen", request_id=exchange.request_id)
            await _tell(exchange, errors.GatewayError())
        if exchange.has_left:
            self._metrics.left.inc()
        elif scope["path"] not in _PROBES:
            self._metrics.requests[exchange.status] += 1

    async def _is_preflight(self, scope: Any, exchange: Exchange) -> bool:
        """Answer a browser that asks before a request. What every answer says of its page is noted here."""
        exchange.added = self._cross_origin.headers(scope)
        told = self._cross_origin.preflight(scope)
        if told is not None:
            await exchange.start(204, told)
            await exchange.end()
        return told is not None

    # ── forwarding ──

    async def _forward(self, scope: Any, exchange: Exchange, asked: Surface | Asked, caller: Caller) -> None:
        _check_method(scope, asked)
        token, text, digest = await self._authorise(scope)
        coding = codings.coding_of(scope["headers"])
        share = self._budget.enter(token.account.id, _document(token).access_key)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        limit = TimeLimit(self._loop)
        admission: Admission | None = None
        try:
            raw = await bodies.read(exchange.receive, limit, share, within=self._settings.body_timeout)
            if coding:
                raw = await self._turns.run(codings.decode(raw, coding, share))
            if self._follower.store.tokens.get(digest) is not token:
                # The snapshot changed while the body arrived. An access key that was deleted meanwhile is refused.
                token, text, digest = await self._authorise(scope)
            body = NO_BODY if isinstance(asked, Asked) else await self._parsed(raw)
            try:
                if isinstance(asked, Asked):
                    known = self._follower.store.catalog, self._budget.limits, self._turns, self._parsed
                    call, plan = await Beside(*known, token, text).judge(asked, scope, bytes(raw), exchange.format)
                else:
                    call, plan = await self._judge(scope, token, text, asked, body)
                exchange.rejected = plan.rejected
                if caller.disconnected:
                    raise ClientLeft
                caller.on_leave = partial(exchange.leave, limit.task)
                machinery = self._unmetered if call.is_unmetered else self._machinery
                if token.is_limited and not call.is_unmetered:
                    admission, plan = await self._limiting.admit(
                        token,
                        call.body,
                        plan,
                        self._follower.store.catalog,
                        self._record,
                        output_cap=call.output_cap,
                        headers=scope["headers"],
                    )
                    machinery = machinery._replace(record_usage=admission.record)
                    exchange.limits = self._limiting.shown(admission)
                await AttemptMachine(machinery, call, exchange, limit).run(plan)
            except NotCounted:
                await answer_estimated(exchange, body)
        finally:
            caller.on_leave = None
            if admission is not None:
                admission.close()
            limit.close()
            share.leave()

    async def _parsed(self, raw: Buffer) -> Body:
        if isinstance(raw, bytes) and len(raw) <= LONG:
            return bodies.parse(raw, self._budget.limits)
        return await self._turns.run(bodies.parse_in_steps(raw, self._budget.limits))

    async def _judge(
        self, scope: Any, token: HeldToken, text: bytes, surface: Surface, body: Body
    ) -> tuple[AttemptCall, Plan]:
        """What a request may do.

        Raises:
            GatewayError: nothing; why.
            NotCounted: only its tokens are to be counted, and no provider that it may use counts them.
        """
        counts_tokens = scope["path"] == paths.COUNT_TOKENS
        document = _document(token)
        try:
            outcome = token.account.resolve(
                self._follower.store.catalog,
                document.configuration,
                body.requested,
                surface,
                self._budget.limits.attempts,
            )
        except SnapshotIncomplete:
            raise errors.SnapshotUnfit from None
        if isinstance(outcome, Denial):
            if counts_tokens and outcome.code is DenialCode.SURFACE_NOT_SERVED:
                raise NotCounted
            raise errors.of_denial(outcome, surface)
        await check_routing(body.members, outcome, token.account.snapshot, document.configuration, self._turns)
        outcome = await managed_inference.payable(outcome, surface, body.members)
        settings = token.account.snapshot.settings
        if settings.max_input_tokens is not None and not counts_tokens:
            await check_input(body, settings.max_input_tokens, self._turns)
        answers = 1
        if settings.max_output_tokens is not None and not counts_tokens:
            answers = await check_output(surface, body, settings.max_output_tokens, self._turns)
        output_cap = settings.max_output_tokens
        if token.is_limited and not counts_tokens and self._limiting.depends_on_output(token, surface):
            if output_cap is None:
                answers = await check_output(surface, body, MOST_OUTPUT_TOKENS, self._turns)
            output_cap = self._limiting.output_cap(body, answers, output_cap)
        if output_cap is not None:
            check_budgets(body.members, max(1, output_cap // answers))
        call = AttemptCall(
            account=token.account,
            access_key=document.access_key,
            configuration=document.configuration,
            surface=surface,
            body=body,
            query=header_rules.query(scope["query_string"], text),
            headers=header_rules.upstream(scope["headers"], text),
            counts_tokens=counts_tokens,
            answers=answers,
            output_cap=output_cap,
        )
        return call, outcome

    async def _authorise(self, scope: Any) -> tuple[HeldToken, bytes, str]:
        """The access key of a request, its text and its digest.

        Raises:
            NotAuthorized, Unavailable, RoutingLoop: as they say.
        """
        text = b""
        other = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, credential = value.partition(b" ")
                if scheme.lower() == b"bearer":
                    text = credential.strip()
            elif name == b"x-api-key":
                other = value.strip()
            elif name == LOOP_HEADER:
                self._loop_guard.check(value)
        if other and not text.startswith(_TOKEN_BEGIN):
            # Some clients always send both headers, one of them with whatever they were given for another service.
            text = other
        if not text:
            raise errors.AccessKeyMissing
        follower = self._follower
        shown = text.decode("latin-1")
        digest = tokens.digest(shown)
        token = follower.store.tokens.get(digest)
        if token is None:
            if not tokens.is_well_formed(tokens.ACCESS_KEY_PREFIX, shown):
                raise errors.AccessKeyUnknown
            token = await follower.find(digest)
            if token is None:
                raise errors.AccessKeyUnknown
        if not follower.is_usable:
            raise errors.SnapshotStale
        _check_token(token)
        return token, text, digest

    # ── everything that is only read ──

    async def _read(self, scope: Any, exchange: Exchange) -> None:
        path: str = scope["path"]
        is_model = path.startswith(f"{paths.MODELS}/") and not path.endswith("/")
        if path not in _READ and not is_model:
            raise errors.NotFound(paths.nothing_at(path))
        if scope["method"] not in _READS:
            raise errors.MethodNotAllowed(allow="GET, HEAD")
        if path in paths.GREETINGS:
            await exchange.answer(200, [_JSON], paths.GREETING)
        elif path == "/healthz":
            await exchange.answer(200, [_JSON], b'{"status":"ok"}')
        elif path == "/readyz":
            await self._tell_readiness(exchange)
        elif path == "/metrics":
            await self._tell_metrics(exchange)
        else:
            await self._tell_models(scope, exchange, path.removeprefix(f"{paths.MODELS}/") if is_model else "")

    async def _tell_models(self, scope: Any, exchange: Exchange, name: str) -> None:
        token, _, _ = await self._authorise(scope)
        document = _document(token)
        asked = (token.account, self._follower.store.catalog, document.configuration)
        share = self._budget.enter(token.account.id, document.access_key)
        try:
            if name:
                told = self._model_lists.one(*asked, name, exchange.format)
            elif exchange.format is Format.ANTHROPIC:
                told = await self._model_lists.page(*asked, Page.parse(scope["query_string"]))
            else:
                told = await self._model_lists.whole(*asked)
            await exchange.answer(200, [_JSON], told)
        finally:
            share.leave()

    async def _tell_readiness(self, exchange: Exchange) -> None:
        is_ready, told = readiness(self._follower, staleness=self._settings.staleness, is_draining=self.is_draining)
        headers = [_JSON] if is_ready else [_JSON, (b"retry-after", b"1")]
        await exchange.answer(200 if is_ready else 503, headers, msgspec.json.encode(told))

    async def _tell_metrics(self, exchange: Exchange) -> None:
        metrics, follower = self._metrics, self._follower
        metrics.refusals.set(follower.store.refusals)
        metrics.position.set(follower.store.position)
        metrics.in_sync.set(follower.is_in_sync)
        metrics.reported.set(follower.reporter.is_taken)
        metrics.set_cooling(cooled.cause for _, _, cooled in self.cooling.cooling())
        for outcome, count in self._usage.counts._asdict().items():
            metrics.usage.labels(outcome).set(count)
        await exchange.answer(200, [(b"content-type", CONTENT_TYPE.encode())], metrics.text())


class LoopGuard:
    """Marks what this deployment sends, and refuses it when it comes back (contract, section 5).

    The mark is made with the document keys: no caller can guess it, and every worker knows it.
    """

    def __init__(self, keys: DocumentKeys) -> None:
        self._keys = keys
        self.marker = keys.sign(Purpose.WORKER, _LOOP_PLACE, 0, b"").strip()

    def check(self, value: bytes) -> None:
        """Refuse a request that carries the mark.

        Raises:
            RoutingLoop: it does. A mark that is not ours is nothing to us.
        """
        try:
            self._keys.verify(Purpose.WORKER, _LOOP_PLACE, value.strip() + b" ")
        except NotAuthentic:
            return
        raise errors.RoutingLoop


def _check_method(scope: Any, asked: Surface | Asked) -> None:
    if isinstance(asked, Asked):
        asked.check(scope["method"])
    elif scope["method"] != "POST":
        if any(name == b"sec-websocket-key" for name, _ in scope["headers"]):
            raise errors.WebSocketNotServed(headers=_INSTEAD_OF_WEBSOCKET)
        raise errors.MethodNotAllowed(allow="POST")


def _check_token(token: HeldToken) -> None:
    document = token.document
    if document is None:
        raise errors.AccessKeyUnknown if token.is_understood else errors.SnapshotUnfit
    if document.disabled:
        raise errors.AccessKeyDisabled
    if document.expires_at is not None and document.expires_at <= time.time() * _MICROSECONDS:
        raise errors.AccessKeyExpired


def _document(token: HeldToken) -> TokenDocument:
    if token.document is None:
        raise errors.AccessKeyUnknown
    return token.document


def _format(scope: Any, surface: Surface | None) -> Format:
    """Whose format an answer has: the surface's, else the one that the caller shows to speak."""
    if surface is not None:
        return format_of(surface)
    return paths.format_of(scope["path"], scope["headers"])


async def _tell(exchange: Exchange, error: errors.GatewayError) -> None:
    try:
        # A caller who does not read gets no last word.
        async with asyncio.timeout(_TELL_SECONDS):
            await exchange.fail(error)
    except TimeoutError:
        return
