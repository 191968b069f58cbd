//! One message's head, line by line: pure, resumable, without a copy.

mod fields;

mod target;

use http::{HeaderMap, Version, header};
use memchr::memchr;

use self::fields::Fields;
use super::{Limits, Violation};

/// Longest method; the longest registered one (`UPDATEREDIRECTREF`) has 17 bytes.
const METHOD_MAX: usize = 64;
/// What a request line has besides method and target.
const REQUEST_LINE_REST: usize = "  HTTP/1.1\r\n".len();

/// What a complete head says about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes from the first one to the empty line that ends the head.
    pub len: usize,
    /// 0 in a request.
    pub status: u16,
    pub length: Option<u64>,
    pub chunked: bool,
    pub offers_upgrade: bool,
}

/// Whether a request asks for another protocol on its connection, by the guard's definition.
pub fn offers_upgrade(version: Version, headers: &HeaderMap) -> bool {
    let tokens = headers.get_all(header::CONNECTION);
    version == Version::HTTP_11
        && headers.contains_key(header::UPGRADE)
        && tokens
            .into_iter()
            .any(|value| fields::has_token(value.as_bytes(), b"upgrade"))
}

/// Reads one head. Feed it the message from its first byte; when more has arrived, from its first byte again:
/// what was seen is not looked at twice.
#[derive(Debug, Clone)]
pub struct HeadScan {
    side: Side,
    stage: Stage,
    /// Where the current line begins.
    line: usize,
    /// Up to where there is no line feed in the current line.
    searched: usize,
    /// Where the field lines begin.
    fields_at: usize,
    status: u16,
    http_11: bool,
    fields: Fields,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the first line of a request, where RFC 9112, section 2.2 lets one empty line pass.
    Start,
    FirstLine,
    Fields,
}

impl HeadScan {
    pub fn request() -> Self {
        Self::new(Side::Request, Stage::Start)
    }

    pub fn response() -> Self {
        Self::new(Side::Response, Stage::FirstLine)
    }

    fn new(side: Side, stage: Stage) -> Self {
        Self {
            side,
            stage,
            line: 0,
            searched: 0,
            fields_at: 0,
            status: 0,
            http_11: false,
            fields: Fields::default(),
        }
    }

