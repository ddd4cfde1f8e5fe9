"""The data plane: a worker that authorises, resolves and forwards requests by what Redis holds."""
