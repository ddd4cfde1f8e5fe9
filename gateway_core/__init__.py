"""The library of both planes, without framework and servers: IDs, tokens, sealing, snapshot documents, policy."""
