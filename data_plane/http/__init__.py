"""The worker's HTTP side: the server, the parser, the routes, request bodies, headers and errors."""
