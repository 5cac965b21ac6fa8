"""The image's HEALTHCHECK: code 0 if the service in this container answers 200. Python's own library, and no start-up.

`health.py [PATH [PORT]]`: `/health` on `PORT` unless told otherwise.
"""

from __future__ import annotations

import http.client
import os
import sys

WITHIN_S = 5.0


def main(arguments: list[str]) -> int:
    path = arguments[0] if arguments else "/health"
    port = int(arguments[1] if len(arguments) > 1 else os.environ.get("PORT") or 8080)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"{path} on port {port}: {error!r}")
        return 1
    finally:
        connection.close()
    print(f"{path} on port {port}: {answer.status} {said}")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
