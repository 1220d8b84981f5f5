"""Command APDUs that lead a card through responses of every kind: good ones, and each refusal. One a line.

Owns the list. Made for one profile, with seeds that are the same each time, so that two cards of that profile
can be compared: after each response come its outcome and the statistics.
"""

import argparse
import json

from gts_protocol import Profile

SEED = bytes(8)
# MSGs, each in an answer with Sent 1 to a poll with Resend_Counter 0.
MESSAGES = """
8000 - 00 80 800082 8000ff 808100 80820000 8200 a700 1f8100 9f81818100
8100 810300000182 81050000000001 8104000000008200
810400000005 8104000000058200 8104000000048200 8104000000068181 81840000000400000007
818104000000088200 8104000000098884000000020100 81040000000a9f8101009f81820100
81040000000b88020108 81040000000c88020300 81040000000d880101 81040000000e880201038802020488
81040000000f880201038802020488020208 8104ffffffff8200 8104000000108200
""".split()


class Script:
    """Prints the commands, and knows where the card is meanwhile."""

    def __init__(self, profile):
        self.link, self.recovery = profile.first_link(), profile.first_recovery()

    def poll(self, *p1s):
        for p1 in p1s:
            print(f"8040{p1}0000")

    def give(self, datagram):
        print(f"80420000{len(datagram):02x}{datagram.hex()}00")
        print("80ca00e100\n80ca00e700")

    def accept(self, msg, sent):
        self.give(self.link.seal(msg, sent, SEED))
        self.link = self.link.child(SEED)

    def recover(self, sent):
        self.give(self.recovery.link.seal(b"\x80\x00", sent, SEED))
        self.link, self.recovery = self.recovery.link.child(SEED), self.recovery.next()


def write(script):
    print("00a4040008f04754534150500100")
    for text in MESSAGES:
        script.poll("00")
        script.accept(bytes.fromhex(text.strip("-")), 1)
    refused(script)
    script.poll(*["01"] * 5)
    script.accept(b"\x80\x00", 3)
    script.poll(*["01"] * 23)
    script.give(script.recovery.link.seal(b"\x80\x00", 1, SEED))
    script.poll("01")
    script.recover(25)
    script.poll(*["01"] * 27)
    script.recover(1)
    script.poll(*["01"] * 24)
    script.accept(b"\x80\x00", 2)
    script.poll(*["01"] * 300)
    script.give(script.link.seal(b"\x80\x00", 257, SEED))
    script.accept(b"\x80\x00", 256)


def refused(script):
    good = script.link.seal(b"\x80\x00", 1, SEED)
    script.give(good)
    script.poll("00")
    for datagram in (good[:26], b"\x82" + good[1:], good + b"\0", good[:-1] + b"\0", b"\x81" + bytes(254)):
        script.give(datagram)
    script.give(script.link.seal(b"\x80\x00", 0, SEED))
    script.give(script.recovery.link.seal(b"\x80\x00", 1, SEED))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=argparse.FileType(), required=True, help="JSON file")
    write(Script(Profile.of(json.load(parser.parse_args().profile))))


if __name__ == "__main__":
    main()
