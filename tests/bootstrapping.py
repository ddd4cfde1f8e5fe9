"""Make accounts in one process, each as the command `bootstrap` does: `python -m tests.bootstrapping alice charlie`."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_admin.settings")
django.setup()

from django.core.management import call_command  # noqa: E402 -- Django has to be set up first

for name in sys.argv[1:]:
    call_command("bootstrap", account=name, username=name)
