# SPDX-License-Identifier: MIT
"""
The shell client against a gateway, in several shells, killed and starved.

Each run has a ``PATH`` of exactly the tools that the client may need.  For
the drills they are wrapped: the N-th command of a run kills it, or finds the
disk full.  ``TRSTCTL_DRILL_ROUNDS`` makes the sweeps denser.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from running import TENANT, Gateway, require_client, trstctl

ROUNDS = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1"))
SCRIPT = Path(__file__).parents[2] / "etc" / "trstctl-client"
#: All that the client needs, beside openssl and perhaps curl.
TOOLS = (
    *("cat", "cp", "date", "ln", "ls", "mkdir", "mv", "rm", "sed", "sh"),
    *("sleep", "sync", "tr", "wc"),
)
SHELLS = {"dash": ("dash",), "busybox": ("busybox", "ash")}
BOTH = [("dash", "curl"), ("busybox", "openssl")]
#: Where the short sweeps begin, so that together they see more.
FIRST = {"dash": 4, "busybox": 12}
CROSSED = [("dash", "openssl"), ("busybox", "curl")]
PROTOCOLS = (
    f'bootstrap: {{enabled: true, tenant_id: "{TENANT}", profile: fixed, '
    "labels: {held: {profile: held}}}"
)
PROFILES = """\
profiles:
  fixed:
    subject: {CN: {}, O: {fixed: "A, + B/C = D", allowed: false}}
    names: {dns: ["*"], ip: ["0.0.0.0/0", "::/0"], uri: ["*"]}
  held:
    approval: always
    approval_retry_after: 300
    subject: {CN: {}}
    names: {dns: ["*"], ip: ["0.0.0.0/0", "::/0"], uri: ["*"]}
"""

#: Stands for one tool.  ``kill``: the whole run dies before the command;
#: ``late``: after it; ``orphan``: only the shell dies, the command goes on;
#: ``full``: the command can write nothing.  It is a script of the same few
#: means as the client.
WRAPPER = """\
#!{shell}
# The number of the line with our process: also two at once have two.
echo $$ >>{folder}/order
number=0
while read -r line; do
    number=$((number + 1))
    [ "$line" != $$ ] || break
done <{folder}/order
echo "$number {name} $*" >>{folder}/steps
case $FAULT_AT in
    "$number" | "{name} $1") ;;
    *) exec {tool} "$@" ;;
