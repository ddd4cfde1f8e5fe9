"""The gateway configuration: time-outs and token caps for all requests of an account."""
