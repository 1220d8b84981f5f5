"""SecApp's commands (docs/card-interface.md), written from that document alone.

Owns what an APDU means under T=1: SELECT, channels, chains, GET-UID, PROCESS-RESPONSE, GET DATA,
SIGN-SESSION, INTERNAL AUTHENTICATE. Refuses to know readers and the protocol's decisions (`gts_card`).
There is no secure channel, and of the card manager no more than its name: the card is born personalised.
"""

from gts_card import Status
from gts_protocol import tlv

AID = bytes.fromhex("F047545341505001")
CARD_MANAGER = bytes.fromhex("A000000151000000")
CHAINED = 0x10


class Command:
    """One command APDU: header, data, Le (None if absent)."""

    def __init__(self, apdu):
        if len(apdu) < 4:
            raise Status(0x6700)
        self.cla, self.ins, self.p1, self.p2 = apdu[:4]
        self.data, self.le = _body(apdu[4:])

    @property
    def channel(self):
        return self.cla & 3

    @property
    def is_proprietary(self):
        return bool(self.cla & 0x80)

    @property
    def is_chained(self):
        return bool(self.cla & CHAINED)

    @property
    def is_get_response(self):
        return self.cla & 0xFC == 0 and (self.ins, self.p1, self.p2) == (0xC0, 0, 0)

    def continues(self, chain):
        """Whether it is the next command of the chain that `chain` was the last one of."""
        head = (chain.cla & ~CHAINED, chain.ins, chain.p1, chain.p2)
        return head == (self.cla & ~CHAINED, self.ins, self.p1, self.p2)


def _body(body):
    """(data, Le) of cases 1 to 4, short and extended (ISO/IEC 7816-3, 12.1)."""
    if not body:
        return b"", None
    if len(body) == 1:
        return b"", body[0] or 256
    if body[0]:
        return _split(body[1:], body[0], 1, 256)
    if len(body) < 3:
        raise Status(0x6700)
    size = int.from_bytes(body[1:3], "big")
    if len(body) == 3:
        return b"", size or 65536
    return _split(body[3:], size, 2, 65536)


def _split(rest, size, le_bytes, most):
    tail = rest[size:]
    if size == 0 or len(rest) < size or len(tail) not in (0, le_bytes):
        raise Status(0x6700)
    return rest[:size], (int.from_bytes(tail, "big") or most) if tail else None


