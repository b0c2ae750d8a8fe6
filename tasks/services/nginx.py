"""nginx as a reverse proxy on loopback, one worker, connections to the upstream kept alive: an ingress controller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.services import process
from tasks.services.relay import listens

CONFIG = """daemon off;
pid {folder}/nginx.pid;
worker_processes 1;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream backend {{ server {upstream}; keepalive 64; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@contextmanager
def proxy(upstream: str, folder: Path) -> Iterator[str]:
    """nginx in front of the loopback address `upstream` until the block ends; its own address."""
    folder.mkdir()
    port = process.free_port()
    address = f"{process.LOOPBACK}:{port}"
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, upstream=upstream, listen=address), encoding="utf-8")
    argv = ["nginx", "-p", str(folder), "-c", str(config)]
    with process.serve(argv, log=folder / "nginx.log", ready=lambda: listens(port)):
        yield address
