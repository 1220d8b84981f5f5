"""The protocol, written a second time from docs/protocol.md alone.

Owns what both sides spell alike: keys, identities, datagrams, MSG (sections 2, 3, 4 of that document).
Refuses to know sockets, clocks and APDUs, and what card and server decide. The standard library and
python3-cryptography suffice.
"""

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

ROTATE, AUTH = 1, 2
PLAIN, AUTHENTICATED, RESPONSE = 0x11, 0x21, 0x81
SHORTEST_RESPONSE, LONGEST_RESPONSE = 27, 255
NOTHING_TO_DO = bytes.fromhex("8000")
FLAG_OTHERS_POLLED, FLAG_DUPLICATE, FLAG_NOT_DONE = 1, 2, 4


class Malformed(ValueError):
    """Bytes that are not of the form that they should have."""


# --- keys and identities (2) ---------------------------------------------------------------------


def cmac(key, message):
    """AES-CMAC, 16 bytes; AES-128 or AES-256 by the length of the key."""
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def kdf(key, purpose, mode, context, length):
    """NIST SP 800-108, counter mode, as 2.2 lays out its input; `length` in bytes, 1 to 32."""
    fixed = b"GTS1" + purpose + bytes([mode, 0]) + context + (8 * length).to_bytes(2, "big")
    blocks = b"".join(cmac(key, bytes([i]) + fixed) for i in (1, 2)[: -(-length // 16)])
    return blocks[:length]


def iccid_bytes(digits):
    """18 to 20 digits as EF_ICCID holds them: pairs with nibbles swapped, padded with F."""
    if not (digits.isascii() and digits.isdigit() and 18 <= len(digits) <= 20):
        raise Malformed(f"an ICCID has 18 to 20 digits, not {digits!r}")
    padded = digits.ljust(20, "f")
    return bytes.fromhex("".join(padded[i + 1] + padded[i] for i in range(0, 20, 2)))


def first_identity(key, iccid, mode, how):
    """UID_1: `iccid`, `concealed` or `uid:` and 20 hexadecimal digits."""
    if how == "iccid":
        return iccid
    if how == "concealed":
        return kdf(key, b"I", mode, iccid, 10)
    uid = bytes.fromhex(how.removeprefix("uid:"))
    if not how.startswith("uid:") or len(uid) != 10:
        raise Malformed(f"the first identity is iccid, concealed or uid:20 digits, not {how!r}")
    return uid


@dataclass(frozen=True)
class Profile:
    """What both sides of one subscription are given (2.1)."""

    iccid: bytes
    key: bytes
    mode: int
    uid1: bytes

    @classmethod
    def of(cls, json):
        """From `iccid`, `key`, `mode`, `first_identity` of a JSON object."""
        iccid, key, mode = iccid_bytes(json["iccid"]), bytes.fromhex(json["key"]), json["mode"]
        if len(key) not in (16, 32):
            raise Malformed(f"a key has 16 or 32 bytes, not {len(key)}")
        if mode not in range(4):
            raise Malformed(f"a mode is 0 to 3, not {mode}")
        return cls(iccid, key, mode, first_identity(key, iccid, mode, json["first_identity"]))

    def derive(self, purpose):
        """K_1 (`C`), K_R(0) (`G`) or K_H (`H`)."""
        return kdf(self.key, purpose, self.mode, b"", len(self.key))

    def first_link(self):
        return Link(self.mode, self.uid1, self.derive(b"C"))

    def first_recovery(self):
        return Recovery.at(self.mode, self.uid1, 0, self.derive(b"G"))


@dataclass(frozen=True)
class Link:
    """One identity and its key, (UID_n, K_n): makes and checks what is said under them."""

    mode: int
    uid: bytes
    key: bytes
    is_recovery: bool = False

    def derive(self, purpose):
        return kdf(self.key, purpose, self.mode, b"", len(self.key))

    def child(self, uid_rand):
        """The link that an accepted response with this seed leads to."""
        context = self.uid + uid_rand
        uid = kdf(self.key, b"U", self.mode, context, 10)
        key = self.key
        if self.mode & ROTATE or self.is_recovery:
            key = kdf(self.key, b"K", self.mode, context, len(self.key))
        return Link(self.mode, uid, key)

    def poll(self, resend_counter):
        """The datagram of 3.1."""
        form = AUTHENTICATED if self.mode & AUTH else PLAIN
        head = bytes([form, resend_counter]) + self.uid
        return head + self._poll_mac(head) if form == AUTHENTICATED else head

    def poll_is_authentic(self, datagram):
        return hmac.compare_digest(self._poll_mac(datagram[:12]), datagram[12:])

    def _poll_mac(self, head):
        return cmac(self.derive(b"P"), head)[:8]

    def _tag(self, msg, sent, uid_rand):
        text = bytes([RESPONSE]) + msg + sent.to_bytes(2, "big") + self.uid + uid_rand
        return cmac(self.derive(b"M"), text)

    def _ctr(self, nonce, text):
        cipher = Cipher(algorithms.AES(self.derive(b"E")), modes.CTR(nonce + bytes(8)))
        return cipher.encryptor().update(text)

    def seal(self, msg, sent, uid_rand):
        """The response datagram of 3.2."""
        tag = self._tag(msg, sent, uid_rand)
        plain = msg + sent.to_bytes(2, "big") + tag[:8] + uid_rand
        return bytes([RESPONSE]) + tag[8:] + self._ctr(tag[8:], plain)

    def open(self, datagram):
        """(MSG, Sent, UID_Rand) of a response of the right form; None if T is wrong."""
        nonce = datagram[1:9]
        plain = self._ctr(nonce, datagram[9:])
        msg, sent, sig, uid_rand = plain[:-18], plain[-18:-16], plain[-16:-8], plain[-8:]
        sent = int.from_bytes(sent, "big")
        if not hmac.compare_digest(self._tag(msg, sent, uid_rand), sig + nonce):
            return None
        return msg, sent, uid_rand


@dataclass(frozen=True)
class Recovery:
    """The recovery identity R(e) with K_R(e), and the way to the next."""

    uid1: bytes
    e: int
    link: Link

    @classmethod
    def at(cls, mode, uid1, e, key):
        return cls(uid1, e, Link(mode, kdf(key, b"I", mode, uid1, 10), key, is_recovery=True))

    def next(self):
        link = self.link
        key = kdf(link.key, b"G", link.mode, link.uid, len(link.key))
        return Recovery.at(link.mode, self.uid1, self.e + 1, key)


def has_response_form(datagram):
    return SHORTEST_RESPONSE <= len(datagram) <= LONGEST_RESPONSE and datagram[0] == RESPONSE


# --- BER-TLV and MSG (4) -------------------------------------------------------------------------


def tlv(tag, value):
    """One object with the shortest length field; `tag` as in hexadecimal text."""
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    else:
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(octets)]) + octets
    return bytes.fromhex(tag) + length + value


def read_tlvs(data):
    """The objects in `data` as [(tag, value)], tags as lower-case hexadecimal text."""
    objects, at = [], 0
    while at < len(data):
        one, at = _read_tlv(data, at)
        objects.append(one)
    return objects


def _read_tlv(data, at):
    tag, at = _read_tag(data, at)
    size, at = _read_length(data, at)
    if at + size > len(data):
        raise Malformed(f"object {tag} is longer than what it is in")
    return (tag, data[at : at + size]), at + size


def _read_tag(data, at):
    end = at + 1
    if data[at] == 0:
        raise Malformed("a tag does not begin with 00")
    if data[at] & 0x1F == 0x1F:
        while end < len(data) and data[end] & 0x80:
            end += 1
        end += 1
    if end > len(data) or end - at > 3:
        raise Malformed("a tag of more than 3 bytes, or cut off")
    return data[at:end].hex(), end


def _read_length(data, at):
    if at >= len(data):
        raise Malformed("an object without a length")
    first, at = data[at], at + 1
    if first < 0x80:
        return first, at
    count = first & 0x7F
    if not 1 <= count <= 4 or at + count > len(data):
        raise Malformed("an indefinite, too long or cut off length")
    return int.from_bytes(data[at : at + count], "big"), at + count


def read_msg(msg):
    """(message id or None for nothing to do, the objects after it). Malformed if it cannot be acted on."""
    if not msg:
        raise Malformed("MSG is empty")
    (tag, value), *others = read_tlvs(msg)
    if (tag, value) == ("80", b""):
        return None, []
    if tag != "81" or len(value) != 4 or not any(value):
        raise Malformed("MSG begins with neither 80 nor a message id")
    return int.from_bytes(value, "big"), others
