# SPDX-License-Identifier: MIT
"""
A protocol of a third party, installed from a package of its own.

The package is the one that ``docs/writing-a-plugin.rst`` shows.  It and
trstctl are built as wheels and installed into a fresh environment, without
pip's index; dependencies come from the environment that runs the tests.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_EXAMPLE = _ROOT / "docs" / "example-plugin"
_TENANT = "11111111-1111-1111-1111-111111111111"
_EXIT_CONFIGURATION = 78

# twistd is a script of an environment that is not the fresh one.
_TWISTD = "from twisted.scripts.twistd import run; run()"

_BROKEN = """\
# The package that trstctl is to find here was removed.
import example_ping_that_is_gone
from trstctl.plugin import ProtocolPlugin
"""

#: What each drop-in is called that a test adds to the sound one's.
_ADDED = "added_by_a_test"


@frozen
class Site:
    """
    A fresh environment.

    :ivar python: its interpreter.
    :ivar drop_ins: its directory of Twisted's plugins.
    """

    python: Path
    drop_ins: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module or a program of the environment."""
        return subprocess.run(
            [str(self.python), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=_environment(),
            cwd=self.python.parents[2],
            check=False,
        )


def _environment() -> dict[str, str]:
    """Return the environment variables, without what points elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COV", "TRSTCTL"))
    } | {"PYTHONDONTWRITEBYTECODE": "1"}


def _pip(*arguments: str) -> None:
    """Run pip; its output is shown if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=_environment(),
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def _wheel(source: Path, target: Path) -> Path:
    """Build a wheel from a copy of a source tree."""
    target.mkdir()
    # Where setuptools is at hand and new enough, nothing is downloaded.
    isolated = [] if _has_setuptools() else ["--no-build-isolation"]
    _pip(
        "wheel", "--quiet", "--no-deps", *isolated,
        "--wheel-dir", str(target), str(source),
    )  # fmt: skip
    (wheel,) = target.glob("*.whl")
    return wheel


def _has_setuptools() -> bool:
    """Tell whether the build backend must be downloaded."""
    try:
        return int(version("setuptools").partition(".")[0]) < 77
    except PackageNotFoundError:
        return True


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Install trstctl and the example into a fresh environment."""
    folder = tmp_path_factory.mktemp("third-party")
    own = folder / "trstctl"
    own.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(_ROOT / name, own)
    unwanted = shutil.ignore_patterns("__pycache__", "*.cache")
    for name in ("trstctl", "twisted"):
        shutil.copytree(_ROOT / name, own / name, ignore=unwanted)
    example = folder / "example"
    shutil.copytree(_EXAMPLE, example, ignore=unwanted)
    wheels = [
        _wheel(own, folder / "wheels-trstctl"),
        _wheel(example, folder / "wheels-example"),
    ]
    fresh = folder / "fresh"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(fresh)],
        check=True,
        timeout=60,
    )
    python = fresh / "bin" / "python"
    _pip(
        "--python", str(python), "install", "--quiet",
        "--no-deps", "--no-index", *map(str, wheels),
    )  # fmt: skip
    packages = Path(
        subprocess.run(
            [
                python,
                "-c",
                "import sysconfig; print(sysconfig.get_path('purelib'))",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()
    )
    # What trstctl depends on comes from here; it stands behind the fresh
    # environment's own packages.
    dependencies = {
        sysconfig.get_path(each) for each in ("purelib", "platlib")
    }
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return Site(python, packages / "twisted" / "plugins")


# --- a gateway in that environment ------------------------------------------


@frozen
class Gateway:
    """A gateway's folder and ports."""

    folder: Path
    https: int
    ops: int

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "trstctl.yaml"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Write a configuration that enables ping, and nothing else."""
    made = Gateway(tmp_path, _free_port(), _free_port())
    made.config.write_text(
        f"""\
state: state
listeners:
  https: {{port: {made.https}, interface: 127.0.0.1}}
  ops: {{port: {made.ops}}}
protocols:
  ping: {{enabled: true, tenant_id: {_TENANT}}}
"""
    )
    return made


def _twistd(gateway: Gateway) -> tuple[str, ...]:
    return (
        "-c", _TWISTD, "--nodaemon", "--pidfile=", "trstctl",
        "--config", str(gateway.config),
    )  # fmt: skip


@contextmanager
def _serving(site: Site, gateway: Gateway) -> Iterator[None]:
    """Run the gateway until the block ends; it must end in order."""
    log = gateway.folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(site.python), *_twistd(gateway)],
            stdout=output,
            stderr=output,
            env=_environment(),
            cwd=gateway.folder,
        )
    try:
        _await_ready(gateway, process, log)
        yield
        process.send_signal(signal.SIGTERM)
        # twistd ends by the signal that stopped it, once all is in order.
        assert -signal.SIGTERM == process.wait(40), log.read_text()
        assert "Server Shut Down" in log.read_text().splitlines()[-1]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _await_ready(
    gateway: Gateway, process: subprocess.Popen[bytes], log: Path
) -> None:
    """Wait until the gateway says that it is ready."""
    deadline = time.monotonic() + 60
    url = f"http://127.0.0.1:{gateway.ops}/readyz"
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the gateway is not ready:\n{log.read_text()}")


def _add_password(site: Site, gateway: Gateway) -> str:
    """Add the user ``printer`` and return its password."""
    done = site.run(
        str(site.python.with_name("trstctl")),
        "credential", "add", "printer",
        "--config", str(gateway.config),
        "--output", "json",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    password: str = json.loads(done.stdout)["password"]
    return password


def _request() -> bytes:
    """Return a certification request in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "printer")])
    return (
        x509.CertificateSigningRequestBuilder(name)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def _ping(
    gateway: Gateway, body: bytes, password: str | None
) -> tuple[http.client.HTTPResponse, bytes]:
    """POST to ``/ping`` over verified TLS."""
    root = gateway.folder / "state" / "ca" / "root.pem"
    connection = http.client.HTTPSConnection(
        "localhost",
        gateway.https,
        timeout=20,
        context=ssl.create_default_context(cafile=root),
    )
    headers = {}
    if password is not None:
        pair = base64.b64encode(f"printer:{password}".encode())
        headers["Authorization"] = f"Basic {pair.decode()}"
    try:
        connection.request("POST", "/ping", body, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


# --- what must hold ---------------------------------------------------------


class ThirdPartyProtocolTests:
    """The example of the documentation works as it is printed there."""

    def test_it_enrolls(self, site: Site, gateway: Gateway) -> None:
        """A request gets one certificate, the same one when repeated."""
        with _serving(site, gateway):
            pass  # founds the CA
        password = _add_password(site, gateway)
        body = _request()
        with _serving(site, gateway):
            response, der = _ping(gateway, body, password)
            _, again = _ping(gateway, body, password)
        assert 200 == response.status, der
        assert "application/pkix-cert" == response.headers["Content-Type"]
        assert der == again
        certificate = x509.load_der_x509_certificate(der)
        issuing = gateway.folder / "state" / "ca" / "issuing.pem"
        certificate.verify_directly_issued_by(
            x509.load_pem_x509_certificate(issuing.read_bytes())
        )
        assert "CN=printer" == certificate.subject.rfc4514_string()

    def test_it_refuses_as_every_protocol_does(
        self, site: Site, gateway: Gateway
    ) -> None:
        """Errors are told by the base class: 401, 400, with nothing written."""
        with _serving(site, gateway):
            unknown, _ = _ping(gateway, _request(), "wrong")
            nobody, _ = _ping(gateway, _request(), None)
            malformed, text = _ping(gateway, b"no request", "wrong")
        assert (401, 401) == (unknown.status, nobody.status)
        assert 400 == malformed.status
        assert 1 == text.count(b"\n")

    def test_it_is_listed(self, site: Site) -> None:
        """``trstctl plugin list`` names plugin, version and origin."""
        done = site.run(
            str(site.python.with_name("trstctl")),
            "plugin", "list", "--output", "json",
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
        rows = {row["name"]: row for row in json.loads(done.stdout)}
        assert "1.0" == rows["ping"]["version"]
        assert "ok" == rows["ping"]["state"]
        assert rows["ping"]["origin"].endswith("example_ping_dropin.py")

    def test_read_only_packages_are_as_good(
        self, site: Site, gateway: Gateway
    ) -> None:
        """Discovery writes nothing beside the drop-ins."""

        def there() -> list[Path]:
            # Twisted's own look for plugins writes its cache where it may,
            # and root may write anywhere.
            return sorted(
                path
                for path in site.drop_ins.iterdir()
                if path.name != "dropin.cache"
            )

        before = there()
        site.drop_ins.chmod(0o555)
        try:
            with _serving(site, gateway):
                pass
        finally:
            site.drop_ins.chmod(0o755)
        assert before == there()


class UnsoundPluginTests:
    """What is not sound stops the start, in one line and with status 78."""

    def _refusal(self, site: Site, gateway: Gateway) -> str:
        """Return the line that a start ends with."""
        done = site.run(*_twistd(gateway))
        assert _EXIT_CONFIGURATION == done.returncode, done.stderr
        # Twisted looks for its own plugins first, and prints a traceback of
        # its own for each drop-in that does not import.
        *before, line = done.stderr.splitlines()
        assert not before or "Unhandled Error" == before[0]
        return line

    def test_broken_drop_in(self, site: Site, gateway: Gateway) -> None:
        """A drop-in that does not import is named, with the reason."""
        added = site.drop_ins / f"{_ADDED}.py"
        added.write_text(_BROKEN)
        try:
            line = self._refusal(site, gateway)
        finally:
            added.unlink()
        assert str(added) in line
        assert "No module named 'example_ping_that_is_gone'" in line

    def test_broken_protocol(self, site: Site, gateway: Gateway) -> None:
        """So is a drop-in of the very protocol that is enabled."""
        dropin = site.drop_ins / "example_ping_dropin.py"
        sound = dropin.read_text()
        dropin.write_text(_BROKEN)
        try:
            line = self._refusal(site, gateway)
        finally:
            dropin.write_text(sound)
        assert str(dropin) in line

    def test_missing_class(self, site: Site, gateway: Gateway) -> None:
        """So is a plugin whose class is not there."""
        dropin = site.drop_ins / "example_ping_dropin.py"
        sound = dropin.read_text()
        dropin.write_text(sound.replace("PingResource", "Gone"))
        try:
            line = self._refusal(site, gateway)
        finally:
            dropin.write_text(sound)
        assert "ping" in line
        assert "Gone" in line

    def test_duplicate(self, site: Site, gateway: Gateway) -> None:
        """Two plugins of one name are both named."""
        dropin = site.drop_ins / "example_ping_dropin.py"
        added = site.drop_ins / f"{_ADDED}.py"
        shutil.copy(dropin, added)
        try:
            line = self._refusal(site, gateway)
        finally:
            added.unlink()
        assert str(added) in line
        assert str(dropin) in line

    def test_missing(self, site: Site, gateway: Gateway) -> None:
        """A protocol that is configured and not installed is named."""
        dropin = site.drop_ins / "example_ping_dropin.py"
        away = dropin.with_suffix(".away")
        dropin.rename(away)
        try:
            line = self._refusal(site, gateway)
        finally:
            away.rename(dropin)
        assert f"{gateway.config}:" in line
        assert "ping: unknown protocol" in line
