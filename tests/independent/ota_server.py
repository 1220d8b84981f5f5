#!/usr/bin/env python3
"""An OTA server, written from docs/ota.md alone, on the standard library's http.server and ssl (OpenSSL).

Owns one subscription's sessions: proof, command strings, their answers, and doing wrong on purpose. Refuses to know
cards and terminals. What happens is told on standard output, one JSON object a line; a request that is held waits for a
line on standard input.

    ota_server.py PLAN.json        PLAN as `Plan` reads it
"""

import datetime
import hmac
import ipaddress
import json
import queue
import secrets
import socket
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gts_protocol import Profile, cmac

PROTOCOL = "globalplatform-remote-admin/1.0"
COMMANDS = "application/vnd.globalplatform.card-content-mgt;version=1.0"
ANSWERS = "application/vnd.globalplatform.card-content-mgt-response;version=1.0"
KEYS = "application/vnd.gts.public-keys;version=1.0"


def tell(**event):
    print(json.dumps(event), flush=True)


# --- BER-TLV, as far as command strings need it ---------------------------------------------------


def tlv(tag, value):
    if len(value) < 0x80:
        length = bytes([len(value)])
    else:
        digits = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(digits)]) + digits
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + length + value


def objects(data):
    """(tag, value) of each object; tags of one byte, and 7F49."""
    at = 0
    while at < len(data):
        size = 2 if data[at] & 0x1F == 0x1F else 1
        tag, at = int.from_bytes(data[at : at + size], "big"), at + size
        length, at = data[at], at + 1
        if length > 0x80:
            digits = length & 0x7F
            length, at = int.from_bytes(data[at : at + digits], "big"), at + digits
        yield tag, data[at : at + length]
        at += length
    if at != len(data):
        raise ValueError("the last object is cut")


def command_string(commands, indefinite):
    content = b"".join(tlv(0x22, bytes.fromhex(command)) for command in commands)
    return b"\xae\x80" + content + b"\x00\x00" if indefinite else tlv(0xAA, content)


def answer_string(body):
    """Number of commands executed and the answers, in hexadecimal."""
    if body[:2] == b"\xaf\x80" and body[-2:] == b"\x00\x00":
        inner = list(objects(body[2:-2]))
    else:
        ((tag, value),) = objects(body)
        if tag != 0xAB:
            raise ValueError(f"tag {tag:02X}")
        inner = list(objects(value))
    answers = [value.hex() for tag, value in inner if tag == 0x23]
    count = [int.from_bytes(value, "big") for tag, value in inner if tag == 0x80]
    others = [tlv(tag, value).hex() for tag, value in inner if tag not in (0x23, 0x80)]
    return {"executed": count[0] if count else len(answers), "answers": answers, "others": others}


# --- what it does ---------------------------------------------------------------------------------


