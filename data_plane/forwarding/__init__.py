"""From a plan to an upstream's answer: attempts, targets, connections, time limits and streams."""
