"""A terminal for a card in a real reader, by way of PC/SC. See `terminal` for what standard input says.

Owns its command line and the connection. Needs python3-pyscard.
"""

import argparse

from smartcard.CardConnection import CardConnection
from smartcard.CardRequest import CardRequest
from smartcard.CardType import AnyCardType
from smartcard.System import readers

import terminal


def connect(name, wait):
    """A connection to the card in the reader of this name."""
    found = [reader for reader in readers() if str(reader) == name]
    if not found:
        raise SystemExit(f"no reader {name!r} among {[str(reader) for reader in readers()]}")
    request = CardRequest(timeout=wait, readers=found, cardType=AnyCardType())
    connection = request.waitforcard().connection
    connection.connect(CardConnection.T0_protocol | CardConnection.T1_protocol)
    return connection


def transmitter(connection):
    """`transmit` over the connection, with GET RESPONSE where a T=0 card asks for it."""

    def transmit(apdu):
        data, sw1, sw2 = connection.transmit(list(apdu))
        whole = data
        while sw1 == 0x61:
            data, sw1, sw2 = connection.transmit([apdu[0] & 3, 0xC0, 0, 0, sw2])
            whole = whole + data
        if sw1 == 0x6C:
            return transmit(apdu[:4] + bytes([sw2]))
        return bytes(whole) + bytes([sw1, sw2])

    return transmit


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", required=True, help="the reader's name")
    parser.add_argument("--wait-card", type=float, default=30, help="seconds")
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--timeout", type=float, default=2, help="seconds after each poll")
    arguments = parser.parse_args()
    connection = connect(arguments.reader, arguments.wait_card)
    terminal.run(transmitter(connection), arguments.server, arguments.timeout)
    connection.disconnect()


if __name__ == "__main__":
    main()
