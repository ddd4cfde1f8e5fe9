"""The control plane's ASGI entry: Django behind a buffer, so that no thread waits for the network."""

from django.conf import settings

from gateway_admin.buffering import Buffered
from gateway_admin.connections import allow_connections
from gateway_admin.wsgi import application as django

allow_connections(settings.CONTROL_PLANE_CONNECTIONS, settings.CONTROL_PLANE_CONNECTIONS_PER_ADDRESS)
# Without a secret no payment notice can be checked, so that its body is not read.
_refused = () if settings.STRIPE_WEBHOOK_SECRET else ("/webhooks/stripe",)
application = Buffered(django, threads=settings.CONTROL_PLANE_THREADS, refused=_refused)
