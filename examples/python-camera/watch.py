#!/usr/bin/env python3
"""A WHEP player in Python, for programs that look at a camera's picture: one POST
with an offer, and the answer to it. aiortc does not trickle, so that is all.

    watch.py http://127.0.0.1:8080/whep/garage/cam1
"""
import argparse
import asyncio
import json
import signal
import sys
import time
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

flags = argparse.ArgumentParser(description="plays a camera by WHEP")
flags.add_argument("endpoint")
flags.add_argument("--token-file", help="a file with the token to show")
flags.add_argument("--frames", type=int, help="end after so many")
args = flags.parse_args()
token = {"Authorization": "Bearer " + open(args.token_file).read().strip()} if args.token_file else {}


def ask(method, url, body=None, **header):
    """Returns the Location and the body of the answer."""
    with urlopen(Request(url, body, {**header, **token}, method=method), timeout=15) as answer:
        return answer.headers["Location"], answer.read().decode()


def reason(error):
    """Returns what a server says of what was wrong."""
    try:
        return json.load(error)["detail"]
    except (ValueError, KeyError):  # it is not Beckon's
        return error.reason


async def look(track, stopped):
    count = 0
    try:
        while count != args.frames:
            frame = await track.recv()  # frame.to_ndarray() has its pixels
            count += 1
            if count % 30 == 1:
                print(f"frame {count}: {frame.width}x{frame.height}", flush=True)
    except MediaStreamError:
        if not stopped.is_set():
            print("the camera has ended the call", flush=True)
    stopped.set()


async def main():
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    pc = RTCPeerConnection()
    pc.addTransceiver("video", direction="recvonly")
    looking = []

    @pc.on("track")
    def found(track):
        looking.append(asyncio.ensure_future(look(track, stopped)))

    await pc.setLocalDescription(await pc.createOffer())  # finds all candidates
    begin = time.monotonic()
    offer = pc.localDescription.sdp.encode()
    post = {"Content-Type": "application/sdp"}
    try:
        location, answer = await loop.run_in_executor(None, lambda: ask("POST", args.endpoint, offer, **post))
    except URLError as error:
        await pc.close()
        return f"{args.endpoint}: {reason(error) if isinstance(error, HTTPError) else error.reason}"
    print(f"answered after {(time.monotonic() - begin) * 1000:.0f} ms", flush=True)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await stopped.wait()
    try:
        await loop.run_in_executor(None, lambda: ask("DELETE", urljoin(args.endpoint, location)))
    except HTTPError as error:
        print("hung up:", reason(error), flush=True)  # 404: the camera was first
    await pc.close()


sys.exit(asyncio.run(main()))
