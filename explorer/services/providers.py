"""Logins of a provider (OAuth 2), as the environment sets them up.

=============================  =================================================================================
VOORWERP_OAUTH_PROVIDER        google, github, gitlab, or the name of any other, which is shown on the page
VOORWERP_OAUTH_KEY, _SECRET    what the provider calls client id and secret; ADDRESS/login/back is to be told there
VOORWERP_OAUTH_AUTHORIZE_URL   of any other: where people log in,
VOORWERP_OAUTH_TOKEN_URL       where the code that they come back with is exchanged,
VOORWERP_OAUTH_USER_URL        and where it is told who they are
VOORWERP_OAUTH_USER_KEY        what of that is the name of the account [email]
VOORWERP_OAUTH_SCOPE           [openid email]
=============================  =================================================================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from explorer.errors import AccessError, UsageError

PREFIX = "VOORWERP_OAUTH_"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where somebody logs in, and which of what it tells is their name here."""

    title: str
    key: str
    secret: str = field(repr=False)
    authorize_url: str
    token_url: str
    user_url: str
    user_key: str = "email"
    scope: str = "openid email"


#: Addresses, and the key and scope that go with them.
KNOWN: dict[str, tuple[str, str, str, str, str, str]] = {
    "google": (
        "Google",
        "https://accounts.google.com/o/oauth2/v2/auth",
        "https://oauth2.googleapis.com/token",
        "https://openidconnect.googleapis.com/v1/userinfo",
        "email",
        "openid email",
    ),
    "github": (
        "GitHub",
        "https://github.com/login/oauth/authorize",
        "https://github.com/login/oauth/access_token",
        "https://api.github.com/user",
        "login",
        "read:user",
    ),
    "gitlab": (
        "GitLab",
        "https://gitlab.com/oauth/authorize",
        "https://gitlab.com/oauth/token",
        "https://gitlab.com/oauth/userinfo",
        "email",
        "openid email",
    ),
}


def provider_of(environment: Mapping[str, str]) -> Provider | None:
    """The provider that the environment names; None without one.

    Raises
    ------
    UsageError
        Something is missing, or an address is not encrypted.
    """
    told = {
        name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX) and value
    }
    if "PROVIDER" not in told:
        return None
    title, *urls, user_key, scope = KNOWN.get(
        told["PROVIDER"].lower(), (told["PROVIDER"], "", "", "", "email", "openid email")
    )
    names = ("AUTHORIZE_URL", "TOKEN_URL", "USER_URL")
    urls = [told.get(name, url) for name, url in zip(names, urls, strict=True)]
    needed = {"KEY": told.get("KEY"), "SECRET": told.get("SECRET"), **dict(zip(names, urls, strict=True))}
    if missing := [PREFIX + name for name, value in needed.items() if not value]:
        raise UsageError(f"the login with {title} also needs {', '.join(missing)} in the environment")
    for name, url in zip(names, urls, strict=True):
        if not _is_safe(url):
            raise UsageError(f"{PREFIX}{name} is {url}; it must begin with https://")
    user_key, scope = told.get("USER_KEY", user_key), told.get("SCOPE", scope)
    authorize, token, user = urls
    return Provider(title[:40], told["KEY"], told["SECRET"], authorize, token, user, user_key, scope)


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    try:
        is_here = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_here = False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_here))


def name_of(provider: Provider, info: Any) -> str:
    """The name of the account that goes with what a provider tells of somebody.

    Raises
    ------
    AccessError
        It does not tell a name, or an address of mail that it has not seen to be theirs.
    """
    name = info.get(provider.user_key) if isinstance(info, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise AccessError(f"{provider.title} did not say who you are (it told no {provider.user_key}).")
    if provider.user_key == "email" and info.get("email_verified", True) not in (True, "true"):
        raise AccessError(f"{provider.title} has not seen that {name[:80]} is yours; confirm the address there first.")
    return name.strip()
