"""Holds: providers.managed

The operator's own upstream keys: sealed on arrival, published with the catalog, told to nobody.
"""

import io
import logging

import pytest
from django.core.management import CommandError, call_command

from gateway_core import ids
from gateway_core.sealing import Binding, Keyring, SealBroken, managed_binding
from gateway_core.snapshot import MANAGED_DOCUMENT, ManagedKeysDocument
from providers import managed
from providers.catalog import build_documents, current_catalog
from providers.models import ManagedKey
from snapshots import rebuild
from snapshots.redis_client import inline_store, keys, patient_store

KEY = "sk-operators-own-key-0123456789abcdef"


def run(monkeypatch, *arguments, stdin=""):
    """The command with this standard input; what it wrote."""
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    out = io.StringIO()
    call_command("set_managed_key", *arguments, stdout=out, stderr=out)
    return out.getvalue()


@pytest.mark.django_db
def test_a_key_from_standard_input_is_sealed_for_the_data_plane_alone(monkeypatch, sealing_private_key):
    written = run(monkeypatch, "openai", stdin=f"  {KEY}\n")

    key = ManagedKey.objects.get()
    keyring = Keyring.parse(sealing_private_key)
    assert key.provider == "openai"
    assert keyring.open(bytes(key.sealed), managed_binding("openai")) == KEY
    assert KEY not in written
    assert key.key_redacted in written
    assert KEY.encode() not in bytes(key.sealed)
    for other in (
        managed_binding("anthropic"),
        Binding("operator", "openai", "managed"),
        Binding(ids.to_text(ids.Prefix.ACCOUNT, ids.new_id()), "openai", "managed", "managed-key"),
    ):
        with pytest.raises(SealBroken):
            keyring.open(bytes(key.sealed), other)


@pytest.mark.django_db
def test_a_key_from_a_file_replaces_the_one_before(monkeypatch, tmp_path, sealing_private_key):
    run(monkeypatch, "openai", stdin="sk-the-first-one")
    file = tmp_path / "key"
    file.write_text(KEY + "\n")

    run(monkeypatch, "openai", "--file", str(file), stdin="not this one")

    key = ManagedKey.objects.get()
    assert Keyring.parse(sealing_private_key).open(bytes(key.sealed), managed_binding("openai")) == KEY


@pytest.mark.django_db
def test_a_key_is_removed(monkeypatch):
    run(monkeypatch, "openai", stdin=KEY)

    assert "removed" in run(monkeypatch, "openai", "--remove")
    assert not ManagedKey.objects.exists()
    with pytest.raises(CommandError):
        run(monkeypatch, "openai", "--remove")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["openai", KEY], ""),
        (["openai", KEY, "more"], KEY),
        (["groq"], KEY),
        ([KEY], "openai"),
        (["my-ollama"], KEY),
        (["openai"], ""),
        (["openai"], " \n"),
        (["openai"], f"{KEY} {KEY}"),
        (["openai"], f"{KEY}\n{KEY}"),
        (["openai"], f"{KEY}\u00e9"),
        (["openai"], f"{KEY}\x00"),
        (["openai"], KEY * 200),
        (["openai", "--file", "/nowhere/at/all"], KEY),
    ],
)
def test_what_is_refused_is_not_stored_and_not_repeated(monkeypatch, caplog, capsys, arguments, stdin):
    with caplog.at_level(logging.DEBUG), pytest.raises(CommandError) as refusal:
        run(monkeypatch, *arguments, stdin=stdin)

    captured = capsys.readouterr()
    assert not ManagedKey.objects.exists()
    for text in (str(refusal.value), caplog.text, captured.out, captured.err):
        assert KEY not in text


@pytest.mark.django_db
def test_a_file_that_is_no_text_is_refused_without_its_content(monkeypatch, tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"\xff\xfe" + KEY.encode("utf-16"))

    with pytest.raises(CommandError, match="UnicodeDecodeError"):
        run(monkeypatch, "openai", "--file", str(file))


def test_help_tells_where_the_key_comes_from(capsys):
    with pytest.raises(SystemExit) as ended:
        call_command("set_managed_key", "--help")

    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "standard input or a file, never from an argument" in told
    assert "--file" in told


@pytest.mark.django_db
def test_the_catalog_knows_whose_key_the_operator_holds():
    assert current_catalog().managed == frozenset()

    managed.set_managed_key(provider="anthropic", value=KEY)

    assert current_catalog().managed == {"anthropic"}
    document = build_documents()[MANAGED_DOCUMENT]
    assert isinstance(document, ManagedKeysDocument)
    assert document.keys == {"anthropic": bytes(ManagedKey.objects.get().sealed)}
    managed.remove_managed_key(provider="anthropic")
    assert current_catalog().managed == frozenset()


@pytest.mark.django_db(transaction=True)
def test_a_key_is_published_with_the_catalog_at_once_and_sealed(monkeypatch, redis):
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    rebuild.rebuild(patient_store())
    before = redis.hgetall(keys().catalog)

    run(monkeypatch, "openai", stdin=KEY)

    after = redis.hgetall(keys().catalog)
    assert set(after) == set(before) == {b"version", b"models", b"managed"}
    assert b'"openai"' in after[b"managed"]
    assert b'"openai"' not in before[b"managed"]
    assert KEY.encode() not in b"".join(after.values())
    run(monkeypatch, "openai", "--remove")
    assert b'"openai"' not in redis.hget(keys().catalog, "managed")


@pytest.mark.django_db(transaction=True)
def test_without_redis_a_key_is_stored_and_left_to_the_relay(monkeypatch, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()

    written = run(monkeypatch, "openai", stdin=KEY)

    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    assert "is stored" in written
    assert ManagedKey.objects.exists()
