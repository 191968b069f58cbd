//! A second opinion: an HTTP/1 parser that shares no code with the proxy and forgives nothing.

/// Name and value of one field line, as they were written.
pub type Field = (String, Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub first_line: Vec<u8>,
    pub fields: Vec<Field>,
    /// Without its chunks.
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// So far nothing is wrong.
    Incomplete,
    Malformed(&'static str),
}

use Fault::{Incomplete, Malformed};

/// Whose message it is decides where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Client,
    /// `head` asked for no body; `closed`: nothing more will come.
    Server {
        head: bool,
        closed: bool,
    },
}

/// The first message and its length.
pub fn parse(bytes: &[u8], from: From) -> Result<(Message, usize), Fault> {
    let (first_line, fields, head) = parse_head(bytes)?;
    let mut message = Message {
        first_line,
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let length = head + message.parse_body(&bytes[head..], from)?;
    Ok((message, length))
}

/// All messages of a stream that must hold nothing else.
pub fn parse_all(mut bytes: &[u8], from: From) -> Result<Vec<Message>, Fault> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (message, length) = parse(bytes, from)?;
        messages.push(message);
        bytes = &bytes[length..];
    }
    Ok(messages)
}

impl Message {
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields.iter();
        let (_, value) = values.find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The field as text, empty if there is none.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.field(name).unwrap_or_default()).into_owned()
    }

    pub fn status(&self) -> u16 {
        let line = String::from_utf8_lossy(&self.first_line);
        let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("a status line: {line}"))
    }

    fn parse_body(&mut self, rest: &[u8], from: From) -> Result<usize, Fault> {
        let count = |name: &str| {
            let same = |(own, _): &&Field| own.eq_ignore_ascii_case(name);
            self.fields.iter().filter(same).count()
        };
        let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
        if lengths + codings > 1 {
            return Err(Malformed("the length is not clear"));
        }
        if let From::Server { head, .. } = from
            && (head || matches!(self.status(), 100..200 | 204 | 304))
        {
            return Ok(0);
        }
        if codings == 1 {
            if !self.text("transfer-encoding").eq_ignore_ascii_case("chunked") {
                return Err(Malformed("another coding than chunked"));
            }
            return self.parse_chunks(rest);
        }
        let length = match (lengths, from) {
            (1, _) => digits(self.field("content-length").unwrap_or_default())?,
            (_, From::Client) => 0,
            (_, From::Server { closed: true, .. }) => rest.len(),
            (_, From::Server { .. }) => return Err(Incomplete),
        };
        self.body = rest.get(..length).ok_or(Incomplete)?.to_vec();
        Ok(length)
    }

    fn parse_chunks(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let size = line(&rest[at..])?;
            at += size.len() + 2;
            let digits = size.split(|byte| *byte == b';' || *byte == b' ').next();
            let digits = std::str::from_utf8(digits.unwrap_or_default()).unwrap_or_default();
            let size =
                usize::from_str_radix(digits, 16).map_err(|_invalid| Malformed("a chunk without a size"))?;
            if size == 0 {
                let (trailers, length) = parse_fields(&rest[at..])?;
                self.trailers = trailers;
                return Ok(at + length);
            }
            let chunk = rest.get(at..at + size).ok_or(Incomplete)?;
            self.body.extend_from_slice(chunk);
            at += size;
            match rest.get(at..at + 2) {
                Some(b"\r\n") => at += 2,
                Some(_) => return Err(Malformed("a chunk longer than its size")),
                None => return Err(Incomplete),
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<(Vec<u8>, Vec<Field>, usize), Fault> {
    let first = line(bytes)?;
    if first.is_empty() {
        return Err(Malformed("an empty first line"));
    }
    let start = first.len() + 2;
    let (fields, length) = parse_fields(&bytes[start..])?;
    Ok((first.to_vec(), fields, start + length))
}

/// Field lines up to and with the empty line, and their length.
fn parse_fields(bytes: &[u8]) -> Result<(Vec<Field>, usize), Fault> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let field = line(&bytes[at..])?;
        at += field.len() + 2;
        if field.is_empty() {
            return Ok((fields, at));
        }
        let colon = field.iter().position(|byte| *byte == b':');
        let (name, value) = field.split_at(colon.ok_or(Malformed("a field without a colon"))?);
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(is_token) {
            return Err(Malformed("a field name that is no token"));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        fields.push((name, value[1..].trim_ascii().to_vec()));
    }
}

/// A line without its end.
fn line(bytes: &[u8]) -> Result<&[u8], Fault> {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    let end = bytes.iter().position(is_control).ok_or(Incomplete)?;
    match &bytes[end..] {
        [b'\r', b'\n', ..] => Ok(&bytes[..end]),
        [b'\r'] => Err(Incomplete),
        _ => Err(Malformed("a control character")),
    }
}

fn digits(value: &[u8]) -> Result<usize, Fault> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed("a length that is no number"));
    }
    text.parse()
        .map_err(|_invalid| Malformed("a length that is too large"))
}
