"""Holds: provider_keys.resealing

Moving stored values to a new sealing key, by the three commands as an operator runs them.
"""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from audit.models import Event
from gateway_core import sealing
from gateway_core.resealing import Ending, Heading, StreamRefused, digest, encode
from gateway_core.sealing import Binding, Keyring, SealingKey, managed_binding
from provider_keys import resealing, services
from provider_keys.models import ProviderKey
from provider_keys.values import PlainValue
from providers import managed
from providers.models import ManagedKey
from rest.preconditions import etag_of
from snapshots.models import Change

pytestmark = pytest.mark.django_db

SECRET = "sk-secret-0123456789abcdefghij"
NEW = sealing.generate_private_key()


def store(account, principal, value=SECRET):
    return services.create_provider_key(
        account=account, by=principal, provider_id="openai", name="a", value=PlainValue(value)
    )


@pytest.fixture
def _new_key(settings):
    """The control plane has been given the new public key."""
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))


@pytest.fixture
def run(monkeypatch):
    """A management command with bytes on its standard input; what it wrote to standard output."""

    def call(*command, stdin=b""):
        out = io.BytesIO()
        told = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
            patch.setattr("sys.stdout", SimpleNamespace(buffer=out, isatty=lambda: False))
            call_command(*command, stdout=told, stderr=told)
        assert SECRET not in told.getvalue()
        return out.getvalue() or told.getvalue()

    return call


def reseal(stdin, *rings, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "data_plane", "reseal"],
        input=stdin,
        env={"PATH": os.environ["PATH"], "SEALING_PRIVATE_KEYS": ",".join(rings)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert SECRET.encode() not in done.stdout + done.stderr
    return done.stdout


def test_every_value_moves_and_nothing_else_of_its_row_does(account, principal, run, sealing_private_key, settings):
    old_key = settings.SEALING_KEY
    mine, twin = store(account, principal), store(account, principal)
    managed.set_managed_key(provider="openai", value=SECRET)
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))
    fresh = store(account, principal)
    before = {key.id: etag_of(ProviderKey.objects.get(id=key.id)) for key in (mine, twin, fresh)}
    with pytest.raises(CommandError, match="3 values have to be moved"):
        run("export_sealed", "--check")
    Change.objects.all().delete()

    run("import_sealed", stdin=reseal(run("export_sealed"), sealing_private_key, NEW))

    ring = Keyring.parse(NEW)
    for key in ProviderKey.objects.all():
        assert ring.open(bytes(key.sealed), Binding(account.text_id, "openai", key.text_id)) == SECRET
        assert etag_of(key) == before[key.id]
        assert key.updated_at == key.created_at
    assert ring.open(bytes(ManagedKey.objects.get().sealed), managed_binding("openai")) == SECRET
    assert set(Change.objects.values_list("document", flat=True)) == {mine.snapshot_document, twin.snapshot_document}
    told = Event.objects.filter(action__endswith=".resealed").values_list("action", "object_id", "changes")
    assert sorted(told) == [
        ("managed_key.resealed", "openai", {}),
        ("provider_key.resealed", mine.text_id, {}),
        ("provider_key.resealed", twin.text_id, {}),
    ]
    assert old_key.id not in run("export_sealed", "--check")
    assert "Every value is sealed" in run("export_sealed", "--check")
    assert reseal(run("export_sealed"), NEW).count(b"\n") == 2


def test_a_value_that_was_rotated_or_deleted_meanwhile_stays_as_it_is(
    account, principal, run, sealing_private_key, settings
):
    rotated, gone = store(account, principal), store(account, principal)
    managed.set_managed_key(provider="openai", value=SECRET)
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))
    back = reseal(run("export_sealed"), sealing_private_key, NEW)
    services.rotate_provider_key(
        provider_key=rotated, by=principal, name="b", value=PlainValue("sk-newer-0123456789abcdefgh")
    )
    services.delete_provider_key(provider_key=gone, by=principal)
    managed.set_managed_key(provider="openai", value="sk-newer-0123456789abcdefgh")

    written = run("import_sealed", stdin=back)

    assert "3 were changed or deleted meanwhile" in written
    assert not Event.objects.filter(action__endswith=".resealed").exists()
    ring = Keyring.parse(NEW)
    key = ProviderKey.objects.get()
    assert ring.open(bytes(key.sealed), Binding(account.text_id, "openai", key.text_id)).startswith("sk-newer")
    assert ring.open(bytes(ManagedKey.objects.get().sealed), managed_binding("openai")).startswith("sk-newer")


@pytest.mark.usefixtures("_new_key")
def test_what_was_not_sealed_anew_is_not_taken(account, principal, run, settings):
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(sealing.generate_private_key()))
    key = store(account, principal)
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))

    with pytest.raises(CommandError, match="not sealed to SEALING_PUBLIC_KEY"):
        run("import_sealed", stdin=run("export_sealed"))

    assert resealing.sealing_key_of(bytes(ProviderKey.objects.get(id=key.id).sealed)) != settings.SEALING_KEY.id


def test_a_value_is_not_put_into_another_accounts_row(account, principal, other_account, other_principal, settings):
    mine, theirs = store(account, principal), store(other_account, other_principal)
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))
    values = {value.key: value for value in resealing.values_to_move()}
    binding = values[mine.text_id].binding
    moved = values[theirs.text_id]
    forged = type(moved)(
        binding.account, "openai", theirs.text_id, settings.SEALING_KEY.seal("x", binding), was=digest(moved.sealed)
    )

    assert resealing.take_back([forged]) == (0, 1)
    with pytest.raises(StreamRefused):
        resealing.take_back([type(moved)("ac_1", "openai", "nonsense", forged.sealed, was=forged.was)])


def test_a_stream_that_was_cut_off_keeps_what_it_brought_and_is_finished_by_running_it_again(
    account, principal, run, sealing_private_key, settings, monkeypatch
):
    for _ in range(3):
        store(account, principal)
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))
    monkeypatch.setattr(resealing, "CHUNK", 1)
    lines = reseal(run("export_sealed"), sealing_private_key, NEW).splitlines(keepends=True)

    with pytest.raises(CommandError, match=r"cut off after 2 values.*\(2 values were moved"):
        run("import_sealed", stdin=b"".join(lines[:3]))

    assert "1 values were moved" in run("import_sealed", stdin=reseal(run("export_sealed"), sealing_private_key, NEW))


def test_values_without_their_key_are_named_and_the_status_says_so(account, principal, run, settings):
    key = store(account, principal)
    settings.SEALING_KEY = SealingKey.parse(sealing.public_key_of(NEW))

    assert reseal(run("export_sealed"), NEW, status=1).endswith(encode(Ending(0)))
    assert ProviderKey.objects.get(id=key.id).sealed == key.sealed


def test_reseal_without_keys_or_without_input_says_what_it_needs():
    reseal(b"", status=2)
    reseal(b"", NEW, status=1)
    reseal(encode(Heading("0" * 16)), NEW, status=1)
