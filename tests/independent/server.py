"""A triggering server over UDP: answers polls, takes messages from standard input.

Owns the socket, the clock and the lines. The decisions are `gts_server`'s. The first line printed tells
the address; then one JSON object a line for each event. Lines of standard input:

    send REFERENCE HEX       queues a message: HEX are the objects after its id
    cancel REFERENCE ID      takes it back

--subscriptions is a JSON array of objects: reference, iccid, key, mode, first_identity.
"""

import argparse
import json
import os
import selectors
import socket
import sys
import time

from gts_protocol import Profile
from gts_server import Dropped, Refused, Server


def say(value):
    print(json.dumps(value), flush=True)


def bind(address):
    host, port = address.rsplit(":", 1)
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)[0]
    bound = socket.socket(found[0], socket.SOCK_DGRAM)
    bound.bind(found[4])
    return bound


def answer_one(bound, server):
    datagram, source = bound.recvfrom(65536)
    try:
        answer, events = server.receive(datagram, source[0], time.monotonic())
    except Dropped as why:
        say({"dropped": str(why)})
        return
    bound.sendto(answer, source)
    for event in events:
        say(event)


class Lines:
    """Lines of a file that is waited for: what a buffered reader has taken already, no selector tells."""

    def __init__(self, file):
        self.file, self.ended, self._rest = file, False, b""

    def hand_to(self, server):
        read = os.read(self.file, 65536)
        self.ended = not read
        *lines, self._rest = (self._rest + read).split(b"\n")
        for line in lines:
            obey(line.decode(), server)


def obey(line, server):
    try:
        verb, reference, argument = line.split()
        if verb == "send":
            say({"queued": server.send(reference, bytes.fromhex(argument), time.time())})
        elif verb == "cancel":
            server.cancel(reference, int(argument))
            say({"cancelled": int(argument)})
        else:
            say({"refused": f"neither send nor cancel: {line!r}"})
    except (Refused, ValueError) as why:
        say({"refused": f"{line!r}: {why}"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscriptions", type=argparse.FileType(), required=True)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    arguments = parser.parse_args()
    server, bound = Server(), bind(arguments.listen)
    for one in json.load(arguments.subscriptions):
        server.add(one["reference"], Profile.of(one))
    say({"listening": "{}:{}".format(*bound.getsockname())})
    serve(bound, server, Lines(sys.stdin.fileno()))


def serve(bound, server, lines):
    """Answers and obeys until the end of standard input."""
    with selectors.DefaultSelector() as selector:
        selector.register(bound, selectors.EVENT_READ, lambda: answer_one(bound, server))
        selector.register(lines.file, selectors.EVENT_READ, lambda: lines.hand_to(server))
        while not lines.ended:
            for key, _ in selector.select():
                key.data()


if __name__ == "__main__":
    main()
