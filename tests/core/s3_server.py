"""Serves moto's S3 on a loopback port, one request at a time.

moto checks If-None-Match and then stores, in two steps; taking requests one by one makes both steps one, as they are on S3.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def main() -> None:
    """Serve on a free port and print it as the first line."""
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
