"""Holds: data_plane.state.follower

Everything but the worker is gone: control plane, relay, PostgreSQL and Redis. What is in force stays in force.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from django.db import connection

from tests.fault_proxy import FaultProxy
from tests.faults.conftest import Program
from tests.fixtures import open_account
from tests.patience import eventually
from tests.servers import FaultyRedis
from tests.steady import SteadyTraffic
from tests.workers import Client, free_port, worker_process

pytestmark = pytest.mark.faults

# `GONE_SECONDS=600 pytest --timeout 1800 …` for a long one.
GONE_SECONDS: Final = float(os.environ.get("GONE_SECONDS", "6"))
RATE: Final = 300


@pytest.fixture
def api_key(transactional_db: None) -> str:
    """What manages an account."""
    _, _, api = open_account("Alice's")
    return str(api.token)


async def test_with_everything_else_gone_no_request_fails(
    api_key: str,
    child: Program,
    server: FaultyRedis,
    environ: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    database: dict[str, Any] = connection.settings_dict
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    # Not ready before the relay has begun Redis's first life.
    with worker_process(environ, tmp_path, wait=False) as process:
        async with FaultProxy(int(database["PORT"])) as postgres, aiohttp.ClientSession() as session:
            account = f"{database['USER']}:{database['PASSWORD']}"
            given = {
                "REDIS_URL": server.url,
                "DATABASE_URL": f"postgresql://{account}@127.0.0.1:{postgres.port}/{database['NAME']}",
            }
            plane = child("manage.py", "serve", "--port", str(port), **given)
            relay = child("manage.py", "relay", **given)
            client = Client(session, process.url)

            async def manage(method: str, path: str, body: Any = None) -> Any:
                headers = {"authorization": f"Bearer {api_key}"}
                async with session.request(method, origin + path, json=body, headers=headers) as answer:
                    assert answer.status < 300, await answer.text()
                    return await answer.json() if answer.status != 204 else None

            async def is_up() -> bool:
                try:
                    async with session.get(f"{origin}/healthz") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(is_up)
            value = "sk-good-0123456789abcdefghij"
            await manage("POST", "/provider-keys", {"providerId": "openai", "name": "first", "value": value})
            keys = [await manage("POST", "/access-keys", {}) for _ in range(3)]

            async def serves() -> bool:
                with suppress(aiohttp.ClientConnectionError):
                    return {await client.status(key["token"]) for key in keys} == {200}
                return False

            await eventually(serves)
            deleted = keys.pop()
            await manage("DELETE", f"/access-keys/{deleted['id']}")
            async with SteadyTraffic(process.url, [key["token"] for key in keys], rate=RATE) as traffic:
                await asyncio.sleep(0.5)
                await postgres.set(is_down=True)
                plane.close()
                relay.close()
                server.kill()
                await asyncio.sleep(GONE_SECONDS)
                assert not (await client.readiness())["snapshot"]["isInSync"]
                assert await client.status(deleted["token"]) == 401
                statuses = await traffic.end()

    with capsys.disabled():
        print(f" ({traffic.statuses.total()} requests at {traffic.statuses.total() / traffic.seconds:.0f}/s)", end="")
    assert set(statuses) == {200}
