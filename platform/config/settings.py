"""Django settings, all of them derived from :mod:`config.environment`."""

from __future__ import annotations

from csp.constants import NONE, SELF

from config.databases import databases
from config.environment import read_environment
from config.logs import logging_config
from config.storages import storages

SWITCHYARD = read_environment()

SECRET_KEY = SWITCHYARD.secret_key
DEBUG = False
ALLOWED_HOSTS = SWITCHYARD.hosts
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "django_structlog",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "django_cotton",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django_celery_beat",
    "rest",
    "audit",
    "tenants",
    "tasks",
    "workers",
    "web",
    "api",
    "live",
    "ops",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.static_files.StaticFilesMiddleware",
    "rest.request_id.RequestIdMiddleware",
    "rest.links.LinksMiddleware",
    "rest.outages.OutageMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    }
]

# PostgreSQL is the only truth; see config.databases for what depends on the role.
DATABASES = databases(
    SWITCHYARD.database_url, role=SWITCHYARD.role, web_connections=SWITCHYARD.web_connections
)

# Bytes of inputs and artifacts; what exists of them is told by PostgreSQL alone (tasks.models.files).
STORAGES = storages(SWITCHYARD)

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": SWITCHYARD.redis_url,
        "KEY_PREFIX": "switchyard",
    }
}
# Events are read again from the database by number, so a lost message of this layer costs nothing.
# The layer is encrypted because whoever reaches Redis could otherwise forge what browsers see.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [SWITCHYARD.redis_url],
            "prefix": "switchyard",
            "symmetric_encryption_keys": [SECRET_KEY],
        },
    }
}

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_ADAPTER = "web.accounts.ClosedSignup"
MFA_ADAPTER = "web.mfa.EncryptedFactors"
# Operators enter addresses, and no mail is sent that could verify them.
MFA_ALLOW_UNVERIFIED_EMAIL = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = "switchyard_session"
CSRF_COOKIE_NAME = "switchyard_csrf"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "web.error_pages.csrf_failure"
_HTTPS = SWITCHYARD.public_url.startswith("https://")
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SECURE = _HTTPS
CSRF_TRUSTED_ORIGINS = [SWITCHYARD.public_url]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/admin/", "/api/v1/docs"],
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    },
}

DATA_UPLOAD_MAX_MEMORY_SIZE = SWITCHYARD.max_body_bytes
APPEND_SLASH = False
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False

STATIC_URL = "/static/"
# Static files are served from the packages themselves, so that no build step can be forgotten.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tenants.authentication.TokenAuthentication",
        "tenants.authentication.SessionAuthentication",
    ],
    # Deny by default: each view names what it needs.
    "DEFAULT_PERMISSION_CLASSES": ["rest.permissions.DenyAll"],
    "DEFAULT_PARSER_CLASSES": ["rest.parsing.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest.rendering.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "rest.rendering.Negotiation",
    "DEFAULT_SCHEMA_CLASS": "rest.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "rest.problems.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Switchyard",
    "DESCRIPTION": "A multi-tenant job platform: fair, isolated, live, and nothing lost.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
}

LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(json=SWITCHYARD.log_format == "json", level=SWITCHYARD.log_level)

UNFOLD = {
    "SITE_TITLE": "Switchyard operators",
    "SITE_HEADER": "Switchyard",
    "SITE_URL": "/",
}
DJANGO_CELERY_BEAT_TZ_AWARE = True

# Who answers no requests needs nothing of the web's half: such a process starts sooner and is smaller,
# and a worker's forks each pay for all that it has imported. With django.contrib.postgres each new
# connection would be asked for types that we do not use.
_WITHOUT_WEB: dict[str, tuple[str, ...]] = {
    "worker": (),
    "dispatcher": (),
    "system": ("rest",),
    "beat": ("django_celery_beat",),
    "pools": ("ops",),
}
if SWITCHYARD.role in _WITHOUT_WEB:
    ROOT_URLCONF = ""
    MIDDLEWARE = []
    TEMPLATES = []
    AUTHENTICATION_BACKENDS = []
    INSTALLED_APPS = [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "audit",
        "tenants",
        "tasks",
        "workers",
        *_WITHOUT_WEB[SWITCHYARD.role],
    ]
