from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from wheelyard.errors import InputFileError
from wheelyard.network.indexes import IndexSettings, read_index_settings

if TYPE_CHECKING:
    from pathlib import Path


class Machine:
    """A home, a system folder and a working folder to put configuration into."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env: dict[str, str] = {}

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def pip(self, name: str, option: str, value: str, section: str = "global") -> Path:
        return self.write(name, f"[{section}]\n{option} = {value}\n")

    def settings(self, **env: str) -> IndexSettings:
        return read_index_settings(
            {**self.env, **env},
            home=self.root / "home",
            cwd=self.root / "project",
            etc=self.root / "etc",
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_configured_means_the_public_index(machine: Machine) -> None:
    settings = machine.settings()
    assert settings.index_url is None
    assert settings.index_urls == (PYPI_SIMPLE_ENDPOINT,)
    assert settings.origins == {}
    assert not settings.offline


def test_rooms_that_only_describe_connections_do_not_import_http() -> None:
    program = (
        "import sys, wheelyard.network.indexes, wheelyard.network.children\n"
        "import wheelyard.network.download, wheelyard.network.git\n"
        "import wheelyard.sources.fetch, wheelyard.sources.patch\n"
        "print(sorted({'requests', 'urllib3', 'pypi_simple', 'pydantic'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert output.strip() == "[]"


# From the weakest to the strongest, as `pip config debug` lists them.
PIP_FILES = (
    "etc/xdg/pip/pip.conf",
    "etc/pip.conf",
    "home/.pip/pip.conf",
    "home/.config/pip/pip.conf",
    "venv/pip.conf",
)


@pytest.mark.parametrize("strongest", range(len(PIP_FILES)))
def test_stronger_pip_file_wins(machine: Machine, strongest: int) -> None:
    for name in PIP_FILES[: strongest + 1]:
        machine.pip(name, "index-url", f"https://{name}/simple")
    settings = machine.settings(VIRTUAL_ENV=str(machine.root / "venv"))
    assert settings.index_url == f"https://{PIP_FILES[strongest]}/simple"
    place = f"{machine.root / PIP_FILES[strongest]} [global]"
    assert str(settings.origins["index_url"]) == place


def test_xdg_folders_are_where_they_are_said_to_be(machine: Machine) -> None:
    machine.pip("a/pip/pip.conf", "index-url", "https://system/simple")
    machine.pip("b/pip/pip.conf", "cert", "/user.pem")
    dirs = {"XDG_CONFIG_DIRS": str(machine.root / "a"), "XDG_CONFIG_HOME": str(machine.root / "b")}
    settings = machine.settings(**dirs)
    assert settings.index_url == "https://system/simple"
    assert settings.certificate == "/user.pem"


def test_chosen_pip_file_wins_and_shadows_the_users(machine: Machine) -> None:
    machine.pip("etc/pip.conf", "cert", "/etc.pem")
    machine.pip("home/.config/pip/pip.conf", "find-links", "/user")
    chosen = machine.pip("chosen.conf", "index-url", "https://chosen/simple")
    settings = machine.settings(PIP_CONFIG_FILE=str(chosen))
    assert settings.index_url == "https://chosen/simple"
    assert settings.certificate == "/etc.pem"
    assert settings.find_links == ()


def test_pip_file_devnull_means_no_pip_files(machine: Machine) -> None:
    machine.pip("etc/pip.conf", "index-url", "https://etc/simple")
    assert machine.settings(PIP_CONFIG_FILE="/dev/null").index_url is None


def test_pip_variable_wins_over_files_and_install_section_over_global(machine: Machine) -> None:
    machine.pip("etc/pip.conf", "index-url", "https://install/simple", section="install")
    machine.pip("home/.config/pip/pip.conf", "index-url", "https://global/simple")
    assert machine.settings().index_url == "https://install/simple"
    settings = machine.settings(PIP_INDEX_URL="https://variable/simple")
    assert settings.index_url == "https://variable/simple"
    assert str(settings.origins["index_url"]) == "PIP_INDEX_URL"


def test_pip_lists_are_split_and_replaced_not_joined(machine: Machine) -> None:
    machine.pip("etc/pip.conf", "extra-index-url", "https://a/simple\n  https://b/simple")
    assert machine.settings().extra_index_urls == ("https://a/simple", "https://b/simple")
    settings = machine.settings(PIP_EXTRA_INDEX_URL="https://c/simple", PIP_FIND_LINKS=" ")
    assert settings.extra_index_urls == ("https://c/simple",)
    assert settings.find_links == ()


def test_every_pip_setting_is_read(machine: Machine) -> None:
    settings = machine.settings(
        PIP_NO_INDEX="1",
        PIP_CERT="/ca.pem",
        PIP_CLIENT_CERT="/me.pem",
        PIP_PROXY="http://proxy:3128",
        PIP_TRUSTED_HOST="a b:8080",
        PIP_FIND_LINKS="wheels ~/more https://page/links.html",
    )
    assert settings.no_index
    assert settings.index_urls == ()
    assert settings.certificate == "/ca.pem"
    assert settings.client_certificate == "/me.pem"
    assert settings.proxy == "http://proxy:3128"
    assert settings.trusted_hosts == ("a", "b:8080")
    root = machine.root
    links = (f"{root}/project/wheels", f"{root}/home/more", "https://page/links.html")
    assert settings.find_links == links


def test_local_index_becomes_a_file_url(machine: Machine) -> None:
    settings = machine.settings(PIP_EXTRA_INDEX_URL="../simple file:///opt/simple")
    assert settings.extra_index_urls == (f"file://{machine.root}/simple", "file:///opt/simple")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_other_tools_are_used_when_pip_names_none(
    machine: Machine, variable: str
) -> None:
    assert machine.settings(**{variable: "/other.pem"}).certificate == "/other.pem"
    machine.pip("etc/pip.conf", "cert", "/pip.pem")
    assert machine.settings(**{variable: "/other.pem"}).certificate == "/pip.pem"


def test_broken_pip_file_is_named(machine: Machine) -> None:
    path = machine.write("etc/pip.conf", "index-url without a section\n")
    with pytest.raises(InputFileError, match=str(path)):
        machine.settings()


def test_uv_wins_over_pip_value_by_value(machine: Machine) -> None:
    machine.pip("etc/pip.conf", "index-url", "https://pip/simple")
    settings = machine.settings(
        UV_DEFAULT_INDEX="https://uv/simple",
        PIP_FIND_LINKS="/pip-links",
        PIP_CERT="/pip.pem",
        SSL_CERT_FILE="/uv.pem",
    )
    assert settings.index_url == "https://uv/simple"
    assert settings.find_links == ("/pip-links",)
    assert settings.certificate == "/uv.pem"
    assert not settings.is_from_pip("index_url")
    assert settings.is_from_pip("find_links")


def test_every_uv_variable_is_read(machine: Machine) -> None:
    settings = machine.settings(
        UV_INDEX_URL="https://legacy/simple",
        UV_INDEX="one=https://a/simple https://b/simple?x=1",
        UV_EXTRA_INDEX_URL="https://c/simple",
        UV_FIND_LINKS="/x,/y z",
        UV_OFFLINE="true",
        UV_INSECURE_HOST="a b",
        UV_NATIVE_TLS="1",
        SSL_CLIENT_CERT="/my certificate.pem",
    )
    assert settings.index_url == "https://legacy/simple"
    indexes = ("https://a/simple", "https://b/simple?x=1", "https://c/simple")
    assert settings.extra_index_urls == indexes
    assert settings.find_links == ("/x", "/y z")
    assert settings.offline
    assert settings.trusted_hosts == ("a", "b")
    assert settings.system_certificates
    assert settings.client_certificate == "/my certificate.pem"


def test_uv_files_are_merged_strongest_first(machine: Machine) -> None:
    machine.write("pyproject.toml", '[tool.uv]\nfind-links = ["links"]\n')
    machine.write("home/.config/uv/uv.toml", 'index-url = "https://user/simple"\nfind-links=["/u"]')
    machine.write("etc/xdg/uv/uv.toml", 'index-url = "https://system/simple"\noffline = true')
    machine.write("etc/uv/uv.toml", 'find-links = ["/second-system-file"]')
    settings = machine.settings()
    assert settings.index_url == "https://user/simple"
    assert settings.find_links == (f"{machine.root}/links", "/u")
    assert settings.offline
    assert not machine.settings(UV_NO_SYSTEM_CONFIG="1").offline
    origin = str(settings.origins["find_links"])
    assert origin == f"{machine.root}/pyproject.toml, {machine.root}/home/.config/uv/uv.toml"


def test_nearest_project_table_is_taken_and_uv_toml_before_pyproject(machine: Machine) -> None:
    machine.write("project/pyproject.toml", "[tool.other]\n")
    machine.write("uv.toml", 'index-url = "https://uv-toml/simple"')
    machine.write("pyproject.toml", '[tool.uv]\nindex-url = "https://pyproject/simple"')
    assert machine.settings().index_url == "https://uv-toml/simple"


def test_index_tables_know_default_explicit_and_flat(machine: Machine) -> None:
    machine.write(
        "home/.config/uv/uv.toml",
        '[[index]]\nname = "extra"\nurl = "https://extra/simple"\n'
        '[[index]]\nurl = "https://default/simple"\ndefault = true\n'
        '[[index]]\nname = "only-torch"\nurl = "https://explicit/simple"\nexplicit = true\n'
        '[[index]]\nurl = "/flat"\nformat = "flat"\n',
    )
    settings = machine.settings()
    assert settings.index_urls == ("https://default/simple", "https://extra/simple")
    assert settings.find_links == ("/flat",)


def test_chosen_uv_file_is_the_only_one_and_no_config_means_none(machine: Machine) -> None:
    machine.write("home/.config/uv/uv.toml", 'index-url = "https://user/simple"')
    chosen = machine.write("chosen.toml", '[pip]\nextra-index-url = ["https://chosen/simple"]')
    settings = machine.settings(UV_CONFIG_FILE=str(chosen))
    assert settings.index_url is None
    assert settings.extra_index_urls == ("https://chosen/simple",)
    assert machine.settings(UV_NO_CONFIG="1").index_url is None


def test_credentials_of_a_named_index_are_put_into_its_url(machine: Machine) -> None:
    settings = machine.settings(
        UV_INDEX="my-index=https://host/simple",
        UV_INDEX_MY_INDEX_USERNAME="me",
        UV_INDEX_MY_INDEX_PASSWORD="p@ss",  # noqa: S106
    )
    assert settings.extra_index_urls == ("https://me:p%40ss@host/simple",)


@pytest.mark.parametrize(
    "variable", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_PROXY"]
)
def test_representation_shows_no_credentials(machine: Machine, variable: str) -> None:
    settings = machine.settings(**{variable: "https://me:s3cret@host/simple"})
    assert "s3cret" not in repr(settings)
    assert variable in repr(settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("offline = 3", r"\$\.offline", id="type"),
        pytest.param("offline =", "Invalid value", id="syntax"),
    ],
)
def test_bad_uv_file_is_named_with_the_key(machine: Machine, text: str, expected: str) -> None:
    path = machine.write("home/.config/uv/uv.toml", text)
    with pytest.raises(InputFileError, match=expected) as caught:
        machine.settings()
    assert str(path) in str(caught.value)
