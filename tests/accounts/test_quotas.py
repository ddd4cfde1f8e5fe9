"""Holds: accounts.quotas

The quotas of an account: what is counted, who is refused, and that two writes at once do not pass one.
"""

from collections.abc import Callable
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from access_keys.models import AccessKey
from access_keys.services import create_access_key, delete_access_key
from accounts import members, quota_limits, services
from accounts.models import Account, AccountQuotas, ApiKey, Membership
from accounts.principals import Principal
from accounts.quota_limits import DEFAULTS, Quota
from accounts.quotas import QuotaReached, QuotaUse, set_limits, uses_of
from configurations.services import create_configuration, delete_configuration, update_configuration
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key, delete_provider_key
from provider_keys.values import PlainValue
from providers.base_url_check import vet
from providers.services import create_provider, delete_provider, update_provider
from tests.fixtures import Api
from tests.patience import PATIENCE, stretched
from tests.rivals import in_background
from tests.tiers import number

URL = "https://llm.example.com/v1"


def used(account: Account, quota: Quota) -> int | None:
    (use,) = [use for use in uses_of(account.id) if use.name is quota]
    return use.used


def limited(account: Account, **limits: int) -> None:
    set_limits(account.id, {Quota[name.upper()]: limit for name, limit in limits.items()})


