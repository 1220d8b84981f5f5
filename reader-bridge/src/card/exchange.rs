//! One command, its whole answer: GET RESPONSE and the repetition with the right Le, for all ports.
//!
//! Owns ISO/IEC 7816-4:2020, 5.3.4 (61XX) and 5.6 (6CXX), and the missing Le of T=0
//! (ISO/IEC 7816-3:2006, 12.2.5). Refuses to know what commands are for.

use protocol::card::{StatusWord, ins};

use super::{CardError, Held, Transport};

/// A whole answer: the data field without the status word, and the status word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The data field, put together.
    pub data: Vec<u8>,
    /// The last status word.
    pub status: StatusWord,
}

/// No answer of SecApp is longer than a short APDU's; a card that goes on is broken.
const MAX_ANSWER: usize = 4096;
/// GET RESPONSE at most so often for one command.
const MAX_ROUNDS: usize = 32;

/// Sends a short command and fetches its whole answer.
///
/// `6CXX` aborts a command before it is executed, so it is the one thing after which the same
/// command is sent again, once, with the length that the card asks for.
pub fn whole_answer(card: &mut dyn Held, command: &[u8]) -> Result<Answer, CardError> {
    let command = match card.transport() {
        Transport::T0 => without_le(command),
        Transport::Apdu => command,
    };
    let mut part = split(card.transmit(command)?)?;
    if let Some(le) = asked_le(part.status) {
        part = split(card.transmit(&with_le(command, le))?)?;
    }
    let mut data = part.data;
    let mut status = part.status;
    for _ in 0..MAX_ROUNDS {
        let [0x61, available] = status.to_bytes() else {
            return Ok(Answer { data, status });
        };
        let class = command.first().map_or(0, |cla| cla & 0x03);
        let next = split(card.transmit(&[class, ins::GET_RESPONSE, 0, 0, available])?)?;
        data.extend_from_slice(&next.data);
        status = next.status;
        if data.len() > MAX_ANSWER {
            break;
        }
    }
    Err(CardError::Broken(format!(
        "its answer does not end after {} bytes",
        data.len()
    )))
}

fn asked_le(status: StatusWord) -> Option<u8> {
    match status.to_bytes() {
        [0x6C, le] => Some(le),
        _ => None,
    }
}

fn split(mut answer: Vec<u8>) -> Result<Answer, CardError> {
    let Some((_, &status)) = answer.split_last_chunk::<2>() else {
        return Err(CardError::Broken(format!(
            "an answer of {} bytes has no status word",
            answer.len()
        )));
    };
    answer.truncate(answer.len() - 2);
    Ok(Answer {
        data: answer,
        status: status.into(),
    })
}

const HEADER: usize = 4;
const LC: usize = HEADER;

/// A case 4 command as T=0 takes it: the data, and no Le.
fn without_le(command: &[u8]) -> &[u8] {
    match command.get(LC) {
        Some(&lc) if command.len() == LC + 1 + usize::from(lc) + 1 && lc > 0 => {
            &command[..command.len() - 1]
        }
        _ => command,
    }
}

/// The same command with another Le, in the place of its own or added.
fn with_le(command: &[u8], le: u8) -> Vec<u8> {
    let has_data = command.len() > LC + 1;
    let mut again = if has_data {
        without_le(command).to_vec()
    } else {
        command[..command.len().min(HEADER)].to_vec()
    };
    again.push(le);
    again
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A card that expects these commands in this order.
    struct Script {
        transport: Transport,
        steps: VecDeque<(&'static str, &'static str)>,
    }

    impl Script {
        fn new(transport: Transport, steps: &[(&'static str, &'static str)]) -> Self {
            Self {
                transport,
                steps: steps.iter().copied().collect(),
            }
        }
    }

    impl Held for Script {
        fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
            let (expected, answer) = self
                .steps
                .pop_front()
                .expect("one more command than scripted");
            assert_eq!(hex::encode(command), expected);
            Ok(hex::decode(answer).unwrap())
        }

        fn transport(&self) -> Transport {
            self.transport
        }
    }

    fn run(transport: Transport, command: &str, steps: &[(&'static str, &'static str)]) -> Answer {
        let mut card = Script::new(transport, steps);
        let answer = whole_answer(&mut card, &hex::decode(command).unwrap()).unwrap();
        assert!(card.steps.is_empty(), "not all commands were sent");
        answer
    }

    #[test]
    fn under_t0_a_case_4_command_loses_its_le_and_its_answer_is_fetched() {
        let answer = run(
            Transport::T0,
            "8042000002aabb00",
            &[("8042000002aabb", "6103"), ("00c0000003", "0102039000")],
        );
        assert_eq!(
            (answer.data, answer.status),
            (vec![1, 2, 3], StatusWord::OK)
        );
    }

    #[test]
    fn a_wrong_le_is_repeated_once_with_the_right_one() {
        let answer = run(
            Transport::T0,
            "8040000000",
            &[("8040000000", "6c02"), ("8040000002", "01029000")],
        );
        assert_eq!(answer.data, [1, 2]);
    }

    #[test]
    fn a_second_6cxx_is_the_answer() {
        let answer = run(
            Transport::Apdu,
            "8040000000",
            &[("8040000000", "6c02"), ("8040000002", "6c02")],
        );
        assert_eq!(answer.status, StatusWord::right_le(2));
    }

    #[test]
    fn answers_in_several_parts_are_put_together() {
        let answer = run(
            Transport::Apdu,
            "80ca00e100",
            &[
                ("80ca00e100", "016101"),
                ("00c0000001", "026101"),
                ("00c0000001", "039000"),
            ],
        );
        assert_eq!(answer.data, [1, 2, 3]);
    }

    #[test]
    fn a_card_that_never_comes_to_an_end_is_broken() {
        struct Endless;
        impl Held for Endless {
            fn transmit(&mut self, _: &[u8]) -> Result<Vec<u8>, CardError> {
                Ok(vec![0x61, 0x00])
            }
        }
        let error = whole_answer(&mut Endless, &[0; 5]).unwrap_err();
        assert!(matches!(error, CardError::Broken(_)), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_of_a_card_panics(
            command in proptest::collection::vec(proptest::num::u8::ANY, 0..20),
            answers in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..6), 0..40),
            t0 in proptest::bool::ANY,
        ) {
            struct Any(VecDeque<Vec<u8>>, Transport);
            impl Held for Any {
                fn transmit(&mut self, _: &[u8]) -> Result<Vec<u8>, CardError> {
                    self.0.pop_front().ok_or(CardError::Mute(1))
                }
                fn transport(&self) -> Transport {
                    self.1
                }
            }
            let transport = if t0 { Transport::T0 } else { Transport::Apdu };
            drop(whole_answer(&mut Any(answers.into(), transport), &command));
        }
    }
}
