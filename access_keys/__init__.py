"""Access keys: the tokens that apps send to the data plane."""
