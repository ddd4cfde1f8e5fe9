"""The policy of what a provider keeps for a key (files, batches, stored responses): no model decides there.

Source: contract, section 9; docs/decisions/0087-calls-beside-the-surfaces.md.
"""

from collections.abc import Iterator

from gateway_core.account_snapshot import AccountSnapshot, CompiledConfiguration
from gateway_core.catalog import ALIASES, BUILT_IN
from gateway_core.plans import Attempt, DecidedBy, Denial, DenialCode, KeySource, Plan
from gateway_core.policy import SnapshotIncomplete


def kept_by(
    account: AccountSnapshot, *, configuration: str | None, provider: str, family: str, most_attempts: int
) -> Plan | Denial:
    """Which keys of a provider an access key may show for what is kept there, in the order of its rules.

    A managed key is never among them: all accounts would share what is kept.

    Args:
        account: the snapshot of the access key's account.
        configuration: the `aigac_…` ID of the access key's configuration, if it has one.
        provider: a built-in provider or one of the account's; its ID or an alias.
        family: `files`, `batches` or `responses`.
        most_attempts: where the plan ends.

    Raises:
        SnapshotIncomplete: the configuration is not in the snapshot.
    """
    rules = None if configuration is None else account.configurations.get(configuration)
    if configuration is not None and rules is None:
        raise SnapshotIncomplete(f"{configuration} is not in the snapshot")
    if provider not in account.providers:
        provider = account.provider_ids.get(provider) or ALIASES.get(provider, provider)
    if provider not in account.providers and provider not in BUILT_IN:
        return _denial(DenialCode.PROVIDER_UNKNOWN, "The provider is not known.")
    if provider not in account.providers and family not in BUILT_IN[provider].beside:
        return _denial(DenialCode.SURFACE_NOT_SERVED, f"{provider} is not known to serve {family}.")
    if rules is not None and rules.providers is not None and provider not in rules.providers:
        return _denial(
            DenialCode.PROVIDER_NOT_ALLOWED, f"This access key's configuration does not allow the provider {provider}."
        )
    if rules is not None and rules.models is not None and family != "responses":
        return _denial(
            DenialCode.MODEL_NOT_ALLOWED,
            f"This access key's configuration names models, and the gateway cannot see which a call of {family} uses.",
        )
    if rules is not None and rules.models is not None and not any(owner == provider for owner, _ in rules.models):
        return _denial(DenialCode.MODEL_NOT_ALLOWED, f"This access key's configuration allows no model of {provider}.")
    attempts = list(_attempts(account, rules, provider))
    if not attempts:
        return _denial(
            DenialCode.NO_CREDENTIALS, f"There is no provider key for {provider} that this access key may use."
        )
    return Plan(tuple(attempts[:most_attempts]), ())


def _attempts(account: AccountSnapshot, rules: CompiledConfiguration | None, provider: str) -> Iterator[Attempt]:
    if rules is None:
        keys = list(account.keys_of.get(provider, ()))
    else:
        of_models = [found for (owner, _), found in rules.model_rules.items() if owner == provider]
        found = [*filter(None, [rules.provider_rules.get(provider)]), *of_models]
        keys = [key for _, rule in found for step in rule.steps for key in step.keys]
    for key in dict.fromkeys(keys):
        held = account.provider_keys.get(key)
        if held is None or held.provider != provider:
            raise SnapshotIncomplete(f"{key} is not in the snapshot as a key of {provider}")
        yield Attempt(provider, "", KeySource.USER, key, DecidedBy.DEFAULT, None, None, 0)
    if not keys and provider in account.providers:
        yield Attempt(provider, "", KeySource.NONE, None, DecidedBy.DEFAULT, None, None, 0)


def _denial(code: DenialCode, message: str) -> Denial:
    return Denial(code, message, ())
