"""The settings: what starts, what does not, and that the sentence names the setting."""

import pytest

from deskterior.config import OPENAI_URL, ROOT, Settings, SettingsError, is_private_host, load


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(str(tmp_path))  # no .env of the developer's


def test_the_embedded_defaults_start_with_nothing_set() -> None:
    settings = load()
    assert settings.env == "development"
    assert settings.openai_is_sandbox
    assert settings.naver_is_sandbox
    assert settings.database_url.get_secret_value().startswith("sqlite:///")


def test_a_key_leads_to_openai_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert load().openai_url == OPENAI_URL


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PORT": "0"}, "PORT"),
        ({"PORT": "eighty"}, "PORT"),
        ({"DESK_THRESHOLD": "1.5"}, "DESK_THRESHOLD"),
        ({"RUNNERS": "gpu"}, "RUNNERS"),
        ({"RUNNERS": "http://"}, "RUNNERS"),
        ({"RUNNERS": "http://runner:99999"}, "RUNNERS"),
        ({"OPENAI_BASE_URL": "http://[::1"}, "OPENAI_BASE_URL"),
        ({"WAIT_MAX_S": "inf"}, "WAIT_MAX_S"),
        ({"SPEND_CAP_USD_PER_DAY": "nan"}, "SPEND_CAP_USD_PER_DAY"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"CALLBACK_URL": "backend:8080"}, "CALLBACK_URL"),
        ({"STORAGE": "s3"}, "S3_BUCKET"),
        ({"ON_DESK": "callback"}, "CALLBACK_URL"),
        ({"NAVER_CLIENT_ID": "id"}, "NAVER_CLIENT_SECRET"),
        ({"ENV": "production"}, "API_KEYS"),
        ({"ENV": "production", "API_KEYS": " "}, "API_KEYS"),
        ({"ENV": "production", "API_KEYS": "k", "OPENAI_BASE_URL": "http://sandbox:8900/openai/v1"}, "OPENAI_BASE_URL"),
        (
            {
                "ENV": "production",
                "API_KEYS": "k",
                "SANDBOX_URL": "https://stand-in.example.com",
                "NAVER_BASE_URL": "https://stand-in.example.com/naver",
            },
            "NAVER_BASE_URL",
        ),
        (
            {"ENV": "production", "API_KEYS": "k", "CALLBACK_URL": "http://127.0.0.1:8900/backend/callback"},
            "CALLBACK_URL",
        ),
        (
            {"ENV": "production", "API_KEYS": "k", "PHOTO_ALLOWED_HOSTS": "cdn.example.com,10.0.0.5"},
            "PHOTO_ALLOWED_HOSTS",
        ),
        ({"ENV": "production", "API_KEYS": "k", "PHOTO_ALLOWED_HOSTS": "localhost"}, "PHOTO_ALLOWED_HOSTS"),
        (
            {"ENV": "production", "API_KEYS": "k", "OPENAI_BASE_URL": "http://127.0.0.1:8900/openai/v1"},
            "OPENAI_BASE_URL",
        ),
        ({"ENV": "production", "API_KEYS": "k", "NAVER_BASE_URL": "http://127.0.0.1:8900/naver"}, "NAVER_BASE_URL"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named):
        load()


def test_a_wrong_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:hunter2@db/x")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_production_may_call_a_backend_of_its_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "production")
    monkeypatch.setenv("API_KEYS", "k")
    monkeypatch.setenv("CALLBACK_URL", "http://10.0.0.5/callback")
    assert load().callback_url == "http://10.0.0.5/callback"


def test_production_has_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "production")
    monkeypatch.setenv("API_KEYS", "k")
    settings = load()
    assert not settings.openai_is_sandbox
    assert settings.openai_url == OPENAI_URL
    assert settings.photo_allowed_hosts == frozenset()


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "NAVER_CLIENT_SECRET", "CALLBACK_SECRET", "STORAGE_SECRET", "API_KEYS"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("NAVER_CLIENT_ID", "id")
    assert "hunter2" not in repr(load())


def test_relative_paths_start_beside_the_service_in_whatever_directory_it_was_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_DIR", "pictures")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///data/jobs.sqlite?timeout=3")
    assert load().storage_dir == ROOT / "pictures"
    assert load().database_url.get_secret_value() == f"sqlite:///{ROOT}/data/jobs.sqlite?timeout=3"
    monkeypatch.setenv("STORAGE_DIR", "/var/pictures")
    monkeypatch.setenv("DATABASE_URL", "sqlite:////var/jobs.sqlite")
    assert str(load().storage_dir) == "/var/pictures"
    assert load().database_url.get_secret_value() == "sqlite:////var/jobs.sqlite"
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@db/jobs")
    assert load().database_url.get_secret_value() == "postgresql://user@db/jobs"


def test_hosts_are_split_and_lower_cased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_ALLOWED_HOSTS", " CDN.Example.com ,img.example.com,,")
    assert load().photo_allowed_hosts == {"cdn.example.com", "img.example.com"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "::1",
        "[::1]",
        "10.1.2.3",
        "169.254.169.254",
        "localhost",
        "a.local",
        "db.internal.",
        "minio",
        "127.1",
        "2130706433",
        "0x7f.1",
        "::ffff:10.0.0.1",
        "",
    ],
)
def test_private_hosts_are_known(host: str) -> None:
    assert is_private_host(host)


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "::ffff:8.8.8.8", "1.example.com", "2001:4860:4860::8888"])
def test_public_hosts_are_known(host: str) -> None:
    assert not is_private_host(host)
