//! What the header fields of a request say about the destination.
//!
//! Behind a gateway they name it; behind a Destination CR that names its destination itself
//! they must not. Nobody else looks at these fields, and none of them goes further.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::destination::DestinationName;
use crate::api::tenant::TenantMode;

static DESTINATION_NAME: HeaderName = HeaderName::from_static("x-destination-name");
static DESTINATION_LEVEL: HeaderName = HeaderName::from_static("x-destination-level");
static FRAGMENT_NAME: HeaderName = HeaderName::from_static("x-fragment-name");
static FRAGMENT_LEVEL: HeaderName = HeaderName::from_static("x-fragment-level");
static FRAGMENT_OPTIONAL: HeaderName = HeaderName::from_static("x-fragment-optional");
static TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
static TENANT_SUBDOMAIN: HeaderName = HeaderName::from_static("x-tenant-subdomain");
static CHAIN_NAME: HeaderName = HeaderName::from_static("x-chain-name");
/// Names of variables of a chain begin like this.
pub const CHAIN_VARIABLE: &str = "x-chain-var-";
static TOKEN_SERVICE_TENANT: HeaderName = HeaderName::from_static("x-token-service-tenant");
static CLIENT_ASSERTION: HeaderName = HeaderName::from_static("x-client-assertion");
static CLIENT_ASSERTION_TYPE: HeaderName = HeaderName::from_static("x-client-assertion-type");
static CLIENT_ASSERTION_DESTINATION: HeaderName =
    HeaderName::from_static("x-client-assertion-destination-name");

/// Longest name of a destination or fragment.
const MAX_NAME: usize = 200;

/// Why a request is refused before any destination is looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no field names the tenant")]
    TenantMissing,
    #[error("two fields name the tenant")]
    TenantTwice,
    /// The Destination CR says it already.
    #[error("{0} is not for this endpoint")]
    OnlyForGateways(HeaderName),
    #[error("no field names the destination")]
    NameMissing,
    #[error("{0} is longer than {MAX_NAME} characters")]
    TooLong(HeaderName),
    #[error("the name of the destination has other characters than names have")]
    DestinationCharacters,
    #[error("the name of the fragment has other characters than names have")]
    FragmentCharacters,
    #[error("{FRAGMENT_OPTIONAL} is neither true nor false")]
    FragmentOptional,
    #[error("{DESTINATION_LEVEL} is no level")]
    DestinationLevel,
    #[error("{FRAGMENT_LEVEL} is no level")]
    FragmentLevel,
    #[error("a level of a fragment, but no fragment")]
    FragmentLevelWithoutName,
    #[error("a chain together with a level")]
    ChainWithLevel,
    #[error("{0}, but no chain")]
    ChainVariableWithoutName(HeaderName),
    #[error("a client assertion, and a destination that is to give one")]
    ClientAssertionTwice,
    #[error("the type of a client assertion, but no assertion")]
    ClientAssertionMissing,
    #[error("a client assertion, but no type")]
    ClientAssertionTypeMissing,
    /// The destination names the token service of one tenant.
    #[error("the token service is not chosen by the request")]
    TokenServiceTenant,
    /// A good request for something that the source does not have.
    #[error("{0} asks for something that this source of destinations does not have")]
    NotSupported(HeaderName),
}

/// The destination that a request to a gateway asks for.
///
/// The first failing check answers, and none looks anything up. The caller has refused fields
/// that stand more than once, and instances that do not exist.
///
/// # Guarantees
///
/// A name consists of letters, digits, `_`, `-` and `.`, so nothing can hide in it wherever it
/// is put: no path, no query, no level (`name@level`).
pub fn select(headers: &HeaderMap, mode: TenantMode) -> Result<DestinationName, Error> {
    check_tenant(headers, mode)?;
    let name = value(headers, &DESTINATION_NAME).ok_or(Error::NameMissing)?;
    let destination = destination_name(name)?;
    let asks_for_fragment = check_fragment_name(headers)?;
    check_fragment_optional(headers)?;
    check_levels(headers, asks_for_fragment)?;
    check_chain(headers)?;
    check_client_assertion(headers)?;
    refuse_unsupported(headers)?;
    Ok(destination)
}

/// Refuses fields that only a gateway may get: the Destination CR itself says what they would say.
pub fn check_static(headers: &HeaderMap, mode: TenantMode) -> Result<(), Error> {
    if mode == TenantMode::Dedicated && !headers.keys().any(selects) {
        return Ok(());
    }
    check_tenant(headers, mode)?;
    refuse_selection(headers)?;
    check_chain(headers)?;
    check_client_assertion(headers)?;
    refuse_unsupported(headers)
}

/// Refuses what a request cannot decide where the proxy fetches tokens: which tenant's token service it
/// asks, and how it identifies itself there.
pub fn check_token_request(headers: &HeaderMap) -> Result<(), Error> {
    if value(headers, &TOKEN_SERVICE_TENANT).is_some() {
        return Err(Error::TokenServiceTenant);
    }
    let mut assertion = [&CLIENT_ASSERTION, &CLIENT_ASSERTION_DESTINATION].into_iter();
    match assertion.find(|name| value(headers, name).is_some()) {
        Some(name) => Err(Error::NotSupported(name.clone())),
        None => Ok(()),
    }
}

