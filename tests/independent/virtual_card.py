"""A virtual card for a reader that speaks vsmartcard's vpcd protocol: reader-bridge's own, or pcscd's.

Owns the connection: frames of a 2-byte big-endian length and that many bytes. Of the frames of one byte
only the one that asks for the ATR is answered; all others are command APDUs. Refuses to know what an APDU means (`secapp`).
"""

import argparse
import contextlib
import json
import signal
import socket
import sys
import time

from gts_card import Card
from gts_protocol import Profile
from secapp import SecApp

OFF, ON, RESET, ATR = b"\0", b"\1", b"\2", b"\4"


def connect(address):
    """Connects as soon as the reader is there."""
    host, port = address.rsplit(":", 1)
    while True:
        try:
            return socket.create_connection((host, int(port)))
        except ConnectionRefusedError:
            time.sleep(0.05)


def receive(reader, size):
    """That many bytes, or fewer at the end of the connection."""
    data = b""
    while len(data) < size:
        # vpcd writes length and body apart, and sends the second when the first is acknowledged: at once, please.
        # The kernel forgets it after a while (tcp(7)).
        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = reader.recv(size - len(data))
        if not part:
            break
        data += part
    return data


def frames(reader):
    while len(head := receive(reader, 2)) == 2:
        size = int.from_bytes(head, "big")
        frame = receive(reader, size)
        if len(frame) < size:
            return
        yield frame


def serve(reader, app):
    """Answers the reader until it has gone: a killed one leaves by a reset of the connection."""
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with reader, contextlib.suppress(ConnectionError):
        for frame in frames(reader):
            answer = respond(frame, app)
            if answer is not None:
                reader.sendall(len(answer).to_bytes(2, "big") + answer)


def respond(frame, app):
    if frame == ATR:
        return app.atr
    if frame in (OFF, ON, RESET):
        app.reset()
        return None
    answer = app.transmit(frame)
    print(json.dumps({"command": frame.hex(), "answer": answer.hex()}), flush=True)
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=argparse.FileType(), required=True, help="JSON file")
    parser.add_argument("--vpcd", required=True, metavar="HOST:PORT")
    parser.add_argument("--stay", action="store_true", help="come back when the reader has gone")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = SecApp(Card(Profile.of(json.load(arguments.profile))))
    while True:
        serve(connect(arguments.vpcd), app)
        app.reset()
        if not arguments.stay:
            return


if __name__ == "__main__":
    main()
