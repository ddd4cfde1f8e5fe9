"""Holds: docs

The numbers, fields and paths that documents state are the code's.
"""

import re
from pathlib import Path

import pytest

from account_settings.models import GatewayConfiguration
from configurations import router, scope
from data_plane.forwarding import bodies
from data_plane.forwarding.outcomes import AttemptOutcome, outcome_of
from gateway_admin import relay
from gateway_core import base_urls
from provider_keys import values
from rest import fields, idempotency, limits, pagination, propagation
from rest.documents import document
from rest.errors import BodyTooLarge
from snapshots import publisher, redis_client, waiting

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 1024 * 1024
DEFAULTS = GatewayConfiguration()

STATED = {
    "docs/contract.md": [
        f"`limit` is 1 to {pagination.MAX_LIMIT}, {pagination.MAX_LIMIT} by default",
        f"413 body over {limits.MAX_BODY_BYTES // MEBIBYTE} MiB",
        f"A body over {bodies.BODY_LIMIT // MEBIBYTE} MiB is 413",
        f"`name` and `description` {fields.NAME_LENGTH}, `metadata` {fields.METADATA_LENGTH}",
        f"`baseUrl` {base_urls.MAX_LENGTH}",
        f"more than {values.MAX_LENGTH} characters are 422",
        f"totalTimeout` (default `{DEFAULTS.total_timeout}`)",
        f"`perRequestTimeout` (default `{DEFAULTS.per_request_timeout}`)",
        f"sent again within {idempotency.KEPT_FOR.total_seconds() / 3600:.0f} hours",
        f"`Prefer: wait=<seconds>`, at most {propagation.MOST_SECONDS}:",
        f"wait for at most {propagation.UNASKED_SECONDS} s without being asked",
        f"{propagation.MOST_WAITERS} requests of a process may wait for their whole time",
        f"waits for {waiting._CROWDED_SECONDS} s",
    ],
    "docs/decisions/0053-acknowledgements.md": [
        f"{propagation.MOST_WAITERS} requests of a process may wait for their whole time",
        f"waits for {waiting._CROWDED_SECONDS} s",
    ],
    "docs/decisions/0031-faults-all-at-once.md": [
        (
            f"{scope.MAX_ENTRIES} entries in an `allow`, {router.MAX_RULES} rules, {router.MAX_STEPS} steps in a rule, "
            f"{router.MAX_STEP_KEYS} keys in a step, {router.MAX_ROUTER_KEYS} keys in a router"
        ),
    ],
    "docs/architecture.md": [
        (
            f"a publication waits {redis_client.INLINE_SECONDS * 1000:.0f} ms at most, then none is tried inline for "
            f"{publisher.PAUSE_SECONDS:.0f} s"
        ),
        f"sweeps every {relay.SWEEP_SECONDS * 1000:.0f} ms",
        f"for at most {propagation.MOST_SECONDS} s; {propagation.MOST_WAITERS} of a process may wait that long",
    ],
    "docs/how-to/change-a-limit.md": [
        f"body of the management API ({limits.MAX_BODY_BYTES // MEBIBYTE} MiB)",
        f"body of the data plane ({bodies.BODY_LIMIT // MEBIBYTE} MiB)",
    ],
}


@pytest.mark.parametrize(("page", "sentence"), [(page, each) for page, stated in STATED.items() for each in stated])
def test_a_document_states_the_number_of_the_code(page, sentence):
    assert sentence in " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_the_error_of_a_body_that_is_too_large_states_the_limit():
    assert f"larger than {limits.MAX_BODY_BYTES // MEBIBYTE} MiB" in BodyTooLarge.message()


def test_the_contract_lists_the_statuses_that_fail_over():
    text = " ".join((ROOT / "docs/contract.md").read_text(encoding="utf-8").split())
    listed = re.search(r"a timeout, a redirect, ((?:\d{3}, )+\d{3}) or 5xx\. Any other 4xx moves on", text)
    failing = [status for status in range(400, 600) if outcome_of(status) is AttemptOutcome.FAILED]

    assert listed is not None
    assert failing == [*map(int, listed[1].split(", ")), *range(500, 600)]


def test_the_contract_names_every_path_and_every_field_of_the_openapi_document():
    text = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[A-Za-z]+(?:-[a-z]+)*", text)) | set(re.findall(r"[A-Za-z]+", text))
    found = document()
    fields = {name for schema in found["components"]["schemas"].values() for name in schema.get("properties", {})}

    views = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("*/*views.py"))
    list_keys = set(re.findall(r'list_key = "(\w+)"', views))

    assert len(fields) > 100
    assert len(list_keys) > 6
    assert list_keys - words == set()
    assert fields - words == set()
    assert {path for path in found["paths"] if f"`{path}" not in text and f" {path}`" not in text} == set()
