"""Holds: data_plane.forwarding.targets

Where an attempt goes when an account's own provider and a built-in one have the same name.
"""

from data_plane.forwarding.targets import Targets
from data_plane.state.held import HeldAccount
from gateway_core import ids
from gateway_core.account_snapshot import snapshot_of
from gateway_core.base_urls import UpstreamRules
from gateway_core.catalog import Surface
from gateway_core.snapshot import ProviderDocument, SurfaceSupport, provider_document

CHAT = Surface.CHAT_COMPLETIONS
OWN = ProviderDocument(
    id=ids.to_text(ids.Prefix.PROVIDER, ids.new_id()),
    name="Own",
    base_url="https://own.example/v1",
    surfaces=(SurfaceSupport(CHAT),),
    models=("gpt-4o",),
)


def host_of(providers):
    account = HeldAccount(ids.to_text(ids.Prefix.ACCOUNT, ids.new_id()))
    account.snapshot = snapshot_of(
        account.id, 1, [(provider_document(slug), document) for slug, document in providers.items()]
    )
    return Targets(UpstreamRules(), {}).find(account, "openai", CHAT).way.url.host


def test_the_accounts_own_provider_wins_over_a_built_in_one_of_the_same_name():
    assert host_of({"openai": OWN}) == "own.example"
    assert host_of({"other": OWN}) == "api.openai.com"