class SecApp:
    """A card in a reader: `transmit` takes a command and gives the answer with its status word."""

    atr = bytes.fromhex("3B8C8131FE458073C001DB565365634170702C")

    def __init__(self, card):
        self.card = card
        self.reset()

    def reset(self):
        self.card.reset()
        self._selected = {0: CARD_MANAGER}
        self._rest, self._rest_of = b"", None
        self._chain = None

    def transmit(self, apdu):
        try:
            command = self._read(apdu)
            if command.is_get_response:
                return self._part(self._waiting(command), command)
            self._rest = b""
            return self._part(self._run(command), command)
        except Status as status:
            return status.word.to_bytes(2, "big")

    def _read(self, apdu):
        """The checks before a command has a meaning, in the order of the document."""
        _need(apdu, 0x6700)
        cla = apdu[0]
        _need(cla & 0xE0 not in (0x20, 0xA0) and cla != 0xFF, 0x6E00)
        _need(not cla & 0x40 and cla & 3 in self._selected, 0x6881)
        return Command(apdu)

    def _part(self, answer, command):
        """As much as Le allows; the rest waits for GET RESPONSE on the same channel."""
        le = command.le or 0
        part, self._rest, self._rest_of = answer[:le], answer[le:], command.channel
        left = len(self._rest)
        return part + (bytes([0x61, left if left < 256 else 0]) if left else b"\x90\x00")

    def _waiting(self, command):
        _need(self._rest and self._rest_of == command.channel, 0x6985)
        _need(command.le, 0x6C00 | (len(self._rest) & 0xFF))
        return self._rest

    def _run(self, command):
        chain, self._chain = self._chain, None
        _need(chain is None or command.continues(chain), 0x6883)
        _need(not command.cla & 0x0C, 0x6882)
        parameters_fit, takes_chain, least, most, run = self._instruction(command)
        _need(parameters_fit(command.p1, command.p2), 0x6A86)
        _need(takes_chain or not command.is_chained, 0x6884)
        if chain:
            command.data = chain.data + command.data
        _need(len(command.data) <= most, 0x6700)
        if command.is_chained:
            _need(command.data, 0x6700)
            self._chain = command
            return b""
        _need(len(command.data) >= least, 0x6700)
        return run(command)

    def _instruction(self, command):
        """(whether P1 and P2 fit, whether it takes chains, least and most data, what it does)."""
        if not command.is_proprietary:
            found = {
                0x70: (lambda p1, p2: p1 in (0, 0x80) and p2 < 4, False, 0, 0, self._manage_channel),
                0xA4: (lambda p1, p2: p1 == 4 and p2 in (0, 2, 12), False, 0, 16, self._select),
            }.get(command.ins)
            return found or _refuse(0x6E00)
        if self._selected[command.channel] != AID:
            raise Status(0x6D00)
        zero = lambda p1, p2: p1 == p2 == 0  # noqa: E731
        found = {
            0x40: (lambda p1, p2: p1 in (0, 1) and p2 == 0, False, 0, 0, self._get_uid),
            0x42: (zero, True, 1, 65535, lambda c: self.card.process_response(c.data)),
            0xCA: (lambda p1, p2: True, False, 0, 0, self._get_data),
            0x44: (zero, True, 16, 16, lambda c: self.card.session_proof(c.data)),
            0x88: (lambda p1, p2: p1 == 0, True, 16, 64, self._sign),
        }.get(command.ins)
        return found or _refuse(0x6D00)

    def _manage_channel(self, command):
        number = command.p2
        if command.p1 == 0x80:
            number = number or command.channel
            _need(number, 0x6A86)
            _need(number in self._selected, 0x6881)
            del self._selected[number]
            return b""
        if number:
            _need(number not in self._selected, 0x6A86)
        else:
            number = next((n for n in (1, 2, 3) if n not in self._selected), None)
            _need(number, 0x6A81)
        own = self._selected[command.channel]
        self._selected[number] = CARD_MANAGER if command.channel == 0 else own
        return b"" if command.p2 else bytes([number])

    def _select(self, command):
        _need(not command.data or len(command.data) >= 5, 0x6700)
        found = [aid for aid in (AID, CARD_MANAGER) if aid.startswith(command.data)]
        if not command.data:
            found = [CARD_MANAGER]
        if command.p2 == 2 and self._selected[command.channel] in found:
            found = found[found.index(self._selected[command.channel]) + 1 :]
        _need(found, 0x6A82)
        self._selected[command.channel] = found[0]
        return b"" if command.p2 == 12 else self._fci(found[0])

    def _fci(self, aid):
        if aid == CARD_MANAGER:
            about = tlv("9f65", b"\xff") + tlv("9f70", b"\x01")
        else:
            about = tlv("c1", b"\x01") + tlv("c2", bytes([self.card.mode])) + tlv("c3", b"\x0f")
        return tlv("6f", tlv("84", aid) + tlv("a5", about))

    def _get_uid(self, command):
        return self.card.get_uid(unanswered=command.p1 == 1)

    def _get_data(self, command):
        p1, p2 = command.p1, command.p2
        if p1 == 1:
            return tlv("7f49", tlv("86", self._key_pair(p2).point()))
        objects = {
            0xE1: lambda: self.card.outcome,
            0xE7: self.card.statistics,
            0x5A: lambda: tlv("5a", self.card.iccid),
        }
        found = objects[p2]() if p1 == 0 and p2 in objects else None
        return found or _refuse(0x6A88)

    def _sign(self, command):
        return self._key_pair(command.p2).sign(command.data)

    def _key_pair(self, slot):
        return self.card.key_pairs.get(slot) or _refuse(0x6A88)


def _need(holds, word):
    if not holds:
        raise Status(word)


def _refuse(word):
    raise Status(word)
