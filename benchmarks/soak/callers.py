"""The callers of a soak: apps that ask the workers for answers and streams."""

import asyncio
import time

import aiohttp

from benchmarks.soak.deployment import Deployment, Process
from benchmarks.soak.state import Key, SoakState


class Caller:
    """Sends requests to random workers, and checks that access keys are accepted or refused as they must be."""

    def __init__(self, state: SoakState, deployment: Deployment) -> None:
        self.state = state
        self.deployment = deployment

    async def run(self) -> None:
        """Send requests with living and with deleted access keys until the soak is over."""
        while not self.state.is_over:
            worker = self.state.chance.choice(self.deployment.workers)
            if self.state.graves and self.state.chance.random() < 0.1:
                await self._visit(worker, self.state.chance.choice(self.state.graves))
            elif (tenant := self.state.chance.choice(self.state.tenants)).keys:
                await self._use(worker, self.state.chance.choice(tenant.keys))
            await asyncio.sleep(self.state.chance.uniform(0, 0.05))

    async def _use(self, worker: Process, key: Key) -> None:
        status = await self.ask(worker, key.token)
        if status == 401 and key.ended_at is None:
            self.state.tally.broken.append(f"{key.id} is valid and was refused with 401 by {worker.name}")

    async def _visit(self, worker: Process, key: Key) -> None:
        asked_at = time.monotonic()
        status = await self.ask(worker, key.token, is_noted=False)
        self.state.tally.graves_visited += 1
        if status == 200 and key.buried_at is not None and asked_at > key.buried_at:
            self.state.tally.broken.append(f"{key.id} was served by {worker.name} after its deletion had answered")

    async def ask(self, worker: Process, token: str, *, is_noted: bool = True) -> int:
        """Send one request and return its status, or 0 where there was no answer. Some streams are cut off."""
        is_stream, is_cut = self.state.chance.random() < 0.5, self.state.chance.random() < 0.15
        body = {"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": is_stream}
        headers = {"Authorization": f"Bearer {token}"}
        if is_stream and self.state.chance.random() < 0.1:
            headers["x-stainless-stand-in"] = "slow"
        status = 0
        try:
            async with self.state.session.post(
                f"{self.deployment.url(worker)}/v1/chat/completions", json=body, headers=headers
            ) as answer:
                status = answer.status
                if is_cut:
                    if is_stream:
                        await answer.content.readany()
                    answer.close()
                else:
                    read = await answer.read()
                    is_whole = read.rstrip().endswith(b"[DONE]") if is_stream else True
                    if status == 200 and is_whole:
                        self.state.tally.answered.add(answer.headers["x-request-id"])
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.state.tally.statuses[f"connection broken by {worker.name}"] += 1
            return status
        if is_noted:
            self.state.tally.statuses[str(status)] += 1
        return status
