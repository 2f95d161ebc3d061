"""Accounts, logins and the ways in. What each role may do: tests/explorer/test_roles.py."""

import asyncio
import base64
import datetime
import hashlib
import html
import http.client
import http.server
import io
import json
import re
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from argon2 import PasswordHasher, extract_parameters
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from explorer import cli
from explorer.commands.serving import check_reach, tls_of
from explorer.errors import AccessError, SurveyError, UsageError
from explorer.login import Login, target_of
from explorer.people import Person
from explorer.server import Access, hosts_of
from explorer.services import accounts as service
from explorer.services.accounts import Accounts, Tries
from explorer.services.providers import name_of, provider_of
from tests.explorer.logging_in import CHEAP, PASSWORDS, Visitor, accounts_of, ask, send_login, with_accounts
from tests.explorer.small_survey import write_survey
from tests.ui.serving import VOORWERP, command, free_port, serve, wait_for_address

SECRET = "orion rises in the east"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where secrets are kept."""
    monkeypatch.setenv("VOORWERP_CONFIG", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def accounts(folder: Path) -> Accounts:
    return Accounts("a-survey", CHEAP)


# ---------------------------------------------------------------------------------------------------------- accounts
def test_an_account_is_kept_as_a_hash_for_its_owner_alone(folder: Path, accounts: Accounts) -> None:
    assert not accounts.are_there
    made = accounts.add("grader-1", "vetter", SECRET)
    file = folder / "config" / "a-survey" / "accounts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SECRET not in file.read_text()
    assert made.hash.startswith("$argon2id$")
    assert accounts.are_there
    again = Accounts("a-survey", CHEAP)  # another process
    assert again.check("grader-1", SECRET) == made
    assert again.check("GRADER-1", SECRET) == made
    assert again.check("grader-1", SECRET + "x") is None
    assert again.check("grader-2", SECRET) is None
    assert again.check("grader-1", "") is None
    file.chmod(0o640)
    with pytest.raises(SurveyError, match=r"accounts\.json may be read by others; chmod 600 it, or remove it"):
        Accounts("a-survey").listed()
    file.chmod(0o600)
    file.write_text("{")
    with pytest.raises(SurveyError, match=r"accounts\.json cannot be read .*; put back a copy"):
        Accounts("a-survey").listed()


@pytest.mark.parametrize(
    ("name", "role", "password", "sentence"),
    [
        ("", "vetter", SECRET, "cannot be a name"),
        ("two words", "vetter", SECRET, "cannot be a name"),
        ("volunteer:0123", "vetter", SECRET, "cannot be a name"),
        ("-x", "vetter", SECRET, "cannot be a name"),
        ("x" * 81, "vetter", SECRET, "cannot be a name"),
        ("local", "vetter", SECRET, "stands for somebody without an account"),
        ("Voorwerp", "vetter", SECRET, "stands for somebody without an account"),
        ("grader-1", "admin", SECRET, 'there is no role "admin"; choose one of viewer, vetter, owner'),
        ("grader-1", "vetter", "short", "10 to 1,000 characters; this one has 5"),
        ("grader-1", "vetter", "x" * 1001, "this one has 1,001"),
        ("grader-number-1", "vetter", "Grader-Number-1", "is no secret"),
        ("TAKEN", "vetter", SECRET, 'there is an account "TAKEN" already'),
    ],
)
def test_what_cannot_be_an_account_is_a_sentence(
    accounts: Accounts, name: str, role: Any, password: str, sentence: str
) -> None:
    accounts.add("taken", "viewer", SECRET)
    with pytest.raises(UsageError, match=sentence):
        accounts.add(name, role, password)
    assert [account.name for account in accounts.listed()] == ["taken"]


def test_names_and_passwords_are_the_same_however_they_are_typed(accounts: Accounts) -> None:
    accounts.add("Zoe\u0308.O+x@example.org", "vetter", "pa\u0308ssword of mine")
    assert accounts.check("zo\u00eb.o+X@example.org", "p\u00e4ssword of mine") is not None


def test_what_is_not_there_cannot_be_changed(accounts: Accounts) -> None:
    accounts.add("grader-1", "vetter", SECRET)
    for change in (
        lambda: accounts.remove("x"),
        lambda: accounts.set_role("x", "viewer"),
        lambda: accounts.set_password("x", SECRET),
    ):
        with pytest.raises(UsageError, match='there is no account "x"; those of this survey: grader-1'):
            change()
    with pytest.raises(UsageError, match="there is no role"):
        accounts.set_role("grader-1", "x")  # type: ignore[arg-type]


def test_many_at_once_lose_nothing(accounts: Accounts, folder: Path) -> None:
    def add(i: int) -> None:
        Accounts("a-survey", CHEAP).add(f"grader-{i}", "vetter", SECRET)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {account.name for account in accounts.listed()} == {f"grader-{i}" for i in range(12)}


def test_a_hash_of_other_parameters_is_made_anew_at_the_next_login(accounts: Accounts) -> None:
    made = accounts.add("grader-1", "vetter", SECRET)
    login = accounts.log_in(made)
    stronger = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    found = Accounts("a-survey", stronger).check("grader-1", SECRET)
    assert found is not None
    assert extract_parameters(found.hash).time_cost == 2
    assert accounts.of("grader-1") == found
    assert accounts.visitor(login) == Person("grader-1", "vetter")  # goes on
    assert Accounts("a-survey", stronger).check("grader-1", SECRET) == found  # once


class Counting(PasswordHasher):
    """Tells what it was asked."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002
        self.verified.append(str(hash))
        return super().verify(hash, password)


