//! Malformed and ambiguous HTTP through the whole proxy: what each side saw of the other, byte for byte.

mod message;
mod target;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::json;
use transparent_proxy::framing::corpus::{self, RequestCase, ResponseCase, Verdict};
use transparent_proxy::framing::{Expected, Violation};

use crate::harness::node::{Cgroup, privileged};
use crate::harness::proxy::{Proxy, Serving};
use crate::harness::tcp;
use message::{Fault, Field, From, Message};
use target::Target;

/// A proxy with the destination `my-dest`. Fields end in their order.
struct Stage {
    serving: Serving,
    cgroup: Cgroup,
    _proxy: Proxy,
}

impl Stage {
    fn new(test: &str, target: SocketAddr) -> Self {
        let cgroup = Cgroup::new();
        let proxy = Proxy::for_test(test).destination(
            "my-dest",
            json!({
                "Type": "HTTP", "URL": format!("http://{target}"), "ProxyType": "Internet",
                "Authentication": "NoAuthentication",
            }),
        );
        Self {
            serving: proxy.serve(&cgroup),
            cgroup,
            _proxy: proxy,
        }
    }
}

/// What comes back for these bytes, until the connection ends.
fn ask(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut connection = tcp::connect(address);
    connection.write_all(bytes).expect("the proxy listens to the end");
    connection.shutdown(Shutdown::Write).ok();
    tcp::read_to_end(&mut connection)
}

#[test]
fn of_every_request_the_target_sees_one_well_formed_message_or_nothing() {
    if !privileged() {
        return;
    }
    let target = Target::start();
    let stage = Stage::new("smuggling-requests", target.address);
    let address = stage.serving.address("my-dest");
    stage.cgroup.run(|| {
        for case in corpus::requests() {
            let answers = ask(address, &case.bytes);
            judge(&case, &answers, &target.messages());
        }
    });
    assert!(stage.serving.stop().success());
    let rest = target.finish();
    assert_eq!((&rest.messages[..], &rest.malformed[..]), (&[][..], &[][..]));
    // The target must not take for whole what went wrong on its way.
    for bytes in &rest.broken_off {
        let fault = message::parse(bytes, From::Client).expect_err("it is not whole");
        assert_eq!(fault, Fault::Incomplete);
    }
    let is_broken = |case: &RequestCase| matches!(case.verdict, Verdict::Break(_));
    let broken = corpus::requests().into_iter().filter(is_broken).count();
    assert!(rest.broken_off.len() <= broken, "{rest:?}");
}

fn judge(case: &RequestCase, answers: &[u8], seen: &[Message]) {
    let name = case.name;
    let (passed, refused) = match case.verdict {
        Verdict::Accept(count) => (count, None),
        Verdict::Reject(violation) | Verdict::Break(violation) => (0, Some(violation)),
        Verdict::RejectAfter(count, violation) => (count, Some(violation)),
    };
    assert_eq!(seen.len(), passed, "{name}: {seen:?}");
    let mut rest = &case.bytes[..];
    for message in seen {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let (sent, length) = message::parse(rest, From::Client).expect(name);
        assert_same(&sent, message, name);
        rest = &rest[length..];
    }
    let answers = responses(answers, name);
    assert_eq!(
        answers.len(),
        passed + usize::from(refused.is_some()),
        "{name}: {answers:?}"
    );
    for answer in &answers[..passed] {
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]), "{name}");
    }
    if let Some(violation) = refused {
        assert_refusal(&answers[passed], violation, name);
    }
}

fn responses(bytes: &[u8], name: &str) -> Vec<Message> {
    let from = From::Server {
        head: false,
        closed: true,
    };
    message::parse_all(bytes, from)
        .unwrap_or_else(|fault| panic!("{name}: {fault:?} in {:?}", String::from_utf8_lossy(bytes)))
}

fn assert_refusal(answer: &Message, violation: Violation, name: &str) {
    let (status, text) = match violation {
        Violation::Connect => (
            405,
            "The method CONNECT is not supported on this endpoint.".to_owned(),
        ),
        Violation::TlsNotSupported => (400, "TLS is not supported on this endpoint. Use http.".to_owned()),
        Violation::TargetTooLong => (
            414,
            "The request target is longer than this endpoint accepts.".to_owned(),
        ),
        Violation::HeadTooLarge | Violation::TooManyFields => (
            431,
            "The header of the request is larger than this endpoint accepts.".to_owned(),
        ),
        other => (400, format!("The request is not valid HTTP: {other}.")),
    };
    assert_eq!(answer.status(), status, "{name}");
    assert_eq!(answer.text("x-error-message"), text, "{name}");
    assert_eq!(answer.text("x-error-origin"), "Transparent Proxy", "{name}");
    assert_eq!(answer.text("connection"), "close", "{name}");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect(name);
    assert_eq!(body["error"]["status"], status, "{name}");
    assert_eq!(body["error"]["message"], text, "{name}");
}

/// The target saw what was sent, but for what a proxy changes: host, framing, form of the target.
fn assert_same(sent: &Message, seen: &Message, name: &str) {
    let expected = origin_form(&sent.first_line);
    assert_eq!(
        String::from_utf8_lossy(&seen.first_line),
        String::from_utf8_lossy(&expected),
        "{name}"
    );
    assert_eq!(end_to_end(&seen.fields), end_to_end(&sent.fields), "{name}");
    assert_eq!(seen.body, sent.body, "{name}");
    assert_trailers(sent, seen, name);
}

