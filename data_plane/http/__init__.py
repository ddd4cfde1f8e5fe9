"""The worker's HTTP side: the server, the parser of HTTP, and the routes."""
