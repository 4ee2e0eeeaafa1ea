"""Reads server-sent events and says when each arrived: through a proxy that buffers they would come together.

    events.py URL
"""

import sys
import time
import urllib.request

# Without the environment's proxies: the address given is the one to talk to.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
begun = time.monotonic()
with opener.open(sys.argv[1], timeout=30) as stream:
    for line in stream:
        if line.startswith(b"data: "):
            print(f"{1000 * (time.monotonic() - begun):6.0f} ms  {line[6:].decode().strip()}", flush=True)
