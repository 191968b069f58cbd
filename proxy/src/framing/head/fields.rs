//! Field lines: which bytes they may have, and what those say that frame the message.

use super::super::Violation;
use super::target;

/// What the field lines so far have said.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    count: usize,
    pub(super) host: bool,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) upgrade: bool,
    pub(super) connection_upgrade: bool,
}

impl Fields {
    /// Takes one line without its end.
    pub(super) fn take(&mut self, line: &[u8], max: usize, request: bool) -> Result<(), Violation> {
        self.count += 1;
        if self.count > max {
            return Err(Violation::TooManyFields);
        }
        let (name, value) = split(line)?;
        // The length tells nearly all other names apart, the comparison is rarely made in vain.
        match name.len() {
            4 if request && name.eq_ignore_ascii_case(b"host") => self.take_host(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= has_token(value, b"upgrade");
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn take_host(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.host {
            return Err(Violation::SeveralHosts);
        }
        self.host = true;
        if target::is_authority(trim(value)) {
            Ok(())
        } else {
            Err(Violation::InvalidHost)
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.length.is_some() {
            return Err(Violation::SeveralContentLengths);
        }
        self.length = Some(digits(trim(value)).ok_or(Violation::ContentLength)?);
        Ok(())
    }

    /// Nothing but `chunked`, once, and no white space that another parser might not skip: what hides a coding
    /// from one side and not from the other begins there.
    fn take_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        let start = value.iter().position(|byte| *byte != b' ').unwrap_or(value.len());
        let value = &value[start..];
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }
}

fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let end = line
        .iter()
        .position(|byte| !is_token_byte(*byte))
        .ok_or(Violation::FieldName)?;
    match line[end..] {
        [b' ' | b'\t', ..] if end == 0 => return Err(Violation::ObsFold),
        [b':', ..] if end > 0 => {}
        [b' ' | b'\t', ..] if line[end..].trim_ascii_start().first() == Some(&b':') => {
            return Err(Violation::SpaceBeforeColon);
        }
        [b'\r', ..] => return Err(Violation::BareCarriageReturn),
        _ => return Err(Violation::FieldName),
    }
    let value = &line[end + 1..];
    if has_control(value) {
        let return_inside = value.contains(&b'\r');
        return Err(if return_inside {
            Violation::BareCarriageReturn
        } else {
            Violation::FieldValue
        });
    }
    Ok((&line[..end], value))
}

/// Whether a comma-separated list has this token.
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|item| trim(item).eq_ignore_ascii_case(token))
}

/// Whether there is a byte that a field value must not have.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    // Most values are too short for vector code, and eight bytes at a time are faster than one. A tab is rare.
    let suspicious = match bytes.last_chunk() {
        Some(tail) => bytes
            .as_chunks()
            .0
            .iter()
            .chain([tail])
            .any(|word| may_have_control(*word)),
        None => true,
    };
    suspicious && bytes.iter().any(is_control)
}

/// Whether a byte is below 0x20 or is 0x7f
/// (<https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>).
fn may_have_control(word: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(word);
    let less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & (ONES * 0x80);
    less(word, 0x20) | less(word ^ (ONES * 0x7f), 1) != 0
}

pub(in super::super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// tchar of RFC 9110, section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        let char = byte as u8;
        table[byte] = char.is_ascii_alphanumeric()
            || matches!(char, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(char, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

fn trim(value: &[u8]) -> &[u8] {
    // Line ends are not possible any more, so this is optional white space in the sense of RFC 9110.
    value.trim_ascii()
}

/// 1*DIGIT; a length that does not fit a signed number is nonsense, and some would read it as negative.
fn digits(value: &[u8]) -> Option<u64> {
    let number = value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (!value.is_empty() && i64::try_from(number).is_ok()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_found_at_any_place() {
        for len in 1..40 {
            for at in 0..len {
                for byte in 0..=255_u8 {
                    let mut value = vec![b'\xff'; len];
                    value[at] = byte;
                    let expected = byte.is_ascii_control() && byte != b'\t';
                    assert_eq!(has_control(&value), expected, "{byte} at {at} of {len}");
                }
            }
        }
    }
}
