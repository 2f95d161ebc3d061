"""Tables and positions for the applications on the same desktop: TOPCAT, Aladin, DS9.

They meet at a *hub*, which one of them runs. We speak its XML-RPC with the standard library, and only to this machine.
We never listen: nothing can be sent to us. `astropy.samp` is not used: it is deprecated since astropy 8.0, and its
calls wait without end.

References
----------
Taylor, Boch, Fitzpatrick et al. 2012, SAMP: Simple Application Messaging Protocol 1.3 (IVOA Recommendation): section 3
the messages, section 4 the standard profile, with its lock file. MTypes: https://www.ivoa.net/samp/mtypes.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import math
import os
import tempfile
import threading
import uuid
import xmlrpc.client
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.parsers.expat import ExpatError

import pyarrow as pa

from explorer.errors import SampError
from explorer.services.export import votable_bytes

#: Seconds to wait for an answer of the hub, which is on this machine.
TIMEOUT = 2.0
LOCK_FILE = ".samp"
_METADATA = {"samp.name": "Voorwerp", "samp.description.text": "Finds anomalies in galaxy images"}
#: What a hub that is gone, restarted or ill makes of a call.
_BROKEN = (OSError, xmlrpc.client.Error, http.client.HTTPException, ExpatError, ValueError)


class Samp:
    """One per server; connects when first asked to. Thread-safe; every call takes a few seconds at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hub: xmlrpc.client.ServerProxy | None = None
        self._key = ""
        self._ids: set[str] = set()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def send_table(self, table: pa.Table, name: str) -> list[str]:
        """Let every application that takes tables load `table` as VOTable; return their names.

        The file is in a temporary folder that only this user can read, until `close`.

        Raises
        ------
        SampError
            No hub, it does not answer, or nobody takes tables.
        """
        with self._lock:
            self._connect()
            receivers = self._receivers("table.load.votable")
        content = votable_bytes(table)
        identifier = f"voorwerp-{uuid.uuid4()}"
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="voorwerp-")  # 0700
            path = Path(self._folder.name) / f"{identifier}.vot"
            path.touch(0o600)
            path.write_bytes(content)
            self._connect()
            self._notify("table.load.votable", {"url": path.as_uri(), "table-id": identifier, "name": name})
        return receivers

    def point_at(self, ra: float, dec: float) -> list[str]:
        """Turn every application that shows the sky to RA and Dec, degrees; return their names.

        Raises
        ------
        SampError
            No hub, it does not answer, nobody shows the sky, or the place is not known.
        """
        if not (math.isfinite(ra) and math.isfinite(dec)):
            raise SampError("this subject has no RA and Dec to point at")
        with self._lock:
            self._connect()
            receivers = self._receivers("coord.pointAt.sky")
            self._notify("coord.pointAt.sky", {"ra": repr(float(ra)), "dec": repr(float(dec))})
            return receivers

    def close(self) -> None:
        """Leave the hub and remove the tables that were sent."""
        with self._lock:
            if self._hub is not None:
                with contextlib.suppress(SampError):  # the hub may have left before us
                    self._call("unregister")
                self._drop()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    # ------------------------------------------------------------------------------------------------- the hub
    def _connect(self) -> None:
        """Register with the hub, anew where the one we know is gone."""
        if self._hub is not None:
            try:
                self._call("getRegisteredClients")
                return
            except SampError:
                self._drop()
        url, secret = _lock_file()
        self._hub = xmlrpc.client.ServerProxy(url, transport=_Transport())
        try:
            given: Any = self._hub.samp.hub.register(secret)
            self._key = given["samp.private-key"]
            self._ids = {given["samp.self-id"], given.get("samp.hub-id", "")}
        except (*_BROKEN, TypeError, KeyError) as error:
            self._drop()
            raise SampError(
                f"the SAMP hub that {_lock_path()} names does not answer ({_reason(error)}); "
                "start TOPCAT or Aladin, then try again"
            ) from None
        self._call("declareMetadata", _METADATA)

    def _drop(self) -> None:
        if self._hub is not None:
            self._hub("close")()
        self._hub, self._key = None, ""

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call ``samp.hub.METHOD`` with our key."""
        try:
            return getattr(self._hub, f"samp.hub.{method}")(self._key, *arguments)
        except _BROKEN as error:
            raise SampError(f"the SAMP hub does not answer ({_reason(error)}); try again, or restart it") from None

    def _receivers(self, mtype: str) -> list[str]:
        names = self._names(self._call("getSubscribedClients", mtype))
        if not names:
            kind = "tables" if mtype.startswith("table") else "positions on the sky"
            raise SampError(f"no application at the SAMP hub takes {kind}; start TOPCAT, Aladin or DS9, then try again")
        return names

    def _names(self, ids: Any) -> list[str]:
        others = [i for i in ids if i not in self._ids]
        return sorted(str(self._call("getMetadata", i).get("samp.name", i)) for i in others)

    def _notify(self, mtype: str, parameters: dict[str, str]) -> None:
        # SAMP's strings have only ASCII, section 3.3
        parameters = {name: value.encode("ascii", "replace").decode() for name, value in parameters.items()}
        self._call("notifyAll", {"samp.mtype": mtype, "samp.params": parameters})


class _Transport(xmlrpc.client.Transport):
    """HTTP that gives up after `TIMEOUT`."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = TIMEOUT
        return connection


def _lock_path() -> Path:
    """Where the hub says how to reach it: SAMP 1.3, section 4.3."""
    place = os.environ.get("SAMP_HUB")
    if not place:
        return Path.home() / LOCK_FILE
    url = urlsplit(place.removeprefix("std-lockurl:"))
    if not place.startswith("std-lockurl:") or url.scheme != "file" or url.netloc not in ("", "localhost"):
        raise SampError(f"SAMP_HUB is {place}; only a lock file on this machine is used (std-lockurl:file:///…)")
    return Path(unquote(url.path))


def _lock_file() -> tuple[str, str]:
    """The hub's URL and the secret that lets us in."""
    path = _lock_path()
    try:
        if not path.is_file():  # a pipe would make us wait
            raise FileNotFoundError
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise SampError("no SAMP hub runs on this machine; start TOPCAT or Aladin, then try again") from None
    except OSError as error:
        raise SampError(f"the SAMP lock file {path} cannot be read ({error.strerror})") from None
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    values = {name.strip(): value.strip() for name, _, value in pairs}
    url, secret = values.get("samp.hub.xmlrpc.url", "").replace("\\", ""), values.get("samp.secret", "")  # Java's ":"
    if not url or not secret:
        raise SampError(f"the SAMP lock file {path} lacks samp.hub.xmlrpc.url or samp.secret; restart the hub")
    if not _is_here(url):
        raise SampError(f"the SAMP hub at {url} is not on this machine's loopback address; nothing is sent to it")
    return url, secret


def _is_here(url: str) -> bool:
    """Whether a URL leads to this machine's own loopback."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def _reason(error: BaseException) -> str:
    if isinstance(error, xmlrpc.client.Fault):
        return error.faultString
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
