"""A terminal (docs/protocol.md, 6), written from that document alone, that does what it is told.

Owns the exchange: polls, resends, giving answers to the card, acting on a message once. Refuses to keep
an interval and files: each exchange is asked for by a line of standard input, and what becomes of the
datagrams of that exchange can be said in the line, so that every loss is the same each time:

    exchange                     polls until an answer is accepted
    exchange poll answer 3*poll  loses the 1st poll, the answer to the 2nd, polls 3 to 5
    again N                      sends the last poll N times more, at once, and gives no answer to the card
    apdu HEX                     sends a command to the card and prints its answer

One JSON object is printed a line.
"""

import itertools
import json
import socket
import sys
import time

import messages
from gts_protocol import FLAG_DUPLICATE, Malformed, read_msg, read_tlvs

SELECT = bytes.fromhex("00A4040008F04754534150500100")
GET_OUTCOME = bytes.fromhex("80CA00E100")
WAIT_ON = (0x6A80, 0x9862, 0x9865)
MOST_WRONG_ANSWERS = 8


class CardRefused(Exception):
    """The card answered with a status word that ends the exchange."""


def say(value):
    print(json.dumps(value), flush=True)


class Terminal:
    """One card, by way of `transmit` (command APDU to answer with status word), and its server."""

    def __init__(self, transmit, server, timeout):
        self._transmit, self._timeout = transmit, timeout
        host, port = server.rsplit(":", 1)
        address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(address[0], socket.SOCK_DGRAM)
        # Connected: the kernel takes datagrams only from the server that was polled.
        self._socket.connect(address[4])
        self._acted_up_to = 0
        self._unanswered = False
        self._last_poll = b""

    def start(self):
        """Selects SecApp and acts on the outcome of before, if there is one."""
        self._ask(SELECT)
        word, outcome = self._command(GET_OUTCOME)
        if word == 0x9000:
            self._act(dict(read_tlvs(dict(read_tlvs(outcome))["e1"])))

    def obey(self, lines):
        """Does what each line says until the end of file."""
        for line in lines:
            verb, *words = line.split()
            if verb == "exchange":
                say(self.exchange(list(_fates(words))))
            elif verb == "again":
                self.again(int(words[0]))
            elif verb == "apdu":
                say({"answer": self._transmit(bytes.fromhex(words[0])).hex()})
            else:
                raise SystemExit(f"not understood: {line!r}")

    def exchange(self, fates, attempts=100):
        polls = []
        for fate in itertools.islice(itertools.chain(fates, itertools.repeat("")), attempts):
            poll = self._poll()
            polls.append(poll.hex())
            report = self._ask_server(poll, fate)
            if report:
                return {"polls": polls, **report}
        return {"polls": polls, "answered": False}

    def again(self, times):
        for _ in range(times):
            self._socket.send(self._last_poll)
        say({"again": times})

    def _poll(self):
        """Makes a poll: with P1 = 01 if one has gone unanswered, whoever sent it."""
        poll = self._get_uid(1 if self._unanswered else 0)
        if not self._unanswered and poll[1] > 0:
            poll = self._get_uid(1)
        self._unanswered, self._last_poll = True, poll
        return poll

    def _get_uid(self, p1):
        return self._ask(bytes([0x80, 0x40, p1, 0, 0]))

    def _ask_server(self, poll, fate):
        if fate == "poll":
            return None
        self._drain()
        self._socket.send(poll)
        deadline, wrong = time.monotonic() + self._timeout, []
        while len(wrong) < MOST_WRONG_ANSWERS:
            answer = self._receive(deadline)
            if answer is None or fate == "answer":
                return None
            word, outcome = self._give(answer)
            if word == 0x9000:
                return {"answer": answer.hex(), "refused": wrong, **self._accepted(outcome)}
            wrong.append(f"{word:04X}")
        return None

    def _drain(self):
        """Forgets answers of before, which an exchange was told to lose."""
        while self._receive(time.monotonic()) is not None:
            pass

    def _receive(self, deadline):
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-6))
            try:
                return self._socket.recv(65536)
            except TimeoutError:
                return None
            except ConnectionRefusedError:
                # Nobody listens there just now. As good as silence: wait on for the rest of the time.
                if time.monotonic() >= deadline:
                    return None

    def _give(self, answer):
        if len(answer) > 255:
            return 0x6A80, b""
        apdu = bytes([0x80, 0x42, 0, 0, len(answer)]) + answer + b"\0" if answer else b"\x80\x42\0\0\0"
        word, outcome = self._command(apdu)
        if word != 0x9000 and word not in WAIT_ON:
            raise CardRefused(f"PROCESS-RESPONSE: {word:04X}")
        return word, outcome

    def _accepted(self, outcome):
        self._unanswered = False
        fields = dict(read_tlvs(dict(read_tlvs(outcome))["e1"]))
        sent, counter = int.from_bytes(fields["c4"], "big"), fields["c5"][0]
        return {
            "answered": True,
            "sent": sent,
            "resend_counter": counter,
            "flags": fields["c6"][0],
            "msg": fields["e3"].hex(),
            "polls_lost": max(0, counter + 1 - sent),
            "answers_lost": sent - 1,
            **self._act(fields),
        }

    def _act(self, fields):
        """Acts on a message that is newer than the last one acted on, unless the card knows it."""
        try:
            message_id, objects = read_msg(fields["e3"])
        except Malformed:
            return {"message_id": None, "acted": []}
        told_off = fields["c6"][0] & FLAG_DUPLICATE
        if message_id is None or told_off or message_id <= self._acted_up_to:
            return {"message_id": message_id, "acted": []}
        self._acted_up_to = message_id
        return {"message_id": message_id, "acted": [messages.read(*one) for one in objects]}

    def _command(self, apdu):
        answer = self._transmit(apdu)
        return int.from_bytes(answer[-2:], "big"), answer[:-2]

    def _ask(self, apdu):
        word, answer = self._command(apdu)
        if word != 0x9000:
            raise CardRefused(f"{apdu.hex()}: {word:04X}")
        return answer


def _fates(words):
    for word in words:
        count, _, fate = word.rpartition("*")
        if fate not in ("poll", "answer"):
            raise SystemExit(f"poll or answer can be lost, not {word!r}")
        yield from itertools.repeat(fate, int(count or 1))


def run(transmit, server, timeout):
    terminal = Terminal(transmit, server, timeout)
    terminal.start()
    say({"ready": True})
    terminal.obey(sys.stdin)
