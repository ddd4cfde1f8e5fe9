"""The control plane's settings, read from the environment. The process does not start with unsafe ones.

In evaluation mode a missing setting gets a local default. In production no secret has a default
(docs/decisions/0002-modes.md).
"""

import secrets
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import environ as django_environ
import structlog

from accounts import quota_limits
from gateway_admin import environment, logs, openapi
from gateway_admin.database import BoundedConnection
from gateway_core.envelopes import DocumentKeys
from gateway_core.policy import MOST_ATTEMPTS
from gateway_core.sealing import SealingKey
from rest.limits import MAX_BODY_BYTES

BASE_DIR = Path(__file__).resolve().parent.parent
GATEWAY_MODE = environment.mode()
IS_PRODUCTION = GATEWAY_MODE == environment.PRODUCTION
DEBUG = False

_missing: list[str] = []


def _required(name: str, hint: str) -> str:
    value = environment.read(name)
    if not value:
        _missing.append(f"{name} ({hint})")
    return value


SECRET_KEY = _required("SECRET_KEY", "at least 32 random characters") or secrets.token_urlsafe(32)
DATABASE_URL = _required("DATABASE_URL", "postgres://user:password@host:5432/name")
REDIS_URL = _required("REDIS_URL", "redis://:password@host:6379/0") or "redis://localhost:6379/0"
_document_keys = _required("DOCUMENT_KEYS", "from `python -m data_plane keygen`")
_sealing_public_key = _required("SEALING_PUBLIC_KEY", "from `python -m data_plane keygen`")
ALLOWED_HOSTS = environment.names("ALLOWED_HOSTS", "" if IS_PRODUCTION else "localhost,127.0.0.1,[::1]")
if IS_PRODUCTION:
    if not ALLOWED_HOSTS:
        _missing.append("ALLOWED_HOSTS (the host names that clients use, separated by commas)")
    if SECRET_KEY and len(SECRET_KEY) < 32:  # noqa: PLR2004 -- about what Django's deployment check asks for
        _missing.append("SECRET_KEY (at least 32 random characters)")
    if environment.read("SEALING_PRIVATE_KEYS"):
        _missing.append("nothing more, but SEALING_PRIVATE_KEYS must not be given to the control plane")
    if _missing:
        raise environment.EnvironmentIncomplete("Production mode needs: " + "; ".join(_missing) + ".")

DOCUMENT_KEYS: DocumentKeys | None = DocumentKeys.parse(_document_keys) if _document_keys else None
SEALING_KEY: SealingKey | None = SealingKey.parse(_sealing_public_key) if _sealing_public_key else None

# Redis: every key of ours carries this hash tag, so that one Lua call may touch several (architecture, decision 2).
REDIS_NAMESPACE = environment.read("REDIS_NAMESPACE", "gw")

