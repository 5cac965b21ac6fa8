"""Asks the service from within its container, where alone it can be reached: `python -c TEXT PATH [BODY [PREFER]]`.

Prints the status and then the body, whatever they are.
"""

import os
import sys
import urllib.error
import urllib.request

path, body, prefer, *_ = [*sys.argv[1:], "", ""]
headers = {"Content-Type": "application/json", "Prefer": prefer or "wait=60"}
url = path if path.startswith("http") else f"http://127.0.0.1:{os.environ['PORT']}{path}"
request = urllib.request.Request(url, body.encode() or None, headers)
try:
    with urllib.request.urlopen(request, timeout=90) as answer:
        print(answer.status, answer.read().decode(errors="replace"))
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode(errors="replace"))
