"""Logging in: the printed token, the page of accounts, the login of a provider, and whom an open page still belongs to.

==================  ====================================================================================
GET  /login         without accounts: exchanges the token of the printed URL for a cookie; with some: the page
POST /login         name and password of an account
GET  /login/FILE    its styles and logo: open to everyone
GET  /login/with    goes to the provider that `explorer.services.providers` reads from the environment
GET  /login/back    comes back from there
POST /logout        ends the login
==================  ====================================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import math
import re
import secrets
import time
import weakref
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
from bokeh.server.auth_provider import AuthProvider
from bokeh.server.urls import per_app_patterns
from panel.io.server import WSHandler
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.web import HTTPError, RequestHandler, stream_request_body

from explorer import ASSETS
from explorer.errors import AccessError
from explorer.people import Person
from explorer.server import Access, Change
from explorer.services.accounts import Account, Accounts, Tries, folded
from explorer.services.providers import Provider, name_of

#: Nothing but our own style and logo; what is typed goes to us alone.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
FILES = {"login.css": "text/css; charset=utf-8", "logo.svg": "image/svg+xml"}
#: Of what is sent to log in: bytes.
MAX_BODY = 16_384
#: Who may wait at once for a password to be checked; one is at a time.
MAX_WAITING = 64
#: Seconds and number of logins that a provider has not answered yet; bytes of its answer.
PENDING_S, MAX_PENDING, MAX_ANSWER = 600.0, 10_000, 1 << 20
#: How a socket is closed whose login has ended.
ENDED = 4403
TOKEN_ONLY = (
    "This page belongs to whoever started Voorwerp.\n"
    "Open the URL that `voorwerp serve` printed: it carries a token, new at every start.\n"
)
WRONG = "This name and password do not go together."
IN_THE_CLEAR = "A password would travel in the clear from here: open this page by https://, or on the server itself."


def target_of(text: str) -> str:
    """Where a login goes on to: a path of ours with its query, less the token; "/" for anything else."""
    try:
        asked = urlsplit(text)
    except ValueError:
        return "/"
    if asked.scheme or asked.netloc or not re.fullmatch(r"/([A-Za-z0-9._~%-][A-Za-z0-9/._~%-]*)?", asked.path):
        return "/"
    query = parse_qs(asked.query, keep_blank_values=True)
    query.pop("token", None)
    return asked.path + (f"?{urlencode(query, doseq=True)}" if query else "")  # escaped: no header in it


class Login(AuthProvider):
    """Bokeh's door, kept by `Access`.

    Attributes
    ----------
    tries
        Passwords that were wrong lately, by account and by address.
    sockets
        Open sockets of pages.
    """

    def __init__(self, access: Access, survey: str = "", provider: Provider | None = None) -> None:
        self.access, self.survey, self.provider = access, survey, provider
        self.tries = Tries()
        self.sockets: weakref.WeakSet[Socket] = weakref.WeakSet()
        self._one, self._waiting = asyncio.Lock(), 0
        self._pending: OrderedDict[str, tuple[str, str, float]] = OrderedDict()
        super().__init__()

    @property
    def get_user(self) -> Callable[[RequestHandler], str | None]:  # type: ignore[override]  # Bokeh passes the handler
        return self.access.admit

    @property
    def get_user_async(self) -> None:
        return None

    @property
    def get_login_url(self) -> None:
        return None

    @property
    def login_url(self) -> str:
        return "/login"

    @property
    def login_handler(self) -> type[RequestHandler]:
        login = self

        class Page(LoginPage):
            def initialize(self) -> None:  # type: ignore[override]  # Bokeh gives it nothing
                super().initialize(login)

        return Page

    @property
    def logout_url(self) -> None:
        return None

    @property
    def logout_handler(self) -> None:
        return None

    async def enter(self, name: str, password: str, address: str) -> tuple[Account | None, float]:
        """The account of a name and password, and the seconds that one must wait to try again.

        One password is checked at a time: tries that come at once are counted before the next is.
        """
        accounts = self.access.accounts
        keys = f"from {address}", f"as {folded(name)[:80]}"
        if accounts is None or (wait := self.tries.wait(*keys)):
            return None, wait if accounts is not None else 0.0
        if self._waiting >= MAX_WAITING:
            return None, 5.0
        self._waiting += 1
        try:
            async with self._one:
                if wait := self.tries.wait(*keys):
                    return None, wait
                account = await asyncio.to_thread(accounts.check, name, password)
                if account is None:
                    self.tries.fail(*keys)
                return account, 0.0
        finally:
            self._waiting -= 1

    # --------------------------------------------------------------------------------------------- with a provider
    def leave(self, target: str) -> tuple[str, str]:
        """Remember that somebody goes to the provider: what they come back with, and the challenge of our proof."""
        now = time.monotonic()
        while self._pending and (
            len(self._pending) >= MAX_PENDING or next(iter(self._pending.values()))[2] < now - PENDING_S
        ):
            self._pending.popitem(last=False)
        state, proof = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        self._pending[state] = proof, target, now
        return state, urlsafe_b64encode(hashlib.sha256(proof.encode()).digest()).rstrip(b"=").decode()

    def returned(self, state: str) -> tuple[str, str] | None:
        """Proof and target of somebody who came back, once, in time."""
        proof, target, at = self._pending.pop(state, ("", "", -math.inf))
        return (proof, target) if proof and at > time.monotonic() - PENDING_S else None

    # ---------------------------------------------------------------------------------------------- open pages
    def close_ended(self) -> None:
        """Close the sockets of those whose login has ended, so that nothing is told to them any more."""
        for socket in list(self.sockets):
            socket.close_if_ended()


class Socket(WSHandler):
    """The socket of a page: as long as its login holds, and for nobody but who opened the page."""

    @property
    def _login(self) -> Login | None:
        found = getattr(self.application, "auth_provider", None)
        return found if isinstance(found, Login) else None

    def open(self, *args: Any, **kwargs: Any) -> None:
        if self._login is not None:
            self._login.sockets.add(self)
        super().open(*args, **kwargs)

    async def _async_open(self, token: str) -> None:
        await super()._async_open(token)
        self.close_if_ended()

    async def on_message(self, fragment: str | bytes) -> None:
        if not self.close_if_ended():
            await super().on_message(fragment)

    def close_if_ended(self) -> bool:
        """Close it where its login has ended; whether it has."""
        login = self._login
        if login is None:
            return False
        try:
            person = login.access.holder(self)
        except HTTPError:  # accounts that cannot be read
            person = None
        # a connection whose page was closed has lost its session
        session: Any = getattr(self.connection, "_session", None)
        if person is not None and session is not None:
            context = session.document.session_context
            opened_by: Person | None = getattr(getattr(context, "request", None), "person", None)
            person = person if opened_by is not None and opened_by.name == person.name else None
        if person is None:
            self.close(ENDED, "logged out")
        return person is None


def install_socket() -> None:
    """Let Bokeh's pages have our sockets (as Panel lets them have its own); of other servers in this process, too."""
    for i, (path, handler, *_) in enumerate(per_app_patterns):
        if issubclass(handler, WSHandler):
            per_app_patterns[i] = (path, Socket)