def test_an_unknown_name_takes_the_work_of_a_known_one(folder: Path) -> None:
    hasher = Counting()
    accounts = Accounts("a-survey", hasher)
    accounts.add("grader-1", "vetter", SECRET)
    accounts.add("by-provider@example.org", "vetter", None)
    for name in ("grader-1", "nobody", "by-provider@example.org"):
        hasher.verified.clear()
        assert accounts.check(name, "another password") is None
        (hashed,) = hasher.verified
        assert extract_parameters(hashed) == extract_parameters(accounts.of("grader-1").hash)  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------- logins
def test_a_login_outlives_a_restart_and_ends_with_the_account(folder: Path) -> None:
    now = [1_000_000.0]
    accounts = Accounts("a-survey", CHEAP, lambda: now[0])
    account = accounts.add("grader-1", "vetter", SECRET)
    secret = accounts.log_in(account)
    kept = folder / "config" / "a-survey" / "logins.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert secret not in kept.read_text()
    again = Accounts("a-survey", CHEAP, lambda: now[0])
    assert again.visitor(secret) == Person("grader-1", "vetter")
    for forged in ("", secret + "x", secret[:-1], account.stamp, service._sha256(secret)):
        assert again.visitor(forged) is None
    accounts.set_role("grader-1", "owner")
    assert again.visitor(secret) == Person("grader-1", "owner")
    now[0] += service.LOGIN_DAYS * 86_400 + 1
    assert again.visitor(secret) is None
    fresh = again.log_in(account)
    assert len(json.loads(kept.read_text())["logins"]) == 1  # what has ended is forgotten
    accounts.set_password("grader-1", SECRET + "!")
    assert again.visitor(fresh) is None
    changed = again.of("grader-1")
    assert changed is not None
    other = again.log_in(changed)
    assert again.visitor(other) is not None
    again.log_out(other)
    assert again.visitor(other) is None
    last = again.log_in(changed)
    accounts.remove("grader-1")
    assert again.visitor(last) is None
    accounts.add("grader-1", "viewer", SECRET)
    assert again.visitor(last) is None