esac
case $FAULT in
    kill) kill -9 0 ;;
    late) {tool} "$@"; kill -9 0 ;;
    orphan)
        read -r line </proc/$$/stat
        set -- "$@" ${{line##*) }}
        shift $(($# - 50 + 2))
        kill -9 "$1"
        ;;
    full)
        case {name} in
            mkdir | ln | mv) echo 'No space left on device' >&2; exit 1 ;;
        esac
        trap '' XFSZ
        ulimit -f 0
        exec {tool} "$@"
        ;;
esac
"""


def tool_path(name: str, shell: str) -> str:
    """Return the path of a tool; busybox has its own."""
    found = None
    if shell == "busybox" and name not in ("openssl", "curl"):
        found = shutil.which("busybox")
    found = found or shutil.which(name)
    assert found is not None, name
    return found


@define
class Client:
    """The script, its configuration, and a PATH of its own."""

    folder: Path
    shell: str
    transport: str
    to_disk: bool = False
    options: dict[str, str] = field(factory=dict)

    @property
    def state(self) -> Path:
        """The client's folder."""
        return self.folder / "state"

    def configure(self, gateway: Gateway, **options: str) -> None:
        """Write the configuration and the PATH."""
        self.options = {
            "URL": f"https://localhost:{gateway.https_port}/enroll",
            "ROOT": str(gateway.root),
            "DIR": str(self.state),
            "SUBJECT": f"/CN={self.folder.name}",
            "NAMES": "DNS:Device.example,IP:2001:db8::7,URI:urn:dev:os:1",
            "TOKEN_FILE": str(self.folder / "token"),
            "RENEW_LEFT": "100%",
            "TRIES": "1",
            **options,
        }
        self.folder.mkdir(exist_ok=True)
        self.write_options()
        tools = [*TOOLS, "openssl"]
        if self.transport == "curl":
            tools.append("curl")
        plain, wrapped = self.folder / "bin", self.folder / "wrapped"
        plain.mkdir(exist_ok=True)
        wrapped.mkdir(exist_ok=True)
        for name in tools:
            link = plain / name
            if not link.is_symlink():
                # This machine's disk is not what is tested, and slow.
                link.symlink_to(
                    "/bin/true"
                    if name == "sync" and not self.to_disk
                    else tool_path(name, self.shell)
                )
            wrapper = wrapped / name
            wrapper.write_text(
                WRAPPER.format(
                    shell=tool_path("dash", ""),
                    folder=self.folder,
                    name=name,
                    tool=str(link),
                )
            )
            wrapper.chmod(0o755)

    def write_options(self, **changed: str) -> None:
        """Write the configuration."""
        options = {**self.options, **changed}
        (self.folder / "conf").write_text(
            "# A comment.\n\n"
            + "".join(f"{key}={value}\n" for key, value in options.items())
        )

    def give_token(self, token: str) -> None:
        """Put a token where the client looks for it."""
        (self.folder / "token").write_text(token + "\n")

    def run(
        self,
        *arguments: str,
        fault: str = "",
        at: int | str = 0,
        text: str = "",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run the script; ``at``: which command fails."""
        folder = self.folder / ("wrapped" if fault else "bin")
        for name in ("order", "steps"):
            (self.folder / name).unlink(missing_ok=True)
        shell = shutil.which(SHELLS[self.shell][0])
        assert shell is not None
        return subprocess.run(
            [
                shell,
                *SHELLS[self.shell][1:],
                str(SCRIPT),
                *("-c", str(self.folder / "conf"), *arguments),
            ],
            env={
                "PATH": str(folder),
                "FAULT": fault,
                "FAULT_AT": str(at),
                **environment,
            },
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            start_new_session=True,
        )

    def succeed(self, *arguments: str, **environment: str) -> str:
        """Run the script, which must succeed; return what it says."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def count(self) -> int:
        """Run with wrapped tools and return how many were called."""
        done = self.run("auto", fault="none")
        assert done.returncode == 0, done.stderr
        return len((self.folder / "order").read_text().splitlines())

    def certificate(self) -> x509.Certificate:
        """Return the certificate in place, whose key is beside it."""
        folder = self.state / "current"
        key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
        chain = (folder / "cert.pem").read_bytes()
        leaf, *issuers = x509.load_pem_x509_certificates(chain)
        assert leaf.public_key() == key.public_key()
        assert len(issuers) == 1
        names = leaf.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert len(list(names.value)) == 3
        pair = (folder / "key.pem").read_bytes() + chain
        assert (folder / "pair.pem").read_bytes() == pair
        return leaf

    def check(self) -> None:
        """There is a whole pair, or nothing; nobody else may read."""
        if (self.state / "current").is_symlink():
            self.certificate()
        for file in self.state.rglob("*"):
            if not file.is_symlink() and file.exists():
                assert not file.stat().st_mode & 0o077, file

    def waits(self) -> float:
        """Return for how many seconds it will not ask."""
        file = self.state / "wait"
        return int(file.read_text()) - file.stat().st_mtime

    def is_tidy(self) -> bool:
        """Tell whether nothing but the pair is left."""
        names = {file.name for file in self.state.iterdir()}
        return names == {"current", (self.state / "current").readlink().name}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return the one gateway."""
    require_client("dash", "busybox", "curl", "openssl")
    found = Gateway(tmp_path_factory.mktemp("shell") / "state")
    found.configure(PROTOCOLS, PROFILES)
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def tokens(gateway: Gateway) -> Iterator[str]:
    """Return tokens, one after the other."""
    printed = trstctl(
        *("token", "create", "--tenant", TENANT, "-o", "json"),
        *("--profile", "fixed", "--count", "1000"),
        config=gateway.config,
    )
    return iter(row["token"] for row in json.loads(printed))


def public(certificate: x509.Certificate) -> bytes:
    """Return the certificate's public key."""
    return certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def make(
    gateway: Gateway, folder: Path, shell: str, transport: str, **more: str
) -> Client:
    """Return a configured client."""
    client = Client(folder / "device", shell, transport)
    client.configure(gateway, **more)
    return client


def every(first: int, steps: int, stride: int = 24) -> range:
    """Return the numbers of a sweep: sparse in CI, dense in a drill."""
    return range(first if ROUNDS == 1 else 1, steps + 1, stride // ROUNDS or 1)


def kinds(number: int) -> Sequence[str]:
    """Return the ways to kill, one in CI, all in a drill."""
    found = ("kill", "late", "orphan")
    return (found * 2)[number % 3 :][: min(ROUNDS, 3)]


# --- the life of a device ---------------------------------------------------


@pytest.mark.interop
class LifeTests:
    """A token, and then nothing but a timer."""

    @pytest.mark.parametrize(("shell", "transport"), BOTH + CROSSED)
    def test_bootstrap_and_two_renewals(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        shell: str,
        transport: str,
    ) -> None:
        """``auto`` does all of it; key and serial change each time."""
        hook = f'cat "$TRSTCTL_CERT" >>{tmp_path}/seen'
        client = Client(tmp_path / "device", shell, transport, to_disk=True)
        client.configure(gateway, HOOK=hook, TOKEN_DELETE="yes")
        assert client.run("auto").returncode == 11
        client.give_token(next(tokens))
        seen = []
        for _ in range(3):
            client.succeed("auto")
            seen.append(client.certificate())
            assert client.is_tidy()
            assert not (client.folder / "token").exists()
        assert len({each.serial_number for each in seen}) == 3
        assert len({public(each) for each in seen}) == 3
        # The profile's addition was copied, or the renewals were refused.
        (organization,) = seen[2].subject.get_attributes_for_oid(
            x509.NameOID.ORGANIZATION_NAME
        )
        assert organization.value == "A, + B/C = D"
        told = (tmp_path / "seen").read_bytes()
        assert x509.load_pem_x509_certificates(told)[::2] == seen

    def test_renews_only_when_due(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """Nothing is asked while enough of the life is left."""
        client = make(gateway, tmp_path, "dash", "curl")
        client.give_token(next(tokens))
        client.succeed("auto")
        first = client.certificate()
        for left, status in (("33%", 0), ("89d", 0), ("91d", 10)):
            client.write_options(RENEW_LEFT=left)
            assert client.run("status").returncode == status, left
        client.write_options(RENEW_LEFT="33%")
        assert client.succeed("auto") == ""
        assert client.succeed("renew") == ""
        assert client.certificate() == first
        client.succeed("renew", "--force")
        assert client.certificate() != first
        client.write_options(REKEY="no")
        second = client.certificate()
        client.succeed("renew", "--force")
        assert client.certificate().serial_number != second.serial_number
        assert client.certificate().public_key() == second.public_key()

    @pytest.mark.parametrize("transport", ["curl", "openssl"])
    def test_token_is_in_no_argument(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        transport: str,
    ) -> None:
        """From file, environment or input: ``ps`` never shows it."""
        client = make(gateway, tmp_path, "dash", transport)
        token = next(tokens)
        hook = f"echo ${{TRSTCTL_TOKEN-none}} >{tmp_path}/hook"
        client.write_options(HOOK=hook, TOKEN_FILE="")
        # The wrappers write down all arguments.
        done = client.run("auto", fault="none", TRSTCTL_TOKEN=token)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "hook").read_text() == "none\n"
        steps = (client.folder / "steps").read_text()
        assert token not in steps
        assert "openssl req -new" in steps
        token = next(tokens)
        done = client.run(
            *("bootstrap", "--force", "--token-file", "-"), text=token + "\n"
        )
        assert done.returncode == 0, done.stderr

    def test_without_names(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """A certificate without alternative names, and its renewal."""
        client = make(
            *(gateway, tmp_path, "busybox", "openssl"),
            NAMES="",
            # openssl prints this for names, too.
            SUBJECT="/CN=X509v3 Subject Alternative Name:",
        )
        client.give_token(next(tokens))
        for number in ("1", "2"):
            client.succeed("auto")
            assert client.is_tidy()
            used = (client.state / "current").readlink()
            assert used.name == f"gen.{number}"

    def test_two_at_once(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """One waits for the other."""
        hook = f"mkdir {tmp_path}/only && sleep 0.3; rm -r {tmp_path}/only"
        client = make(gateway, tmp_path, "dash", "curl", HOOK=hook)
        client.give_token(next(tokens))
        with ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(lambda _: client.run("auto"), range(2)))
        statuses = {done.returncode for done in ended}
        # Who has waited long enough says so; no hook met another one.
        assert statuses <= {0, 8}, ended
        assert 0 in statuses
        client.certificate()
        assert client.is_tidy()


# --- interrupted ------------------------------------------------------------


@pytest.mark.drill
class KillTests:
    """``kill -9`` at any command; the next run goes on."""

    @pytest.mark.parametrize(("shell", "transport"), BOTH)
    def test_bootstrap(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        shell: str,
        transport: str,
    ) -> None:
        """Nothing or all is in place; the token still serves."""
        client = make(gateway, tmp_path, shell, transport)
        client.give_token(next(tokens))
        steps = client.count()
        assert steps > 20
        before = len(gateway.serials())
        for number in every(FIRST[shell], steps):
            for fault in kinds(number):
                shutil.rmtree(client.state)
                client.give_token(next(tokens))
                done = client.run("auto", fault=fault, at=number)
                # How often a timer ticked is not the same each time.
                assert done.returncode or number > steps - 4
                client.check()
                # RENEW_LEFT would renew what is complete.
                client.write_options(RENEW_LEFT="1%")
                client.succeed("auto")
                client.write_options()
                client.certificate()
                assert client.is_tidy(), (fault, number)
                before += 1
        # One certificate for one token, whatever happened.
        assert len(gateway.serials()) == before

    @pytest.mark.parametrize(("shell", "transport"), CROSSED)
    def test_renewal(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        shell: str,
        transport: str,
    ) -> None:
        """There is a working pair at all times, and at last a new one."""
        hook = f"echo >>{tmp_path}/hooks"
        client = make(gateway, tmp_path, shell, transport, HOOK=hook)
        client.give_token(next(tokens))
        client.succeed("auto")
        for number in every(FIRST[shell], client.count()):
            for fault in kinds(number):
                first = client.certificate()
                (tmp_path / "hooks").write_text("")
                client.run("auto", fault=fault, at=number)
                client.certificate()
                client.succeed("auto")
                assert client.certificate() != first
                assert client.is_tidy(), (fault, number)
                assert (tmp_path / "hooks").read_text()

    @pytest.mark.parametrize("transport", ["curl", "openssl"])
    def test_answer_is_lost(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        transport: str,
    ) -> None:
        """The next run repeats the request, and gets that certificate."""
        client = make(gateway, tmp_path, "dash", transport)
        client.give_token(next(tokens))
        client.succeed("auto")
        asked = "curl -q" if transport == "curl" else "openssl s_client"
        before = len(gateway.serials())
        assert client.run("auto", fault="late", at=asked).returncode != 0
        key = (client.state / "next.key").read_bytes()
        client.succeed("auto")
        assert len(gateway.serials()) == before + 1
        assert (client.state / "current" / "key.pem").read_bytes() == key


@pytest.mark.drill
class FullDiskTests:
    """No space at any command; the next run goes on."""

    @pytest.mark.parametrize(("shell", "transport"), BOTH)
    def test_at_each_command(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        shell: str,
        transport: str,
    ) -> None:
        """A run that cannot write says so, and changes nothing by half."""
        client = make(gateway, tmp_path, shell, transport)
        client.give_token(next(tokens))
        client.succeed("auto")
        for number in every(FIRST[shell], client.count()):
            first = client.certificate()
            done = client.run("auto", fault="full", at=number)
            second = client.certificate()
            # Success is success, and a failure is told.
            assert (done.returncode == 0) == (first != second), done
            assert done.stderr
            client.succeed("auto")
            assert client.certificate() not in (first, second)
            assert client.is_tidy(), number

    def test_in_a_small_file_system(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """With so many blocks left, and one less, and one less."""
        with small_file_system(tmp_path / "small") as small:
            client = make(gateway, tmp_path, "dash", "openssl", DIR=str(small))
            client.state.symlink_to(small)
            client.give_token(next(tokens))
            client.succeed("auto")
            failed = 0
            for free in every(1, 24, 6):
                for file in small.iterdir():
                    if file.is_symlink():
                        file.unlink()
                    else:
                        shutil.rmtree(file)
                client.give_token(next(tokens))
                fill(small / "filler", free)
                client.run("auto")
                client.check()
                (small / "filler").unlink()
                client.succeed("auto")
                client.certificate()
                fill(small / "filler", free)
                done = client.run("auto")
                failed += done.returncode != 0
                client.certificate()
                (small / "filler").unlink()
                client.succeed("auto")
            assert failed

    def test_limited_file_size(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """``ulimit -f``: writes stop in the middle of a file."""
        client = make(gateway, tmp_path, "dash", "curl")
        client.give_token(next(tokens))
        client.succeed("auto")
        first = client.certificate()
        script = client.folder / "limited"
        for blocks in (0, 1, 2, 3):
            script.write_text(
                f"ulimit -c 0; ulimit -f {blocks}\n"
                f"exec dash {SCRIPT} -c {client.folder}/conf auto\n"
            )
            subprocess.run(
                ["dash", str(script)],
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert client.certificate() == first, blocks
        client.succeed("auto")
        assert client.certificate() != first
        assert client.is_tidy()


@contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """Mount 128 KiB; skip who may not."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "none"]
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    if subprocess.run([*mount, folder], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(file: Path, free: int) -> None:
    """Leave so many blocks of 4 KiB."""
    file.touch(mode=0o600)
    kept = file.with_suffix(".kept")
    kept.write_bytes(bytes(4096 * free))
    try:
        with file.open("wb", buffering=0) as target:
            while True:
                target.write(bytes(4096))
    except OSError:
        kept.unlink()


# --- answers ----------------------------------------------------------------


class RefusalTests:
    """What the client says and leaves when it is refused."""

    def test_faults_of_the_configuration(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """Status 2 and one line; above all without a root."""
        client = make(gateway, tmp_path, "dash", "curl")
        for key, value in {
            "ROOT": "",
            "URL": "http://localhost/enroll",
            "DIR": "relative",
            "SUBJECT": "device",
            "NAMES": "DNS:$ENV::HOME",
            "KEY": "rsa:1024",
            "REKEY": "maybe",
            "RENEW_LEFT": "0%",
            "TRIES": "0",
            "TRANSPORT": "wget",
            "SURPRISE": "1",
        }.items():
            client.write_options(**{key: value})
            done = client.run("auto")
            assert done.returncode == 2, (key, done.stderr)
            assert key in done.stderr
            assert len(done.stderr.splitlines()) == 1
        client.write_options(ROOT=str(tmp_path / "missing"))
        assert client.run("auto").returncode == 2
        assert not client.state.exists()

    def test_folder_that_others_can_write(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """They could take the workspace away and see what comes next."""
        client = make(gateway, tmp_path, "dash", "curl")
        client.state.mkdir()
        for mode in (0o720, 0o702):
            client.state.chmod(mode)
            done = client.run("auto")
            assert done.returncode == 2
            assert "chmod go-w" in done.stderr
        client.state.chmod(0o755)
        assert client.run("auto").returncode == 11  # there is no token

    @pytest.mark.parametrize("transport", ["curl", "openssl"])
    def test_only_the_pinned_root_counts(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        transport: str,
    ) -> None:
        """Neither the system's roots nor another name; 6, token unsent."""
        client = make(gateway, tmp_path, "dash", transport)
        client.give_token(next(tokens))
        other = tmp_path / "other.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
                *("-subj", "/CN=other", "-keyout", os.devnull),
                *("-out", str(other)),
            ],
            capture_output=True,
            check=True,
        )
        elsewhere = client.options["URL"].replace("localhost", "127.0.0.1")
        for changed in ({"ROOT": str(other)}, {"URL": elsewhere}):
            client.write_options(**changed)
            done = client.run(
                "auto",
                SSL_CERT_FILE=str(gateway.root),
                SSL_CERT_DIR=str(gateway.root.parent),
                CURL_CA_BUNDLE=str(gateway.root),
            )
            assert done.returncode == 6, done.stderr
            assert "not trusted" in done.stderr
            assert not (client.state / "current").exists()
        client.write_options()
        client.succeed("auto")

    @pytest.mark.parametrize("transport", ["curl", "openssl"])
    def test_refusal_is_told(
        self,
        gateway: Gateway,
        tokens: Iterator[str],
        tmp_path: Path,
        transport: str,
    ) -> None:
        """3, with code, reason and the id that is in the log."""
        client = make(gateway, tmp_path, "busybox", transport)
        client.give_token("never-made")
        done = client.run("auto")
        assert done.returncode == 3
        assert "401 not-authenticated: authentication is" in done.stderr
        request_id = done.stderr.split("(request ")[1].split(")")[0]
        assert request_id in gateway.log.read_text()
        client.give_token(next(tokens))
        client.write_options(SUBJECT="/CN=device/L=Here")
        done = client.run("auto")
        assert done.returncode == 3
        assert "rule subject-attributes: the subject may" in done.stderr
        # The token is not used up, and the other request is of the same key.
        key = (client.state / "next.key").read_bytes()
        client.write_options()
        client.succeed("auto")
        assert (client.state / "current" / "key.pem").read_bytes() == key

    def test_held_request(self, gateway: Gateway, tmp_path: Path) -> None:
        """5, then 4 until ``Retry-After`` has passed; then all is well."""
        client = make(gateway, tmp_path, "dash", "curl")
        client.write_options(URL=client.options["URL"] + "/held")
        printed = trstctl(
            *("token", "create", "--tenant", TENANT, "-o", "json"),
            *("--profile", "held"),
            config=gateway.config,
        )
        client.give_token(json.loads(printed)[0]["token"])
        done = client.run("auto")
        assert done.returncode == 5, done.stderr
        assert client.run("auto").returncode == 4
        assert 299 <= client.waits() <= 340
        listed = trstctl(
            *("request", "list", "--state", "held", "--output", "json"),
            config=gateway.config,
        )
        (request,) = json.loads(listed)
        trstctl("request", "approve", request["id"], config=gateway.config)
        client.succeed("bootstrap")
        client.certificate()
        assert client.is_tidy()

    def test_failing_hook(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """9, and it is run again; the pair is in place all the same."""
        client = make(
            gateway, tmp_path, "dash", "curl", HOOK="false", RENEW_LEFT="1%"
        )
        client.give_token(next(tokens))
        assert client.run("auto").returncode == 9
        client.certificate()
        assert client.run("auto").returncode == 9
        client.write_options(HOOK="true")
        client.succeed("auto")
        assert client.is_tidy()


class RepairTests:
    """A folder that somebody, or a failing disk, has changed."""

    def test_link_is_lost(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """The last pair is used again, without asking; the hook runs."""
        hook = f"echo >>{tmp_path}/hooks"
        client = make(
            gateway, tmp_path, "dash", "curl", HOOK=hook, RENEW_LEFT="1%"
        )
        client.give_token(next(tokens))
        client.succeed("auto")
        first = client.certificate()
        (client.state / "current").unlink()
        client.succeed("auto", "--token-file", "/nowhere")
        assert client.certificate() == first
        assert client.is_tidy()
        assert (tmp_path / "hooks").read_text() == "\n\n"

    def test_lock_of_the_dead(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """A living process counts only if it is the one that locked."""
        client = make(gateway, tmp_path, "busybox", "curl")
        client.give_token(next(tokens))
        client.state.mkdir(mode=0o700)
        # This process began at another time; the other one is no more.
        for name in (f"run.{os.getpid()}.1", "run.99999999.1"):
            (client.state / name).mkdir(mode=0o700)
        client.succeed("auto")
        assert client.is_tidy()


class AnswerTests:
    """A gateway that answers wrongly, by a stand-in for s_client."""

    def answer(self, client: Client, raw: bytes) -> int:
        """Run ``auto`` with a canned answer and return its status."""
        (client.folder / "canned").write_bytes(raw)
        fake = client.folder / "bin" / "openssl"
        real = tool_path("openssl", "")
        fake.unlink()
        fake.write_text(
            f"#!{tool_path('dash', '')}\n"
            'if [ "$1" = s_client ]; then\n'
            f"    exec cat {client.folder}/canned\n"
            "fi\n"
            f'exec {real} "$@"\n'
        )
        fake.chmod(0o755)
        status = client.run("auto").returncode
        fake.unlink()
        fake.symlink_to(real)
        return status

    def test_strictness(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """Neither half answers nor others' certificates are used."""
        client = make(gateway, tmp_path, "dash", "openssl")
        client.give_token(next(tokens))
        client.succeed("auto")
        first = client.certificate()
        chain = (client.state / "current" / "cert.pem").read_text()
        old = json.dumps({"certificate": chain}).encode()

        def http(
            body: bytes, more: bytes = b"", status: bytes = b"200 OK"
        ) -> bytes:
            length = b"Content-Length: %d\r\n" % len(body)
            return (
                b"HTTP/1.1 " + status + b"\r\n" + length + more + b"\r\n"
            ) + body

        root = json.dumps({"certificate": gateway.root.read_text()}).encode()
        for status, raw in (
            (4, b""),
            (4, b"garbage\r\nHTTP/1.1 200 OK\r\n\r\n"),
            (4, b"SSH-2.0-x\r\n"),
            (4, http(old)[:-1]),
            (4, http(old) + b" "),
            # Whole, but more than anybody needs: it is cut off.
            (4, http(b" " * 1_100_000 + old)),
            (4, http(old, b"Content-Length: 1\r\n")),
            (4, http(old, b"Transfer-Encoding: chunked\r\n")),
            (4, http(b"", b"", b"503 Service Unavailable")),
            (4, http(b"<p>", b"", b"502 Bad Gateway")),
            (3, http(b"", b"Location: /\r\n", b"302 Found")),
            (3, http(b"", b"", b"404 Not Found")),
            (6, http(b"{}")),
            (6, http(b'{"certificate": ""}')),
            (6, http(b'{"certificate": "$(id)"}')),
            (6, http(b'{"certificate": "\\\\u0041\\\\n"}')),
            (6, http(old)),
            (6, http(root)),
        ):
            assert self.answer(client, raw) == status, raw
            assert client.certificate() == first
        busy = http(b"", b"retry-AFTER:  0060 \r\n", b"503 Busy")
        assert self.answer(client, busy) == 4
        assert 59 <= client.waits() <= 68
        assert client.run("auto").returncode == 4
        client.succeed("renew")
        assert client.certificate() != first
        assert client.is_tidy()

    def test_own_key_below_another_root(
        self, gateway: Gateway, tokens: Iterator[str], tmp_path: Path
    ) -> None:
        """The key alone does not make a certificate good."""
        client = make(gateway, tmp_path, "dash", "openssl")
        client.give_token(next(tokens))
        client.succeed("auto")
        first = client.certificate()
        assert self.answer(client, b"") == 4  # it leaves key and request
        made = self_signed(client.state / "next.key")
        body = json.dumps({"certificate": made}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        assert self.answer(client, head.encode() + body) == 6
        assert client.certificate() == first


def self_signed(key: Path) -> str:
    """Return a certificate in PEM."""
    command: Sequence[str] = (
        *("openssl", "req", "-x509", "-key", str(key)),
        *("-subj", "/CN=device"),
    )
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout
