//! Well-formed and malformed HTTP/1 messages and what must become of them, for the tests of this module and for
//! those through the whole proxy.

use super::Expected;
use super::Violation::{
    self, BareCarriageReturn, BareLineFeed, ChunkEnd, ChunkExtension, ChunkSize, Connect, ContentLength,
    FieldName, FieldValue, HeadTooLarge, InvalidHost, LengthAndTransferEncoding, MissingHost, ObsFold,
    RequestLine, SeveralContentLengths, SeveralHosts, SpaceBeforeColon, StatusLine, Target, TargetTooLong,
    TlsNotSupported, TooManyFields, TooManyInterim, Trailer, TransferEncoding, TransferEncodingInHttp10,
    UnexpectedUpgrade, Unsolicited, Version,
};

/// What must become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, byte for byte. So many messages are in it (interim responses count).
    Accept(usize),
    /// The head is refused: nothing of it passes.
    Reject(Violation),
    /// So many messages pass, the next one is refused.
    RejectAfter(usize, Violation),
    /// The beginning passes, then the connection is broken off: in a body, or behind a response.
    Break(Violation),
}

use Verdict::{Accept, Break, Reject, RejectAfter};

/// One stream of a client.
#[derive(Debug, Clone)]
pub struct RequestCase {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

/// One stream of a server.
#[derive(Debug, Clone)]
pub struct ResponseCase {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// What was asked.
    pub expected: Expected,
    pub verdict: Verdict,
}

/// All requests. Every one is a client's first on its connection.
pub fn requests() -> Vec<RequestCase> {
    let written = PLAIN_REQUESTS
        .iter()
        .map(|(name, bytes, verdict)| request(name, bytes.to_vec(), *verdict));
    let heads = FIELDS_OF_A_GET.iter().map(|(name, fields, verdict)| {
        request(
            name,
            [b"GET / HTTP/1.1\r\nHost: a\r\n", *fields, b"\r\n"].concat(),
            *verdict,
        )
    });
    let targets = TARGETS_OF_A_GET.iter().map(|(name, target, verdict)| {
        request(
            name,
            [b"GET ", *target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
            *verdict,
        )
    });
    let hosts = HOSTS.iter().map(|(name, host, verdict)| {
        request(
            name,
            [b"GET / HTTP/1.1\r\nHost:", *host, b"\r\n\r\n"].concat(),
            *verdict,
        )
    });
    let chunked = CHUNKED_BODIES.iter().map(|(name, body, verdict)| {
        let head: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        request(name, [head, *body].concat(), *verdict)
    });
    written
        .chain(heads)
        .chain(targets)
        .chain(hosts)
        .chain(chunked)
        .chain(large_requests())
        .collect()
}

/// All responses. Every one is the first on its connection.
pub fn responses() -> Vec<ResponseCase> {
    let written = PLAIN_RESPONSES
        .iter()
        .map(|(name, bytes, expected, verdict)| response(name, bytes.to_vec(), *expected, *verdict));
    let heads = FIELDS_OF_A_RESPONSE.iter().map(|(name, fields, verdict)| {
        let bytes = [b"HTTP/1.1 200 OK\r\n", *fields, b"\r\n"].concat();
        response(name, bytes, Expected::Body, *verdict)
    });
    let chunked = CHUNKED_BODIES.iter().map(|(name, body, verdict)| {
        let head: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        response(name, [head, *body].concat(), Expected::Body, *verdict)
    });
    written
        .chain(heads)
        .chain(chunked)
        .chain(large_responses())
        .collect()
}

fn request(name: &'static str, bytes: Vec<u8>, verdict: Verdict) -> RequestCase {
    RequestCase { name, bytes, verdict }
}

fn response(name: &'static str, bytes: Vec<u8>, expected: Expected, verdict: Verdict) -> ResponseCase {
    ResponseCase {
        name,
        bytes,
        expected,
        verdict,
    }
}

type Case = (&'static str, &'static [u8], Verdict);

const PLAIN_REQUESTS: &[Case] = &[
    ("a GET", b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", Accept(1)),
    ("a POST with a length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Accept(1)),
    ("a length of zero", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Accept(1)),
    ("HTTP/1.0 without a host", b"GET / HTTP/1.0\r\n\r\n", Accept(1)),
    ("HTTP/1.0 with a length", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", Accept(1)),
    ("one empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Accept(1)),
    ("an unknown method", b"M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n", Accept(1)),
    ("OPTIONS of the server", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Accept(1)),
    (
        "three requests in one write",
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
          GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        Accept(3),
    ),
    (
        "an empty line between requests",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Accept(2),
    ),
    (
        "a body that looks like a request",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\nGET /x HTTP/1.1\r\nHost: \x00\r\n\r\n",
        Accept(1),
    ),
    // RFC 9112, section 11.2 and section 6.3
    (
        "CL.TE",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        Reject(LengthAndTransferEncoding),
    ),
    (
        "TE.CL",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n",
        Reject(LengthAndTransferEncoding),
    ),
    (
        "TE.TE with an unknown coding",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n0\r\n\r\n",
        Reject(TransferEncoding),
    ),
    (
        "Transfer-Encoding in HTTP/1.0",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Reject(TransferEncodingInHttp10),
    ),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", Reject(MissingHost)),
    ("a host with another name only", b"GET / HTTP/1.1\r\nHosts: a\r\n\r\n", Reject(MissingHost)),
    ("two hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Reject(SeveralHosts)),
    // the request line
    ("two empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("a space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("two spaces behind the method", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("a space behind the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("a tab behind the method", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("HTTP/0.9", b"GET /\r\n", Reject(RequestLine)),
    ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("a method with a colon", b"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("a method with a NUL", b"GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("binary", b"\x00\x01\x02", Reject(RequestLine)),
    ("an SSL 2 hello", b"\x80\x2e\x01\x03\x01", Reject(RequestLine)),
    ("lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Reject(Version)),
    ("HTTP/2.0 in a request line", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Reject(Version)),
    ("HTTP/0.9 in a request line", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Reject(Version)),
    ("HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Reject(RequestLine)),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Reject(Connect)),
    ("CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(Connect)),
    ("a TLS 1.2 hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reject(TlsNotSupported)),
    // line ends
    ("line feeds only", b"GET / HTTP/1.1\nHost: a\n\n", Reject(BareLineFeed)),
    ("a bare line feed behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", Reject(BareLineFeed)),
    ("a bare line feed at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Reject(BareLineFeed)),
    ("a line feed first", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(BareLineFeed)),
    ("a bare return first", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reject(BareCarriageReturn)),
    ("a bare return in the line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Reject(BareCarriageReturn)),
    ("two returns", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Reject(BareCarriageReturn)),
    // the second of two
    (
        "a good and a bad request",
        b"GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        RejectAfter(1, SeveralHosts),
    ),
    (
        "a short length and a smuggled rest",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\0GET /s HTTP/1.1\r\nHost: a\r\n\r\n",
        RejectAfter(1, RequestLine),
    ),
];

const FIELDS_OF_A_GET: &[Case] = &[
    ("an empty field", b"X-Empty:\r\n", Accept(1)),
    ("a tab in a value", b"X: a\tb\r\n", Accept(1)),
    ("bytes above ASCII in a value", b"X: \xc3\xa4\xff\r\n", Accept(1)),
    ("an underscore in a name", b"X_Y: a\r\n", Accept(1)),
    (
        "all characters of a token",
        b"!#$%&'*+-.^_`|~09azAZ: a\r\n",
        Accept(1),
    ),
    (
        "chunked in upper case",
        b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n",
        Accept(1),
    ),
    (
        "no space before chunked",
        b"Transfer-Encoding:chunked\r\n\r\n0\r\n",
        Accept(1),
    ),
    (
        "two equal lengths",
        b"Content-Length: 0\r\nContent-Length: 0\r\n",
        Reject(SeveralContentLengths),
    ),
    (
        "two different lengths",
        b"Content-Length: 0\r\ncontent-length: 1\r\n",
        Reject(SeveralContentLengths),
    ),
    (
        "a list of lengths",
        b"Content-Length: 0, 0\r\n",
        Reject(ContentLength),
    ),
    (
        "a negative length",
        b"Content-Length: -1\r\n",
        Reject(ContentLength),
    ),
    (
        "a length with a plus",
        b"Content-Length: +1\r\n",
        Reject(ContentLength),
    ),
    (
        "a hexadecimal length",
        b"Content-Length: 0x1\r\n",
        Reject(ContentLength),
    ),
    ("an empty length", b"Content-Length:\r\n", Reject(ContentLength)),
    (
        "a length with a space inside",
        b"Content-Length: 1 2\r\n",
        Reject(ContentLength),
    ),
    (
        "a length beyond 64 bits",
        b"Content-Length: 18446744073709551616\r\n",
        Reject(ContentLength),
    ),
    (
        "a length beyond 63 bits",
        b"Content-Length: 9223372036854775808\r\n",
        Reject(ContentLength),
    ),
    (
        "a prefix of chunked",
        b"Transfer-Encoding: chunk\r\n",
        Reject(TransferEncoding),
    ),
    (
        "xchunked",
        b"Transfer-Encoding: xchunked\r\n",
        Reject(TransferEncoding),
    ),
    (
        "chunked with a tab",
        b"Transfer-Encoding: chunked\t\r\n",
        Reject(TransferEncoding),
    ),
    (
        "chunked behind a tab",
        b"Transfer-Encoding:\tchunked\r\n",
        Reject(TransferEncoding),
    ),
    (
        "chunked with a space",
        b"Transfer-Encoding: chunked \r\n",
        Reject(TransferEncoding),
    ),
    (
        "chunked with a comma",
        b"Transfer-Encoding: chunked,\r\n",
        Reject(TransferEncoding),
    ),
    (
        "quoted chunked",
        b"Transfer-Encoding: \"chunked\"\r\n",
        Reject(TransferEncoding),
    ),
    (
        "gzip, chunked",
        b"Transfer-Encoding: gzip, chunked\r\n",
        Reject(TransferEncoding),
    ),
    (
        "chunked, identity",
        b"Transfer-Encoding: chunked, identity\r\n",
        Reject(TransferEncoding),
    ),
    (
        "identity",
        b"Transfer-Encoding: identity\r\n",
        Reject(TransferEncoding),
    ),
    (
        "an empty coding",
        b"Transfer-Encoding:\r\n",
        Reject(TransferEncoding),
    ),
    (
        "chunked twice",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        Reject(TransferEncoding),
    ),
    (
        "a hidden coding behind a vertical tab",
        b"Transfer-Encoding: \x0bchunked\r\n",
        Reject(FieldValue),
    ),
    (
        "a coding on a folded line",
        b"Transfer-Encoding:\r\n chunked\r\n",
        Reject(TransferEncoding),
    ),
    ("a folded line", b"X: a\r\n b\r\n", Reject(ObsFold)),
    ("a folded line with a tab", b"X: a\r\n\tb\r\n", Reject(ObsFold)),
    (
        "a space before the colon",
        b"Content-Length : 5\r\n",
        Reject(SpaceBeforeColon),
    ),
    (
        "a tab before the colon",
        b"Transfer-Encoding\t: chunked\r\n",
        Reject(SpaceBeforeColon),
    ),
    ("an empty name", b": a\r\n", Reject(FieldName)),
    ("no colon", b"X\r\n", Reject(FieldName)),
    ("a space in a name", b"X Y: a\r\n", Reject(FieldName)),
    ("a NUL in a name", b"X\0: a\r\n", Reject(FieldName)),
    ("bytes above ASCII in a name", b"X\xe4: a\r\n", Reject(FieldName)),
    ("brackets in a name", b"X[0]: a\r\n", Reject(FieldName)),
    ("a NUL in a value", b"X: a\0b\r\n", Reject(FieldValue)),
    ("an escape in a value", b"X: \x1b[0m\r\n", Reject(FieldValue)),
    ("a delete in a value", b"X: \x7f\r\n", Reject(FieldValue)),
    (
        "a bare return in a value",
        b"X: a\rY: b\r\n",
        Reject(BareCarriageReturn),
    ),
    (
        "a bare return in a name",
        b"X\rY: b\r\n",
        Reject(BareCarriageReturn),
    ),
    (
        "a bare line feed in a value",
        b"X: a\nY: b\r\n",
        Reject(BareLineFeed),
    ),
    ("a second host", b"Host: b\r\n", Reject(SeveralHosts)),
    ("the same host again", b"host: a\r\n", Reject(SeveralHosts)),
];

const TARGETS_OF_A_GET: &[Case] = &[
    ("escapes", b"/%2F/%5C/%27/%00?%20", Accept(1)),
    (
        "reserved characters",
        b"/'()$;,//../!*~@:&=+?a/b?c[]|\\^`{}",
        Accept(1),
    ),
    ("an empty query", b"/?", Accept(1)),
    ("braces and quotes in the path", b"/{\"a\"}", Accept(1)),
    ("UTF-8", b"/\xc3\xa4?\xc3\xb6", Accept(1)),
    ("absolute form", b"http://b.example:8080/x?y", Accept(1)),
    ("absolute form without a path", b"HTTPS://b.example", Accept(1)),
    (
        "absolute form with a query only",
        b"http://b.example?y",
        Accept(1),
    ),
    ("a fragment", b"/a#b", Reject(Target)),
    ("a fragment in the query", b"/?a#b", Reject(Target)),
    ("broken UTF-8", b"/\xe4", Reject(Target)),
    ("a NUL in the target", b"/\0", Reject(Target)),
    ("a tab in the target", b"/a\tb", Reject(Target)),
    ("angle brackets", b"/<a>", Reject(Target)),
    ("a quote in the query", b"/?\"", Reject(Target)),
    ("a back-slash first", b"\\a", Reject(Target)),
    ("no slash", b"index.html", Reject(Target)),
    ("an asterisk", b"*", Reject(Target)),
    ("authority form", b"b.example:80", Reject(Target)),
    ("another scheme", b"ftp://b.example/", Reject(Target)),
    ("absolute form without a host", b"http:///x", Reject(Target)),
    (
        "absolute form with a user",
        b"http://u:p@b.example/",
        Reject(Target),
    ),
];

const HOSTS: &[Case] = &[
    ("a host with a port", b" a.example:8080", Accept(1)),
    ("a host with white space around", b" \ta.example \t", Accept(1)),
    ("an IPv4 host", b" 127.0.0.1:80", Accept(1)),
    ("an IPv6 host", b" [::1]:80", Accept(1)),
    ("a service name", b" my-dest.my_ns.svc.cluster.local", Accept(1)),
    ("an empty host", b"", Reject(InvalidHost)),
    ("a host with a path", b" a/b", Reject(InvalidHost)),
    ("a host with a user", b" u@a", Reject(InvalidHost)),
    ("a list of hosts", b" a, b", Reject(InvalidHost)),
    ("a host with a space", b" a b", Reject(InvalidHost)),
    ("a port that is none", b" a:http", Reject(InvalidHost)),
    ("a port too large", b" a:65536", Reject(InvalidHost)),
    ("two ports", b" a:1:2", Reject(InvalidHost)),
    ("brackets around a name", b" [a]", Reject(InvalidHost)),
    ("open brackets", b" [::1", Reject(InvalidHost)),
];

/// Of requests and of responses.
const CHUNKED_BODIES: &[Case] = &[
    ("chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", Accept(1)),
    (
        "sizes in both cases",
        b"a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
        Accept(1),
    ),
    (
        "extensions",
        b"1;a=b;c=\"d\"\r\nx\r\n1 ;e\r\ny\r\n0;f\r\n\r\n",
        Accept(1),
    ),
    (
        "trailers",
        b"1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX: a\tb\r\n\r\n",
        Accept(1),
    ),
    ("no size", b"\r\nx\r\n", Break(ChunkSize)),
    ("a size that is none", b"g\r\n", Break(ChunkSize)),
    (
        "a size with a prefix",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        Break(ChunkSize),
    ),
    ("a negative size", b"-1\r\n", Break(ChunkSize)),
    ("a size with a plus", b"+1\r\nx\r\n", Break(ChunkSize)),
    ("a space before the size", b" 1\r\nx\r\n", Break(ChunkSize)),
    ("a space behind the size", b"1 \r\nx\r\n", Break(ChunkExtension)),
    (
        "a size beyond 64 bits",
        b"10000000000000001\r\nx",
        Break(ChunkSize),
    ),
    ("a size with an underscore", b"1_0\r\nx", Break(ChunkSize)),
    (
        "a bare line feed behind the size",
        b"1\nx\r\n0\r\n\r\n",
        Break(ChunkSize),
    ),
    ("a bare return behind the size", b"1\rx", Break(ChunkSize)),
    (
        "a bare line feed in an extension",
        b"1;a\nx\r\n",
        Break(ChunkExtension),
    ),
    ("a NUL in an extension", b"1;\0\r\nx\r\n", Break(ChunkExtension)),
    (
        "a chunk longer than its size",
        b"1\r\nxx\r\n0\r\n\r\n",
        Break(ChunkEnd),
    ),
    (
        "a bare line feed behind a chunk",
        b"1\r\nx\n0\r\n\r\n",
        Break(ChunkEnd),
    ),
    (
        "a chunk shorter than its size",
        b"3\r\nx\r\n0\r\n\r\n",
        Break(ChunkEnd),
    ),
    (
        "a length in the trailers",
        b"0\r\nContent-Length: 5\r\n\r\n",
        Break(Trailer),
    ),
    (
        "a coding in the trailers",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Break(Trailer),
    ),
    ("a host in the trailers", b"0\r\nHost: b\r\n\r\n", Break(Trailer)),
    ("a folded trailer", b"0\r\nX: a\r\n b\r\n\r\n", Break(Trailer)),
    (
        "a bare line feed in the trailers",
        b"0\r\nX: a\n\r\n",
        Break(Trailer),
    ),
    (
        "a bare line feed at the end of chunks",
        b"0\r\n\n",
        Break(Trailer),
    ),
    (
        "a space before a trailer's colon",
        b"0\r\nX : a\r\n\r\n",
        Break(Trailer),
    ),
];

type Answer = (&'static str, &'static [u8], Expected, Verdict);

const PLAIN_RESPONSES: &[Answer] = &[
    (
        "a length",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Expected::Body,
        Accept(1),
    ),
    (
        "no length",
        b"HTTP/1.1 200 OK\r\n\r\nuntil close\r\n\r\nHTTP/1.1 200 OK",
        Expected::Body,
        Accept(1),
    ),
    (
        "no reason",
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        Expected::Body,
        Accept(1),
    ),
    (
        "an empty reason",
        b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
        Expected::Body,
        Accept(1),
    ),
    (
        "a reason beyond ASCII",
        b"HTTP/1.1 200 \xc3\xa4\r\nContent-Length: 0\r\n\r\n",
        Expected::Body,
        Accept(1),
    ),
    (
        "HTTP/1.0",
        b"HTTP/1.0 200 OK\r\n\r\nuntil close",
        Expected::Body,
        Accept(1),
    ),
    (
        "204",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        Expected::Body,
        Accept(1),
    ),
    (
        "304 with a length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        Expected::Body,
        Accept(1),
    ),
    (
        "an answer to HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        Expected::NoBody,
        Accept(1),
    ),
    (
        "a chunked answer to HEAD",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Expected::NoBody,
        Accept(1),
    ),
    (
        "100 and the answer",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Expected::Body,
        Accept(2),
    ),
    (
        "early hints and the answer",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        Expected::Body,
        Accept(2),
    ),
    (
        "101 that was asked for",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x81\x00",
        Expected::Upgrade,
        Accept(1),
    ),
    (
        "a refused upgrade",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Expected::Upgrade,
        Accept(1),
    ),
    (
        "101 that was not asked for",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        Expected::Body,
        Reject(UnexpectedUpgrade),
    ),
    (
        "a body behind an answer to HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Expected::NoBody,
        Break(Unsolicited),
    ),
    (
        "a body behind 204",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        Expected::Body,
        Break(Unsolicited),
    ),
    (
        "a second answer",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Expected::Body,
        Break(Unsolicited),
    ),
    (
        "a length and a coding",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Expected::Body,
        Reject(LengthAndTransferEncoding),
    ),
    (
        "a length and a coding in an answer to HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        Expected::NoBody,
        Reject(LengthAndTransferEncoding),
    ),
    (
        "a coding in HTTP/1.0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Expected::Body,
        Reject(TransferEncodingInHttp10),
    ),
    (
        "an empty line first",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "no version",
        b"200 OK\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "another protocol",
        b"ICY 200 OK\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "an SSH banner",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "a TLS alert",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "HTTP/2.0 in a status line",
        b"HTTP/2.0 200 OK\r\n\r\n",
        Expected::Body,
        Reject(Version),
    ),
    (
        "two digits",
        b"HTTP/1.1 20 OK\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "four digits",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "status 099",
        b"HTTP/1.1 099 X\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "two spaces before the status",
        b"HTTP/1.1  200 OK\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "a NUL in the reason",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        Expected::Body,
        Reject(StatusLine),
    ),
    (
        "a bare return in the reason",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        Expected::Body,
        Reject(BareCarriageReturn),
    ),
    (
        "line feeds only in a response",
        b"HTTP/1.1 200 OK\nX: a\n\n",
        Expected::Body,
        Reject(BareLineFeed),
    ),
];

const FIELDS_OF_A_RESPONSE: &[Case] = &[
    (
        "a host in a response",
        b"Host: a b\r\nHost: c\r\nContent-Length: 0\r\n",
        Accept(1),
    ),
    (
        "two equal lengths in a response",
        b"Content-Length: 0\r\nContent-Length: 0\r\n",
        Reject(SeveralContentLengths),
    ),
    (
        "two lengths in a response",
        b"Content-Length: 0\r\nContent-Length: 1\r\n",
        Reject(SeveralContentLengths),
    ),
    (
        "a list of lengths in a response",
        b"Content-Length: 0, 0\r\n",
        Reject(ContentLength),
    ),
    (
        "a bad length in a response",
        b"Content-Length: a\r\n",
        Reject(ContentLength),
    ),
    (
        "gzip, chunked in a response",
        b"Transfer-Encoding: gzip, chunked\r\n",
        Reject(TransferEncoding),
    ),
    (
        "identity in a response",
        b"Transfer-Encoding: identity\r\n",
        Reject(TransferEncoding),
    ),
    ("a folded line in a response", b"X: a\r\n b\r\n", Reject(ObsFold)),
    (
        "a space before the colon in a response",
        b"Content-Length : 0\r\n",
        Reject(SpaceBeforeColon),
    ),
    ("an empty name in a response", b": a\r\n", Reject(FieldName)),
    ("a NUL in a response's value", b"X: \0\r\n", Reject(FieldValue)),
    (
        "a bare line feed in a response's value",
        b"X: a\nY: b\r\n",
        Reject(BareLineFeed),
    ),
    (
        "a bare return in a response's value",
        b"X: a\rY: b\r\n",
        Reject(BareCarriageReturn),
    ),
];

/// At the limits and just beyond; the numbers are those of `Limits::default()`.
fn large_requests() -> Vec<RequestCase> {
    let target = |len: usize| request_to(&[b"/", "a".repeat(len - 1).as_bytes()].concat());
    // "Host: a\r\n" and the empty line take 11 bytes, "X: \r\n" takes 5.
    let head = |len: usize| request_with(format!("X: {}\r\n", "a".repeat(len - 16)).as_bytes());
    let fields = |count: usize| request_with("X: a\r\n".repeat(count - 1).as_bytes());
    let chunk = |extension: usize| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(extension)).into_bytes()
    };
    vec![
        request("a target as long as may be", target(65_534), Accept(1)),
        request("a target too long by one", target(65_535), Reject(TargetTooLong)),
        request(
            "a target without an end",
            [b"GET /", "a".repeat(70_000).as_bytes()].concat(),
            Reject(TargetTooLong),
        ),
        request("a head as large as may be", head(65_536), Accept(1)),
        request("a head too large by one", head(65_537), Reject(HeadTooLarge)),
        request(
            "a field without an end",
            head(70_000)[..69_000].to_vec(),
            Reject(HeadTooLarge),
        ),
        request("as many fields as may be", fields(256), Accept(1)),
        request("one field too many", fields(257), Reject(TooManyFields)),
        request(
            "a method too long",
            [&[b'A'; 65][..], b" / HTTP/1.1\r\n"].concat(),
            Reject(RequestLine),
        ),
        request("a long extension", chunk(8 * 1024 - 1), Accept(1)),
        request("an extension too long", chunk(8 * 1024), Break(ChunkExtension)),
    ]
}

fn large_responses() -> Vec<ResponseCase> {
    let fields = |count: usize| {
        let fields = "X: a\r\n".repeat(count - 1);
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").into_bytes()
    };
    let head = |len: usize| format!("HTTP/1.1 204 No\r\nX: {}\r\n\r\n", "a".repeat(len - 7)).into_bytes();
    let interim = |count: usize| {
        [
            "HTTP/1.1 102 P\r\n\r\n".repeat(count).as_bytes(),
            b"HTTP/1.1 204 N\r\n\r\n",
        ]
        .concat()
    };
    let body = Expected::Body;
    vec![
        response("a response with many fields", fields(256), body, Accept(1)),
        response(
            "a response with one field too many",
            fields(257),
            body,
            Reject(TooManyFields),
        ),
        response("a response with a large head", head(65_536), body, Accept(1)),
        response(
            "a response with a head too large by one",
            head(65_537),
            body,
            Reject(HeadTooLarge),
        ),
        response("many interim responses", interim(32), body, Accept(33)),
        response(
            "too many interim responses",
            interim(33),
            body,
            Break(TooManyInterim),
        ),
    ]
}

fn request_to(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat()
}

fn request_with(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()
}
