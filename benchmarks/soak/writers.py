"""The writers of a soak: they make, change and delete objects over the management API."""

import asyncio
import time
from typing import Any, Final

import aiohttp

from benchmarks.soak.callers import Caller
from benchmarks.soak.deployment import Deployment
from benchmarks.soak.state import Key, SoakState, Tenant

# An account keeps at least so many living access keys, and at most four times as many.
KEYS_AT_LEAST: Final = 4


class Writer:
    """Creates, deletes, disables and enables access keys, rotates provider keys and edits configurations."""

    def __init__(self, state: SoakState, deployment: Deployment, caller: Caller) -> None:
        self.state = state
        self.deployment = deployment
        self.caller = caller

    async def _api(self, tenant: Tenant, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send one write and return (status, headers, JSON). Status 0: it is not known whether it was done."""
        sent = {"Authorization": f"Bearer {tenant.api_key}"} | headers
        try:
            async with self.state.session.request(
                method, f"{self.deployment.url(self.deployment.control_plane)}{path}", json=body, headers=sent
            ) as answer:
                received = await answer.json() if answer.status != 204 else {}
                return answer.status, answer.headers, received
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0, {}, {}

    async def furnish(self, tenant: Tenant) -> None:
        """Make a provider key, a configuration that names it, and some access keys in an account."""
        value = {"providerId": "openai", "name": "k", "value": f"sk-soak-{'0' * 24}"}
        _, _, made = await self._api(tenant, "POST", "/provider-keys", value)
        tenant.provider_key = made["id"]
        _, _, made = await self._api(tenant, "POST", "/access-key-configurations", self._configuration(tenant))
        tenant.configuration = made["id"]
        while len(tenant.keys) < 2 * KEYS_AT_LEAST:
            await self._create(tenant)

    def _configuration(self, tenant: Tenant) -> Any:
        steps = [{"type": "user", "keys": [{"id": tenant.provider_key}]}]
        return {
            "name": f"c {self.state.chance.random()}",
            "router": {"rules": [{"provider": "openai", "steps": steps}]},
        }

    async def run(self) -> None:
        """Write to random accounts until the soak is over."""
        while not self.state.is_over:
            tenant = self.state.chance.choice(self.state.tenants)
            writes = [self._create, self._delete, self._delete, self._disable, self._rotate, self._edit]
            write = self.state.chance.choice(writes)
            if len(tenant.keys) <= KEYS_AT_LEAST:
                write = self._create
            elif len(tenant.keys) > 4 * KEYS_AT_LEAST:
                write = self._delete
            await write(tenant)
            await asyncio.sleep(self.state.chance.uniform(0.05, 0.3))

    def _note(self, what: str, status: int) -> None:
        self.state.tally.writes[f"{what} {status or 'unanswered'}"] += 1

    @staticmethod
    def _is_applied(headers: Any) -> bool:
        """Whether the answer reports that every worker has applied the write."""
        applied, _, of = headers.get("gateway-snapshot-applied", "").partition("/")
        return bool(of) and applied == of != "0"

    async def _create(self, tenant: Tenant) -> None:
        body = {"accessKeyConfigurationId": tenant.configuration} if self.state.chance.random() < 0.5 else {}
        status, headers, made = await self._api(tenant, "POST", "/access-keys", body, Prefer="wait=5")
        self._note("create", status)
        if status != 201:
            return
        key = Key(made["id"], made["token"])
        # A new key counts only once every worker is known to have it. Before that a 401 is not a broken promise.
        if self._is_applied(headers) or await self._until_all_serve(key):
            tenant.keys.append(key)

    async def _until_all_serve(self, key: Key) -> bool:
        for worker in self.deployment.workers:
            for _ in range(50):
                if self.state.is_over or await self.caller.ask(worker, key.token, is_noted=False) == 200:
                    break
                await asyncio.sleep(0.2)
        return not self.state.is_over

    async def _delete(self, tenant: Tenant) -> None:
        key = tenant.keys.pop(self.state.chance.randrange(len(tenant.keys)))
        key.ended_at = time.monotonic()
        status, headers, _ = await self._api(tenant, "DELETE", f"/access-keys/{key.id}", Prefer="wait=5")
        self._note("delete", status)
        if status != 204:
            return
        if self._is_applied(headers):
            self.state.tally.waited_deletions += 1
            key.buried_at = time.monotonic()
        else:
            self.state.tally.unwaited_deletions += 1
        self.state.graves.append(key)

    async def _disable(self, tenant: Tenant) -> None:
        key = tenant.keys.pop(self.state.chance.randrange(len(tenant.keys)))
        key.ended_at = time.monotonic()
        status, headers, _ = await self._api(
            tenant, "PATCH", f"/access-keys/{key.id}", {"disabled": True}, Prefer="wait=5"
        )
        self._note("disable", status)
        if status == 200 and self._is_applied(headers):
            for worker in self.deployment.workers:
                if await self.caller.ask(worker, key.token, is_noted=False) == 200:
                    self.state.tally.broken.append(
                        f"{key.id} was served by {worker.name} after it was disabled everywhere"
                    )
        status, headers, _ = await self._api(
            tenant, "PATCH", f"/access-keys/{key.id}", {"disabled": False}, Prefer="wait=5"
        )
        self._note("enable", status)
        if status == 200 and (self._is_applied(headers) or await self._until_all_serve(key)):
            key.ended_at = None
            tenant.keys.append(key)

    async def _rotate(self, tenant: Tenant) -> None:
        value = {"name": "k", "value": f"sk-soak-{self.state.chance.randrange(10**24):024}"}
        status, _, _ = await self._api(tenant, "POST", f"/provider-keys/{tenant.provider_key}/rotate", value)
        self._note("rotate", status)

    async def _edit(self, tenant: Tenant) -> None:
        path = f"/access-key-configurations/{tenant.configuration}"
        status, _, _ = await self._api(tenant, "PATCH", path, self._configuration(tenant))
        self._note("edit", status)
