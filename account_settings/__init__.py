"""The gateway configuration: timeouts and token caps that hold for a whole account."""
