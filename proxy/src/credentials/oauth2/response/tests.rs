use super::*;

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: HeaderMap::new(),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn fetched(body: &str) -> Result<Fetched, InvalidToken> {
    match read(&answer(200, body), &[]) {
        Ok(fetched) => Ok(fetched),
        Err(Error::InvalidTokenResponse(problem)) => Err(problem),
        Err(error) => panic!("{error}"),
    }
}

fn life_of(body: &str) -> Duration {
    fetched(body).map(|fetched| fetched.life).expect("a token")
}

fn problem(body: &str) -> InvalidToken {
    fetched(body).map(|_| ()).expect_err("no token")
}

fn jwt(seconds_from_now: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let exp = now.saturating_add_signed(seconds_from_now);
    format!(
        "e30.{}.c2ln",
        URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"x","exp":{exp}}}"#))
    )
}

#[test]
fn the_scheme_is_spelled_as_it_should_be() {
    for (token_type, header) in [
        (r#","token_type":"bearer""#, "Bearer t"),
        (r#","token_type":"BEARER""#, "Bearer t"),
        (r#","token_type":"DPoP""#, "DPoP t"),
        (r#","token_type":"""#, "Bearer t"),
        (r#","token_type":null"#, "Bearer t"),
        ("", "Bearer t"),
    ] {
        let fetched = fetched(&format!(r#"{{"access_token":"t"{token_type}}}"#)).expect("a token");
        assert_eq!(fetched.header, header);
        assert!(fetched.header.is_sensitive());
    }
}

#[test]
fn the_life_is_what_the_service_says_less_a_second_in_any_spelling() {
    for spelling in ["300", "300.0", r#""300""#, r#"" 300 ""#] {
        let body = format!(r#"{{"access_token":"t","expires_in":{spelling}}}"#);
        assert_eq!(life_of(&body), Duration::from_secs(299), "{spelling}");
    }
}

#[test]
fn an_opaque_token_without_a_sensible_life_lives_two_minutes() {
    assert_eq!(life_of(r#"{"access_token":"t"}"#), DEFAULT_LIFE);
    for spelling in [
        "0",
        "-5",
        r#""""#,
        r#"" ""#,
        r#""soon""#,
        r#""NaN""#,
        "null",
        "[]",
        "{}",
        "true",
    ] {
        let body = format!(r#"{{"access_token":"t","expires_in":{spelling}}}"#);
        assert_eq!(life_of(&body), DEFAULT_LIFE, "{spelling}");
    }
}

#[test]
fn an_endless_life_is_cut() {
    for spelling in ["1e300", r#""inf""#, "18446744073709551615"] {
        let body = format!(r#"{{"access_token":"t","expires_in":{spelling}}}"#);
        assert_eq!(life_of(&body), LONGEST_LIFE.saturating_sub(TICK), "{spelling}");
    }
}

#[test]
fn the_expiry_inside_the_token_bounds_its_life() {
    let seconds = |body: String| life_of(&body).as_secs_f64().ceil();
    let token = jwt(100);
    assert!((99.0..=100.0).contains(&seconds(format!(r#"{{"access_token":"{token}"}}"#))));
    assert!((99.0..=100.0).contains(&seconds(format!(
        r#"{{"access_token":"{token}","expires_in":900}}"#
    ))));
    assert_eq!(
        life_of(&format!(r#"{{"access_token":"{token}","expires_in":50}}"#)),
        Duration::from_secs(49)
    );
    let past = jwt(-1);
    let body = format!(r#"{{"access_token":"{past}","expires_in":900}}"#);
    assert_eq!(problem(&body), InvalidToken::Expired);
}

#[test]
fn what_is_no_token_is_named() {
    assert_eq!(problem(""), InvalidToken::Empty);
    assert_eq!(problem(" \r\n"), InvalidToken::Empty);
    assert_eq!(problem("<html>"), InvalidToken::NotJson);
    assert_eq!(problem("[]"), InvalidToken::NotJson);
    assert_eq!(
        problem(r#"{"access_token":"a","access_token":"b"}"#),
        InvalidToken::NotJson
    );
    assert_eq!(problem(r#"{"access_token":5}"#), InvalidToken::NotJson);
    assert_eq!(problem("{}"), InvalidToken::NoToken);
    assert_eq!(problem(r#"{"access_token":""}"#), InvalidToken::NoToken);
    assert_eq!(
        problem(r#"{"access_token":"a\r\nX: b"}"#),
        InvalidToken::Characters
    );
    assert_eq!(problem(r#"{"access_token":"a b"}"#), InvalidToken::Characters);
    assert_eq!(problem(r#"{"access_token":"ü"}"#), InvalidToken::Characters);
    assert_eq!(
        problem(r#"{"access_token":"a","token_type":"b c"}"#),
        InvalidToken::Characters
    );
}

fn failed(body: &str, secrets: &[&str]) -> String {
    read(&answer(400, body), secrets)
        .map(|_| ())
        .expect_err("a failure")
        .to_string()
}

#[test]
fn failures_tell_what_the_service_says() {
    let body = r#"{"error":"invalid_scope","error_description":"no such\nscope"}"#;
    assert_eq!(
        failed(body, &[]),
        "the token service answered 400, invalid_scope: no such scope"
    );
    assert_eq!(failed("<html>oops", &[]), "the token service answered 400");
}

#[test]
fn failures_repeat_no_secret_and_are_short() {
    let body = format!(
        r#"{{"error":"e","error_description":"bad hunter2 {}"}}"#,
        "x".repeat(5000)
    );
    let text = failed(&body, &["hunter2", ""]);
    assert!(text.contains("bad [secret] xxx") && !text.contains("hunter2"));
    assert!(text.len() < 250);
}

#[test]
fn patience_is_read_as_seconds_or_as_a_date() {
    let asked = |status, value: &str| {
        let mut answer = answer(status, "");
        answer
            .headers
            .insert(header::RETRY_AFTER, value.parse().expect("a value"));
        read(&answer, &[])
            .map(|_| ())
            .expect_err("a failure")
            .retry_after()
    };
    assert_eq!(asked(429, "7"), Some(Duration::from_secs(7)));
    let soon = SystemTime::now() + Duration::from_mins(1);
    let date = asked(503, &httpdate::fmt_http_date(soon)).expect("a date");
    assert!((58..=60).contains(&date.as_secs()), "{date:?}");
    assert_eq!(asked(429, "later"), None);
    assert_eq!(asked(400, "7"), None);
}

#[test]
fn only_the_member_error_is_the_code() {
    let code = |body| match read(&answer(400, body), &["secret"]) {
        Err(Error::TokenServiceStatus { code, .. }) => code,
        _ => panic!("it is refused"),
    };
    let both = r#"{"error":"invalid_client","error_description":"no: such"}"#;
    assert_eq!(code(both).as_deref(), Some("invalid_client"));
    assert_eq!(code(r#"{"error_description":"invalid_client: no"}"#), None);
    assert_eq!(code(r#"{"error":"a secret"}"#).as_deref(), Some("a [secret]"));
    assert_eq!(code("<html>"), None);
}

proptest::proptest! {
    #[test]
    fn any_answer_is_read_without_panic(status in 100_u16..600, body: Vec<u8>, token: String, life: f64) {
        let mut answer = answer(status, "");
        answer.body = Zeroizing::new(body);
        let _ = read(&answer, &["secret"]);
        let body = serde_json::json!({ "access_token": token, "expires_in": life }).to_string();
        if let Ok(fetched) = fetched(&body) {
            proptest::prop_assert!(fetched.life > Duration::ZERO && fetched.life <= LONGEST_LIFE);
        }
    }
}
