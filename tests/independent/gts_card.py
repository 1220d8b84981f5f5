"""The card's decisions (docs/protocol.md, 5), written from that document alone.

Owns the chain, the count of resends, acceptance, messages executed once, key pairs, statistics.
Refuses to know APDUs, readers and sockets: commands go in as calls, a refusal is a `Status`. The state
lives as long as the object; nothing is kept in files.
"""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gts_protocol import (
    AUTH,
    FLAG_DUPLICATE,
    FLAG_NOT_DONE,
    FLAG_OTHERS_POLLED,
    Malformed,
    cmac,
    has_response_form,
    read_msg,
    tlv,
)

SLOTS = 8


class Status(Exception):
    """A status word that is not 9000."""

    def __init__(self, word):
        super().__init__(f"{word:04X}")
        self.word = word


class P256:
    """A key pair on NIST P-256."""

    def __init__(self):
        self._private = ec.generate_private_key(ec.SECP256R1())

    def point(self):
        encoding = serialization.Encoding.X962
        form = serialization.PublicFormat.UncompressedPoint
        return self._private.public_key().public_bytes(encoding, form)

    def sign(self, challenge):
        r, s = decode_dss_signature(self._private.sign(challenge, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Ed25519:
    """A key pair on Ed25519."""

    def __init__(self):
        self._private = ed25519.Ed25519PrivateKey.generate()

    def point(self):
        raw = serialization.Encoding.Raw
        return self._private.public_key().public_bytes(raw, serialization.PublicFormat.Raw)

    def sign(self, challenge):
        return self._private.sign(challenge)


ALGORITHMS = {1: P256, 2: Ed25519}


class Card:
    """One personalised card."""

    def __init__(self, profile):
        self.iccid, self.mode = profile.iccid, profile.mode
        self.link, self.recovery = profile.first_link(), profile.first_recovery()
        self._session_key = profile.derive(b"H")
        self.count = 0
        self.last_message_id = 0
        self.outcome = None
        self.accepted = self.refused = self.polls_lost = self.answers_lost = 0
        self._refused_kept = 0
        self.key_pairs = {}
        self._poll_open = False

    def reset(self):
        """Forgets what is in RAM: the open poll, and refusals counted since the last thing written."""
        self._poll_open, self.refused = False, self._refused_kept

    @property
    def resend_counter(self):
        return min(self.count, 255)

    def get_uid(self, unanswered):
        """The poll datagram; `unanswered` (P1 = 01) raises the count of resends first."""
        if unanswered:
            self.count = min(self.count + 1, 0xFFFFFFFF)
            self._refused_kept = self.refused
        self._poll_open = True
        under_recovery = self.count >= 24 and self.count % 8 == 0
        return (self.recovery.link if under_recovery else self.link).poll(self.resend_counter)

    def process_response(self, datagram):
        """The outcome object `E1` of an accepted response; `Status` for a refused one, in the order of 5."""
        if not has_response_form(datagram):
            raise self._refusal(0x6A80)
        if not self._poll_open:
            raise Status(0x6985)
        link, opened = self._open(datagram)
        if opened is None:
            raise self._refusal(0x9862)
        msg, sent, uid_rand = opened
        flags = self._judge(sent)
        self._accept(link, msg, sent, uid_rand, flags)
        return self.outcome

    def _refusal(self, word):
        self.refused += 1
        return Status(word)

    def _open(self, datagram):
        links = [self.link] + ([self.recovery.link] if self.count >= 24 else [])
        for link in links:
            opened = link.open(datagram)
            if opened:
                return link, opened
        return None, None

    def _judge(self, sent):
        if sent == 0:
            raise self._refusal(0x9865)
        if sent <= self.resend_counter + 1:
            return 0
        if self.mode & AUTH:
            raise self._refusal(0x9865)
        return FLAG_OTHERS_POLLED

    def _accept(self, link, msg, sent, uid_rand, flags):
        flags |= self._execute(msg)
        self.accepted, self._refused_kept = self.accepted + 1, self.refused
        self.polls_lost += max(0, self.resend_counter + 1 - sent)
        self.answers_lost += sent - 1
        fields = (
            tlv("c4", sent.to_bytes(2, "big"))
            + tlv("c5", bytes([self.resend_counter]))
            + tlv("c6", bytes([flags]))
            + tlv("e3", msg)
        )
        self.outcome = tlv("e1", fields)
        self.link = link.child(uid_rand)
        if link.is_recovery:
            self.recovery = self.recovery.next()
        self.count, self._poll_open = 0, False

    def _execute(self, msg):
        try:
            message_id, objects = read_msg(msg)
        except Malformed:
            return FLAG_NOT_DONE
        if message_id is None:
            return 0
        if message_id <= self.last_message_id:
            return FLAG_DUPLICATE
        self.last_message_id = message_id
        made = [self._make_key_pair(value) for tag, value in objects if tag == "88"]
        return 0 if all(made) else FLAG_NOT_DONE

    def _make_key_pair(self, value):
        if len(value) != 2 or value[0] not in ALGORITHMS or value[1] >= SLOTS:
            return False
        self.key_pairs[value[1]] = ALGORITHMS[value[0]]()
        return True

    def statistics(self):
        """The object `E7`."""
        values = [self.accepted, self.refused, self.polls_lost, self.answers_lost]
        values += [self.recovery.e, self.last_message_id]
        tags = ["c8", "c9", "ca", "cb", "cc", "cd"]
        objects = (tlv(tag, value.to_bytes(4, "big")) for tag, value in zip(tags, values))
        return tlv("e7", b"".join(objects))

    def session_proof(self, challenge):
        return cmac(self._session_key, challenge + self.iccid)