fn selects(name: &HeaderName) -> bool {
    let name = name.as_str();
    let prefixes = ["x-destination-", "x-fragment-", "x-chain-", "x-client-assertion"];
    name.starts_with("x-") && prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// In mode `dedicated` there is one tenant; client libraries name it all the same.
fn check_tenant(headers: &HeaderMap, mode: TenantMode) -> Result<(), Error> {
    if mode == TenantMode::Dedicated {
        return Ok(());
    }
    let given = |name| value(headers, name).is_some();
    match (given(&TENANT_ID), given(&TENANT_SUBDOMAIN)) {
        (true, true) => Err(Error::TenantTwice),
        (false, false) => Err(Error::TenantMissing),
        _ => Ok(()),
    }
}

/// Names are refused even if they are empty: somebody takes this endpoint for a gateway.
fn refuse_selection(headers: &HeaderMap) -> Result<(), Error> {
    let refuse = |name: &HeaderName, given: bool| {
        if given {
            Err(Error::OnlyForGateways(name.clone()))
        } else {
            Ok(())
        }
    };
    let has_value = |name: &HeaderName| value(headers, name).is_some();
    refuse(&DESTINATION_NAME, headers.contains_key(&DESTINATION_NAME))?;
    refuse(&FRAGMENT_OPTIONAL, has_value(&FRAGMENT_OPTIONAL))?;
    refuse(&FRAGMENT_NAME, headers.contains_key(&FRAGMENT_NAME))?;
    refuse(&DESTINATION_LEVEL, has_value(&DESTINATION_LEVEL))?;
    refuse(&FRAGMENT_LEVEL, has_value(&FRAGMENT_LEVEL))
}

fn destination_name(value: &[u8]) -> Result<DestinationName, Error> {
    if is_too_long(value) {
        return Err(Error::TooLong(DESTINATION_NAME.clone()));
    }
    let name = as_name(value).ok_or(Error::DestinationCharacters)?;
    Ok(DestinationName::new_unchecked(name))
}

/// Checks a list of names that are separated by commas; whether there is one.
fn check_fragment_name(headers: &HeaderMap) -> Result<bool, Error> {
    let Some(names) = value(headers, &FRAGMENT_NAME) else {
        return Ok(false);
    };
    let names = || names.split(|byte| *byte == b',').map(trimmed);
    if names().any(is_too_long) {
        return Err(Error::TooLong(FRAGMENT_NAME.clone()));
    }
    if names().any(|name| as_name(name).is_none()) {
        return Err(Error::FragmentCharacters);
    }
    Ok(true)
}

fn check_fragment_optional(headers: &HeaderMap) -> Result<(), Error> {
    match value(headers, &FRAGMENT_OPTIONAL) {
        None | Some(b"true" | b"false") => Ok(()),
        Some(_) => Err(Error::FragmentOptional),
    }
}

fn check_levels(headers: &HeaderMap, asks_for_fragment: bool) -> Result<(), Error> {
    let is_bad = |name| value(headers, name).is_some_and(|level| !is_level(level));
    if is_bad(&DESTINATION_LEVEL) {
        return Err(Error::DestinationLevel);
    }
    if is_bad(&FRAGMENT_LEVEL) {
        return Err(Error::FragmentLevel);
    }
    if value(headers, &FRAGMENT_LEVEL).is_some() && !asks_for_fragment {
        return Err(Error::FragmentLevelWithoutName);
    }
    Ok(())
}

fn check_chain(headers: &HeaderMap) -> Result<(), Error> {
    let given = |name| value(headers, name).is_some();
    if given(&CHAIN_NAME) {
        let has_level = given(&DESTINATION_LEVEL) || given(&FRAGMENT_LEVEL);
        return if has_level {
            Err(Error::ChainWithLevel)
        } else {
            Ok(())
        };
    }
    let mut variables = headers
        .keys()
        .filter(|name| name.as_str().starts_with(CHAIN_VARIABLE));
    match variables.find(|name| given(name)) {
        Some(variable) => Err(Error::ChainVariableWithoutName(variable.clone())),
        None => Ok(()),
    }
}

/// An assertion comes with its type, or a destination gives both.
fn check_client_assertion(headers: &HeaderMap) -> Result<(), Error> {
    let given = |name| value(headers, name).is_some();
    let (assertion, kind) = (given(&CLIENT_ASSERTION), given(&CLIENT_ASSERTION_TYPE));
    if given(&CLIENT_ASSERTION_DESTINATION) && (assertion || kind) {
        return Err(Error::ClientAssertionTwice);
    }
    match (assertion, kind) {
        (true, false) => Err(Error::ClientAssertionTypeMissing),
        (false, true) => Err(Error::ClientAssertionMissing),
        _ => Ok(()),
    }
}

/// Secrets have neither levels nor fragments nor chains.
fn refuse_unsupported(headers: &HeaderMap) -> Result<(), Error> {
    let mut asked = [&DESTINATION_LEVEL, &FRAGMENT_NAME, &CHAIN_NAME].into_iter();
    match asked.find(|name| value(headers, name).is_some()) {
        Some(name) => Err(Error::NotSupported(name.clone())),
        None => Ok(()),
    }
}

/// The value without blanks around it; an empty one is none.
fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let value = headers.get(name).map(HeaderValue::as_bytes)?;
    Some(trimmed(value)).filter(|value| !value.is_empty())
}

/// Without optional whitespace (RFC 9110, section 5.6.3).
fn trimmed(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

fn is_too_long(name: &[u8]) -> bool {
    String::from_utf8_lossy(name).chars().count() > MAX_NAME
}

fn as_name(name: &[u8]) -> Option<&str> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_name = !name.is_empty() && !name.starts_with(b".") && name.iter().all(allowed);
    std::str::from_utf8(name).ok().filter(|_| is_name)
}

fn is_level(level: &[u8]) -> bool {
    matches!(
        level,
        b"subaccount" | b"instance" | b"provider_subaccount" | b"provider_instance"
    )
}

#[cfg(test)]
mod tests;