def inline(count: int) -> dict[str, Any]:
    keys = [{"name": f"k{n}", "value": f"sk-0123456789{n}"} for n in range(count)]
    return {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": keys}]}]}


def provider_key(account: Account, by: Principal, provider: str = "openai") -> ProviderKey:
    return create_provider_key(
        account=account, by=by, provider_id=provider, name="k", value=PlainValue("sk-0123456789")
    )


def provider(account: Account, by: Principal, slug: str = "mine", models: tuple[str, ...] = ()) -> Any:
    return create_provider(
        account=account,
        by=by,
        provider_id=slug,
        name=slug,
        base_url=vet(URL, resolve=lambda _host, _port: ()),
        models=models,
    )


def configuration(account: Account, by: Principal, **content: Any) -> Any:
    return create_configuration(account=account, by=by, name="c", **content)


Make = Callable[[Account, Principal], Any]
CREATED: dict[Quota, Make] = {
    Quota.ACCESS_KEYS: lambda account, by: create_access_key(account=account, by=by),
    Quota.PROVIDER_KEYS: provider_key,
    Quota.PROVIDER_KEYS_OF_A_PROVIDER: provider_key,
    Quota.PROVIDERS: provider,
    Quota.MODELS: lambda account, by: provider(account, by, models=("m",)),
    Quota.CONFIGURATIONS: configuration,
    Quota.SNAPSHOT_BYTES: lambda account, by: configuration(account, by, router=inline(1)),
    Quota.API_KEYS: lambda account, by: services.create_api_key(account=account, by=by),
    Quota.MEMBERS: lambda account, by: services.create_user(
        username="carol", email="", password="a long password", account=account, role=Membership.Role.VIEWER
    ),
    Quota.INVITATIONS: lambda account, by: members.invite(account=account, name="d", role="viewer", by=by),
}


@pytest.mark.parametrize("quota", CREATED, ids=str)
def test_a_write_that_would_pass_a_quota_is_refused_and_writes_nothing(
    account: Account, principal: Principal, quota: Quota
) -> None:
    limited(account, **{quota.name.lower(): used(account, quota) or 0})
    before = uses_of(account.id)

    with pytest.raises(QuotaReached) as refused, transaction.atomic():
        CREATED[quota](account, principal)

    assert str(quota) in "".join(refused.value.details.values())
    assert "operator" in "".join(refused.value.details.values())
    assert uses_of(account.id) == before
    set_limits(account.id, {quota: None})
    CREATED[quota](account, principal)


@pytest.mark.parametrize("quota", [quota for quota in CREATED if quota.column], ids=str)
def test_the_last_place_is_taken_and_others_are_not_concerned(
    account: Account, principal: Principal, other_account: Account, other_principal: Principal, quota: Quota
) -> None:
    room = 10_000 if quota is Quota.SNAPSHOT_BYTES else 1
    limited(account, **{quota.name.lower(): (used(account, quota) or 0) + room})

    CREATED[quota](account, principal)

    assert used(other_account, quota) == (1 if quota is Quota.API_KEYS else 0)


def test_what_is_removed_gives_its_place_back(account: Account, principal: Principal) -> None:
    first = {use.name: use.used for use in uses_of(account.id)}
    key = provider_key(account, principal)
    custom = provider(account, principal, models=("m1", "m2"))
    stored = configuration(account, principal, access={"models": {"allow": ["openai:gpt-4o"]}})
    issued = create_access_key(account=account, by=principal, configuration_id=stored.id)
    full = {use.name: use.used for use in uses_of(account.id)}

    delete_access_key(access_key=issued.access_key, by=principal)
    delete_configuration(configuration=stored, by=principal)
    delete_provider(provider=custom, by=principal)
    delete_provider_key(provider_key=key, by=principal)

    names = ("access_keys", "provider_keys", "providers", "models", "configurations")
    assert [full[Quota[name.upper()]] for name in names] == [1, 1, 1, 2, 1]
    assert (full[Quota.SNAPSHOT_BYTES] or 0) > 40
    assert {use.name: use.used for use in uses_of(account.id)} == first


def test_bytes_follow_each_change_of_what_is_published(account: Account, principal: Principal) -> None:
    stored = configuration(account, principal)
    assert used(account, Quota.SNAPSHOT_BYTES) == 0

    update_configuration(configuration=stored, by=principal, access={"models": {"allow": ["openai:gpt-4o"]}})
    assert used(account, Quota.SNAPSHOT_BYTES) == len('{"models": {"allow": ["openai:gpt-4o"]}}')
    update_configuration(configuration=stored, by=principal, description="x" * 200)
    assert used(account, Quota.SNAPSHOT_BYTES) == len('{"models": {"allow": ["openai:gpt-4o"]}}')
    update_configuration(configuration=stored, by=principal, access=None)
    assert used(account, Quota.SNAPSHOT_BYTES) == 0


def test_an_account_above_its_quota_may_become_smaller(account: Account, principal: Principal) -> None:
    custom = provider(account, principal, models=("m1", "m2", "m3"))
    stored = configuration(account, principal, access={"models": {"allow": ["openai:gpt-4o", "openai:o3"]}})
    limited(account, models=1, snapshot_bytes=10)

    update_provider(provider=custom, by=principal, models=["m1", "m2"])
    update_configuration(configuration=stored, by=principal, access={"models": {"allow": ["openai:gpt-4o"]}})
    update_configuration(configuration=stored, by=principal, name="renamed")
    with pytest.raises(QuotaReached, match="quota"):
        update_provider(provider=custom, by=principal, models=["m1", "m2", "m4"])

    assert used(account, Quota.MODELS) == 2


def test_inline_keys_are_refused_together_or_stored_together(account: Account, principal: Principal) -> None:
    limited(account, provider_keys=3)

    with pytest.raises(QuotaReached) as refused:
        configuration(account, principal, router=inline(4))

    assert list(refused.value.details) == ["router"]
    assert not ProviderKey.objects.exists()
    configuration(account, principal, router=inline(3))
    assert used(account, Quota.PROVIDER_KEYS) == 3


def test_keys_of_another_provider_are_not_counted_for_a_provider(account: Account, principal: Principal) -> None:
    limited(account, provider_keys_of_a_provider=1)
    provider_key(account, principal)

    provider_key(account, principal, "anthropic")
    with pytest.raises(QuotaReached, match="quota"):
        provider_key(account, principal)


def test_rows_written_around_the_services_are_counted_too(account: Account, principal: Principal) -> None:
    rows = [
        AccessKey(account=account, digest=f"{n:064}", key_redacted="m", created_by="x", last_updated_by="x")
        for n in range(5)
    ]
    AccessKey.objects.bulk_create(rows)
    AccessKey.objects.filter(digest__in=[row.digest for row in rows[:2]]).delete()

    assert used(account, Quota.ACCESS_KEYS) == 3


def test_the_count_costs_the_same_in_a_large_account(account: Account, principal: Principal) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            create_access_key(account=account, by=principal)
        assert not [query for query in captured if "count(" in query["sql"].lower()]
        return len(captured)

    first = queries()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO access_keys_accesskey (id, account_id, created_at, updated_at, created_by, last_updated_by,"
            " digest, key_redacted, disabled) SELECT gen_random_uuid(), %s, now(), now(), 'x', 'x', n::text, 'm', false"
            " FROM generate_series(1, %s) n",
            [account.id, number(1000, full=199_000)],
        )

    assert queries() == first


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "quota", [Quota.ACCESS_KEYS, Quota.PROVIDER_KEYS, Quota.CONFIGURATIONS, Quota.PROVIDER_KEYS_OF_A_PROVIDER], ids=str
)
def test_of_many_writes_at_once_exactly_one_takes_the_last_place(
    account: Account, principal: Principal, quota: Quota
) -> None:
    limited(account, **{quota.name.lower(): (used(account, quota) or 0) + 1})
    rivals = 32
    start = Barrier(rivals)

    def write() -> None:
        start.wait(stretched(PATIENCE))
        CREATED[quota](account, principal)

    outcomes = [in_background(write) for _ in range(rivals)]
    refusals = [outcome.exception(stretched(PATIENCE)) for outcome in outcomes]

    assert [type(refusal) for refusal in refusals if refusal] == [QuotaReached] * (rivals - 1)


