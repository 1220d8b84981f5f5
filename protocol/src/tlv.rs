//! BER-TLV as ISO/IEC 7816-4:2020, 6.3 frames it: tags of one to three bytes, lengths of one to
//! five, definite only. Reads without copying, one level at a time, so nesting costs no stack.

use alloc::vec::Vec;

/// One data object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The tag's bytes as one number: `80`, `7F49`, …
    pub tag: u32,
    /// The value field.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// Whether the value is itself made of data objects (bit 6 of the first tag byte).
    pub fn is_constructed(&self) -> bool {
        let first = self
            .tag
            .to_be_bytes()
            .into_iter()
            .find(|byte| *byte != 0)
            .unwrap_or(0);
        first & 0x20 != 0
    }
}

/// Where and why bytes are not BER-TLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// A tag field begins with 00 (ISO/IEC 7816-4:2020, 6.3).
    #[error("offset {0}: a tag cannot begin with 00")]
    ZeroTag(usize),
    /// A tag field of more than three bytes.
    #[error("offset {0}: a tag of more than three bytes")]
    LongTag(usize),
    /// Indefinite, reserved or of more than four subsequent bytes.
    #[error("offset {0}: a length field that is not definite or has more than five bytes")]
    Length(usize),
    /// The data ends inside a field.
    #[error("offset {0}: the data ends inside an object")]
    Truncated(usize),
}

/// Reads the data objects of one level, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `data` from its beginning.
    pub const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn byte(&mut self) -> Result<u8, TlvError> {
        let byte = *self.data.get(self.at).ok_or(TlvError::Truncated(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    /// ISO/IEC 7816-4:2020, 6.3, tag fields.
    fn tag(&mut self) -> Result<u32, TlvError> {
        let start = self.at;
        let first = self.byte()?;
        if first == 0 {
            return Err(TlvError::ZeroTag(start));
        }
        let mut tag = u32::from(first);
        if first & 0x1F != 0x1F {
            return Ok(tag);
        }
        for _ in 0..2 {
            let byte = self.byte()?;
            tag = tag << 8 | u32::from(byte);
            if byte & 0x80 == 0 {
                return Ok(tag);
            }
        }
        Err(TlvError::LongTag(start))
    }

    /// ISO/IEC 7816-4:2020, 6.3, length fields. A length need not be the shortest.
    fn length(&mut self) -> Result<usize, TlvError> {
        let start = self.at;
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        let count = first & 0x7F;
        if !(1..=4).contains(&count) {
            return Err(TlvError::Length(start));
        }
        let mut length = 0usize;
        for _ in 0..count {
            length = length << 8 | usize::from(self.byte()?);
        }
        Ok(length)
    }

    fn object(&mut self) -> Result<Tlv<'a>, TlvError> {
        let tag = self.tag()?;
        let length = self.length()?;
        let rest = &self.data[self.at..];
        let value = rest
            .get(..length)
            .ok_or(TlvError::Truncated(self.data.len()))?;
        self.at += length;
        Ok(Tlv { tag, value })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Tlv<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.data.len() {
            return None;
        }
        let object = self.object();
        if object.is_err() {
            self.at = self.data.len();
        }
        Some(object)
    }
}

/// The first object with this tag on the top level of `data`; damage before it is an error.
pub fn find(data: &[u8], tag: u32) -> Result<Option<&[u8]>, TlvError> {
    for object in Reader::new(data) {
        let object = object?;
        if object.tag == tag {
            return Ok(Some(object.value));
        }
    }
    Ok(None)
}

/// Checks that the whole of `data` is BER-TLV on its top level.
pub fn check(data: &[u8]) -> Result<(), TlvError> {
    Reader::new(data).try_for_each(|object| object.map(drop))
}

/// Appends one object; the length field is the shortest there is (DER).
pub fn put(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    let tag = tag.to_be_bytes();
    let first = tag
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(tag.len() - 1);
    out.extend_from_slice(&tag[first..]);
    put_length(out, value.len());
    out.extend_from_slice(value);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    let first = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len() - 1);
    let short = &bytes[first..];
    if length >= 0x80 {
        // At most eight length bytes, since a usize has no more.
        out.push(0x80 | short.len().to_le_bytes()[0]);
    }
    out.extend_from_slice(short);
}

/// Appends a constructed object whose content `fill` writes.
pub fn put_with(out: &mut Vec<u8>, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    fill(&mut content);
    put(out, tag, &content);
}
