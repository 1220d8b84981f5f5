//! Commands taken apart, to be put together again with their protection.

use super::Scp03Error;

/// A command taken apart (ISO/IEC 7816-3:2006, 12.1.3).
pub(super) struct Plain<'a> {
    pub(super) header: [u8; 4],
    pub(super) data: &'a [u8],
    pub(super) le: &'a [u8],
    pub(super) extended: bool,
}

impl<'a> Plain<'a> {
    pub(super) fn parse(command: &'a [u8]) -> Result<Self, Scp03Error> {
        let wrong =
            || Scp03Error::Command(command.len(), "its length field contradicts its length");
        let (header, body) = command.split_first_chunk().ok_or_else(wrong)?;
        let extended = body.len() > 1 && body[0] == 0;
        let (lc, width) = match body {
            [] | [_] => {
                return Ok(Self {
                    header: *header,
                    data: &[],
                    le: body,
                    extended: false,
                });
            }
            [0, _, _] => {
                return Ok(Self {
                    header: *header,
                    data: &[],
                    le: &body[1..],
                    extended: true,
                });
            }
            [0, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 3),
            [lc, ..] => (usize::from(*lc), 1),
        };
        let (data, le) = body[width..].split_at_checked(lc).ok_or_else(wrong)?;
        if le.len() > if extended { 2 } else { 1 } {
            return Err(wrong());
        }
        Ok(Self {
            header: *header,
            data,
            le,
            extended,
        })
    }
}
