use super::*;

const HEAD: &[u8] =
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_head_ends_at_its_empty_line() {
    let bytes = [HEAD, b"more\r\n\r\n"].concat();
    let head = HeadScan::request()
        .feed(&bytes, &Limits::default())
        .unwrap()
        .unwrap();
    assert_eq!(
        head,
        Head {
            len: HEAD.len(),
            status: 0,
            length: None,
            chunked: false,
            offers_upgrade: true
        }
    );
}

#[test]
fn a_scan_goes_on_where_it_stopped() {
    let mut scan = HeadScan::request();
    for end in 1..HEAD.len() {
        assert_eq!(scan.feed(&HEAD[..end], &Limits::default()), Ok(None), "{end}");
        assert_eq!(scan.searched.max(scan.line), end, "nothing is searched twice");
    }
    assert!(scan.feed(HEAD, &Limits::default()).unwrap().is_some());
}

#[test]
fn a_lone_empty_line_is_not_yet_a_request() {
    assert!(!HeadScan::has_begun(b"\r"));
    assert!(!HeadScan::has_begun(b"\r\n"));
    assert!(HeadScan::has_begun(b"\r\nG"));
    assert!(HeadScan::has_begun(b"G"));
}

#[test]
fn limits_are_the_callers() {
    let limits = Limits {
        target: 2,
        head: 40,
        fields: 2,
    };
    let feed = |bytes: &[u8]| {
        HeadScan::request()
            .feed(bytes, &limits)
            .map(|head| head.is_some())
    };
    assert_eq!(feed(b"GET /a HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"), Ok(true));
    assert_eq!(
        feed(b"GET /ab HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(Violation::TargetTooLong)
    );
    assert_eq!(
        feed(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nB: c\r\n\r\n"),
        Err(Violation::TooManyFields)
    );
    let long = b"GET / HTTP/1.1\r\nHost: a\r\nLong: 0123456789012345678901234567890\r\n";
    assert_eq!(feed(long), Err(Violation::HeadTooLarge));
}

#[test]
fn the_service_sees_an_offer_where_the_guard_sees_one() {
    let offers = |version, fields: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let lines: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let lines = lines.concat();
        let bytes = format!("GET / {version:?}\r\nHost: a\r\n{lines}\r\n");
        let head = HeadScan::request()
            .feed(bytes.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(offers_upgrade(version, &headers), head.offers_upgrade, "{bytes}");
        head.offers_upgrade
    };
    let upgrade = ("Upgrade", "websocket");
    assert!(offers(Version::HTTP_11, &[upgrade, ("Connection", "Upgrade")]));
    assert!(offers(
        Version::HTTP_11,
        &[
            ("Connection", "keep-alive"),
            ("connection", "x ,UPGRADE\t"),
            upgrade
        ]
    ));
    assert!(!offers(Version::HTTP_10, &[upgrade, ("Connection", "Upgrade")]));
    assert!(!offers(Version::HTTP_11, &[upgrade]));
    assert!(!offers(Version::HTTP_11, &[("Connection", "Upgrade")]));
    assert!(!offers(Version::HTTP_11, &[upgrade, ("Connection", "upgraded")]));
}
