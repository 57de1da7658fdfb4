"""The floor of the door: uvicorn as tidemill runs it, with an application that reads the body and answers 202.

`python -m bench.bare` prints its port and serves until it is ended.
"""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

__all__ = ["answer"]

BODY = b'{"accepted":1,"duplicate":0,"parked":0,"results":[]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    """Read the body to its end, and say that it was taken."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Serve on a free port of this machine."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(
        answer, loop="uvloop", http="httptools", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
