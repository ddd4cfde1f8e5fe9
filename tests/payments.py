"""A stand-in of the payment provider's API, on loopback."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
import stripe

from accounts.models import Account
from tests.fixtures import Api

SECRET = "whsec_of_a_test"


class StandIn(ThreadingHTTPServer):
    """What it answers, and what it was asked."""

    answer: tuple[int, dict[str, Any]] = (
        200,
        {"id": "cs_test_1", "object": "checkout.session", "url": "https://checkout.example/c/pay/cs_test_1"},
    )

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        fields = {name: values[0] for name, values in parse_qs(body).items()}
        self.server.asked.append((self.path, self.headers["authorization"], fields))
        status, answer = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass


def notice(account: Account | str, *, kind: str = "checkout.session.completed", **session: Any) -> str:
    """What the payment provider tells of a session."""
    text_id = account if isinstance(account, str) else account.text_id
    told = {
        "id": "cs_test_1",
        "object": "checkout.session",
        "payment_status": "paid",
        "amount_subtotal": 2500,
        "amount_total": 2975,
        "currency": "usd",
        "metadata": {"gateway_account": text_id},
    }
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"object": told | session}})


def send(body: str, *, secret: str = SECRET, at: float | None = None, header: str | None = None) -> Any:
    """Send a notice, signed."""
    signature = stripe.WebhookSignature.generate_signature_header(body, secret, int(at or time.time()))
    return Api().request("POST", "/webhooks/stripe", body.encode(), stripe_signature=header or signature)


@pytest.fixture
def payments(settings: Any) -> Iterator[StandIn]:
    """A payment provider that this gateway sells credits by."""
    with StandIn() as stand_in:
        settings.STRIPE_SECRET_KEY = "sk_test_operator"
        settings.STRIPE_WEBHOOK_SECRET = SECRET
        settings.STRIPE_API_BASE = stand_in.url
        threading.Thread(target=stand_in.serve_forever, args=[0.01]).start()
        yield stand_in
        stand_in.shutdown()