/// A proxy may drop trailers that the head does not announce (RFC 9110, section 6.5.1), and changes none.
fn assert_trailers(sent: &Message, seen: &Message, name: &str) {
    assert!(
        seen.trailers.is_empty() || seen.trailers == sent.trailers,
        "{name}: {seen:?}"
    );
}

/// `GET http://host/path HTTP/1.0` -> `GET /path HTTP/1.1`
fn origin_form(line: &[u8]) -> Vec<u8> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let after_scheme = target.windows(3).position(|part| part == b"://");
    let path = match after_scheme {
        Some(at) if target[0].is_ascii_alphabetic() => {
            let rest = &target[at + 3..];
            let end = rest.iter().position(|byte| b"/?".contains(byte));
            &rest[end.unwrap_or(rest.len())..]
        }
        _ => target,
    };
    let slash: &[u8] = if path.first().is_none_or(|first| *first == b'?') {
        b"/"
    } else {
        b""
    };
    [method, b" ", slash, path, b" HTTP/1.1"].concat()
}

/// Sorted, because fields of different names may change places.
fn end_to_end(fields: &[Field]) -> Vec<Field> {
    const FRAMING: [&str; 6] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "trailer",
        "x-request-id",
    ];
    let is_kept = |(name, _): &&Field| !FRAMING.contains(&name.to_ascii_lowercase().as_str());
    let mut kept: Vec<Field> = fields.iter().filter(is_kept).cloned().collect();
    kept.sort();
    kept
}

#[test]
fn of_every_response_the_application_sees_a_well_formed_one_or_an_error() {
    if !privileged() {
        return;
    }
    let target = tcp::listen(answer_with_case);
    let stage = Stage::new("smuggling-responses", target);
    let address = stage.serving.address("my-dest");
    stage.cgroup.run(|| {
        for (number, case) in corpus::responses().iter().enumerate() {
            let (method, more) = match case.expected {
                Expected::Body => ("GET", "Connection: close\r\n"),
                Expected::NoBody => ("HEAD", "Connection: close\r\n"),
                Expected::Upgrade => ("GET", "Connection: Upgrade\r\nUpgrade: x\r\n"),
            };
            let request = format!("{method} /{number} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
            judge_response(case, &ask(address, request.as_bytes()));
        }
    });
    assert!(stage.serving.stop().success());
}

/// Answers `GET /N` with the bytes of the case N, and closes.
fn answer_with_case(mut connection: TcpStream) {
    let Some(head) = tcp::read_head(&mut connection) else {
        return;
    };
    let number = head
        .split(['/', ' '])
        .nth(2)
        .and_then(|number| number.parse().ok());
    let case: usize = number.expect("the number of a case");
    connection.write_all(&corpus::responses()[case].bytes).ok();
    connection.shutdown(Shutdown::Write).ok();
    tcp::read_to_end(&mut connection);
}

fn judge_response(case: &ResponseCase, answer: &[u8]) {
    let name = case.name;
    let parsed = final_response(answer, case.expected);
    match case.verdict {
        Verdict::Accept(_) => {
            let seen = parsed.unwrap_or_else(|fault| panic!("{name}: {fault:?} in {answer:?}"));
            let sent = final_response(&case.bytes, case.expected).expect(name);
            assert_eq!(seen.status(), sent.status(), "{name}");
            assert_eq!(seen.body, sent.body, "{name}");
            assert_trailers(&sent, &seen, name);
        }
        Verdict::Reject(_) | Verdict::Break(Violation::TooManyInterim) => {
            assert_bad_gateway(&parsed.expect(name), name);
        }
        // What is left over belongs to nobody; the response before it is good.
        Verdict::Break(Violation::Unsolicited) => {
            let seen = parsed.unwrap_or_else(|fault| panic!("{name}: {fault:?} in {answer:?}"));
            assert!(matches!(seen.status(), 200 | 204), "{name}");
        }
        Verdict::Break(_) | Verdict::RejectAfter(..) => match parsed {
            Err(fault) => assert_eq!(fault, Fault::Incomplete, "{name}"),
            Ok(answer) => assert_bad_gateway(&answer, name),
        },
    }
}

/// The one response behind all interim ones; nothing may follow it.
fn final_response(mut bytes: &[u8], expected: Expected) -> Result<Message, Fault> {
    let from = From::Server {
        head: expected == Expected::NoBody,
        closed: true,
    };
    loop {
        let (message, length) = message::parse(bytes, from)?;
        bytes = &bytes[length..];
        match message.status() {
            101 => {
                let body = bytes.to_vec();
                return Ok(Message { body, ..message });
            }
            100..200 => {}
            _ if bytes.is_empty() => return Ok(message),
            _ => return Err(Fault::Malformed("bytes behind the response")),
        }
    }
}

fn assert_bad_gateway(answer: &Message, name: &str) {
    assert_eq!(answer.status(), 502, "{name}");
    assert_eq!(
        answer.text("x-error-message"),
        "Invalid response from the target system of destination 'my-dest'.",
        "{name}"
    );
    assert_eq!(answer.text("x-error-origin"), "Transparent Proxy", "{name}");
}
