"""Ask the resolver for the addresses of a host, with a time limit.

The resolver of the system has no time limit of its own, so each question runs in a thread that nobody waits for beyond
the limit; a few at once, so that a resolver that hangs holds no more of them.
"""

import socket
import threading
import time
from typing import Final

SECONDS: Final = 2.0
_AT_ONCE: Final = threading.BoundedSemaphore(16)


def resolve(host: str, port: int) -> tuple[str, ...]:
    """The current addresses of a host; empty if it has none, or if the resolver did not answer in time.

    Do not call it inside a transaction, because it waits for the network.

    Args:
        host: a name in ASCII (gateway_core.base_urls.BaseUrl.host).
        port: the port of the connection.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(str(address[0]) for *_, address in answers)
        except (OSError, UnicodeError):
            pass
        finally:
            _AT_ONCE.release()

    deadline = time.monotonic() + SECONDS
    if not _AT_ONCE.acquire(timeout=SECONDS):
        return ()
    question = threading.Thread(target=ask, name="resolve", daemon=True)
    question.start()
    question.join(max(0.0, deadline - time.monotonic()))
    return tuple(found)
