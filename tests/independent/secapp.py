"""SecApp's commands (docs/card-interface.md), written from that document alone.

Owns what an APDU means: SELECT, channels, GET-UID, PROCESS-RESPONSE, GET DATA, SIGN-SESSION, INTERNAL
AUTHENTICATE under T=1. Refuses to know readers and the protocol's decisions (`gts_card`). There is no
secure channel: the card is born personalised.
"""

from gts_card import SLOTS, Status
from gts_protocol import tlv

AID = bytes.fromhex("F047545341505001")
CARD_MANAGER = bytes.fromhex("A000000151000000")
ATR = bytes.fromhex("3B8C8131FE458073C001DB56536563417070")


def with_check_byte(atr):
    """TCK: T0 to TCK give 0 under exclusive or (ISO/IEC 7816-3, 8.2.5)."""
    check = 0
    for byte in atr[1:]:
        check ^= byte
    return atr + bytes([check])


class Command:
    """One command APDU: header, data, Le (None if absent)."""

    def __init__(self, apdu):
        if len(apdu) < 4:
            raise Status(0x6700)
        self.cla, self.ins, self.p1, self.p2 = apdu[:4]
        self.data, self.le = _body(apdu[4:])


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

    atr = with_check_byte(ATR)

    def __init__(self, card):
        self.card = card
        self.reset()

    def reset(self):
        self.card.reset()
        self._selected = {0: CARD_MANAGER}
        self._rest = b""

    def transmit(self, apdu):
        try:
            command = Command(apdu)
            if (command.cla & 0xFC, command.ins) != (0x00, 0xC0):
                self._rest = b""
            return self._part(self._dispatch(command), command.le or 0)
        except Status as status:
            return status.word.to_bytes(2, "big")

    def _part(self, answer, le):
        """As much as Le allows; the rest waits for GET RESPONSE."""
        part, self._rest = answer[:le], answer[le:]
        left = len(self._rest)
        return part + (bytes([0x61, left if left < 256 else 0]) if left else b"\x90\x00")

    def _dispatch(self, command):
        if command.cla & 0x10:
            raise Status(0x6884)
        channel, kind = command.cla & 3, command.cla & 0xFC
        if kind not in (0x00, 0x80, 0x84):
            raise Status(0x6E00)
        if kind == 0x84:
            raise Status(0x6882)
        if kind == 0x00 and command.ins == 0x70:
            return self._manage_channel(command)
        if kind == 0x00 and command.ins == 0xA4:
            return self._select(channel, command)
        if channel not in self._selected:
            raise Status(0x6881)
        if kind == 0x00 and command.ins == 0xC0:
            _need(self._rest, 0x6985)
            return self._rest
        own = {
            0x40: self._get_uid,
            0x42: self._process_response,
            0xCA: self._get_data,
            0x44: self._sign_session,
            0x88: self._internal_authenticate,
        }
        if kind == 0x00 or self._selected[channel] != AID or command.ins not in own:
            raise Status(0x6D00)
        return own[command.ins](command)

    def _manage_channel(self, command):
        p1, p2 = command.p1, command.p2
        if p1 == 0 and p2 == 0:
            free = next((n for n in range(1, 4) if n not in self._selected), None)
            if free is None:
                raise Status(0x6A81)
            self._selected[free] = CARD_MANAGER
            return bytes([free])
        if p2 not in (1, 2, 3) or (p1 == 0) == (p2 in self._selected):
            raise Status(0x6881 if p2 in (1, 2, 3) else 0x6A86)
        if p1 == 0:
            self._selected[p2] = CARD_MANAGER
        elif p1 == 0x80:
            del self._selected[p2]
        else:
            raise Status(0x6A86)
        return b""

    def _select(self, channel, command):
        if command.p1 != 4 or command.p2 not in (0x00, 0x02, 0x0C):
            raise Status(0x6A86)
        name = command.data
        if not 5 <= len(name) <= 16 or command.p2 == 0x02:
            raise Status(0x6A82)
        found = next((aid for aid in (AID, CARD_MANAGER) if aid.startswith(name)), None)
        if found is None:
            raise Status(0x6A82)
        self._selected[channel] = found
        if command.p2 == 0x0C or found == CARD_MANAGER:
            return b""
        about = tlv("c1", b"\x01") + tlv("c2", bytes([self.card.mode])) + tlv("c3", b"\x0f")
        return tlv("6f", tlv("84", AID) + tlv("a5", about))

    def _get_uid(self, command):
        _need(command.p1 in (0, 1) and command.p2 == 0, 0x6A86)
        _need(not command.data, 0x6700)
        return self.card.get_uid(unanswered=command.p1 == 1)

    def _process_response(self, command):
        _need(command.p1 == 0 and command.p2 == 0, 0x6A86)
        _need(command.data, 0x6700)
        return self.card.process_response(command.data)

    def _get_data(self, command):
        _need(not command.data, 0x6700)
        p1, p2 = command.p1, command.p2
        if p1 == 0 and p2 == 0xE1 and self.card.outcome:
            return self.card.outcome
        if p1 == 0 and p2 == 0xE7:
            return self.card.statistics()
        if p1 == 0 and p2 == 0x5A:
            return tlv("5a", self.card.iccid)
        if p1 == 1:
            return tlv("7f49", tlv("86", self._key_pair(p2).point()))
        raise Status(0x6A88)

    def _sign_session(self, command):
        _need(command.p1 == 0 and command.p2 == 0, 0x6A86)
        _need(len(command.data) == 16, 0x6700)
        return self.card.session_proof(command.data)

    def _internal_authenticate(self, command):
        _need(command.p1 == 0 and command.p2 < SLOTS, 0x6A86)
        _need(16 <= len(command.data) <= 64, 0x6700)
        return self._key_pair(command.p2).sign(command.data)

    def _key_pair(self, slot):
        if slot not in self.card.key_pairs:
            raise Status(0x6A88)
        return self.card.key_pairs[slot]


def _need(holds, word):
    if not holds:
        raise Status(word)
