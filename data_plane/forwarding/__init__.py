"""From a plan to an upstream's answer: bodies, headers, attempts, targets, connections, time limits and streams."""
