"""A team's cluster on loopback: scheduler and workers as processes of their own, with TLS of a throw-away authority."""

import contextlib
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from explorer import code_version
from explorer.services.cluster import Scheduler

ROOT = Path(__file__).parents[2]


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A key and its certificate for 127.0.0.1, signed by itself: authority and everybody's identity at once."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Cluster:
    """``dask scheduler`` and ``dask worker`` processes; `stop` ends all."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cert, self.key = write_certificate(self.folder)
        self.port = free_port()
        self.start_scheduler()

    @property
    def scheduler(self) -> Scheduler:
        return Scheduler(f"tls://127.0.0.1:{self.port}", self.cert, self.cert, self.key)

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--protocol", "tls", "--no-dashboard"]
        process = self._start("scheduler", *place)
        end = time.monotonic() + 60
        while True:  # until it listens
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return process
            if time.monotonic() > end:
                raise RuntimeError((self.folder / "scheduler.log").read_text())
            time.sleep(0.05)

    def start_worker(self, name: str, version: str = "") -> subprocess.Popen[bytes]:
        """Without a nanny: killed, it is gone. `version` is what it takes its code for; "" for ours.

        Ours as it was when the tests began: whoever commits meanwhile changes that of a worker.
        """
        told = [self.scheduler.address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        told += ["--host", "127.0.0.1", "--local-directory", str(self.folder), "--death-timeout", "60"]
        told += ["--preload", "tests.explorer.pretended_version"]
        return self._start("worker", *told, environment={"PRETENDED_VERSION": version or code_version()})

    def _start(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        tls = ["--tls-ca-file", self.cert, "--tls-cert", self.cert, "--tls-key", self.key]
        command = [sys.executable, "-m", "dask", *arguments, *map(str, tls)]
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})},
            )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