# ------------------------------------------------------------------------------------------------------------ pages
class _Page(RequestHandler):
    def initialize(self, login: Login) -> None:
        self.login, self.access = login, login.access

    def prepare(self) -> None:
        self.person = self.access.person(self)  # Host and Origin first
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("Referrer-Policy", "same-origin")  # without one a form has no origin
        self.set_header("Cache-Control", "no-store")

    def show(self, said: str = "", name: str = "", target: str = "/") -> None:
        """The page, with what went wrong."""
        accounts, provider = self.access.accounts, self.login.provider
        has_passwords = accounts is not None and (provider is None or any(one.hash for one in accounts.listed()))
        page = (ASSETS / "login.html").read_text(encoding="utf-8")
        hidden, focus = {True: "", False: "hidden"}, "autofocus"
        for key, value in {
            "survey": self.login.survey,
            "said": said,
            "name": name[:80],
            "next": target,
            "provider": provider.title if provider else "",
            "with": "/login/with?" + urlencode({"next": target}),
        }.items():
            page = page.replace(f"{{{{{key}}}}}", html.escape(value))
        for key, value in {
            "has_said": hidden[bool(said)],
            "has_form": hidden[has_passwords],
            "has_provider": hidden[provider is not None],
            "has_both": hidden[has_passwords and provider is not None],
            "focus_name": "" if name else focus,
            "focus_password": focus if name else "",
            "invalid": 'aria-invalid="true"' if said else "",
        }.items():
            page = page.replace(f"[[{key}]]", value)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(page)

    def begin(self, accounts: Accounts, account: Account) -> Any:
        """Begin a login, on the disk."""
        return asyncio.to_thread(accounts.log_in, account)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        message = error.log_message if isinstance(error, HTTPError) and error.log_message else self._reason
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(message.replace("%%", "%"))  # Tornado doubles it for its log


