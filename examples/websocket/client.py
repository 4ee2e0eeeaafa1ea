"""Talks to the echo server: small and large messages, a ping while idle, many at once, a clean close.

    client.py ws://HOST:PORT [PROXY]

PROXY is an HTTP proxy, http://HOST:PORT, which is asked for CONNECT.
"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect

SIZES = [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 4_000_000]


async def main():
    proxy = sys.argv[2] if len(sys.argv) > 2 else None
    async with connect(sys.argv[1], proxy=proxy, max_size=2**23) as connection:
        for size in SIZES:
            sent = os.urandom(size)
            await connection.send(sent)
            assert await connection.recv() == sent, f"{size} bytes came back different"
        await connection.send("grüße")
        assert await connection.recv() == "grüße"
        await asyncio.wait_for(await connection.ping(), 10)

        async def send_all():
            for number in range(500):
                await connection.send(str(number))

        sending = asyncio.create_task(send_all())
        for number in range(500):
            assert await connection.recv() == str(number), "messages came out of order"
        await sending
    assert connection.close_code == 1000, connection.close_code
    print(f"websocket: {len(SIZES) + 501} messages, closed with {connection.close_code}")


asyncio.run(main())