    /// The head if it is complete in `bytes`.
    pub fn feed(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Violation> {
        loop {
            if self.stage != Stage::Fields {
                self.check_first_bytes(&bytes[self.line..])?;
            }
            let Some(found) = memchr(b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                // As for a complete line, so that it does not matter how the stream is cut.
                self.check_size(bytes.len(), limits)?;
                return Ok(None);
            };
            let end = self.searched + found + 1;
            self.check_size(end, limits)?;
            let line = without_line_end(&bytes[self.line..end])?;
            if self.take_line(line, end, limits)? {
                return self.complete(end).map(Some);
            }
            self.line = end;
            self.searched = end;
        }
    }

    /// Whether more than the tolerated empty line has come.
    pub fn has_begun(bytes: &[u8]) -> bool {
        !b"\r\n".starts_with(bytes)
    }

    pub(super) fn is_name_byte(byte: u8) -> bool {
        fields::is_token_byte(byte)
    }

    /// Refuses what cannot become a first line without waiting for its end: a TLS client waits for us.
    fn check_first_bytes(&self, line: &[u8]) -> Result<(), Violation> {
        let malformed = match self.side {
            Side::Request => Violation::RequestLine,
            Side::Response => Violation::StatusLine,
        };
        match (line, self.stage) {
            ([], _) | ([b'\r'] | [b'\r', b'\n', ..], Stage::Start) => Ok(()),
            ([0x16], _) if self.side == Side::Request => Ok(()),
            ([0x16, 0x03, ..], _) if self.side == Side::Request => Err(Violation::TlsNotSupported),
            ([b'\n', ..], _) => Err(Violation::BareLineFeed),
            ([b'\r', ..], Stage::Start) => Err(Violation::BareCarriageReturn),
            ([first, ..], _) if fields::is_token_byte(*first) => Ok(()),
            _ => Err(malformed),
        }
    }

    fn check_size(&self, end: usize, limits: &Limits) -> Result<(), Violation> {
        match (self.stage, self.side) {
            (Stage::Fields, _) if end - self.fields_at > limits.head => Err(Violation::HeadTooLarge),
            (Stage::Fields, _) => Ok(()),
            (_, Side::Request) if end - self.line > METHOD_MAX + limits.target + REQUEST_LINE_REST => {
                Err(Violation::TargetTooLong)
            }
            (_, Side::Response) if end - self.line > limits.head => Err(Violation::HeadTooLarge),
            _ => Ok(()),
        }
    }

    /// Takes one line without its end; true if it ends the head.
    fn take_line(&mut self, line: &[u8], end: usize, limits: &Limits) -> Result<bool, Violation> {
        if self.stage == Stage::Fields {
            if line.is_empty() {
                return Ok(true);
            }
            self.fields
                .take(line, limits.fields, self.side == Side::Request)?;
            return Ok(false);
        }
        if line.is_empty() {
            // Only in `Start`, see `check_first_bytes`.
            self.stage = Stage::FirstLine;
            return Ok(false);
        }
        match self.side {
            Side::Request => self.http_11 = request_line(line, limits)?,
            Side::Response => (self.http_11, self.status) = status_line(line)?,
        }
        self.fields_at = end;
        self.stage = Stage::Fields;
        Ok(false)
    }

    fn complete(&self, len: usize) -> Result<Head, Violation> {
        if self.side == Side::Request && self.http_11 && !self.fields.host {
            return Err(Violation::MissingHost);
        }
        if self.fields.chunked && self.fields.length.is_some() {
            return Err(Violation::LengthAndTransferEncoding);
        }
        if self.fields.chunked && !self.http_11 {
            return Err(Violation::TransferEncodingInHttp10);
        }
        Ok(Head {
            len,
            status: self.status,
            length: self.fields.length,
            chunked: self.fields.chunked,
            offers_upgrade: self.http_11 && self.fields.upgrade && self.fields.connection_upgrade,
        })
    }
}

fn without_line_end(line: &[u8]) -> Result<&[u8], Violation> {
    line.strip_suffix(b"\r\n").ok_or(Violation::BareLineFeed)
}

/// Checks `method SP target SP version`; true for HTTP/1.1.
fn request_line(line: &[u8], limits: &Limits) -> Result<bool, Violation> {
    if line.contains(&b'\r') {
        return Err(Violation::BareCarriageReturn);
    }
    let (method, rest) = split_at_space(line).ok_or(Violation::RequestLine)?;
    let (target, version) = split_at_space(rest).ok_or(Violation::RequestLine)?;
    let method_fits = !method.is_empty() && method.len() <= METHOD_MAX;
    if !method_fits || target.is_empty() || !method.iter().all(|byte| fields::is_token_byte(*byte)) {
        return Err(Violation::RequestLine);
    }
    let http_11 = http_version(version, Violation::RequestLine)?;
    if method == b"CONNECT" {
        return Err(Violation::Connect);
    }
    if target.len() > limits.target {
        return Err(Violation::TargetTooLong);
    }
    if target::is_valid(method, target) {
        Ok(http_11)
    } else {
        Err(Violation::Target)
    }
}

/// Checks `version SP status [SP reason]`; servers that leave the last space out are many.
fn status_line(line: &[u8]) -> Result<(bool, u16), Violation> {
    let (version, rest) = split_at_space(line).ok_or(Violation::StatusLine)?;
    let http_11 = http_version(version, Violation::StatusLine)?;
    let (code, reason) = split_at_space(rest).unwrap_or((rest, b""));
    if fields::has_control(reason) {
        return Err(if reason.contains(&b'\r') {
            Violation::BareCarriageReturn
        } else {
            Violation::StatusLine
        });
    }
    let [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = *code else {
        return Err(Violation::StatusLine);
    };
    let digit = |byte: u8| u16::from(byte - b'0');
    Ok((http_11, digit(hundreds) * 100 + digit(tens) * 10 + digit(ones)))
}

fn http_version(version: &[u8], malformed: Violation) -> Result<bool, Violation> {
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Violation::Version),
        _ => Err(malformed),
    }
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr(b' ', bytes).map(|at| (&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests;