def test_an_account_has_so_many_logins_and_no_more(accounts: Accounts) -> None:
    account, other = accounts.add("grader-1", "vetter", SECRET), accounts.add("grader-2", "vetter", SECRET)
    apart = accounts.log_in(other)
    secrets = [accounts.log_in(account) for _ in range(service.MOST_LOGINS + 2)]
    assert [accounts.visitor(secret) is not None for secret in secrets] == [False] * 2 + [True] * service.MOST_LOGINS
    assert accounts.visitor(apart) is not None


def test_five_tries_a_minute() -> None:
    now = [0.0]
    tries = Tries(clock=lambda: now[0], keys=100)
    for i in range(5):
        assert tries.wait("as x", "from 1") == 0
        tries.fail("as x", "from 1")
        now[0] = i + 1.0
    assert tries.wait("as x") == tries.wait("from 1") == tries.wait("as y", "from 1") == 55
    assert tries.wait("as y", "from 2") == 0
    now[0] = 60.0
    assert tries.wait("as x") == 0  # the first is a minute ago
    tries.fail("as x")
    assert tries.wait("as x") == 1
    for i in range(200):
        tries.fail(f"as {i}")
    assert len(tries._failed) == 100


def test_tries_at_once_are_counted_one_after_the_other(accounts: Accounts) -> None:
    accounts.add("grader-1", "vetter", SECRET)
    names = "grader-1", " GRADER-1", "\uff47rader-1"  # all of them are the same

    async def go() -> list[tuple[Any, float]]:
        login = Login(Access(1, frozenset(), accounts=accounts))
        return list(await asyncio.gather(*(login.enter(names[i % 3], f"wrong {i}", f"10.0.0.{i}") for i in range(20))))

    found = asyncio.run(go())
    assert all(account is None for account, _ in found)
    assert sum(wait == 0 for _, wait in found) == 5


def test_who_knows_the_password_is_not_slowed_down(accounts: Accounts) -> None:
    accounts.add("grader-1", "vetter", SECRET)

    async def go() -> list[Any]:
        login = Login(Access(1, frozenset(), accounts=accounts))
        return [(await login.enter("grader-1", SECRET, "10.0.0.1"))[0] for _ in range(12)]

    assert all(asyncio.run(go()))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/", "/"),
        ("", "/"),
        ("/?view=1,2&token=secret&x=", "/?view=1%2C2&x="),
        ("/vet/abc?x=1", "/vet/abc?x=1"),
        ("//evil.example/x", "/"),
        ("///evil.example", "/evil.example"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("https:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("http://[", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("/?x=%0d%0aSet-Cookie:a", "/?x=%0D%0ASet-Cookie%3Aa"),
    ],
)
def test_a_login_goes_on_within_this_server_alone(asked: str, found: str) -> None:
    assert target_of(asked) == found


