"""What was used and what it cost: ingest, events, overview, the ledger of credits, checkout."""
