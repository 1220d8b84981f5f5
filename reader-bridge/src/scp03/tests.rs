//! Against recorded sessions of another host, and against hostile bytes.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn key(first: u8, len: u8) -> Key {
    let bytes: Vec<u8> = (0..len).map(|at| first + at % 16).collect();
    Key::from_bytes(&bytes).unwrap()
}

fn keys(len: u8) -> StaticKeys {
    StaticKeys {
        enc: key(0x00, len),
        mac: key(0x10, len),
        dek: key(0x20, len),
    }
}

/// A card and a host of other makes, as the project pySim recorded them in its tests: key length, host challenge,
/// challenge and cryptogram, EXTERNAL AUTHENTICATE, a command, its answer.
const RECORDED: [(u8, &str, &str, &str, &str, &str); 3] = [
    (
        16,
        "b13e5f938fc108c4",
        "3eb51047495b249f66c484c1d2ef1948",
        "84821100107d5f5826a993ebc89eea24957fa0b3ce",
        "84e291000ebf3e035c015a558d036518a28297",
        "bf3e125a1089882119900000000000000000000005971be68992dbbdfa",
    ),
    (
        16,
        "fdf38259a1e0de44",
        "3b1aca81e821f219081cdc01c26b372d",
        "84823300108c36f96bcc00724a4e13ad591d7da3f0",
        "84e2910018267a85dfe4a98fca6fb0527e0dfecce4914e40401433c87f",
        "f3ba2b1013aa6224f5e1c138d71805c569e5439b47576260b75fc021b25097cb2e68f8a0144975b9",
    ),
    (
        32,
        "97b2055fe58599fd",
        "a8439a22cedf045fa9f1903b2834f26e",
        "8482330010508a0fd959d2e547c6b33154a6be2057",
        "84e29100187a5ef717eaf1e135ae92fe54429d0e465decda65f5fe5aea",
        "ea90dbfa648a67c5eb6abc57f8530b97d0cd5647c5e8732016b55203b078dd2ace7f8bc5d1c1cd99",
    ),
];

#[test]
fn a_host_of_another_make_is_reproduced() {
    for (len, host, card, authenticate, command, answer) in RECORDED {
        let greeting = [&[0; 11][..], &[3, 0x70], &hex(card), &[0, 0, 1]].concat();
        let greeting = {
            let mut greeting = greeting;
            greeting[11] = 3;
            greeting
        };
        let level = hex(authenticate)[2];
        let (mut session, sent) = Session::open(&keys(len), &hex(host), &greeting, level).unwrap();
        assert_eq!(hex::encode(sent), authenticate);
        let sent = session.protect(&hex("80e2910006bf3e035c015a")).unwrap();
        assert_eq!(hex::encode(sent), command);
        let plain = session.open_answer(&hex(answer), [0x90, 0]).unwrap();
        assert_eq!(
            hex::encode(plain),
            "bf3e125a1089882119900000000000000000000005"
        );
        let mut spoilt = hex(answer);
        spoilt[0] ^= 1;
        assert_eq!(
            session.open_answer(&spoilt, [0x90, 0]),
            Err(Scp03Error::ResponseMac)
        );
    }
}

#[test]
fn a_card_with_other_keys_is_not_believed() {
    let (len, host, card, ..) = RECORDED[0];
    let greeting = [&[0; 11][..], &[3, 0x70], &hex(card)].concat();
    let mut other = keys(len);
    other.mac = key(0x30, len);
    let refused = Session::open(&other, &hex(host), &greeting, 0x33).map(|_| ());
    assert_eq!(refused, Err(Scp03Error::Cryptogram));
    for cut in 0..greeting.len() {
        assert!(Session::open(&keys(len), &hex(host), &greeting[..cut], 0x33).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_command_or_answer_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let (len, host, card, ..) = RECORDED[0];
        let greeting = [&[0; 11][..], &[3, 0x70], &hex(card)].concat();
        let (mut session, _) = Session::open(&keys(len), &hex(host), &greeting, 0x33).unwrap();
        drop(session.protect(&bytes));
        drop(session.open_answer(&bytes, [0x90, 0]));
        drop(Session::open(&keys(len), &hex(host), &bytes, 0x33));
    }
}
