"""Provider keys: upstreams' own API keys, stored sealed; rotation, and moving to another sealing key."""
