"""A stand-in of the payment provider's API, on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

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


@contextmanager
def payment_provider(settings: Any) -> Iterator[StandIn]:
    """A running one, named in the settings."""
    with StandIn() as stand_in:
        settings.STRIPE_SECRET_KEY = "sk_test_operator"
        settings.STRIPE_WEBHOOK_SECRET = SECRET
        settings.STRIPE_API_BASE = stand_in.url
        threading.Thread(target=stand_in.serve_forever, args=[0.01]).start()
        yield stand_in
        stand_in.shutdown()
