"""The worked examples of docs/protocol.md, section 10, against this implementation.

Owns the values printed there. Run: /usr/bin/python3 -m unittest test_examples
"""

import unittest

from gts_card import Card, Status
from gts_protocol import Link, Profile, cmac, iccid_bytes, kdf


def profile(iccid, key, mode=3, first_identity="iccid"):
    return Profile.of({"iccid": iccid, "key": key, "mode": mode, "first_identity": first_identity})


FIRST = profile("8988218054481680701", "be1f2223c2f71d76cb280a0a4562d7f3")
S = bytes.fromhex("853edc7f5999f3291405729d55a79f67")


REFUSED = {
    "81353edc94578f2306093330505367d5aa5f3c8c4ba1cc28456f": 0x6A80,
    "81353edc94578f2306093330505367d5aa5f3c8c4ba1cc28456fa5ea4400": 0x9862,
    "81fd512d1f6641e0beee510577ef83d31355281faf10abc85b593ab914": 0x9865,
    "81b9631bc00b875cc242402c1aa2af4483f03d86256f35ce321456d79b": 0x9865,
}


class Examples(unittest.TestCase):
    def hex_is(self, value, text):
        self.assertEqual(value.hex(), text)

    def test_personalisation(self):
        self.hex_is(FIRST.uid1, "988812084584610807f1")
        self.hex_is(FIRST.derive(b"C"), "aa942bd3177ba1678c579c940f3e6ba2")
        self.hex_is(FIRST.derive(b"G"), "40a257a1835864a1cf026f22fe6903f5")
        self.hex_is(FIRST.derive(b"H"), "d1299d9c9fa4e78e479c53c69b007cea")
        s_dev = kdf(S, b"S", 0, b"sub-63b2d5c3" + bytes(4), 16)
        self.hex_is(s_dev, "a75fa17e028ab23e00eadac4ad78ffbf")
        uid_rand = kdf(s_dev, b"R", 0, FIRST.uid1 + bytes(5), 8)
        self.hex_is(uid_rand, "b2db4bdb703bdc5c")

    def test_first_and_second_exchange(self):
        one = FIRST.first_link()
        self.hex_is(one.poll(0), "2100988812084584610807f1a591c8f819a053fe")
        rand = bytes.fromhex("b2db4bdb703bdc5c")
        answer = one.seal(bytes.fromhex("8000"), 1, rand)
        self.hex_is(answer, "81db7cd510669a26527fc53c98cc64fdf1431f96c000533d7c4207feb3")
        self.assertEqual(one.open(answer), (bytes.fromhex("8000"), 1, rand))
        self.assertIsNone(one.open(answer[:-1] + b"\0"))
        two = one.child(rand)
        self.hex_is(two.uid + two.key, "2dd8555e63131f9811a303b277d47c0f74c94bd9ffd1a9a136aa")
        self.hex_is(two.poll(1), "21012dd8555e63131f9811a3981772c193691993")
        rand = bytes.fromhex("66ade9745ae0b364")
        update = bytes.fromhex("8104678900018200")
        self.hex_is(
            two.seal(update, 2, rand),
            "81de32205cb984dfe9638729efdb9221c68c54e8d9b1ac7655776670b6f6a431c8023b",
        )
        self.hex_is(
            two.seal(update, 1, rand),
            "815cc776d26911f496804e0c2f3a3ec0998d788115e9ae35a5fa5c94aab5956f51fa0b",
        )
        three = two.child(rand)
        self.hex_is(three.uid + three.key, "3ace50e6f3a97fe1bdbac86c6f315da95aaec9af704230b16a66")

    def test_recovery(self):
        recovery = FIRST.first_recovery()
        self.hex_is(recovery.link.poll(24), "21182f70c5fdeae654130c1dcc519eddb680ac12")
        rand = bytes.fromhex("2881490e16d86e29")
        self.hex_is(
            recovery.link.seal(bytes.fromhex("8000"), 1, rand),
            "813816f53537c8dbf5601211cd2eaa9d7db73a7ac875a960ff16c80633",
        )
        child = recovery.link.child(rand)
        self.hex_is(child.uid + child.key, "1137fe8bcbad96a8b0ef99095288bd0f841e229f34ca5790404f")
        self.hex_is(recovery.next().link.key, "0006e0e838e9937631a423c4252e86a6")
        self.hex_is(recovery.next().link.uid, "bcc4277eeb1373f25aa7")

    def test_session_proof(self):
        challenge = bytes.fromhex("5c52f7f02d36f551d1da682eb74d47e4")
        proof = cmac(FIRST.derive(b"H"), challenge + FIRST.iccid)
        self.hex_is(proof, "5f6141a9f5a0ea8010b904131ab58640")

    def test_refused_answers(self):
        card = Card(FIRST)
        key = bytes.fromhex("b24014316c59b4a9e0ac7b094bce0042")
        card.link = Link(3, bytes.fromhex("d7238fd3484802093db0"), key)
        card.get_uid(unanswered=False)
        before = card.link
        for answer, word in REFUSED.items():
            with self.assertRaises(Status) as refused:
                card.process_response(bytes.fromhex(answer))
            self.assertEqual(refused.exception.word, word)
        self.assertEqual((card.link, card.refused), (before, len(REFUSED)))

    def test_aes_256(self):
        key = "0b44495efca325d6894dbc38d66ee5526ff63e42a0aee19889ca6dd47674eaf0"
        uid1 = "uid:988870648710406707f6"
        one = profile("8988218054481680701", key, 3, uid1).first_link()
        self.hex_is(one.key, "c56190a440d9e81f1c1f816e2c8819ccaf5ec7b1bbd280643c5d085d2bef504d")
        self.hex_is(one.poll(0), "2100988870648710406707f627a593e2461adbc0")
        rand = bytes.fromhex("ff936da95759b14d")
        self.hex_is(
            one.seal(bytes.fromhex("8000"), 1, rand),
            "81b9cb45d4b51186cc161b83ca6199bffa5b6a2becd2b2456f68fed60b",
        )
        two = one.child(rand)
        self.hex_is(two.uid, "6541abc40b50d96a4caa")
        self.hex_is(two.key, "17aefc484b4a4811e3dbacf02bf0d1d2c3f49a705327dd52e8c2a72e2e069d53")

    def test_mode_0(self):
        given = profile(
            "8988218054481680701",
            "18d6e1cac2a8adaf25577cca14db7753",
            0,
            "uid:988873142774104880f9",
        )
        one = given.first_link()
        self.hex_is(one.poll(0), "1100988873142774104880f9")
        rand = bytes.fromhex("90088fae1f50c517")
        self.hex_is(
            one.seal(bytes.fromhex("8000"), 1, rand),
            "814156241798ef9a9cedf0b1c3c9687e3c2411ee5d80cf5d993e2a8f38",
        )
        self.hex_is(one.child(rand).uid, "5725cf0968fdc2c8fb4e")
        self.assertEqual(one.child(rand).key, one.key)
        recovery = given.first_recovery().link
        self.hex_is(recovery.uid, "ce03403b81e1c7384699")
        child = recovery.child(bytes.fromhex("446dc8f704c3f240"))
        self.hex_is(child.key, "0b2070eda03c34abcdffa35957db9434")

    def test_concealed(self):
        given = profile("8988353645353881978", "cfa0e67dd1c567783b8895cb7d65ca7c", 3, "concealed")
        self.hex_is(iccid_bytes("8988353645353881978"), "988853635453831879f8")
        self.hex_is(given.uid1, "f3bfc635a14985b25f6c")
        s = bytes.fromhex("66f8cd9eb74e595018e3c67a54a36f4e")
        context = b"sub-054b5e50" + bytes.fromhex("68000000")
        self.hex_is(kdf(s, b"S", 0, context, 16), "7934e268ca7485d644e220518b1d03e1")


if __name__ == "__main__":
    unittest.main()