class Plan:
    """`iccid`, `key`, `mode`, `first_identity`: the subscription. `scripts`: lists of commands in hexadecimal.
    `indefinite`: their form. `faults`: by number of the request, from 0, what goes wrong (`Handler.FAULTS`).
    `ca`: where the CA's certificate is written; without it, no TLS."""

    def __init__(self, plan):
        self.subscription = Profile.of(plan)
        self.key = self.subscription.derive(b"H")
        self.scripts = plan["scripts"]
        self.indefinite = plan.get("indefinite", False)
        self.faults = {int(number): fault for number, fault in plan.get("faults", {}).items()}
        self.ca = plan.get("ca")
        self.other_ca = plan.get("other_ca", False)
        self.port = plan.get("port", 0)
        self.requests = 0
        self.challenges = set()
        self.done = {}
        self.lock = threading.Lock()
        self.go = queue.Queue()

    def number(self):
        with self.lock:
            self.requests += 1
            return self.requests - 1

    def challenge(self):
        challenge = secrets.token_bytes(16)
        self.challenges.add(challenge)
        return challenge

    def is_proved(self, authorization):
        scheme, _, rest = (authorization or "").partition(" ")
        if scheme.lower() != "gts-session":
            return False
        fields = dict(field.strip().split("=", 1) for field in rest.split(","))
        response = bytes.fromhex(fields["response"].strip('"'))
        digits = fields["iccid"].strip('"')
        padded = digits.ljust(20, "f")
        iccid = bytes.fromhex("".join(padded[i + 1] + padded[i] for i in range(0, 20, 2)))
        right = (cmac(self.key, challenge + iccid) for challenge in self.challenges)
        return iccid == self.subscription.iccid and any(hmac.compare_digest(r, response) for r in right)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan = None

    def log_message(self, *_):
        pass

    def do_POST(self):
        plan, number = self.plan, self.plan.number()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = {
            "request": number,
            "path": self.path,
            "resume": self.headers.get("X-Admin-Resume"),
            "from": self.headers["X-Admin-From"],
            "message": self.headers["X-GTS-Message"],
            "cut": self.headers.get("X-GTS-Script-Cut"),
            "proof": self.headers.get("Authorization") is not None,
        }
        assert self.headers["X-Admin-Protocol"] == PROTOCOL
        tell(**told)
        fault = plan.faults.get(number, "")
        if fault in self.FAULTS:
            return self.FAULTS[fault](self)
        if fault == "hold-before":
            plan.go.get()
        reply = self.reply(body)
        if fault == "reset-after":
            return self.reset()
        if fault == "hold-after":
            tell(held=number)
            plan.go.get()
        self.answer(*reply)

    def reply(self, body):
        plan = self.plan
        if not plan.is_proved(self.headers.get("Authorization")):
            challenge = f'GTS-Session realm="ota", challenge="{plan.challenge().hex()}"'
            return 401, {"WWW-Authenticate": challenge}, b""
        step = int(self.path[3:]) if self.path.startswith("/s/") else 0
        self.take(step, body)
        if step >= len(plan.scripts):
            tell(session="over")
            return 204, {}, b""
        string = command_string(plan.scripts[step], plan.indefinite)
        return 200, {"Content-Type": COMMANDS, "X-Admin-Next-URI": f"/s/{step + 1}"}, string

    def take(self, step, body):
        content = self.headers.get("Content-Type")
        if content == KEYS:
            pairs = list(objects(body))
            keys = [(asked.hex(), tlv(0x7F49, key).hex()) for (_, asked), (_, key) in zip(pairs[::2], pairs[1::2])]
            tell(keys=keys)
        elif step > 0:
            status = self.headers["X-Admin-Script-Status"]
            answer = answer_string(body) if content == ANSWERS else {}
            with self.plan.lock:
                again = self.plan.done.get(step)
                self.plan.done[step] = body
            assert again in (None, body), "another answer to the same string"
            tell(script=step - 1, status=status, again=again is not None, cut=self.headers.get("X-GTS-Script-Cut"), **answer)
        else:
            assert not body

    def answer(self, status, headers, body):
        self.send_response_only(status)
        self.send_header("X-Admin-Protocol", PROTOCOL)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    # --- doing wrong ---

    def reset(self):
        """RST instead of an answer."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        # Without TLS's own farewell.
        self.server.shutdown_request = lambda request: None
        raw = self.connection.detach() if isinstance(self.connection, ssl.SSLSocket) else None
        (socket.socket(fileno=raw) if raw is not None else self.connection).close()
        self.wfile = open("/dev/null", "wb")

    def send_raw(self, data):
        try:
            self.connection.sendall(data)
            return True
        except OSError:
            self.close_connection = True
            return False

    def endless(self):
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {COMMANDS}\r\nConnection: close\r\n\r\n"
        self.send_raw(head.encode())
        while self.send_raw(b"\xaa" * 65536):
            pass

    def huge_headers(self):
        self.send_raw(b"HTTP/1.1 204 No Content\r\n")
        while self.send_raw(b"X-Filler: " + b"a" * 4000 + b"\r\n"):
            pass

    def slow_loris(self):
        self.send_raw(b"HTTP/1.1 204 No Con")
        self.connection.recv(1)
        self.close_connection = True

    def garbage(self):
        self.send_raw(b"\x00\xff\x00 this is not HTTP \r\n\r\n")
        self.close_connection = True

    def short(self):
        self.send_raw(f"HTTP/1.1 200 OK\r\nContent-Type: {COMMANDS}\r\nContent-Length: 100\r\n\r\n\xaa".encode("latin-1"))
        self.close_connection = True

    def no_tlv(self):
        self.answer(200, {"Content-Type": COMMANDS, "X-Admin-Next-URI": "/s/1"}, b"\xaa\x10\x22\x05\x80\xca")

    def redirect(self):
        self.answer(307, {"Location": f"https://localhost:{self.server.server_port}/elsewhere"}, b"")

    def bad_challenge(self):
        self.answer(401, {"WWW-Authenticate": 'GTS-Session challenge="00"'}, b"")

    def long_challenge(self):
        self.answer(401, {"WWW-Authenticate": f'GTS-Session challenge="{"00" * 5000}"'}, b"")

    def unavailable(self):
        self.answer(503, {}, b"")

    FAULTS = {
        "reset": reset,
        "endless": endless,
        "huge-headers": huge_headers,
        "slow-loris": slow_loris,
        "garbage": garbage,
        "short": short,
        "no-tlv": no_tlv,
        "redirect": redirect,
        "bad-challenge": bad_challenge,
        "long-challenge": long_challenge,
        "unavailable": unavailable,
    }


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if isinstance(error, (ConnectionError, ssl.SSLError, TimeoutError, ValueError)) and not isinstance(error, AssertionError):
            tell(broken=type(error).__name__)
        else:
            tell(defect=repr(error))


# --- TLS ------------------------------------------------------------------------------------------


def certificate(subject, key, issuer, issuer_key, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(thing):
    return thing.public_bytes(serialization.Encoding.PEM)


def context(ca_file, other_ca):
    """A CA of its own, whose certificate goes to `ca_file`, and a server that it vouches for (or another CA does)."""
    ca_key, other_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    is_ca = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    ca = certificate("test CA", ca_key, "test CA", ca_key, is_ca)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signer = other_key if other_ca else ca_key
    server = certificate("localhost", key, "test CA", signer, [(x509.SubjectAlternativeName(names), False)])
    Path(ca_file).write_bytes(pem(ca))
    chain = Path(f"{ca_file}.server")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(pem(server) + private)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    return tls


def main():
    plan = Handler.plan = Plan(json.loads(Path(sys.argv[1]).read_text()))
    server = Server(("127.0.0.1", plan.port), Handler)
    server.daemon_threads = True
    if plan.ca:
        tls = context(plan.ca, plan.other_ca)
        # The handshake belongs to the connection's own thread.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    tell(listening=server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        plan.go.put(line)


if __name__ == "__main__":
    main()
