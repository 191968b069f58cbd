//! Single values of the command line, each with one sentence for what is wrong.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use ipnet::IpNet;

pub(super) fn listen(text: &str) -> Result<IpAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) if text.parse::<SocketAddr>().is_ok() => {
            return Err("give the address without a port: every destination gets a port of its own".into());
        }
        Err(_) => return Err("this is not an IP address, as 127.0.0.1 or ::1 would be".into()),
    };
    if address.is_unspecified() {
        return Err(format!(
            "nobody can connect to {address}; give the address at which the applications reach this machine"
        ));
    }
    if address.is_multicast() || address == IpAddr::from([255; 4]) {
        return Err(format!(
            "{address} is a group of machines, not an address of this one"
        ));
    }
    Ok(address)
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("the length of the network is missing, as in {text}/24"));
    }
    let network: IpNet = text
        .parse()
        .map_err(|_ignored| "this is not a network, as 127.66.0.0/16 would be".to_owned())?;
    if network.addr() != network.network() {
        return Err(format!(
            "this is an address within the network {0}; if you mean all of it, write {0}",
            network.trunc()
        ));
    }
    Ok(network)
}

pub(super) fn metrics(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!(
            "the port is missing, as in {}",
            SocketAddr::new(address, 9090)
        ));
    }
    text.parse()
        .map_err(|_ignored| "this is not an address with port, as 127.0.0.1:9090 would be".to_owned())
}

pub(super) fn log_level(text: &str) -> Result<tracing::Level, String> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        _ => Err("the levels are error, warn, info, debug and trace".into()),
    }
}

pub(super) fn max_retries(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(number @ 0..=10) => Ok(number),
        _ => Err("give a number from 0 to 10".into()),
    }
}

pub(super) fn retry_status(text: &str) -> Result<StatusCode, String> {
    match text.parse() {
        Ok(code @ 400..=599) => StatusCode::from_u16(code).map_err(|error| error.to_string()),
        _ => Err("give status codes from 400 to 599, separated by commas, as in 429,502,503".into()),
    }
}

pub(super) fn drain_timeout(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(seconds @ 0..=3600) => Ok(seconds),
        _ => Err("give a whole number of seconds from 0 to 3600".into()),
    }
}

pub(super) fn host(text: &str) -> Result<(IpAddr, String), String> {
    let (address, name) = text.split_once('=').ok_or("ADDRESS=NAME is expected")?;
    let address = address.parse().map_err(|_ignored| "ADDRESS is no IP address")?;
    Ok((address, name.to_owned()))
}
