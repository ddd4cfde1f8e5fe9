"""Provider keys: upstreams' own API keys, stored sealed; their rotation, and moving them to another sealing key."""
