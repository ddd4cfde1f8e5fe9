"""Holds: data_plane.metrics

What `/metrics` of a worker says of requests and attempts.
"""

from data_plane.metrics import Metrics


def test_requests_and_attempts_are_counted_from_the_start_however_often_they_are_read():
    metrics = Metrics()
    assert b'gateway_attempts_total{outcome="failed"} 0.0\n' in metrics.text()

    for _ in range(2):
        metrics.requests[200] += 2
        metrics.requests[429] += 1
        metrics.attempts["answered"] += 1
        text = metrics.text()

    assert metrics.text() == text
    assert b'gateway_requests_total{status="200"} 4.0\n' in text
    assert b'gateway_requests_total{status="429"} 2.0\n' in text
    assert b'gateway_attempts_total{outcome="answered"} 2.0\n' in text