@stream_request_body
class LoginPage(_Page):
    """Exchanges a token, or a name and a password, for a cookie."""

    def prepare(self) -> None:
        self.body = bytearray()
        self.request.connection.set_max_body_size(MAX_BODY)  # type: ignore[union-attr]
        super().prepare()

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def get(self) -> None:
        asked, access = self.get_query_argument("next", "/"), self.access
        target = target_of(asked)
        if self.person is not None:
            self.redirect(target)
        elif access.asks:
            self.show(target=target)
        elif access.open_to(parse_qs(urlsplit(asked).query).get("token", [""])[0]):
            access.let_in(self, access.session)
            self.redirect(target)
        else:
            self.set_status(403)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(TOKEN_ONLY)

    async def post(self) -> None:
        if self.request.headers.get("Origin") is None:
            raise HTTPError(403, "a login must come from our own page")
        accounts = self.access.accounts
        if not self.access.asks or accounts is None:
            raise HTTPError(403, "this survey has no accounts")
        sent = parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        name, password, asked = (sent.get(key, [""])[0] for key in ("name", "password", "next"))
        target = target_of(asked)
        if not self.access.is_local and not self.access.is_encrypted(self):
            self.set_status(403)
            self.show(IN_THE_CLEAR, name, target)
            return
        account, wait = await self.login.enter(name, password, self.access.address(self))
        if account is not None:
            self.access.let_in(self, await self.begin(accounts, account))
            self.redirect(target, status=303)
        elif wait:
            seconds = math.ceil(wait)
            self.set_status(429)
            self.set_header("Retry-After", str(seconds))
            self.show(f"That was one try too many: go on in {seconds} second{'s' * (seconds != 1)}.", name, target)
        else:
            self.set_status(401)
            self.show(WRONG, name, target)


class FileRoute(_Page):
    def get(self, name: str) -> None:
        self.set_header("Content-Type", FILES[name])
        self.set_header("Cache-Control", "no-cache")
        self.finish((ASSETS / name).read_bytes())


