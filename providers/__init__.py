"""Custom providers, the models and prices of the catalog, and the operator's managed keys."""
