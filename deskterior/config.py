"""Settings from the environment or `.env`. A wrong one stops the start with a sentence that names it."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from deskterior.concealed import conceal, secrets_of
from deskterior.doors import DoorSettings
from deskterior.drawing_settings import DrawingSettings
from deskterior.gateway.limits_settings import LimitSettings
from deskterior.gateway.settings import AccessSettings
from deskterior.jobs.settings import JobSettings
from deskterior.telemetry.settings import TelemetrySettings

ROOT = Path(__file__).resolve().parent.parent
OPENAI_URL = "https://api.openai.com/v1"
NAVER_URL = "https://openapi.naver.com"


class SettingsError(ValueError):
    """The settings cannot be used; the text says which one and how to mend it."""


class Settings(AccessSettings, LimitSettings, DoorSettings, DrawingSettings, JobSettings, TelemetrySettings):
    """Every setting of the service. Names in capitals are the environment's; secrets never print."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
        frozen=True,
        allow_inf_nan=False,
    )

    env: Literal["development", "production"] = "development"
    """`production` refuses to start with open doors or stand-ins."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Where `bentoml serve`, `make serve` and the container listen."""
    workers: int = Field(default=1, ge=1, le=64)
    """API processes. More than one wants `RUNNERS=process` or an address."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    public_base_url: str = ""
    """Where clients reach the service's own file links; from the request in development when empty."""
    body_max_bytes: int = Field(default=64 * 1024, ge=1024)
    """Largest JSON body of a request."""
    max_concurrency: int = Field(default=256, ge=1)
    """Requests answered at once by one API process; beyond it 503 `overloaded`. Those that wait for outside services or
    the job store, and transfers of pictures, are counted apart and keep nobody else out. Health paths are exempt."""

    # photos
    photo_allowed_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    """Hosts that photos may come from, by commas. Empty: any public host in development, none in production."""
    photo_max_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    photo_max_pixels: int = Field(default=64_000_000, ge=10_000)
    photo_timeout_s: float = Field(default=10.0, gt=0, le=120)
    """For the whole download, name look-up and redirects included."""
    photo_concurrency: int = Field(default=64, ge=1)
    """Downloads at once in one API process."""

    # the classifier and the runners
    desk_threshold: float | None = Field(default=None, ge=0, le=1)
    """Score from which a photo is a desk; the model's own when empty."""
    runners: str = "embedded"
    """`embedded` (in the API process), `process` (one beside it) or the address of a runner."""
    desk_runner: str = ""
    """Sets the classifier's placement apart from `RUNNERS`."""
    custom_runner: str = ""
    """Sets the drawing model's placement apart from `RUNNERS`."""
    desk_model_dir: Path = ROOT / "models" / "desk_classifier"
    custom_model_dir: Path = ROOT / "models" / "custom"
    runner_timeout_s: float = Field(default=30.0, gt=0)
    draw_timeout_s: float = Field(default=300.0, gt=0, le=3600)
    """For one picture by our own model elsewhere, the wait in its queue included."""

    # what a found desk starts
    on_desk: Literal["none", "callback", "generate"] = "none"
    require_desk: bool = True
    """Refuse to make over a photo that is not a desk, before money is spent."""

    # outside services
    openai_api_key: SecretStr = SecretStr("")
    openai_base_url: str = ""
    """Empty: OpenAI's own address with a key, the sandbox without one."""
    vision_model: str = "gpt-4o"
    image_model: str = "gpt-image-2.6-sunburst"
    """Any of `deskterior/providers/models.toml`."""
    image_size: str = "auto"
    """`auto` takes the model's size nearest to the photo's shape."""
    image_quality: str = "medium"
    """In any model's words: `low`, `medium`, `high`, `standard`, `hd`."""
    vision_timeout_s: float = Field(default=60.0, gt=0)
    image_timeout_s: float = Field(default=180.0, gt=0)
    image_attempts: int = Field(default=1, ge=1, le=5)
    """Paid image calls one task may make, all held back for it; above 1 a timed-out call may be paid twice."""
    naver_client_id: str = ""
    naver_client_secret: SecretStr = SecretStr("")
    naver_base_url: str = ""
    naver_timeout_s: float = Field(default=5.0, gt=0)
    naver_per_second: float = Field(default=10.0, gt=0)
    naver_cache_s: float = Field(default=600.0, ge=0)
    products_per_keyword: int = Field(default=3, ge=1, le=20)
    catalogue_csv: Path | None = None
    """The team's own products."""
    sandbox_url: str = "http://127.0.0.1:8900"
    """Where the sandbox listens, for what has no key in development. Not set: `bentoml serve` starts its own."""

    # storage
    storage: Literal["local", "s3"] = "local"
    storage_dir: Path = ROOT / "data" / "storage"
    storage_secret: SecretStr = SecretStr("")
    """Signs local links; made at first start and kept in `STORAGE_DIR` when empty."""
    link_ttl_s: int = Field(default=7 * 24 * 3600, ge=60)
    """How long a presigned link is good. S3 allows a week at most."""
    s3_bucket: str = ""
    s3_prefix: str = ""
    s3_endpoint_url: str = ""
    s3_public_base_url: str = ""

    # jobs
    database_url: SecretStr = SecretStr(f"sqlite:///{ROOT / 'data' / 'jobs.sqlite'}")
    """A SQLite file for one machine, `postgresql://...` for several."""
    wait_default_s: float = Field(default=120.0, ge=0)
    wait_max_s: float = Field(default=300.0, ge=0)
    """How long `/v1/generate` may hold its answer."""
    spend_cap_usd_per_day: float = Field(default=20.0, ge=0)
    """New jobs stop when the day's cost (UTC) reaches it; 0 is no cap."""

    # callback
    callback_url: str = ""
    callback_secret: SecretStr = SecretStr("")
    callback_format: Literal["nested", "flat"] = "nested"
    callback_max_age_s: float = Field(default=24 * 3600, gt=0)
    callback_timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("photo_allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("runners", "desk_runner", "custom_runner")
    @classmethod
    def _placement(cls, value: str) -> str:
        if value not in {"", "embedded", "process"} and not _is_address(value):
            raise ValueError("is neither embedded, process nor an http(s) address")
        return value.rstrip("/")

    @field_validator(
        "callback_url",
        "openai_base_url",
        "naver_base_url",
        "public_base_url",
        "s3_endpoint_url",
        "s3_public_base_url",
        "sandbox_url",
    )
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not _is_address(value):
            raise ValueError("is not an http(s) address")
        return value.rstrip("/")

    @field_validator("storage_dir", "desk_model_dir", "custom_model_dir", "catalogue_csv")
    @classmethod
    def _path(cls, value: Path | None) -> Path | None:
        # The processes of one service have different working directories.
        return ROOT / value if value else None

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr) -> SecretStr:
        kind, _, place = value.get_secret_value().partition(":///")
        if kind == "sqlite":
            return SecretStr(f"sqlite:///{ROOT / place}") if place and not place.startswith(":") else value
        if not value.get_secret_value().startswith("postgresql://"):
            raise ValueError("must start with sqlite:/// or postgresql://")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.storage == "s3" and not self.s3_bucket:
            raise ValueError("S3_BUCKET is missing: STORAGE=s3 needs the bucket's name")
        if self.on_desk == "callback" and not self.callback_url:
            raise ValueError("CALLBACK_URL is missing: ON_DESK=callback needs an address to call")
        if bool(self.naver_client_id) != bool(self.naver_client_secret.get_secret_value()):
            raise ValueError("NAVER_CLIENT_ID and NAVER_CLIENT_SECRET go together: set both or neither")
        if self.env == "production":
            self._production()
        return self

    def _production(self) -> None:
        self.check_access()
        self.check_doors([self.desk_placement, self.custom_placement])
        sandbox = urlsplit(self.sandbox_url).netloc
        for name in ("openai_base_url", "naver_base_url", "callback_url"):
            url = urlsplit(getattr(self, name))
            # A backend may well have a private address; OpenAI and Naver have not.
            private = name != "callback_url" and is_private_host(url.hostname or "")
            if url.netloc and (url.netloc == sandbox or private):
                raise ValueError(
                    f"{name.upper()} is the sandbox or a private address: ENV=production needs the real one"
                )
        for host in self.photo_allowed_hosts:
            if is_private_host(host):
                raise ValueError(
                    f"PHOTO_ALLOWED_HOSTS has the private host {host}: ENV=production never fetches from it"
                )

    @property
    def desk_placement(self) -> str:
        return self.desk_runner or self.runners

    @property
    def custom_placement(self) -> str:
        return self.custom_runner or self.runners

    @property
    def openai_is_sandbox(self) -> bool:
        return self.env == "development" and not self.openai_base_url and not self.openai_api_key.get_secret_value()

    @property
    def naver_is_sandbox(self) -> bool:
        return self.env == "development" and not self.naver_base_url and not self.naver_client_id

    @property
    def openai_url(self) -> str:
        """The address that OpenAI's client calls."""
        return self.openai_base_url or (f"{self.sandbox_url}/openai/v1" if self.openai_is_sandbox else OPENAI_URL)

    @property
    def naver_url(self) -> str:
        return self.naver_base_url or (f"{self.sandbox_url}/naver" if self.naver_is_sandbox else NAVER_URL)


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is none
        return False


def is_private_host(host: str) -> bool:
    """Whether `host`, as written, is this machine or a private network: a literal address, or a local name.

    A name without a dot is never public: a Compose service, say. `127.1` and `2130706433` are addresses too, to those
    who look them up.
    """
    name = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith((".localhost", ".local", ".internal")) or _is_old_spelling(name)
    return not (getattr(address, "ipv4_mapped", None) or address).is_global


def _is_old_spelling(name: str) -> bool:
    """Whether `name` is an IPv4 address in a form of `inet_aton`: public or not, nobody needs one."""
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: naming each setting that is wrong or missing, without its value.
    """
    return load()


def load() -> Settings:
    """Read the settings afresh, and conceal their secrets in what this process logs. Raises as `settings` does."""
    try:
        found = Settings()
    except ValidationError as error:
        lines = [_sentence(item["loc"], item["msg"]) for item in error.errors(include_input=False, include_url=False)]
        raise SettingsError("; ".join(lines)) from None
    conceal(secrets_of(found))
    return found


def _sentence(where: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{str(where[0]).upper()}: {message}" if where else message
