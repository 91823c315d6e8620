# SPDX-License-Identifier: MIT
"""
The commands that ``trstctl quickstart`` prints, ready to paste.

Each group stands on its own in a new directory, so that it does not matter
where it is pasted.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen


@frozen
class Recipe:
    """
    A few commands for one purpose.

    :ivar commands: a line each.
    """

    title: str
    commands: Sequence[str]


def program() -> str:
    """Return how to call this very program from a shell."""
    called = Path(sys.argv[0]).absolute()
    if called.suffix == ".py":
        return f"{shlex.quote(sys.executable)} -m trstctl.cli.main"
    found = shutil.which("trstctl")
    if found is not None and Path(found).resolve() == called.resolve():
        return "trstctl"
    return shlex.quote(str(called))


def est_recipes(
    url: str, root: str, chain: str, username: str, password: str, token: str
) -> Sequence[Recipe]:
    """
    Return what a stock client does over EST: curl and openssl.

    :param url: of the HTTPS listener.
    :param root: path of the root's certificate.
    :param chain: path of the issuing CA's certificate with the root's.
    """
    est = f"{url}/.well-known/est"
    ca = f"--cacert {shlex.quote(root)}"
    chained = shlex.quote(chain)
    basic = f"-u {shlex.quote(f'{username}:{password}')}"
    bearer = f'-H "Authorization: Bearer {token}"'
    fresh = 'cd "$(mktemp -d)"'
    new_key = (
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        '-keyout device.key -subj "/CN={}" -outform DER -out request.der'
    )
    encode = "openssl base64 -in request.der -out request.b64"
    post = (
        '-H "Content-Type: application/pkcs10" '
        '-H "Idempotency-Key: $(openssl rand -hex 16)" '
        "--data-binary @{} " + est + "/{} -fsS -o {}"
    )
    decode = (
        "openssl base64 -d -in {0}.b64 | openssl pkcs7 -inform DER "
        "-print_certs -out {0}.pem"
    )
    verify = f"openssl verify -CAfile {chained} {{}}.pem"
    look = "openssl x509 -in {}.pem -noout -subject -issuer -enddate"
    return (
        Recipe(
            "EST: fetch the CA certificates",
            (
                fresh,
                f"curl {ca} {est}/cacerts -fsS -o cacerts.p7",
                (
                    "openssl base64 -d -in cacerts.p7 "
                    "| openssl pkcs7 -inform DER -print_certs"
                ),
            ),
        ),
        Recipe(
            "EST: enroll with a password, then re-enroll with the certificate",
            (
                fresh,
                f"{new_key.format('device-1')} && {encode}",
                f"curl {ca} {basic} "
                + post.format("request.b64", "simpleenroll", "device.b64"),
                f"{decode.format('device')} && {verify.format('device')}",
                (
                    "openssl req -new -key device.key -subj /CN=device-1 "
                    "-outform DER | openssl base64 -out renewal.b64"
                ),
                f"curl {ca} --cert device.pem --key device.key "
                + post.format("renewal.b64", "simplereenroll", "renewed.b64"),
                f"{decode.format('renewed')} && {verify.format('renewed')}",
                look.format("renewed"),
            ),
        ),
        Recipe(
            "EST: enroll with a bearer token",
            (
                fresh,
                f"{new_key.format('device-2')} && {encode}",
                f"curl {ca} {bearer} "
                + post.format("request.b64", "simpleenroll", "device.b64"),
                f"{decode.format('device')} && {verify.format('device')}",
                look.format("device"),
            ),
        ),
    )


def revocation_recipe(
    url: str,
    http_url: str,
    authority: str,
    root: str,
    chain: str,
    username: str,
    password: str,
    config: str,
) -> Recipe:
    """
    Return how whoever relies on a certificate asks whether it is revoked.

    :param url: of the HTTPS listener.
    :param http_url: of the plain listener.
    :param authority: the name of the CA that signs.
    """
    ask = (
        "openssl ocsp -issuer ca.pem -cert device.pem "
        f"-CAfile {shlex.quote(chain)} -url {http_url}/ocsp/{authority}"
    )
    serial = (
        "$(openssl x509 -in device.pem -noout -serial "
        "| cut -d= -f2 | tr A-F a-f)"
    )
    return Recipe(
        "OCSP: ask whether a certificate is revoked, before and after",
        (
            'cd "$(mktemp -d)"',
            (
                f"curl -fsS {http_url}/ca/{authority}.cer "
                "| openssl x509 -inform DER -out ca.pem"
            ),
            (
                "openssl req -new -newkey ec -pkeyopt "
                "ec_paramgen_curve:P-256 -nodes -keyout device.key "
                '-subj "/CN=device-4" -outform DER | openssl base64 '
                "-out request.b64"
            ),
            (
                f"curl --cacert {shlex.quote(root)} "
                f"-u {shlex.quote(f'{username}:{password}')} "
                '-H "Content-Type: application/pkcs10" '
                "--data-binary @request.b64 -fsS "
                f"{url}/.well-known/est/simpleenroll -o device.b64"
            ),
            (
                "openssl base64 -d -in device.b64 | openssl pkcs7 "
                "-inform DER -print_certs -out device.pem"
            ),
            ask,
            (
                f"{program()} cert revoke --config {shlex.quote(config)} "
                f'--yes --reason superseded "{serial}"'
            ),
            ask,
        ),
    )


def bootstrap_recipe(url: str, root: str, token: str) -> Recipe:
    """
    Return how a device with curl and openssl bootstraps and renews.

    :param url: of the HTTPS listener.
    :param root: path of the root's certificate.
    :param token: a single-use token.
    """
    curl = f"curl --cacert {shlex.quote(root)} -fsS"
    request = (
        "openssl req -new -key device.key -subj /CN=device-3 -outform DER "
        "| base64 > request.b64"
    )
    take = 'printf %b "$(cut -d\'"\' -f4 {0}.json)" > {0}.pem'
    verify = (
        f"openssl verify -CAfile {shlex.quote(root)} -untrusted {{0}}.pem "
        "{0}.pem"
    )
    return Recipe(
        "Bootstrap with a single-use token, then renew with the certificate",
        (
            'cd "$(mktemp -d)"',
            "openssl ecparam -name prime256v1 -genkey -noout -out device.key",
            request,
            f"{curl} -X POST {url}/enroll/bootstrap -o device.json -d "
            f'\'{{"token":"{token}","csr":"\'"$(cat request.b64)"\'"}}\'',
            f"{take.format('device')} && {verify.format('device')}",
            f"{curl} --cert device.pem --key device.key -X POST "
            f"{url}/enroll/renewal -o renewed.json -d "
            '\'{"csr":"\'"$(cat request.b64)"\'"}\'',
            f"{take.format('renewed')} && {verify.format('renewed')}",
        ),
    )


def scep_recipes(url: str, root: str, challenge: str) -> Sequence[Recipe]:
    """
    Return how to look at SCEP with curl, and to enroll with strongSwan.

    Nothing that every system has can write a SCEP message.

    :param url: of the endpoint.
    :param root: path of the root's certificate.
    :param challenge: a single-use challenge.
    """
    trusted = shlex.quote(root)
    enroll = (
        f"pki --scep --url {url} --in {{0}}.key --dn CN=device-5 {{1}} "
        "--cacert-enc ra.pem --cacert-sig ra.pem "
        f"--cacert {trusted} --cacert ca-1.pem --outform pem > {{0}}.pem"
    )
    verify = f"openssl verify -CAfile {trusted} -untrusted ca-1.pem {{}}.pem"
    return (
        Recipe(
            "SCEP: what the gateway offers, and its certificates",
            (
                'cd "$(mktemp -d)"',
                f"curl -fsS '{url}?operation=GetCACaps'",
                f"curl -fsS '{url}?operation=GetCACert' "
                "| openssl pkcs7 -inform DER -print_certs",
            ),
        ),
        Recipe(
            "SCEP: enroll with a challenge, then renew; needs apt install "
            "strongswan-pki libstrongswan-extra-plugins",
            (
                'cd "$(mktemp -d)"',
                f"pki --scepca --url {url} --caout ca.pem --raout ra.pem "
                "--outform pem",
                "pki --gen --type rsa --size 2048 > device.key",
                enroll.format("device", f"--password {challenge}"),
                verify.format("device"),
                "pki --gen --type rsa --size 2048 > renewed.key",
                enroll.format("renewed", "--cert device.pem --key device.key"),
                verify.format("renewed"),
            ),
        ),
    )


def cmp_recipe(url: str, root: str, reference: str, secret: str) -> Recipe:
    """
    Return how to enroll and to update over CMP with OpenSSL.

    :param url: of the endpoint.
    :param root: path of the root's certificate.
    :param reference: names the secret, which is good for one certificate.
    """
    ask = f'openssl cmp -config "" -batch -server {url}'
    key = "openssl ecparam -name prime256v1 -genkey -noout -out {}.key"
    verify = "openssl verify -CAfile root.pem -untrusted chain.pem {}.pem"
    return Recipe(
        "CMP: enroll with a secret, then update; needs OpenSSL 3",
        (
            'cd "$(mktemp -d)"',
            # OpenSSL takes no file whose path has a space in it.
            f"cp {shlex.quote(root)} root.pem",
            key.format("device"),
            f"{ask} -cmd ir -ref {reference} -secret pass:{secret} "
            "-recipient /CN=CA -newkey device.key -subject /CN=device-7 "
            "-certout device.pem -chainout chain.pem",
            verify.format("device"),
            key.format("updated"),
            f"{ask} -cmd kur -cert device.pem -key device.key "
            "-trusted root.pem -newkey updated.key -certout updated.pem",
            verify.format("updated"),
        ),
    )


def inventory_recipe(config: str, ops_url: str) -> Recipe:
    """Return how to see what was issued, and that all is well."""
    named = f"--config {shlex.quote(config)}"
    return Recipe(
        "The inventory, the audit log and the gateway's health",
        (
            f"{program()} cert list {named}",
            f"{program()} audit verify {named}",
            f"curl -fsS {ops_url}/readyz",
        ),
    )


def as_text(recipes: Sequence[Recipe]) -> str:
    """Return groups of commands, each below its title."""
    return "\n".join(
        f"# {recipe.title}\n"
        + "".join(f"{line}\n" for line in recipe.commands)
        for recipe in recipes
    )