class WithProvider(_Page):
    """Goes to the provider."""

    def get(self) -> None:
        provider = self.login.provider
        if provider is None or not self.access.asks:
            raise HTTPError(404, "no provider's login is set up here")
        state, challenge = self.login.leave(target_of(self.get_query_argument("next", "/")))
        self.set_cookie(
            f"{self.access.cookie}-with",
            state,
            httponly=True,
            samesite="Lax",
            secure=self.access.is_encrypted(self),
            path="/login/back",
            max_age=int(PENDING_S),
        )
        asked = {
            "response_type": "code",
            "client_id": provider.key,
            "redirect_uri": back_at(self),
            "scope": provider.scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        self.redirect(f"{provider.authorize_url}{'&' if '?' in provider.authorize_url else '?'}{urlencode(asked)}")


class FromProvider(_Page):
    """Comes back from the provider: who it says somebody is comes in where there is an account of that name."""

    async def get(self) -> None:
        provider, accounts = self.login.provider, self.access.accounts
        if provider is None or accounts is None or not self.access.asks:
            raise HTTPError(404, "no provider's login is set up here")
        state, cookie = self.get_query_argument("state", ""), f"{self.access.cookie}-with"
        held = self.get_cookie(cookie) or ""
        self.clear_cookie(cookie, path="/login/back")
        found = self.login.returned(state) if state and hmac.compare_digest(state.encode(), held.encode()) else None
        if found is None:
            self._refuse(f"This login was begun elsewhere, or too long ago: log in with {provider.title} again.")
            return
        proof, target = found
        code = self.get_query_argument("code", "")
        if not code:
            self._refuse(f"{provider.title} did not log you in; try again, or use a password.", target)
            return
        try:
            name = name_of(provider, await self._info(provider, code, proof))
        except AccessError as error:
            self._refuse(str(error), target)
            return
        account = accounts.of(name)
        if account is None or account.hash:
            self._refuse(f"{provider.title} knows you as {name[:80]}, and this survey has no account for that.", target)
            return
        self.access.let_in(self, await self.begin(accounts, account))
        self.redirect(target)

    def _refuse(self, said: str, target: str = "/") -> None:
        self.set_status(401)
        self.show(said, target=target)

    async def _info(self, provider: Provider, code: str, proof: str) -> Any:
        """What the provider says of whoever came back with this code.

        Raises
        ------
        AccessError
            It cannot be reached, or says no.
        """
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER, max_buffer_size=MAX_ANSWER)
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back_at(self),
            "client_id": provider.key,
            "client_secret": provider.secret,
            "code_verifier": proof,
        }
        common: dict[str, Any] = {"follow_redirects": False, "request_timeout": 20.0, "connect_timeout": 10.0}
        headers = {"Accept": "application/json", "User-Agent": "Voorwerp"}
        try:
            form = headers | {"Content-Type": "application/x-www-form-urlencoded"}
            sent = HTTPRequest(provider.token_url, "POST", form, urlencode(asked), **common)
            token = orjson.loads((await client.fetch(sent)).body)["access_token"]
            bearer = headers | {"Authorization": f"Bearer {token}"}
            return orjson.loads((await client.fetch(HTTPRequest(provider.user_url, headers=bearer, **common))).body)
        except Exception:  # of the network, of HTTP, of what was sent: for the visitor it is the same
            raise AccessError(f"{provider.title} could not be asked who you are; try again in a moment.") from None
        finally:
            client.close()


def back_at(page: _Page) -> str:
    """The address that a provider sends people back to."""
    scheme = "https" if page.access.is_encrypted(page) else "http"
    return f"{scheme}://{page.request.host}/login/back"


class Logout(Change):
    """Ends the login of whoever asks."""

    needs = "viewer"

    async def answer(self, *path: str) -> tuple[bytes, str]:
        if self.access.accounts is not None and self.access.asks:
            await asyncio.to_thread(self.access.accounts.log_out, self.get_cookie(self.access.cookie) or "")
        self.clear_cookie(self.access.cookie)
        return b"{}", "application/json"


def login_routes(login: Login, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The table of handlers for `pn.serve(extra_patterns=…)`; `given` is what every `Route` takes."""
    names = "|".join(re.escape(name) for name in FILES)
    return [
        (rf"/login/({names})", FileRoute, {"login": login}),
        (r"/login/with", WithProvider, {"login": login}),
        (r"/login/back", FromProvider, {"login": login}),
        (r"/logout", Logout, given),
    ]
