//! What a token service answers (RFC 6749, section 5).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::token_cache::Fetched;
use super::super::token_service::Answer;
use super::super::{Error, InvalidToken, basic};

/// Services note the time of issue in whole seconds, so a token may end this much earlier than said.
const TICK: Duration = Duration::from_secs(1);
/// For tokens that say nowhere how long they live.
const DEFAULT_LIFE: Duration = Duration::from_mins(2);
/// Anything longer is as good as forever, and does not overflow the clock.
const LONGEST_LIFE: Duration = Duration::from_hours(365 * 24);
/// How much of an error text is kept.
const DETAIL_CHARACTERS: usize = 200;

#[derive(Deserialize)]
struct Success {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Value,
}

#[derive(Default, Deserialize)]
struct Failure {
    error: Option<String>,
    error_description: Option<String>,
}

pub(super) fn read(answer: &Answer, secrets: &[&str]) -> Result<Fetched, Error> {
    if answer.status.is_success() {
        return success(&answer.body).map_err(Error::InvalidTokenResponse);
    }
    let failure: Failure = serde_json::from_slice(&answer.body).unwrap_or_default();
    Err(Error::TokenServiceStatus {
        status: answer.status,
        detail: detail(&failure, secrets),
        code: failure.error.and_then(|code| readable(&code, secrets)),
        retry_after: retry_after(answer.status, &answer.headers),
    })
}

fn success(body: &[u8]) -> Result<Fetched, InvalidToken> {
    if body.trim_ascii().is_empty() {
        return Err(InvalidToken::Empty);
    }
    let Ok(success) = serde_json::from_slice::<Success>(body) else {
        return Err(InvalidToken::NotJson);
    };
    let token = success
        .access_token
        .filter(|token| !token.is_empty())
        .ok_or(InvalidToken::NoToken)?;
    let token = Zeroizing::new(token);
    let scheme = scheme(success.token_type.as_deref().unwrap_or_default())?;
    let life = life(&success.expires_in, &token)?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidToken::Characters);
    }
    let header = basic::sensitive(scheme, &token).ok_or(InvalidToken::Characters)?;
    Ok(Fetched { header, life })
}

/// `bearer` is spelled as RFC 6750 does; anything else is left as it came.
fn scheme(token_type: &str) -> Result<&str, InvalidToken> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match token_type.trim() {
        "" => Ok("Bearer"),
        bearer if bearer.eq_ignore_ascii_case("bearer") => Ok("Bearer"),
        basic if basic.eq_ignore_ascii_case("basic") => Ok("Basic"),
        other if other.bytes().all(is_token) => Ok(other),
        _ => Err(InvalidToken::Characters),
    }
}

/// `expires_in`, bounded by what the token itself says.
fn life(expires_in: &Value, token: &str) -> Result<Duration, InvalidToken> {
    let own = expiry(token).map(|expiry| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        expiry.saturating_sub(now)
    });
    if own == Some(Duration::ZERO) {
        return Err(InvalidToken::Expired);
    }
    let life = match (seconds(expires_in), own) {
        (Some(said), Some(own)) => less_a_tick(said).min(own),
        (Some(said), None) => less_a_tick(said),
        (None, Some(own)) => own,
        (None, None) => DEFAULT_LIFE,
    };
    Ok(life.min(LONGEST_LIFE))
}

fn less_a_tick(life: Duration) -> Duration {
    life.saturating_sub(TICK.min(life / 2))
}

/// A positive number, also as text; everything else says nothing.
fn seconds(expires_in: &Value) -> Option<Duration> {
    let seconds = match expires_in {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let life = (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFE));
    life.filter(|life| !less_a_tick(*life).is_zero())
}

/// `exp` of a JSON Web Token (RFC 7519, section 4.1.4), since 1970.
fn expiry(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?);
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(Duration::try_from_secs_f64(claims.exp.max(0.0)).unwrap_or(Duration::MAX))
}

/// `error: error_description`
fn detail(failure: &Failure, secrets: &[&str]) -> Option<String> {
    let parts: Vec<&str> = [&failure.error, &failure.error_description]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    readable(&parts.join(": "), secrets)
}

/// Fit for a log line.
fn readable(text: &str, secrets: &[&str]) -> Option<String> {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 3) {
        text = text.replace(secret, "[secret]");
    }
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    let text: String = text.chars().map(printable).take(DETAIL_CHARACTERS).collect();
    (!text.is_empty()).then_some(text)
}

/// Seconds or a date (RFC 9110, section 10.2.3), of answers that ask for patience.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
mod tests;
