//! Where a body ends: pure, byte for byte, nothing is held back.

use super::head::HeadScan;
use super::{Limits, Violation};

/// Bytes of chunk extensions in one body: below hyper's own limit of 16 KiB, so that ours is the one that speaks.
const EXTENSIONS_MAX: usize = 8 * 1024;
/// Bytes of a trailer section, below hyper's own limit of 16 KiB as well.
const TRAILERS_MAX: usize = 15 * 1024;
/// Longest trailer name that must be recognised: `transfer-encoding`.
const NAME_MAX: usize = 17;
/// Hexadecimal digits of a chunk's size that fit a signed number of 64 bits.
const SIZE_DIGITS_MAX: u8 = 15;

/// Follows one body to its end.
#[derive(Debug, Clone)]
pub enum BodyScan {
    Length(u64),
    Chunked(ChunkScan),
    /// Of a response without a length.
    UntilClose,
}

/// Bytes that are good, and what came after them.
pub type Fed = Result<usize, (usize, Violation)>;

impl BodyScan {
    pub fn chunked(limits: &Limits) -> Self {
        Self::Chunked(ChunkScan::new(limits))
    }

    /// How many of these bytes belong to the body; fewer than all if it ends, or goes wrong, among them.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        match self {
            Self::Length(left) => {
                let taken = clamp(*left, bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(scan) => scan.feed(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(scan) => scan.state == State::Over,
            Self::UntilClose => false,
        }
    }
}

fn clamp(left: u64, len: usize) -> usize {
    usize::try_from(left).map_or(len, |left| left.min(len))
}

/// The chunked coding of RFC 9112, section 7.1.
#[derive(Debug, Clone)]
pub struct ChunkScan {
    state: State,
    /// What is left of the current chunk.
    left: u64,
    digits: u8,
    extensions: usize,
    trailers: usize,
    fields: usize,
    fields_max: usize,
    name: [u8; NAME_MAX],
    name_len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// White space before an extension.
    Space,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    End,
    Over,
}

impl ChunkScan {
    fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            extensions: 0,
            trailers: 0,
            fields: 0,
            fields_max: limits.fields,
            name: [0; NAME_MAX],
            name_len: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Fed {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Over {
            if self.state == State::Data {
                let taken = clamp(self.left, bytes.len() - at);
                self.left -= taken as u64;
                at += taken;
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            self.state = self.step(bytes[at]).map_err(|violation| (at, violation))?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, Violation> {
        match self.state {
            State::Size => self.size(byte),
            State::Space | State::Extension => self.extension(byte),
            State::SizeEnd => self.size_end(byte),
            State::DataReturn if byte == b'\r' => Ok(State::DataEnd),
            State::DataEnd if byte == b'\n' => {
                self.digits = 0;
                Ok(State::Size)
            }
            State::DataReturn | State::DataEnd => Err(Violation::ChunkEnd),
            State::End if byte == b'\n' => Ok(State::Over),
            State::End => Err(Violation::Trailer),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerEnd => {
                self.trailer(byte)
            }
            State::Data | State::Over => Ok(self.state),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, Violation> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.digits += 1;
            if self.digits > SIZE_DIGITS_MAX {
                return Err(Violation::ChunkSize);
            }
            self.left = self.left << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(Violation::ChunkSize),
            b'\r' => Ok(State::SizeEnd),
            b';' | b' ' | b'\t' => self.extension(byte),
            _ => Err(Violation::ChunkSize),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<State, Violation> {
        self.extensions += 1;
        let next = match (self.state, byte) {
            (State::Extension, b'\r') => return Ok(State::SizeEnd),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) | (State::Size | State::Space, b';') => {
                State::Extension
            }
            (State::Size | State::Space, b' ' | b'\t') => State::Space,
            _ => return Err(Violation::ChunkExtension),
        };
        if self.extensions <= EXTENSIONS_MAX {
            Ok(next)
        } else {
            Err(Violation::ChunkExtension)
        }
    }

    fn size_end(&mut self, byte: u8) -> Result<State, Violation> {
        match (byte, self.left) {
            (b'\n', 0) => Ok(State::TrailerStart),
            (b'\n', _) => Ok(State::Data),
            _ => Err(Violation::ChunkSize),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Violation> {
        self.trailers += 1;
        if self.trailers > TRAILERS_MAX {
            return Err(Violation::Trailer);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::End),
            (State::TrailerStart, _) if HeadScan::is_name_byte(byte) => self.trailer_starts(byte),
            (State::TrailerName, b':') if !self.name_frames_a_message() => Ok(State::TrailerValue),
            (State::TrailerName, _) if HeadScan::is_name_byte(byte) => {
                self.push_name(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerValue),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            _ => Err(Violation::Trailer),
        }
    }

    fn trailer_starts(&mut self, byte: u8) -> Result<State, Violation> {
        self.fields += 1;
        if self.fields > self.fields_max {
            return Err(Violation::Trailer);
        }
        self.name_len = 0;
        self.push_name(byte);
        Ok(State::TrailerName)
    }

    fn push_name(&mut self, byte: u8) {
        if let Some(place) = self.name.get_mut(self.name_len) {
            *place = byte;
        }
        self.name_len += 1;
    }

    /// Fields that must not be sent in trailers (RFC 9110, section 6.5.1), as merging them would reframe.
    fn name_frames_a_message(&self) -> bool {
        let name = self.name.get(..self.name_len).unwrap_or_default();
        ["content-length", "transfer-encoding", "host"]
            .iter()
            .any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
