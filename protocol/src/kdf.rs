//! Key derivation: NIST SP 800-108r1, counter mode, PRF AES-CMAC, an 8-bit counter from 1
//! before the fixed input.
//!
//! `block_i = CMAC(K, i:1 | "GTS1" | purpose:1 | mode:1 | 00 | context | L:2)`, L in bits; the
//! result is the first L bits of `block_1 | block_2`.
//!
//! The mode byte stands in every derivation, so that two sides that disagree on it fail at the
//! first look-up or signature instead of being talked down to a weaker one.

use crate::{
    identity::Mode,
    key::{Key, MAC_LEN, Prf},
};

/// SP 800-108's Label begins with this, whatever the purpose.
const LABEL: &[u8; 4] = b"GTS1";

/// What a derived value is for: the last byte but one of the Label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// `K_1`, the first key of a chain, from K.
    Chain = b'C',
    /// `K_enc`, from `K_n`.
    Encrypt = b'E',
    /// `K_mac`, from `K_n`.
    Mac = b'M',
    /// `K_poll`, from `K_n`.
    Poll = b'P',
    /// `UID_{n+1}`, from `K_n`.
    NextUid = b'U',
    /// `K_{n+1}`, from `K_n`.
    NextKey = b'K',
    /// `K_R(0)` from K, and `K_R(e+1)` from `K_R(e)`.
    Recovery = b'G',
    /// `R(e)` from `K_R(e)`, and a concealed `UID_1` from K.
    Identity = b'I',
    /// `K_H`, the OTA session key, from K.
    OtaSession = b'H',
    /// `S_dev`, from the server's secret S.
    DeviceSecret = b'S',
    /// `UID_Rand`, from `S_dev`.
    UidRand = b'R',
}

/// Fills `out` (at most 255 blocks of 16 bytes) with `KDF(prf's key, purpose, context)` under `mode`.
pub fn derive(prf: &Prf, purpose: Purpose, mode: Mode, context: &[&[u8]], out: &mut [u8]) {
    debug_assert!(context.len() <= MAX_CONTEXT_PARTS && out.len() <= 255 * MAC_LEN);
    let label = [
        LABEL[0],
        LABEL[1],
        LABEL[2],
        LABEL[3],
        purpose as u8,
        mode.byte(),
        0,
    ];
    let bits = u16::try_from(out.len() * 8)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut fixed: [&[u8]; MAX_CONTEXT_PARTS + 2] = [&[]; MAX_CONTEXT_PARTS + 2];
    fixed[0] = &label;
    fixed[1..=context.len()].copy_from_slice(context);
    fixed[context.len() + 1] = &bits;
    counter_mode(prf, &fixed[..context.len() + 2], out);
}

/// The longest context: identity, message id, attempt.
const MAX_CONTEXT_PARTS: usize = 3;

/// A key as long as the PRF's own, derived from it.
pub(crate) fn derive_key(
    prf: &Prf,
    parent: &Key,
    purpose: Purpose,
    mode: Mode,
    context: &[&[u8]],
) -> Key {
    Key::filled(parent.length(), |out| {
        derive(prf, purpose, mode, context, out)
    })
}

/// SP 800-108r1, 4.1, with an 8-bit counter before the fixed input data.
fn counter_mode(prf: &Prf, fixed: &[&[u8]], out: &mut [u8]) {
    for (counter, chunk) in (1u8..=255).zip(out.chunks_mut(MAC_LEN)) {
        let counter = [counter];
        let mut parts: [&[u8]; MAX_CONTEXT_PARTS + 3] = [&[]; MAX_CONTEXT_PARTS + 3];
        parts[0] = &counter;
        parts[1..=fixed.len()].copy_from_slice(fixed);
        let block = zeroize::Zeroizing::new(prf.mac(&parts));
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::counter_mode;
    use crate::key::{Key, Prf};
    use alloc::{vec, vec::Vec};

    #[derive(serde::Deserialize)]
    struct Vectors<C> {
        cases: Vec<C>,
    }

    #[derive(serde::Deserialize)]
    struct Kdf<'a> {
        key: &'a str,
        fixed: &'a str,
        output: &'a str,
    }

    #[derive(serde::Deserialize)]
    struct Cmac<'a> {
        key: &'a str,
        message: &'a str,
        output: &'a str,
    }

    #[test]
    fn counter_mode_follows_sp800_108() {
        let text = include_str!("../tests/vectors/kdf.json");
        let vectors: Vectors<Kdf> = serde_json::from_str(text).unwrap();
        assert_eq!(vectors.cases.len(), 80);
        for case in vectors.cases {
            let prf = Prf::new(&Key::from_hex(case.key).unwrap());
            let fixed = hex::decode(case.fixed).unwrap();
            let mut out = vec![0; case.output.len() / 2];
            counter_mode(&prf, &[&fixed], &mut out);
            assert_eq!(hex::encode(out), case.output);
        }
    }

    #[test]
    fn cmac_follows_rfc_4493_and_sp800_38b() {
        let text = include_str!("../tests/vectors/cmac.json");
        let vectors: Vectors<Cmac> = serde_json::from_str(text).unwrap();
        assert_eq!(vectors.cases.len(), 8);
        for case in vectors.cases {
            let prf = Prf::new(&Key::from_hex(case.key).unwrap());
            let message = hex::decode(case.message).unwrap();
            let (head, tail) = message.split_at(message.len() / 3);
            assert_eq!(hex::encode(prf.mac(&[head, tail])), case.output);
        }
    }
}