# ----------------------------------------------------------------------------------------------------- command line
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("add", "grader-1", "--role", "vetter", typed="…")``: exit code and what was printed."""
    survey = write_survey(folder / "survey")

    def go(*arguments: str, typed: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        monkeypatch.setattr(service, "PasswordHasher", lambda: CHEAP)
        code = cli.main(["accounts", *arguments, "--survey", str(survey)])
        told = capsys.readouterr()
        return code, told.out + told.err

    return go


def test_accounts_from_the_command_line(run: Run, folder: Path) -> None:
    assert run("list") == (
        0,
        "no accounts: whoever has the URL that `voorwerp serve` prints comes in, on this machine alone\n",
    )
    code, told = run("add", "grader-1", "--role", "vetter", "--stdin", typed=f"{SECRET}\n")
    assert (code, "grader-1 may log in as a vetter: grades" in told, "Nobody is an owner" in told) == (0, True, True)
    assert SECRET not in told
    assert run("add", "owner-1@example.org", "--role", "owner", "--oauth")[0] == 0
    accounts = accounts_of(folder / "survey")
    account = accounts.check("grader-1", SECRET)
    assert account is not None
    login = accounts.log_in(account)
    code, told = run("list")
    assert [line.split()[:2] for line in told.splitlines()] == [
        ["grader-1", "vetter"],
        ["owner-1@example.org", "owner"],
    ]
    assert account.hash not in told
    assert run("role", "grader-1", "viewer")[1].startswith("grader-1 is a viewer now: looks at everything")
    assert accounts.visitor(login) == Person("grader-1", "viewer")
    assert run("password", "grader-1", "--stdin", typed="another secret\n")[0] == 0
    assert accounts.visitor(login) is None
    assert accounts.check("grader-1", "another secret") is not None
    assert run("remove", "grader-1")[1].startswith("grader-1 has no account any more, and is logged out")
    assert accounts.of("grader-1") is None
    assert not list((folder / "survey").rglob("*account*"))  # a copy of the survey gives nothing away


@pytest.mark.parametrize(
    ("arguments", "typed", "sentence"),
    [
        (("add", "x", "--role", "vetter", "--stdin"), "", "standard input has no password"),
        (("add", "x", "--role", "vetter", "--stdin"), "short\n", "10 to 1,000 characters"),
        (("add", "x", "--role", "vetter"), "", "there is no terminal to type a password in; use --stdin"),
        (("add", "x", "--role", "vetter", "--stdin", "--oauth"), "", "a password or a provider's login, not both"),
        (("add", "x", "--role", "boss", "--stdin"), "", "'boss' is not one of"),
        (("remove", "x"), "", 'there is no account "x"; those of this survey: none'),
        (("password", "x", "--stdin"), f"{SECRET}\n", 'there is no account "x"'),
        (("role", "x", "owner"), "", 'there is no account "x"'),
        (("add", "x", "--role", "vetter", "--password", SECRET), "", "No such option"),
    ],
)
def test_what_the_command_line_refuses(run: Run, arguments: tuple[str, ...], typed: str, sentence: str) -> None:
    code, told = run(*arguments, typed=typed)
    assert (code, sentence in told) == (2, True), told


def test_a_password_is_typed_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = write_survey(folder / "survey")
    monkeypatch.setattr(service, "PasswordHasher", lambda: CHEAP)
    runner = CliRunner()
    monkeypatch.setattr("explorer.commands.accounts.is_terminal", lambda: True)
    asked = ["accounts", "add", "grader-1", "--role", "vetter", "--survey", str(survey)]
    told = runner.invoke(cli.cli, asked, input=f"{SECRET}\nsomething else\n{SECRET}\n{SECRET}\n")
    assert (told.exit_code, "do not match" in told.output, SECRET in told.output) == (0, True, False), told.output
    assert accounts_of(survey).check("grader-1", SECRET) is not None


# --------------------------------------------------------------------------------------------------- how it is reached
def test_passwords_leave_this_machine_encrypted_or_not_at_all() -> None:
    def reach(address: str, accounts: bool, tls: bool = False, proxy: bool = False, insecure: bool = False) -> None:
        check_reach(address, accounts, tls, proxy, insecure)

    for allowed in (
        ("127.0.0.1", False),
        ("127.0.0.1", True),
        ("localhost", True),
        ("192.0.2.7", True, True),
        ("192.0.2.7", True, False, True),
        ("127.0.0.1", True, False, True),
        ("192.0.2.7", False, False, False, True),  # open links, as before
    ):
        reach(*allowed)
    for refused, sentence in (
        (("192.0.2.7", True), "passwords would travel there in the clear; give --https-cert"),
        (("192.0.2.7", True, False, False, True), "passwords would travel there in the clear"),
        (("0.0.0.0", False), "this survey has no accounts; use --address .*, make one with `voorwerp accounts add`"),
        (("192.0.2.7", False, True), "this survey has no accounts"),
        (("127.0.0.1", False, False, True), "a proxy lets others in and this survey has no accounts"),
    ):
        with pytest.raises(AccessError, match=sentence):
            reach(*refused)
    with pytest.raises(UsageError, match="leaves TLS to the proxy"):
        reach("192.0.2.7", True, True, True)
    with pytest.raises(UsageError, match="give --https-cert and --https-key"):
        tls_of(Path("x"), None)
    with pytest.raises(UsageError, match="there is no file x"):
        tls_of(Path("x"), Path("y"))


def test_names_that_a_server_is_known_by() -> None:
    found = hosts_of("127.0.0.1", 5006, ("Survey.example.org", "other.example.org:8443"))
    assert found == {
        "127.0.0.1:5006",
        "localhost:5006",
        "[::1]:5006",
        "survey.example.org",
        "survey.example.org:5006",
        "other.example.org:8443",
    }


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return files


def test_with_tls_the_cookie_is_for_tls_alone(folder: Path, certificate: tuple[Path, Path]) -> None:
    survey, port = write_survey(folder / "survey"), free_port()
    with_accounts(survey)
    flags = ["--https-cert", certificate[0], "--https-key", certificate[1]]
    arguments = [VOORWERP, "serve", survey, "--no-browser", "--port", str(port), *flags]
    with command(arguments, folder / "log") as process:
        assert wait_for_address(process, folder / "log", 120).startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(certificate[0]))
        form = {"Origin": f"https://localhost:{port}", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"name": "grader-1", "password": PASSWORDS["grader-1"]})
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=trust)
        connection.request("POST", "/login", body, form)
        answer = connection.getresponse()
        answer.read()
        cookie = answer.headers["Set-Cookie"]
        assert (answer.status, "Secure" in cookie, "HttpOnly" in cookie) == (303, True, True)
        connection.request("GET", "/training", headers={"Cookie": cookie.split(";")[0]})
        assert connection.getresponse().status == 200
        connection.close()


def test_behind_a_proxy_its_words_count_and_no_others(folder: Path) -> None:
    survey, port = write_survey(folder / "survey"), free_port()
    with_accounts(survey)
    arguments = [VOORWERP, "serve", survey, "--no-browser", "--port", str(port), "--behind-proxy"]
    with command([*arguments, "--host", "survey.example.org"], folder / "log") as process:
        url = wait_for_address(process, folder / "log", 120)
        outside = {"Host": "survey.example.org", "Origin": "https://survey.example.org", "X-Forwarded-Proto": "https"}
        body = urlencode({"name": "grader-1", "password": PASSWORDS["grader-1"]})
        status, headers, _ = ask(url, "/login", body, **outside)
        assert (status, "Secure" in headers["set-cookie"]) == (303, True)
        assert ask(url, "/login", body, **outside | {"Host": "evil.example.org"})[0] == 403
        for failed in range(5):  # whoever tries writes what they like before the proxy's word
            told = {"X-Forwarded-For": f"198.51.100.{failed}, 203.0.113.9", "X-Real-Ip": f"198.51.100.{failed}"}
            wrong = urlencode({"name": f"nobody-{failed}", "password": "wrong wrong"})
            assert ask(url, "/login", wrong, **outside | told)[0] == 401
        status, headers, text = ask(url, "/login", body, **outside | {"X-Forwarded-For": "203.0.113.9"})
        assert status == 429
        assert 0 < int(headers["retry-after"]) <= 60
        assert f"go on in {headers['retry-after']} second".encode() in text
        assert ask(url, "/login", body, **outside | {"X-Forwarded-For": "203.0.113.9, 203.0.113.10"})[0] == 303
        for address in range(5):
            wrong = urlencode({"name": "grader-2", "password": "wrong wrong"})
            assert ask(url, "/login", wrong, **outside | {"X-Forwarded-For": f"198.51.100.{address}"})[0] == 401
        right = urlencode({"name": "Grader-2", "password": PASSWORDS["grader-2"]})
        assert ask(url, "/login", right, **outside | {"X-Forwarded-For": "198.51.100.77"})[0] == 429


@pytest.mark.parametrize(
    ("behind", "headers", "encrypted", "address"),
    [
        (False, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"}, False, "10.0.0.1"),
        (True, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "6.6.6.6, 1.2.3.4"}, True, "1.2.3.4"),
        (True, {"X-Forwarded-Proto": "https, http"}, False, "10.0.0.1"),
        (True, {}, False, "10.0.0.1"),
        (True, {"X-Forwarded-For": "2001:db8:1:2:3::4"}, False, "2001:db8:1:2::/64"),
        (True, {"X-Forwarded-For": "::ffff:1.2.3.4"}, False, "1.2.3.4"),
        (True, {"X-Forwarded-For": "x" * 200}, False, "x" * 80),
    ],
)
def test_where_a_request_comes_from(behind: bool, headers: dict[str, str], encrypted: bool, address: str) -> None:
    class Request:
        protocol, remote_ip = "http", "10.0.0.1"

    class Handler:
        request: Any = Request()

    Handler.request.headers = headers
    access, handler = Access(1, frozenset(), behind_proxy=behind), Handler()
    assert (access.is_encrypted(handler), access.address(handler)) == (encrypted, address)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ a provider's login
KEY, PROVIDER_SECRET = "our-id", "our-secret"


class Standing(http.server.BaseHTTPRequestHandler):
    """Stands in for a provider: who logs in there next, what was asked, and what must fit together."""

    info: ClassVar[dict[str, Any]] = {}
    challenges: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[dict[str, str]]] = []

    def log_message(self, *_: object) -> None:
        pass

    def tell(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        sent = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        self.asked.append(sent)
        digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        held = self.challenges.pop(sent["code"], None)
        if held != proof or (sent["client_id"], sent["client_secret"]) != (KEY, PROVIDER_SECRET):
            self.tell(400, {"error": "invalid_grant"})
        else:
            self.tell(200, {"access_token": "a-token", "token_type": "bearer"})

    def do_GET(self) -> None:
        is_let_in = self.headers["Authorization"] == "Bearer a-token"
        self.tell(200 if is_let_in else 401, self.info if is_let_in else {})


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Standing]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Standing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_address[1]}"
        told = {"PROVIDER": "The Institute", "KEY": KEY, "SECRET": PROVIDER_SECRET}
        told |= {"AUTHORIZE_URL": f"{at}/authorize", "TOKEN_URL": f"{at}/token", "USER_URL": f"{at}/user"}
        for name, value in told.items():
            monkeypatch.setenv(f"VOORWERP_OAUTH_{name}", value)
        yield Standing
        server.shutdown()


def test_a_providers_login_lets_in_who_has_an_account_for_it(folder: Path, provider: type[Standing]) -> None:
    survey = write_survey(folder / "survey")
    accounts = with_accounts(survey, {"owner-1": "owner"})
    accounts.add("grader-1@example.org", "vetter", None)
    with serve(survey, folder / "log") as url:
        page = ask(url, "/login?next=%2F%3Fview%3D1")[2].decode()
        assert "Log in with The Institute" in page
        assert send_login(url, "grader-1@example.org", "")[0] == 401  # no password is none that fits

        def go(info: dict[str, Any], **changed: str) -> tuple[int, dict[str, str], str]:
            """There and back again, as a browser; `changed`: what comes back otherwise than it went."""
            provider.info.clear()
            provider.info.update(info)
            status, headers, _ = ask(url, "/login/with?next=%2F%3Fview%3D1")
            cookie = headers["set-cookie"]
            assert (status, "HttpOnly" in cookie, "SameSite=Lax" in cookie) == (302, True, True)
            sent = {k: v[0] for k, v in parse_qs(urlsplit(headers["location"]).query).items()}
            assert (sent["client_id"], sent["response_type"], sent["code_challenge_method"]) == (KEY, "code", "S256")
            assert sent["redirect_uri"] == f"{url}login/back"
            assert PROVIDER_SECRET not in headers["location"]
            provider.challenges["a-code"] = sent["code_challenge"]
            back = {"code": "a-code", "state": sent["state"]} | {k: v for k, v in changed.items() if k != "cookie"}
            held = changed.get("cookie", cookie.split(";")[0])
            status, headers, body = ask(url, "/login/back?" + urlencode(back), Cookie=held)
            assert ask(url, "/login/back?" + urlencode(back), Cookie=held)[0] == 401  # once
            return status, headers, body.decode()

        status, headers, _ = go({"email": "Grader-1@example.org", "email_verified": True})
        assert (status, headers["location"]) == (302, "/?view=1")
        found = re.search(rf"voorwerp-{urlsplit(url).port}=[^;]+", headers["set-cookie"])
        assert found is not None
        grader = Visitor(url, found.group())
        assert grader.get("/training")[0] == 200
        assert b"it takes an owner" in grader.post("/runs/start")[2]
        for info, changed, sentence in (
            ({"email": "grader-2@example.org"}, {}, "knows you as grader-2@example.org, and this survey has no"),
            ({"email": "owner-1"}, {}, "this survey has no account for that"),  # that one has a password
            ({"email": "grader-1@example.org", "email_verified": False}, {}, "has not seen that"),
            ({"name": "x"}, {}, "did not say who you are (it told no email)"),
            ({"email": 7}, {}, "did not say who you are"),
            ({"email": "grader-1@example.org"}, {"code": "another"}, "could not be asked who you are"),
            ({"email": "grader-1@example.org"}, {"code": ""}, "did not log you in"),
            ({"email": "grader-1@example.org"}, {"state": "forged"}, "begun elsewhere, or too long ago"),
            ({"email": "grader-1@example.org"}, {"cookie": "x=1"}, "begun elsewhere, or too long ago"),
        ):
            status, headers, body = go(info, **changed)
            assert (status, html.escape(sentence) in body) == (401, True), (sentence, body)
            assert not re.search(rf"voorwerp-{urlsplit(url).port}=", headers.get("set-cookie", ""))
        accounts.remove("grader-1@example.org")
        assert grader.get("/training")[0] == 401
    assert all(sent["grant_type"] == "authorization_code" for sent in provider.asked)
    assert PROVIDER_SECRET not in (folder / "log").read_text()


def test_what_the_environment_says_of_a_provider() -> None:
    assert provider_of({}) is None
    told = {"VOORWERP_OAUTH_PROVIDER": "google", "VOORWERP_OAUTH_KEY": "k", "VOORWERP_OAUTH_SECRET": "s"}
    found = provider_of(told)
    assert found is not None
    assert (found.title, found.user_key, urlsplit(found.token_url).scheme) == ("Google", "email", "https")
    assert "'s'" not in repr(found)
    assert name_of(found, {"email": " grader-1@example.org "}) == "grader-1@example.org"
    told["VOORWERP_OAUTH_PROVIDER"] = "Institute"
    with pytest.raises(UsageError, match="Institute also needs VOORWERP_OAUTH_AUTHORIZE_URL, VOORWERP_OAUTH_TOKEN_URL"):
        provider_of(told)
    urls = {f"VOORWERP_OAUTH_{name}_URL": f"https://sso.example.org/{name}" for name in ("AUTHORIZE", "TOKEN", "USER")}
    assert provider_of(told | urls) is not None
    with pytest.raises(UsageError, match=r"TOKEN_URL is http://sso\.example\.org/; it must begin with https://"):
        provider_of(told | urls | {"VOORWERP_OAUTH_TOKEN_URL": "http://sso.example.org/"})
