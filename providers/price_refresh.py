"""The price data of `genai-prices`: the packaged data, or newer data that this deployment has fetched.

One process fetches data (providers.tasks) and stores it in PostgreSQL. Every process calls `follow` before it uses
prices, so all have the same ones. Invalid data is never stored, so the last good prices stay in use.

Source: docs/decisions/0072-prices.md.
"""

import hashlib
import json
import urllib.request
import zlib
from typing import Any, Final

import genai_prices
import msgspec
import structlog
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from genai_prices import data_snapshot, types

from gateway_core import snapshot
from gateway_core.catalog import ModelsDocument
from providers import price_review
from providers.catalog_models import models_document_of
from providers.models import ManagedKey, PriceRelease

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_BYTES: Final = 32 * 1024 * 1024
_SECONDS: Final = 15.0
# A refresh that lost more of a provider's models than this is an accident.
_MUST_REMAIN: Final = 0.5
# The cache is in PostgreSQL, so all processes see what one has fetched.
_WAITING: Final = "prices_waiting"


class PricesRefused(Exception):
    """The fetched prices are invalid. The text gives the reason and does not contain the data."""


class PricesWait(PricesRefused):
    """The fetched prices are valid, but an operator must accept them: `manage.py accept_prices`."""

    def __init__(self, digest: str, places: list[str]) -> None:
        super().__init__(f"{len(places)} prices wait for an operator, the first of {places[0]}")
        self.digest, self.places = digest, places


class _Held:
    """The data that this process uses instead of the packaged prices."""

    digest: str | None = None


def follow() -> None:
    """Use the newest stored prices in this process. It costs one query, and 0.5 s for each new version."""
    stored = PriceRelease.objects.filter(package=genai_prices.__version__)
    digest = stored.values_list("digest", flat=True).first()
    if digest == _Held.digest:
        return
    if digest is None:
        data_snapshot.set_custom_snapshot(None)
    else:
        release = stored.get()
        try:
            data_snapshot.set_custom_snapshot(_read(zlib.decompress(release.data)))
        except (PricesRefused, zlib.error):
            log.exception("the stored prices cannot be read; those in use stay", digest=digest)
        digest = release.digest
    _Held.digest = digest


def refresh(*, accepted: str = "") -> bool:
    """Fetch prices, and store them if they are new and valid.

    Args:
        accepted: the digest of data whose leaps an operator has accepted.

    Returns:
        Whether new prices were stored.

    Raises:
        PricesRefused: the answer is not valid price data, or has lost more than half of a provider's models.
        PricesWait: prices have leapt, become zero, or are missing where managed inference needs them.
        OSError: the data could not be fetched.
    """
    raw = _fetch(settings.CATALOG_URL)
    digest = hashlib.sha256(raw).hexdigest()
    if settings.CATALOG_SHA256 and digest != settings.CATALOG_SHA256:
        raise PricesRefused("the data are not those of CATALOG_SHA256")
    follow()
    if digest == _Held.digest:
        PriceRelease.objects.update(fetched_at=timezone.now())
        cache.delete(_WAITING)
        return False
    new = _read(raw)
    _check(models_document_of(new))
    if wrong := price_review.invalid(new):
        raise PricesRefused(f"an invalid price of {wrong[0]}")
    managed = list(ManagedKey.objects.values_list("provider", flat=True))
    places = price_review.waiting(new, data_snapshot.get_snapshot(), managed=managed)
    if places and digest not in {accepted, settings.CATALOG_SHA256}:
        cache.set(_WAITING, len(places), timeout=None)
        raise PricesWait(digest, places)
    PriceRelease.objects.update_or_create(
        singleton=True,
        defaults={
            "package": genai_prices.__version__,
            "digest": digest,
            "data": zlib.compress(raw),
            "fetched_at": timezone.now(),
        },
    )
    cache.delete(_WAITING)
    follow()
    return True


def waiting_count() -> int:
    """How many prices of the newest fetched data wait for an operator."""
    return int(cache.get(_WAITING, 0))


def _fetch(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise PricesRefused("CATALOG_URL is not an http:// or https:// URL")
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 -- the scheme is checked above
        raw: bytes = answer.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise PricesRefused(f"more than {_MAX_BYTES} bytes")
    return raw


def _read(raw: bytes) -> data_snapshot.DataSnapshot:
    """The price data as the package's own updater reads them (genai_prices.update_prices)."""
    try:
        listed: Any = json.loads(raw)
        if not isinstance(listed, list):
            raise PricesRefused("not a list of providers")
        return data_snapshot.DataSnapshot(types._providers_from_raw(listed), from_auto_update=True)  # noqa: SLF001
    except (ValueError, TypeError, KeyError, AttributeError, LookupError, RecursionError) as fault:
        raise PricesRefused(f"not price data: {type(fault).__name__}") from None


def _check(models: ModelsDocument) -> None:
    """Check new models by a worker's limits, and compare them with those in use."""
    body = snapshot.encode(models)
    if len(body) > snapshot.MAX_DOCUMENT_BYTES:
        raise PricesRefused(f"{len(body)} bytes of models")
    try:
        msgspec.json.decode(body, type=ModelsDocument)
    except msgspec.ValidationError:
        raise PricesRefused("a model out of bounds") from None
    for provider, served in models_document_of(data_snapshot.get_snapshot()).providers.items():
        if len(models.providers.get(provider, ())) < len(served) * _MUST_REMAIN:
            raise PricesRefused(f"{provider} has lost more than half of its models")