INSTALLED_APPS = [
    "unfold",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django_structlog",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "audit",
    "accounts",
    "account_settings",
    "providers",
    "provider_keys",
    "configurations",
    "access_keys",
    "snapshots",
    "usage",
    # Before allauth, because it replaces templates of allauth's pages.
    "dashboard",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "csp",
    "gateway_admin",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "rest.middleware.RestMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "audit.middleware.OriginMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    # Last, because it replaces the answer to a locked-out sign-in by the page that says how long to wait.
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "gateway_admin.urls"
WSGI_APPLICATION = "gateway_admin.wsgi.application"
APPEND_SLASH = False  # the contract: a trailing slash is 404, never a redirect
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

_database: dict[str, Any] = django_environ.Env.db_url_config(DATABASE_URL or "postgres://")
_database |= {
    "ENGINE": "django.db.backends.postgresql",
    "ATOMIC_REQUESTS": False,  # services own their transactions
    "CONN_MAX_AGE": 0,  # the pool keeps connections; Django must give them back
    "CONN_HEALTH_CHECKS": True,
}
_database["OPTIONS"] = {
    **_database.get("OPTIONS", {}),
    "pool": {
        "min_size": 1,
        "max_size": int(environment.read("DATABASE_POOL_SIZE", "10")),
        "timeout": 5,
        # With longer pauses the pool would notice too late that the server is back. The next request tries again.
        "reconnect_timeout": 2,
        "connection_class": BoundedConnection,
    },
    "connect_timeout": 3,
}
# Without DATABASE_URL there is no database. Commands that only read the code (checks, schema) run without one.
DATABASES = {"default": _database if DATABASE_URL else {"ENGINE": "django.db.backends.dummy"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# What one process serves at a time (gateway_admin.buffering, gateway_admin.connections). Threads beyond the pool's size
# would wait for each other's connections; two more are the probes' and the static files'.
CONTROL_PLANE_THREADS = int(environment.read("CONTROL_PLANE_THREADS", "8"))
CONTROL_PLANE_CONNECTIONS = int(environment.read("CONTROL_PLANE_CONNECTIONS", "2000"))
CONTROL_PLANE_CONNECTIONS_PER_ADDRESS = int(environment.read("CONTROL_PLANE_CONNECTIONS_PER_ADDRESS", "256"))

# As the workers have it: explain answers with the plan that they would carry out (configurations.explain).
REQUEST_ATTEMPTS = int(environment.read("REQUEST_ATTEMPTS", str(MOST_ATTEMPTS)))

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "dashboard:overview"
UNFOLD = {"SITE_TITLE": "Gateway Admin", "SITE_HEADER": "Gateway Admin", "SITE_SYMBOL": "hub"}

# Signing in to the dashboard (dashboard.sign_in, docs/decisions/0091-sign-in.md).
DASHBOARD_REQUIRE_TOTP = environment.is_on("DASHBOARD_REQUIRE_TOTP", default=False)
ACCOUNT_ADAPTER = "dashboard.sign_in.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
# axes counts wrong passwords and codes. These limits are for users who are signed in.
ACCOUNT_RATE_LIMITS = {
    "login": None,
    "login_failed": None,
    "change_password": "10/m/user",
    "reauthenticate": "10/m/user",
}
MFA_ADAPTER = "dashboard.sign_in.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Gateway Admin"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
ACCOUNT_FORMS = {"change_password": "dashboard.sign_in.ThrottledChangePasswordForm"}
MFA_FORMS = {
    "authenticate": "dashboard.sign_in.ThrottledAuthenticateForm",
    "reauthenticate": "dashboard.sign_in.ThrottledReauthenticateForm",
}
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "dashboard.sign_in.address_of"
AXES_LOCKOUT_CALLABLE = "dashboard.sign_in.locked_out"
AXES_RESET_ON_SUCCESS = True
# More tries during a lock-out do not make it longer, so that the page can say how long it lasts.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
# The state of sign-in that processes must share: used codes and counted tries. In PostgreSQL, since Redis may be away.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "accounts_cache",
        # Above this number the cache drops a third of its entries, valid ones too. A used code would be accepted again.
        "OPTIONS": {"MAX_ENTRIES": 1_000_000},
    }
}

SESSION_ENGINE = "dashboard.sessions"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.is_on("SECURE_COOKIES", default=IS_PRODUCTION)
# With this prefix browsers accept the cookie only over TLS and only for this host.
_cookie_prefix = "__Host-" if SESSION_COOKIE_SECURE else ""
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = f"{_cookie_prefix}session", f"{_cookie_prefix}csrf"
CSRF_FAILURE_VIEW = "dashboard.error_pages.form_refused"
SESSION_COOKIE_AGE = 12 * 60 * 60
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# No inline script, no inline style, no eval, nothing from other hosts. /docs has a policy of its own.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],  # the QR code of an authenticator
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Addresses or networks whose X-Forwarded-* headers are believed (rest.middleware); none by default.
TRUSTED_PROXIES = environment.names("TRUSTED_PROXIES")

# The networks and hosts that custom providers may use, beside the internet (docs/decisions/0070-base-urls.md).
UPSTREAM_RULES = environment.upstream_rules(
    environment.parsed, mode=GATEWAY_MODE, servers=environment.ports_of(DATABASE_URL, REDIS_URL)
)
# The URL of the data plane for apps. The dashboard writes it into the commands that it shows. Empty: not known.
DATA_PLANE_URL = environment.read(
    "DATA_PLANE_URL", "" if IS_PRODUCTION else f"http://127.0.0.1:{environment.read('DATA_PLANE_PORT', '8001')}"
).rstrip("/")
# Whether this machine may fetch newer model prices than those of its packages (providers.tasks).
CATALOG_REFRESH = environment.is_on("CATALOG_REFRESH", default=not IS_PRODUCTION)
CATALOG_URL = environment.read(
    "CATALOG_URL",
    "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json",
)

# The SHA-256 of the only data that may be fetched from there; empty: any that hold up (providers.price_review).
CATALOG_SHA256 = environment.read("CATALOG_SHA256", "").lower()

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
# Static files are served from the packages themselves, so that a fresh clone needs no collectstatic. Where
# collectstatic was run, its result is served. (WhiteNoise warns about a directory that does not exist.)
_collected = BASE_DIR / "staticfiles"
STATIC_ROOT = _collected if _collected.is_dir() or sys.argv[1:2] == ["collectstatic"] else None
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# The limit of a body (contract, section 1). The REST parser enforces it before anything is read into memory.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

LOGGING = logs.LOGGING
DJANGO_STRUCTLOG_COMMAND_LOGGING_ENABLED = False
structlog.configure_once(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest.permissions.HasAccount"],
    "DEFAULT_RENDERER_CLASSES": ["rest.renderers.JsonRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "rest.renderers.JsonAlways",
    "DEFAULT_PARSER_CLASSES": ["rest.parsers.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "rest.schema.ContractSchema",
    "EXCEPTION_HANDLER": "rest.errors.respond_to_exception",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Gateway Admin",
    "DESCRIPTION": (
        "The management API. Every GET may be asked as HEAD. Unknown query parameters and unknown fields of a "
        "body are refused. In a PATCH what is left out stays as it is, and null clears."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    **openapi.WHOLE_API,
    "SERVE_INCLUDE_SCHEMA": False,
    # The page's scripts come from a package, not from a CDN.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    # Requests and responses have serializers of their own.
    "COMPONENT_SPLIT_REQUEST": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["rest.schema.complete_document", "gateway_admin.openapi_examples.add_examples"],
}

# Celery: work that may be late (architecture, decision 10). JSON only, no secrets in arguments.
CELERY_BROKER_URL = environment.read("CELERY_BROKER_URL", REDIS_URL)
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
# Messages are signed: others may write to this Redis (gateway_admin.broker).
CELERY_BROKER_TRANSPORT = "gateway_admin.broker:Transport"
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": "{" + REDIS_NAMESPACE + "}:celery:"}
# An error that Redis answers (no memory, another type, no right) passes; the worker waits for that.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
# No task of ours takes a second of these.
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_DEFAULT_QUEUE = "tasks"
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "forget expired answers": {"task": "accounts.forget_expired_answers", "schedule": 3600.0},
    "forget expired sessions": {"task": "accounts.forget_expired_sessions", "schedule": 3600.0},
    "forget audit events": {"task": "audit.forget_events", "schedule": 86400.0},
    "forget revisions": {"task": "configurations.forget_revisions", "schedule": 86400.0},
    # An event is visible within 10 s of its request, and spent credits stop managed inference within 5 s. A message
    # expires when the next one is due.
    "ingest usage": {"task": "usage.ingest", "schedule": 1.0, "options": {"expires": 1.0}},
    "expire credits": {"task": "usage.expire_credits", "schedule": 2.0, "options": {"expires": 2.0}},
    "refresh prices": {"task": "providers.refresh_prices", "schedule": 3600.0, "options": {"expires": 3600.0}},
    "keep usage partitions": {"task": "usage.keep_partitions", "schedule": 3600.0, "options": {"expires": 3600.0}},
}

# Usage older than so many whole months is deleted. At least two are kept, so that a late event still finds its month.
USAGE_RETENTION_MONTHS = int(environment.read("USAGE_RETENTION_MONTHS", "13"))
# How many objects an account may have, where an operator has not set another limit for it (accounts.quotas).
QUOTAS = environment.parsed("QUOTAS", quota_limits.parse, dict(quota_limits.DEFAULTS))
# Events of the audit that are older are deleted; 0 keeps them for ever. The database keeps each for 30 days at least.
AUDIT_RETENTION_DAYS = int(environment.read("AUDIT_RETENTION_DAYS", "400"))
# The gateway's own fee, in cents per million tokens, on top of what the upstream takes.
PROCESSING_FEE_CENTS = Decimal(environment.read("PROCESSING_FEE_CENTS", "0"))
# Buying credits needs a payment provider (docs/usage.md); without the key it is switched off.
STRIPE_SECRET_KEY = environment.read("STRIPE_SECRET_KEY")
STRIPE_WEBHOOK_SECRET = environment.read("STRIPE_WEBHOOK_SECRET")
STRIPE_API_BASE = environment.read("STRIPE_API_BASE", "https://api.stripe.com")
# Bought credits are lost so many days after their purchase; 0 keeps them for ever.
CREDITS_EXPIRE_DAYS = int(environment.read("CREDITS_EXPIRE_DAYS", "0"))
CREDITS_LEAST_PURCHASE_CENTS = int(environment.read("CREDITS_LEAST_PURCHASE_CENTS", "1"))
# Where the payment page sends the buyer back to.
CHECKOUT_RETURN_URL = environment.read("CHECKOUT_RETURN_URL", "http://localhost:8000/dashboard/")
