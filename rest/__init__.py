"""The management API's conventions, without any resource: errors, fields, lists, ETags, idempotency, OpenAPI."""