def test_the_refusal_on_the_wire_names_the_quota_and_its_limit(
    account: Account, api: Api, assert_refused: Callable[..., dict[str, str]]
) -> None:
    limited(account, access_keys=0)

    details = assert_refused(api.post("/access-keys", {}), 409, "quota_reached", "$")

    assert "accessKeys" in details["$"]
    assert "is 0 access keys" in details["$"]


# ── GET /quotas ──


def test_quotas_are_shown_with_what_is_used_of_them(account: Account, principal: Principal, api: Api) -> None:
    limited(account, access_keys=1)
    create_access_key(account=account, by=principal)

    answer = api.get("/quotas")

    assert answer.status_code == 200
    body = answer.json()
    shown = {entry.pop("name"): entry for entry in body["quotas"]}
    assert list(shown) == list(Quota)
    assert shown["accessKeys"] == {"limit": 1, "used": 1, "remaining": 0}
    assert shown["apiKeys"] == {"limit": 1000, "used": 1, "remaining": 999}
    assert shown["revisionsOfAConfiguration"] == {"limit": 100, "used": None, "remaining": None}
    head = api.request("HEAD", "/quotas")
    assert (head.status_code, head.content) == (200, b"")


def test_another_account_has_quotas_of_its_own(account: Account, other_api: Api) -> None:
    limited(account, access_keys=1)

    shown = {entry["name"]: entry["limit"] for entry in other_api.get("/quotas").json()["quotas"]}

    assert shown == {str(quota): limit for quota, limit in DEFAULTS.items()}


@pytest.mark.parametrize(
    ("amount", "level"),
    [(0, ""), (79, ""), (80, "nearly"), (90, "almost"), (99, "almost"), (100, "reached"), (120, "reached")],
)
def test_a_quota_that_is_nearly_used_up_says_so(amount: int, level: str) -> None:
    assert QuotaUse(Quota.ACCESS_KEYS, 100, amount).level == level


# ── limits ──


def test_the_setting_names_limits_and_leaves_the_others() -> None:
    assert quota_limits.parse(" accessKeys=5, members=0 ") == {
        **DEFAULTS,
        Quota.ACCESS_KEYS: 5,
        Quota.MEMBERS: 0,
    }
    assert quota_limits.parse("") == DEFAULTS


@pytest.mark.parametrize(
    "text", ["keys=5", "accessKeys", "accessKeys=-1", "accessKeys=many", "accessKeys=99999999999999999"]
)
def test_a_setting_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quota"):
        quota_limits.parse(text)


def test_the_setting_is_the_limit_where_an_account_has_none(
    account: Account, principal: Principal, settings: Any
) -> None:
    settings.QUOTAS = {**DEFAULTS, Quota.ACCESS_KEYS: 0}
    with pytest.raises(QuotaReached):
        create_access_key(account=account, by=principal)

    limited(account, access_keys=1)
    create_access_key(account=account, by=principal)


def test_the_first_write_of_an_account_makes_its_row(db: None) -> None:
    bare = Account.objects.create(name="bare")
    assert not AccountQuotas.objects.filter(account=bare).exists()

    services.create_api_key(account=bare, by=Principal("usr_01h455vb4pex5vsknk084sn02q"))

    assert used(bare, Quota.API_KEYS) == 1
    assert ApiKey.objects.filter(account=bare).count() == 1


# ── manage.py set_quota ──


def set_quota(*arguments: str) -> str:
    written = StringIO()
    call_command("set_quota", *arguments, stdout=written)
    return written.getvalue()


def test_an_operator_raises_a_limit_of_one_account_and_puts_it_back(account: Account, principal: Principal) -> None:
    limited(account, access_keys=0)

    shown = set_quota(account.text_id, "accessKeys=1", "members=2")
    create_access_key(account=account, by=principal)

    assert "accessKeys                            0 of 1\n" in shown
    assert "revisionsOfAConfiguration          each of 100\n" in shown
    shown = set_quota(account.text_id, "accessKeys=default")
    assert "accessKeys                            1 of 200000\n" in shown
    assert "members                               0 of 2\n" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ac_01h455vb4pex5vsknk084sn02q"], "no such account"),
        (["Alice's"], "no such account"),
        (["ac_01h455vb4pex5vsknk084sn02q", "keys=5"], "keys is not a quota; they are accessKeys"),
        (["ac_01h455vb4pex5vsknk084sn02q", "accessKeys=-5"], "a number from 0"),
    ],
)
def test_a_quota_that_cannot_be_set_is_refused(db: None, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        set_quota(*arguments)
