#!/usr/bin/env python3
"""A camera in Python: aiortc for WebRTC, paho for MQTT. It sits in a room,
answers whoever calls, and shows a test picture, or what ffmpeg can open.

    rtc/v1/{room}/to/{me}/+        I subscribe: what anyone says to me
    rtc/v1/{room}/to/{viewer}/{me} I publish: what I say to a viewer
    rtc/v1/{room}/peers/{me}       I publish, retained: who I am
"""
import argparse
import asyncio
import json
import signal
import sys

import paho.mqtt.client as mqtt
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.contrib.media import MediaPlayer, MediaRelay
from aiortc.sdp import candidate_from_sdp
from av import VideoFrame

flags = argparse.ArgumentParser(description="a camera, on MQTT")
flags.add_argument("--broker", default="127.0.0.1:1883", help="host:port")
flags.add_argument("--tls", action="store_true", help="speak TLS, without which a password can be read on the way")
flags.add_argument("--ca", help="a file with the certificate to trust, in place of those of the system")
flags.add_argument("--room", default="garage")
flags.add_argument("--peer", default="cam1", help="the name of this camera in the room, and the MQTT user name")
flags.add_argument("--password-file", help="a file with the MQTT password")
flags.add_argument("--play", help="a file or device for ffmpeg, such as /dev/video0 (default: a test picture)")
args = flags.parse_args()
base = f"rtc/v1/{args.room}"


class TestPicture(VideoStreamTrack):
    """Stripes that move: 640x360."""

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame(640, 360, "yuv420p")
        shift = pts // 3000 * 4 % 256
        row = bytes((x + shift) % 256 for x in range(256)) * 3
        frame.planes[0].update(row[:640] * 360)
        for plane in frame.planes[1:]:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        return frame


class Camera:
    def __init__(self, say):
        self.say = say  # say(to, message)
        self.calls = {}  # (viewer, session): RTCPeerConnection
        self.locks = {}  # of each call: its messages wait for the one before them
        self.ice_servers, self.renewal = [], None
        self.player, self.relay = args.play and MediaPlayer(args.play), MediaRelay()

    async def hear(self, who, message):
        session = message.get("session")
        if who == "_":  # the server itself
            self.told(message)
        elif session:
            async with self.locks.setdefault((who, session), asyncio.Lock()):
                try:
                    await self.handle(who, session, message)
                except Exception as error:
                    print(f"what {who} says cannot be used: {error}", flush=True)
                    if message["type"] == "offer":
                        self.say(who, {"type": "bye", "session": session, "reason": "failed"})
                        await self.end(who, session)
            if (who, session) not in self.calls:
                self.locks.pop((who, session), None)

    def told(self, message):
        if message["type"] in ("hello", "ice"):
            self.ice_servers = [RTCIceServer(s["urls"], s.get("username"), s.get("credential"))
                                for s in message.get("iceServers", [])]
            if self.renewal:
                self.renewal.cancel()
            if self.ice_servers and message.get("ttl"):  # their credentials end: ask in time
                again = message["ttl"] * 3 / 4
                self.renewal = asyncio.get_running_loop().call_later(again, self.say, "_", {"type": "ice"})
        elif message["type"] == "error":
            print("the server says:", message.get("message"), flush=True)

    async def handle(self, who, session, message):
        kind, pc = message["type"], self.calls.get((who, session))
        if kind == "offer":
            await self.answer(who, session, message["sdp"])
        elif kind == "candidate" and pc and message["candidate"]:
            candidate = candidate_from_sdp(message["candidate"].split(":", 1)[1])
            candidate.sdpMid, candidate.sdpMLineIndex = message.get("sdpMid"), message.get("sdpMLineIndex")
            await pc.addIceCandidate(candidate)
        elif kind == "bye" and pc and not (message.get("reason") == "gone" and pc.connectionState == "connected"):
            print(f"{who} hung up", flush=True)
            await self.end(who, session)

    async def answer(self, who, session, sdp):
        pc = self.calls.get((who, session))
        if not pc:  # otherwise it is offered anew
            pc = self.calls[who, session] = RTCPeerConnection(RTCConfiguration(self.ice_servers))
            pc.addTrack(self.relay.subscribe(self.player.video) if self.player else TestPicture())

            @pc.on("connectionstatechange")
            async def changed():
                print(f"{who}: {pc.connectionState}", flush=True)
                if pc.connectionState in ("failed", "closed") and (who, session) in self.calls:
                    self.say(who, {"type": "bye", "session": session, "reason": "failed"})
                    await self.end(who, session)

        await pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await pc.setLocalDescription(await pc.createAnswer())  # finds all candidates
        self.say(who, {"type": "answer", "session": session, "sdp": pc.localDescription.sdp})

    async def end(self, who, session):
        pc = self.calls.pop((who, session), None)
        if pc:
            await pc.close()

    async def close(self):
        for who, session in list(self.calls):
            self.say(who, {"type": "bye", "session": session, "reason": "hangup"})
            await self.end(who, session)


async def main():
    loop, stopped, refused = asyncio.get_running_loop(), asyncio.Event(), []
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    api = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []  # paho 2, paho 1
    client = mqtt.Client(*api, client_id=args.peer)
    if args.password_file:
        client.username_pw_set(args.peer, open(args.password_file).read().strip())
    if args.tls:
        client.tls_set(ca_certs=args.ca)

    def say(to, message):
        client.publish(f"{base}/to/{to}/{args.peer}", json.dumps(message), qos=1)

    camera = Camera(say)

    def refuse(why):
        refused.append(why)
        loop.call_soon_threadsafe(stopped.set)

    def connected(client, _, __, code):
        if code in (4, 5):  # the password is wrong, or nobody of that name may come in
            refuse("the broker refuses: " + mqtt.connack_string(code))
        elif code:  # it can pass, and paho tries again
            print("the broker refuses for now:", mqtt.connack_string(code), flush=True)
        else:  # first the inbox, then presence: whoever sees us can talk to us
            client.subscribe(f"{base}/to/{args.peer}/+", qos=1)

    def subscribed(client, _, __, granted):
        if granted[0] > 2:
            return refuse(f"{args.peer} may not be in {args.room}")
        presence = {"online": True, "role": "camera", "name": "Python", "trickle": False}
        client.publish(f"{base}/peers/{args.peer}", json.dumps(presence), qos=1, retain=True)
        print(f"ready: {args.peer} is in {args.room}", flush=True)

    def heard(_, __, m):  # on paho's thread
        asyncio.run_coroutine_threadsafe(camera.hear(m.topic.rsplit("/", 1)[1], json.loads(m.payload)), loop)

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, heard
    client.on_connect_fail = lambda *_: print(f"{args.broker} cannot be reached, trying again", flush=True)
    client.reconnect_delay_set(1, 30)
    host, _, port = args.broker.rpartition(":")
    client.connect_async(host, int(port), keepalive=30)
    client.loop_start()  # which connects, again and again if need be
    await stopped.wait()
    await camera.close()
    if client.is_connected():
        client.publish(f"{base}/peers/{args.peer}", b"", qos=1, retain=True).wait_for_publish(2)
    client.disconnect()
    client.loop_stop()
    return refused[0] if refused else 0


sys.exit(asyncio.run(main()))
