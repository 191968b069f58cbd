//! `Type: TCP`.

use std::time::Duration;

use super::parse;
use super::reader::Reader;
use super::url;
use super::{SocketOptions, TcpDestination};

pub(super) fn destination(reader: &mut Reader<'_>) -> Option<TcpDestination> {
    parse::internet_only(reader, "ProxyType");
    hint_at_http_properties(reader);
    let address = reader.required("Address", "set it to the target, like tcp://host:port");
    let address = address.and_then(|value| {
        let address = url::parse_tcp(value);
        reader.url_result("Address", address)
    });
    let connect_timeout = parse::connect_timeout(reader);
    let socket = socket_options(reader);
    let (host, port) = address?;
    reader.refuse_loopback("Address", &host);
    Some(TcpDestination {
        host,
        port,
        connect_timeout,
        socket,
    })
}

fn hint_at_http_properties(reader: &mut Reader<'_>) {
    if reader.optional("URL").is_some() {
        reader.warn(
            "URL",
            "belongs to Type HTTP and is ignored; Type TCP takes Address",
        );
    }
    let authentication = reader.optional("Authentication");
    if authentication.is_some_and(|a| !a.eq_ignore_ascii_case("NoAuthentication")) {
        reader.warn(
            "Authentication",
            "is ignored: the bytes of a TCP destination pass through, so the application logs in itself",
        );
    }
}

fn socket_options(reader: &mut Reader<'_>) -> SocketOptions {
    let size = |number: i64| usize::try_from(number).ok().filter(|size| *size != 0);
    let linger = reader.lenient_number("tcp.socket.linger", i64::MIN, 65_535, -1);
    let idle = reader.lenient_number("tcp.socket.timeout", 0, 2_147_483_647, 0);
    SocketOptions {
        nodelay: reader.lenient_boolean("tcp.nodelay", true),
        keepalive: reader.lenient_boolean("tcp.socket.keepalive", true),
        linger: (linger >= 0).then(|| parse::seconds(linger)),
        send_buffer: size(reader.lenient_number("tcp.socket.sndbuf", 0, 1 << 30, 0)),
        receive_buffer: size(reader.lenient_number("tcp.socket.rcvbuf", 0, 1 << 30, 0)),
        idle_timeout: (idle > 0).then(|| Duration::from_millis(idle.unsigned_abs())),
    }
}
