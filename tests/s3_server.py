"""A real S3 server on loopback: SeaweedFS from its package, on free ports, with its data in the test's folder."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET, BUCKET = "testkey", "testsecret", "bucket"
_GRPC = 10_000  # SeaweedFS also listens on each of its ports plus this offset


def credentials(endpoint: str, secret: str = SECRET) -> dict[str, str]:
    """The environment variables that point AWS's tools to a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


class S3Server:
    """A server with its own folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._ports = dict(zip(("s3", "master", "volume", "filer"), _free_ports(4), strict=True))
        self.endpoint = f"http://127.0.0.1:{self._ports['s3']}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        weed = Path(sys.executable).with_name("weed")
        ports = self._ports
        command = [
            str(weed) if weed.exists() else str(shutil.which("weed")), "-logtostderr=true", "server", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", f"-dir={self._folder / 'data'}", f"-master.port={ports['master']}",
            f"-volume.port={ports['volume']}", "-volume.max=20", "-volume.preStopSeconds=0",
            "-master.volumeSizeLimitMB=64", "-filer",
            f"-filer.port={ports['filer']}", "-s3", f"-s3.port={ports['s3']}", f"-s3.config={self._folder / 's3.json'}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        ]  # fmt: skip
        with (self._folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process is not None and self._process.poll() is None, (self._folder / "weed.log").read_text()
            try:
                urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=1).close()
            except urllib.error.HTTPError:
                return  # it answers
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("SeaweedFS did not start: " + (self._folder / "weed.log").read_text()[-2000:])

    def stop(self) -> None:
        """Stop the server and wait for its exit."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2)  # it would wait longer for open connections
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _free_ports(number: int) -> list[int]:
    """Free ports whose gRPC ports are free, too."""
    ports: list[int] = []
    port = 10_000 + os.getpid() % 10_000  # all below the system's ephemeral ports
    while len(ports) < number:
        port = port + 1 if port < 22_000 else 10_000
        if all(_is_free(p) for p in (port, port + _GRPC)):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """A server for the duration of a `with` block."""
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
