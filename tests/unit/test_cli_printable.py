# SPDX-License-Identifier: MIT
"""Tokens for labels: the sheet, and the QR codes on it."""

from __future__ import annotations

import json
import re
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from cli_state import OTHER, TENANT, State, state
from click.testing import Result

from trstctl.backends.passwords import secret_digest
from trstctl.cli import handout, token
from trstctl.cli.printable import Label, Sheet, code, drawn
from trstctl.errors import Unavailable
from trstctl.interfaces import IStore
from trstctl.testing.time import EPOCH

__all__ = ["state"]

URL = "https://est.example.com:8443/enroll/bootstrap"

Modules = list[list[int]]


# --- a reader of QR codes ---------------------------------------------------

#: ISO/IEC 18004, table 10: what the mask patterns turn over.
_MASKS = (
    lambda y, x: (y + x) % 2 == 0,
    lambda y, x: y % 2 == 0,
    lambda y, x: x % 3 == 0,
    lambda y, x: (y + x) % 3 == 0,
    lambda y, x: (y // 2 + x // 3) % 2 == 0,
    lambda y, x: y * x % 2 + y * x % 3 == 0,
    lambda y, x: (y * x % 2 + y * x % 3) % 2 == 0,
    lambda y, x: ((y + x) % 2 + y * x % 3) % 2 == 0,
)


def read_code(modules: Modules) -> str:
    """
    Return the text of a clean code of version 6, error correction M.

    Written after ISO/IEC 18004, sections 6 and 7, so that what is drawn is
    not only compared with what drew it.
    """
    rows = [row[4:-4] for row in modules[4:-4]]
    size = len(rows)
    assert 17 + 4 * 6 == size
    assert not any(map(any, (*modules[:4], *modules[-4:])))
    form = [rows[8][x] for x in (0, 1, 2, 3, 4)]
    bits = int("".join(map(str, form)), 2) ^ 0b10101
    assert 0b00 == bits >> 3, "error correction M"
    turned = _MASKS[bits & 0b111]

    def is_function(y: int, x: int) -> bool:
        in_finder = (
            (y < 9 and x < 9)
            or (y < 9 and x >= size - 8)
            or (y >= size - 8 and x < 9)
        )
        in_alignment = 32 <= y <= 36 and 32 <= x <= 36
        return in_finder or in_alignment or 6 in (y, x)

    stream = []
    upwards = True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for y in reversed(range(size)) if upwards else range(size):
            stream.extend(
                rows[y][x] ^ turned(y, x)
                for x in (right, right - 1)
                if not is_function(y, x)
            )
        upwards = not upwards
    codewords = [
        int("".join(map(str, stream[at : at + 8])), 2)
        for at in range(0, len(stream) - 7, 8)
    ]
    # Four blocks of 27 data codewords each, interleaved.
    data = bytes(
        codewords[at * 4 + block] for block in range(4) for at in range(27)
    )
    whole = int.from_bytes(data)
    width = 8 * len(data)
    assert 0b0100 == whole >> width - 4, "byte mode"
    length = whole >> width - 12 & 0xFF
    text = whole >> width - 12 - 8 * length & (1 << 8 * length) - 1
    return text.to_bytes(length).decode()


def modules_of(picture: ET.Element) -> Modules:
    """Return the modules that an SVG picture draws."""
    size = int(picture.attrib["viewBox"].split()[2])
    modules = [[0] * size for _ in range(size)]
    (path,) = picture
    assert {"stroke", "d"} == path.attrib.keys()
    x, y = 0, 0.0
    for letter, first, second in re.findall(
        r"([Mmh])(-?[0-9.]+)(?: (-?[0-9.]+))?", path.attrib["d"]
    ):
        if letter == "h":
            modules[int(y)][x : x + int(first)] = [1] * int(first)
        if letter == "M":
            x, y = 0, 0.0
        x += int(first)
        y += float(second or 0)
    return modules


def drawn_modules(lines: list[str]) -> Modules:
    """Return the modules that lines of half blocks draw."""
    return [
        [int(one in blocks) for one in line]
        for line in lines
        for blocks in ("▀█", "▄█")
    ][:-1]


# --- the tests --------------------------------------------------------------


def sections(path: Path) -> list[ET.Element]:
    """Return the labels of a sheet, which must be well-formed XML."""
    text = path.read_text(encoding="utf-8")
    declaration, _, rest = text.partition("\n")
    assert "<!DOCTYPE html>" == declaration
    return list(ET.fromstring(rest).iter("section"))


def texts(section: ET.Element) -> list[str]:
    """Return what stands on a label, line by line."""
    return [
        "".join(line.itertext())
        for line in section.iter()
        if line.tag in ("h2", "p")
    ]


def create(state: State, *options: str | Path, status: int = 0) -> Result:
    """Create tokens."""
    return state.run("token", "create", *options, status=status)


def is_known(state: State, secret: str) -> bool:
    """Tell whether the store has this token."""

    async def find(store: IStore) -> bool:
        found = await store.find_secret(TENANT, secret_digest(secret))
        return found is not None

    return state.with_store(find)


def offer(state: State, old: str = "", new: str = "") -> None:
    """Enable the bootstrap, and replace something in the file."""
    text = state.config.read_text()
    head, _, tail = text.partition("  bootstrap:\n    enabled: false")
    assert tail
    text = f"{head}  bootstrap:\n    enabled: true{tail}"
    assert old in text
    state.config.write_text(text.replace(old, new, 1))


def named(state: State, name: str = "est.example.com") -> None:
    """Enable the bootstrap on a listener with this name."""
    offer(state, "localhost", name)


class SheetTests:
    """``trstctl token create --sheet``."""

    def test_round_trip(self, state: State, tmp_path: Path) -> None:
        """Each label has its token in print and in its code."""
        named(state)
        devices = tmp_path / "devices.csv"
        devices.write_text("router-1,dns:router-1.example\nrouter-2\n")
        sheet = tmp_path / "labels.html"
        create(state, "--from", devices, "--sheet", sheet, "--expires", "2d")
        labels = sections(sheet)
        assert 2 == len(labels)
        for number, section in enumerate(labels, 1):
            device, secret, life, names, url, token_id = texts(section)
            assert f"router-{number}" == device
            assert is_known(state, secret)
            assert "device, until 2026-06-03T13:00:00Z" == life
            assert f"cn:router-{number}" == names.split(", ")[0]
            assert URL == url
            assert token_id.startswith("id ")
            picture = section.find("svg")
            assert picture is not None
            text = read_code(modules_of(picture))
            assert {"url": URL, "token": secret} == json.loads(text)
            assert " " not in text

    def test_only_the_owner_reads_it(
        self, state: State, tmp_path: Path
    ) -> None:
        """Mode 0600: it holds tokens in the clear, and says so."""
        named(state)
        sheet = tmp_path / "labels.html"
        result = create(state, "--sheet", sheet)
        assert 0o600 == stat.S_IMODE(sheet.stat().st_mode)
        assert f"in {sheet}, in the clear" in result.stderr

    def test_loads_nothing(self, state: State, tmp_path: Path) -> None:
        """One file: no script, and nothing from elsewhere."""
        named(state)
        sheet = tmp_path / "labels.html"
        create(state, "--sheet", sheet)
        text = sheet.read_text()
        assert "default-src 'none'" in text
        for loading in ("src=", "href", "url(", "@import", "<script"):
            assert loading not in text.replace("default-src=", "")

    def test_hostile_devices(self, state: State, tmp_path: Path) -> None:
        """What a list says is text."""
        named(state)
        devices = tmp_path / "devices.csv"
        devices.write_text(
            '<script>alert(1)</script>&amp;\n"]]>"\n', encoding="utf-8"
        )
        sheet = tmp_path / "labels.html"
        create(state, "--from", devices, "--sheet", sheet)
        text = sheet.read_text(encoding="utf-8")
        assert "<script" not in text
        assert ["<script>alert(1)</script>&amp;", "]]>"] == [
            texts(section)[0] for section in sections(sheet)
        ]

    def test_what_does_not_print(self, tmp_path: Path) -> None:
        """It is shown by its number."""
        path = tmp_path / "labels.html"
        sheet = Sheet(path, "https://gateway.example/enroll/bootstrap")
        name = "a\u202eb\x1b[31m"
        sheet.add(Label(name, (name,), "device", EPOCH, "1", "SECRET"))
        sheet.close()
        text = path.read_text(encoding="utf-8")
        assert "\u202e" not in text
        assert "\x1b" not in text
        (section,) = sections(path)
        assert "a\\u202eb\\x1b[31m" == texts(section)[0]

    def test_token_without_a_device(
        self, state: State, tmp_path: Path
    ) -> None:
        """Without a name its id stands for the device."""
        named(state)
        sheet = tmp_path / "labels.html"
        create(state, "--count", "2", "--sheet", sheet)
        first, second = map(texts, sections(sheet))
        assert f"id {first[0]}" == first[-1]
        assert first[0] != second[0]
        assert 5 == len(first)

    def test_secrets_stay_on_it(self, state: State, tmp_path: Path) -> None:
        """Neither the output for people nor the audit log has a token."""
        named(state)
        sheet = tmp_path / "labels.html"
        result = create(state, "--sheet", sheet)
        (section,) = sections(sheet)
        secret = texts(section)[1]
        assert "" == result.stdout
        assert secret not in result.stderr
        exported = state.run("audit", "export").stdout
        assert "secret.added" in exported
        assert secret not in exported

    def test_with_a_listing(self, state: State, tmp_path: Path) -> None:
        """A program still gets its listing."""
        named(state)
        sheet = tmp_path / "labels.html"
        result = create(state, "--sheet", sheet, "-o", "json")
        (row,) = json.loads(result.stdout)
        (section,) = sections(sheet)
        assert row["token"] == texts(section)[1]

    def test_never_over_another(self, state: State, tmp_path: Path) -> None:
        """The tokens of an earlier sheet are nowhere else."""
        named(state)
        sheet = tmp_path / "labels.html"
        create(state, "--sheet", sheet)
        before = sheet.read_bytes()
        result = create(state, "--sheet", sheet, status=1)
        assert "choose another name" in result.stderr
        assert before == sheet.read_bytes()
        assert 1 == len(state.listed("token", "list"))
        link = tmp_path / "link.html"
        link.symlink_to(tmp_path / "elsewhere")
        create(state, "--sheet", link, status=1)
        assert not (tmp_path / "elsewhere").exists()

    def test_no_token_without_a_sheet(
        self, state: State, tmp_path: Path
    ) -> None:
        """If it cannot be written, there is no token."""
        named(state)
        missing = tmp_path / "missing" / "labels.html"
        result = create(state, "--sheet", missing, status=1)
        assert "No such file" in result.stderr
        assert [] == state.listed("token", "list")

    def test_half_way(
        self,
        state: State,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What was committed before the store failed is on the sheet."""
        named(state)
        monkeypatch.setattr(token, "_PAGE", 2)
        made: list[int] = []
        genuine = token.mint

        def failing(*arguments: object) -> object:
            made.append(1)
            if len(made) > 3:
                raise Unavailable("the disk is full")
            return genuine(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(token, "mint", failing)
        sheet = tmp_path / "labels.html"
        create(state, "--count", "5", "--sheet", sheet, status=1)
        labels = sections(sheet)
        assert 2 == len(labels)
        assert all(is_known(state, texts(each)[1]) for each in labels)

    def test_nothing_done(
        self,
        state: State,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A sheet without a label is removed."""
        named(state)

        def failing(*arguments: object) -> object:
            raise Unavailable("the disk is full")

        monkeypatch.setattr(token, "mint", failing)
        sheet = tmp_path / "labels.html"
        create(state, "--sheet", sheet, status=1)
        assert not sheet.exists()

    def test_survives_a_crash(self, tmp_path: Path) -> None:
        """What was kept is in the file before it is complete."""
        path = tmp_path / "labels.html"
        sheet = Sheet(path, URL)
        one = Label("a", (), "device", EPOCH, "1", "SECRET")
        sheet.add(one)
        sheet.keep()
        assert "SECRET" in path.read_text()
        assert "SECRET" not in repr(one)
        sheet.close()


class TerminalTests:
    """``trstctl token create --qr``."""

    def test_below_the_table(self, state: State) -> None:
        """A code for each token, that reads as what the table says."""
        named(state)
        result = create(state, "--qr", "--name", "cn:router-1")
        _, row, device, *lines = result.stdout.splitlines()
        secret = row.split()[1]
        assert "router-1" == device
        assert {"url": URL, "token": secret} == json.loads(
            read_code(drawn_modules(lines))
        )
        assert secret not in result.stderr

    def test_colours(self) -> None:
        """Dark on light, whatever the terminal's colours are."""
        for line in drawn(code(URL, "x" * 32)).splitlines():
            assert line.startswith("\x1b[30m\x1b[107m")
            assert line.endswith("\x1b[0m")

    def test_few(self, state: State) -> None:
        """More than a screen is for a sheet."""
        named(state)
        result = create(state, "--qr", "--count", "11", status=2)
        assert "use --sheet FILE" in result.stderr

    def test_encoding(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A terminal without blocks is refused before there is a token."""

        named(state)
        terminal = SimpleNamespace(encoding="ascii")
        with monkeypatch.context() as patched:
            patched.setattr(handout, "sys", SimpleNamespace(stdout=terminal))
            result = create(state, "--qr", status=1)
        assert "this is ascii: use --sheet FILE" in result.stderr
        assert [] == state.listed("token", "list")

    def test_not_for_programs(self, state: State) -> None:
        """Pictures do not belong into JSON."""
        create(state, "--qr", "-o", "json", status=2)


class LibraryTests:
    """Without the extra."""

    @pytest.mark.parametrize("options", [("--qr",), ("--sheet", "x.html")])
    def test_remedy(
        self,
        state: State,
        monkeypatch: pytest.MonkeyPatch,
        options: tuple[str, ...],
    ) -> None:
        """One line says what to install, and there is no token."""
        named(state)
        monkeypatch.setitem(sys.modules, "segno", None)
        result = create(state, *options, status=1)
        (line,) = result.stderr.splitlines()
        assert "pip install 'segno" in line
        assert "trstctl[qr]" in line
        assert [] == state.listed("token", "list")

    def test_others_do_not_need_it(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is wanted for codes only."""
        monkeypatch.setitem(sys.modules, "segno", None)
        create(state)


class URLTests:
    """Where a code says that the token is used."""

    def said(self, state: State, tmp_path: Path, *options: str) -> str:
        """Return the URL on a label."""
        sheet = tmp_path / "labels.html"
        create(state, "--sheet", sheet, *options)
        (section,) = sections(sheet)
        return texts(section)[-2]

    @pytest.mark.parametrize(
        ("name", "port", "url"),
        [
            ("est.example.com", "443", "https://est.example.com"),
            ("192.0.2.1", "8443", "https://192.0.2.1:8443"),
            ("2001:db8::1", "8443", "https://[2001:db8::1]:8443"),
        ],
    )
    def test_listener(
        self, state: State, tmp_path: Path, name: str, port: str, url: str
    ) -> None:
        """The listener's first name, and its port unless it is HTTPS's."""
        named(state, name)
        text = state.config.read_text()
        assert "port: 8443" in text
        state.config.write_text(text.replace("port: 8443", f"port: {port}"))
        assert f"{url}/enroll/bootstrap" == self.said(state, tmp_path)

    def test_label(self, state: State, tmp_path: Path) -> None:
        """The endpoint that takes the token, by tenant and profile."""
        named(state)
        text = state.config.read_text()
        head, _, tail = text.rpartition("profile: device")
        assert "bootstrap:" in head
        state.config.write_text(
            f"{head}profile: device\n    labels:\n      other: "
            f'{{tenant_id: "{OTHER}", profile: tls-client}}\n      clients: '
            f"{{profile: tls-client}}{tail}"
        )
        place = "https://est.example.com:8443/enroll"
        mine = ("--tenant", TENANT)
        assert f"{place}/bootstrap" == self.said(state, tmp_path, *mine)
        (tmp_path / "labels.html").unlink()
        said = self.said(state, tmp_path, *mine, "--profile", "tls-client")
        assert f"{place}/clients/bootstrap" == said

    def test_localhost(self, state: State, tmp_path: Path) -> None:
        """No device reaches that; it is said."""
        offer(state)
        result = create(state, "--sheet", tmp_path / "labels.html")
        assert "https://localhost:8443/enroll/bootstrap" in result.stderr
        assert "--url" in result.stderr

    def test_nobody_knows(self, state: State, tmp_path: Path) -> None:
        """Without an endpoint, or without a port, it must be given."""
        sheet = tmp_path / "labels.html"
        result = create(state, "--sheet", sheet, status=2)
        assert "name the bootstrap's URL" in " ".join(result.stderr.split())
        offer(state, "port: 8443", "port: 0")
        create(state, "--sheet", sheet, status=2)
        url = "https://outside.example/enroll/bootstrap"
        assert url == self.said(state, tmp_path, "--url", url)

    @pytest.mark.parametrize(
        "url",
        [
            "http://est.example.com/enroll/bootstrap",
            "https://est.example.com",
            "https://est.example.com/",
            "https:///enroll/bootstrap",
            "https://est.example.com:0/enroll/bootstrap",
            "https://est.example.com:x/enroll/bootstrap",
            "https://[est/enroll/bootstrap",
            "https://a:b@est.example.com/enroll/bootstrap",
            "https://est.example.com/enroll/bootstrap?a",
            "https://est.example.com/enroll/bootstrap#a",
            "https://est.example.com/enroll /bootstrap",
            "https://est.example.com/enroll/\u00e4",
            f"https://est.example.com/{'a' * 500}",
        ],
    )
    def test_no_such_url(self, state: State, url: str) -> None:
        """What devices could not use is refused."""
        result = create(
            state, "--sheet", "labels.html", "--url", url, status=2
        )
        assert "write the whole bootstrap URL" in " ".join(
            result.stderr.split()
        )

    def test_without_a_code(self, state: State) -> None:
        """A URL is for codes only."""
        create(state, "--url", URL, status=2)

    def test_bound(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A sheet has an end."""
        named(state)
        monkeypatch.setattr(handout, "_MOST_LABELS", 2)
        result = create(
            state, "--sheet", "labels.html", "--count", "3", status=2
        )
        assert "at most 2 on one" in result.stderr
