"""HTTP/1.1 as the worker speaks it: uvicorn's, and an offer to change the protocol is passed over.

Many a client offers HTTP/2 with its first request (curl's `--http2`, Java's HttpClient). The parser stops at such a
head and takes what follows for another protocol: the request's body is lost. So the head is read again without the
offer, by a new parser, and whatever came after it as the HTTP/1.1 that it is. Requests without an offer pay nothing.

Source: RFC 9110, section 7.8.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OfferlessProtocol(HttpToolsProtocol):
    """One connection from a caller."""

    def _should_upgrade(self) -> bool:
        # uvicorn begins no request at a head of which this is true.
        return True

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _feed(self, data: bytes) -> bytes:
        """Have the parser read on; returns what is to be read instead of what it stopped at."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":
                # No offer, but a tunnel, and this is no proxy.
                raise httptools.HttpParserError from None
            data = self._head_without_offer() + data[offer.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            return data
        return b""

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"
