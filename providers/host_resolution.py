"""Asking the resolver for a name's addresses, for a moment and no longer.

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
    """The addresses of a host now; none where it has none, or no answer came in time.

    Never to be called inside a transaction: it waits for others.

    Args:
        host: a name in ASCII (gateway_core.base_urls.BaseUrl.host).
        port: where it would be connected to.
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
