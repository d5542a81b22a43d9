"""One scenario with aioftp, in the current folder: HOST USER PASSWORD SCENARIO."""

import asyncio
import logging
import sys

import aioftp

host, user, password, scenario = sys.argv[1:]
logging.basicConfig(level=logging.DEBUG)
# я is 0xFF in CP1251, and with т or э behind it a Telnet command.
NAME = "объятия яя яэх.txt"


async def fetch(client, name):
    async with client.download_stream(name) as stream:
        return b"".join([block async for block in stream.iter_by_block()])


async def names(client):
    async with client.upload_stream(f"inbox/{NAME}") as stream:
        await stream.write(b"text" * 250)
    assert await fetch(client, f"inbox/{NAME}") == b"text" * 250
    await client.rename(f"inbox/{NAME}", f"inbox/2{NAME}")
    async with client.upload_stream(f"inbox/{NAME}"):
        pass
    await client.remove_file(f"inbox/{NAME}")


async def listing(client):
    async with client.upload_stream(f"inbox/{NAME}") as stream:
        await stream.write(b"text" * 250)
    assert any(NAME in str(path) for path, _ in await client.list("inbox")), "the name is not listed"


async def read_until(client, code):
    while (await client.parse_response())[0] != code:
        pass


async def keepalive(client):
    sent, taken = 0, 0
    stream = await client.download_stream("shelf/big.bin")
    async for block in stream.iter_by_block(65536):
        taken += len(block)
        if taken // (2 << 20) > sent:
            await client.stream.write(b"NOOP\r\n")
            sent += 1
    stream.close()
    # Some servers do not know NOOP in the middle of a transfer, or take two for one.
    await read_until(client, "226")
    await client.stream.write(b"SYST\r\n")
    await read_until(client, "215")
    assert taken == 8 << 20, f"{taken} bytes"


async def abort(client):
    stream = await client.download_stream("shelf/big.bin")
    await stream.read(65536)
    await client.abort()
    stream.close()
    # What is left to be said of the transfer comes first.
    await client.stream.write(b"SYST\r\n")
    await read_until(client, "215")


async def main():
    client = aioftp.Client(encoding="cp1251", socket_timeout=8)
    await client.connect(host, 21)
    await client.login(user, password)
    await {"names": names, "listing": listing, "keepalive": keepalive, "abort": abort}[scenario](client)
    # The session goes on as if nothing had been.
    assert str(await client.get_current_directory())
    assert len(await fetch(client, "shelf/small/01.txt")) == 600
    await client.quit()


asyncio.run(asyncio.wait_for(main(), 50))
