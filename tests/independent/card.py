"""A card and its terminal in one, polling a server over UDP. See `terminal` for what standard input says.

Owns its command line. The profile is a JSON object: iccid, key, mode, first_identity.
"""

import argparse
import json

import terminal
from gts_card import Card
from gts_protocol import Profile
from secapp import SecApp


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=argparse.FileType(), required=True, help="JSON file")
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--timeout", type=float, default=2, help="seconds after each poll")
    arguments = parser.parse_args()
    card = SecApp(Card(Profile.of(json.load(arguments.profile))))
    terminal.run(card.transmit, arguments.server, arguments.timeout)


if __name__ == "__main__":
    main()
