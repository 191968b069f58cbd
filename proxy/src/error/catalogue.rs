//! One row for every way to fail: the only place that knows status codes and messages of errors.

mod message;
mod resolve;

use std::time::Duration;

use http::StatusCode;

use super::{Error, Exchange};
use crate::connect::{self, TlsFailure};
use crate::credentials;
use crate::framing::Violation;

pub use self::message::message;

/// Who is to blame, as `x-error-origin` spells it.
///
/// Kubernetes Secrets take the place of the Destination service; tokens are fetched by the
/// proxy itself, so that is the origin if this fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    TransparentProxy,
    DestinationService,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransparentProxy => "Transparent Proxy",
            Self::DestinationService => "Destination Service",
        }
    }
}

/// What applications, operators and metrics learn about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Stable name: label of metrics, field of the log.
    pub id: &'static str,
    pub status: StatusCode,
    pub origin: Origin,
    /// With placeholders, which [`message()`] fills in.
    pub message: &'static str,
    /// Status of the internal call that failed.
    pub internal_code: Option<u16>,
    /// Seconds of a `Retry-After`.
    pub retry_after: Option<u64>,
    /// `grpc-status` for gRPC calls.
    pub grpc_status: u8,
    /// Step of the data path that failed.
    pub step: &'static str,
    /// What to do about it, for the log and the documentation.
    pub remedy: &'static str,
    /// The application's connection cannot be used any more.
    pub closes: bool,
}

/// `UNAVAILABLE`, `UNAUTHENTICATED` and `INVALID_ARGUMENT` of
/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
const GRPC_UNAVAILABLE: u8 = 14;
const GRPC_UNAUTHENTICATED: u8 = 16;
const GRPC_INVALID_ARGUMENT: u8 = 3;

/// The row of an error.
pub fn entry(error: &Error) -> Entry {
    match error {
        Error::Resolve(error) => resolve::entry(error),
        Error::Connect(error) => connect_entry(error),
        Error::Credentials(error) => credentials_entry(error),
        Error::Framing(violation) => framing_entry(*violation),
        Error::Exchange(error) => exchange_entry(error),
    }
}

const CONNECT_FAILED: Entry = Entry {
    id: "target_connection_failed",
    status: StatusCode::BAD_GATEWAY,
    origin: Origin::TransparentProxy,
    message: "",
    internal_code: None,
    retry_after: None,
    grpc_status: GRPC_UNAVAILABLE,
    step: "connect",
    remedy: "Check that the target system runs and can be reached from here.",
    closes: false,
};

macro_rules! connect_failed {
    ($reason:literal) => {
        concat!(
            "Failed to establish connection to the target system of destination '<name>'. ",
            $reason
        )
    };
}

fn connect_entry(error: &connect::Error) -> Entry {
    use connect::Error as E;
    match error {
        E::HostNotFound(_) => Entry {
            id: "target_host_not_found",
            message: connect_failed!("Host not found."),
            remedy: "Check the host name in the destination's URL and the name service.",
            ..CONNECT_FAILED
        },
        E::Refused(_) => Entry {
            id: "target_connection_refused",
            message: connect_failed!("Connection refused."),
            remedy: "Check the port in the destination's URL and that the target system runs.",
            ..CONNECT_FAILED
        },
        E::Reset(_) => Entry {
            id: "target_connection_reset",
            message: connect_failed!("Connection reset."),
            ..CONNECT_FAILED
        },
        E::Unreachable(_) => Entry {
            id: "target_unreachable",
            message: connect_failed!("Network unreachable."),
            remedy: "Check routes and network policies towards the target system.",
            ..CONNECT_FAILED
        },
        E::NoLocalPort(_) => Entry {
            id: "target_no_local_port",
            message: connect_failed!("No local port available."),
            remedy: "Widen net.ipv4.ip_local_port_range, or look for a leak of connections.",
            ..CONNECT_FAILED
        },
        E::AddressNotAllowed => Entry {
            id: "target_address_not_allowed",
            message: connect_failed!("Address not allowed."),
            remedy: "The destination's URL leads back to this proxy or, in a cluster, to its loopback interface; point it to the real target system.",
            ..CONNECT_FAILED
        },
        E::Tls(failure) => tls_entry(failure),
        E::TimedOut(_) => Entry {
            id: "target_connect_timeout",
            status: StatusCode::GATEWAY_TIMEOUT,
            message: "The target system of destination '<name>' did not accept the connection within <seconds> seconds.",
            remedy: "Check firewalls towards the target system, or raise URL.connectionTimeoutInSeconds.",
            ..CONNECT_FAILED
        },
        E::Io(_) => Entry {
            id: "target_connection_failed",
            message: connect_failed!("Connection failed."),
            ..CONNECT_FAILED
        },
    }
}

fn tls_entry(failure: &TlsFailure) -> Entry {
    use TlsFailure as F;
    let (id, message, remedy) = match failure {
        F::CertificateExpired => (
            "target_tls_certificate_expired",
            connect_failed!("TLS handshake failed: certificate expired."),
            "Renew the target system's certificate.",
        ),
        F::CertificateNotTrusted => (
            "target_tls_certificate_not_trusted",
            connect_failed!("TLS handshake failed: certificate not trusted."),
            "Put the issuer of the target system's certificate into the trust store (TrustStoreLocation).",
        ),
        F::CertificateNameMismatch => (
            "target_tls_name_mismatch",
            connect_failed!("TLS handshake failed: certificate does not match the host name."),
            "Use a host name in the URL that the target system's certificate contains.",
        ),
        F::CertificateWithoutSan => (
            "target_tls_certificate_without_san",
            connect_failed!("TLS handshake failed: certificate has no subjectAltName."),
            "Renew the certificate with a subjectAltName, or set HostnameVerifier to BrowserCompatible.",
        ),
        F::ClientCertificate => (
            "target_tls_client_certificate",
            connect_failed!("TLS handshake failed: client certificate required or refused."),
            "Check the destination's key store (KeyStoreLocation) and what the target system accepts.",
        ),
        F::Protocol => (
            "target_tls_protocol",
            connect_failed!("TLS handshake failed: protocol error."),
            "Check that the target system speaks TLS 1.2 or 1.3 on this port.",
        ),
        F::Closed => (
            "target_tls_closed",
            connect_failed!("TLS handshake failed: connection closed."),
            "Check that the target system speaks TLS on this port and accepts the server name.",
        ),
    };
    Entry {
        id,
        message,
        remedy,
        ..CONNECT_FAILED
    }
}

const CREDENTIALS: Entry = Entry {
    message: "The token service of destination '<name>' is currently not available. Retry the request later.",
    step: "credentials",
    ..CONNECT_FAILED
};

/// The proxy asks a destination's token service itself, so the messages name that
/// instead of the Destination service.
fn credentials_entry(error: &credentials::Error) -> Entry {
    use credentials::Error as E;
    match error {
        E::Tls(_) => Entry {
            id: "token_service_tls",
            message: INVALID_OAUTH,
            remedy: "Correct tokenService.KeyStoreLocation and the trust settings of the destination.",
            ..CREDENTIALS
        },
        E::TokenServiceUrl(_) => Entry {
            id: "token_service_url",
            message: INVALID_OAUTH,
            remedy: "Correct tokenServiceURL.",
            ..CREDENTIALS
        },
        E::TokenServiceUnreachable(_) => Entry {
            id: "token_service_unreachable",
            remedy: "Check tokenServiceURL and that the token service can be reached from here.",
            ..CREDENTIALS
        },
        E::TokenServiceTimedOut(_) | E::TokenServiceBusy(_) => Entry {
            id: "token_service_timeout",
            status: StatusCode::GATEWAY_TIMEOUT,
            remedy: "Look for what keeps the token service busy, or raise tokenServiceURL.SocketReadTimeoutInSeconds.",
            ..CREDENTIALS
        },
        E::TokenServiceProtocol => Entry {
            id: "token_service_protocol",
            remedy: "Check that tokenServiceURL names an HTTP endpoint (http:// or https://).",
            ..CREDENTIALS
        },
        E::TokenServiceStatus {
            status, retry_after, ..
        } => token_status_entry(*status, *retry_after),
        E::InvalidTokenResponse(_) => Entry {
            id: "token_response_invalid",
            message: INVALID_OAUTH,
            internal_code: error.status().map(|status| status.as_u16()),
            grpc_status: GRPC_UNAUTHENTICATED,
            remedy: "Check that tokenServiceURL names a token endpoint (RFC 6749, section 5.1).",
            ..CREDENTIALS
        },
        E::Cancelled => Entry {
            id: "shutting_down",
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "The proxy is shutting down. Retry the request.",
            retry_after: Some(1),
            remedy: "Nothing; the next instance answers.",
            ..CREDENTIALS
        },
    }
}

const INVALID_OAUTH: &str = "Invalid OAuth configuration in destination '<name>' referred in Destination CR '<cr>'. \
                             Contact the Destination Administrator.";

fn token_status_entry(status: StatusCode, retry_after: Option<Duration>) -> Entry {
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Entry {
            id: "token_service_failed",
            internal_code: Some(status.as_u16()),
            retry_after: retry_after.map(|wait| wait.as_secs()),
            remedy: "Look into the logs of the token service.",
            ..CREDENTIALS
        };
    }
    Entry {
        id: "token_service_refused",
        message: INVALID_OAUTH,
        internal_code: Some(status.as_u16()),
        grpc_status: GRPC_UNAUTHENTICATED,
        remedy: "Check client id, client secret or certificate, user and scope of the destination.",
        ..CREDENTIALS
    }
}

const EXCHANGE: Entry = Entry {
    step: "exchange",
    ..CONNECT_FAILED
};

const BAD_REQUEST: Entry = Entry {
    status: StatusCode::BAD_REQUEST,
    grpc_status: GRPC_INVALID_ARGUMENT,
    step: "accept",
    remedy: "Correct the application's request.",
    ..CONNECT_FAILED
};

const METHOD_NOT_ALLOWED: Entry = Entry {
    id: "method_not_allowed",
    status: StatusCode::METHOD_NOT_ALLOWED,
    message: "The method CONNECT is not supported on this endpoint.",
    remedy: "Send the request itself here; this is not a forward proxy.",
    closes: true,
    ..BAD_REQUEST
};

const MALFORMED: Entry = Entry {
    id: "malformed_request",
    message: "The request is not valid HTTP: <reason>.",
    closes: true,
    ..BAD_REQUEST
};

fn framing_entry(violation: Violation) -> Entry {
    use Violation as V;
    match violation {
        V::Connect => METHOD_NOT_ALLOWED,
        V::TlsNotSupported => Entry {
            id: "tls_not_supported",
            message: "TLS is not supported on this endpoint. Use http.",
            remedy: "Let the application use http:// here; towards the target system the proxy speaks TLS.",
            ..MALFORMED
        },
        V::HeadTimeout => Entry {
            id: "request_timeout",
            status: StatusCode::REQUEST_TIMEOUT,
            message: "The head of the request was not complete in time.",
            ..MALFORMED
        },
        V::TargetTooLong => Entry {
            id: "uri_too_long",
            status: StatusCode::URI_TOO_LONG,
            message: "The request target is longer than this endpoint accepts.",
            ..MALFORMED
        },
        V::HeadTooLarge | V::TooManyFields => Entry {
            id: "header_too_large",
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            message: "The header of the request is larger than this endpoint accepts.",
            ..MALFORMED
        },
        V::RequestLine
        | V::StatusLine
        | V::Version
        | V::Target
        | V::BareLineFeed
        | V::BareCarriageReturn
        | V::ObsFold
        | V::SpaceBeforeColon
        | V::FieldName
        | V::FieldValue
        | V::MissingHost
        | V::SeveralHosts
        | V::InvalidHost
        | V::LengthAndTransferEncoding
        | V::SeveralContentLengths
        | V::ContentLength
        | V::TransferEncoding
        | V::TransferEncodingInHttp10
        | V::ChunkSize
        | V::ChunkExtension
        | V::ChunkEnd
        | V::Trailer
        | V::Unsolicited
        | V::UnexpectedUpgrade
        | V::TooManyInterim => MALFORMED,
    }
}

fn exchange_entry(error: &Exchange) -> Entry {
    use Exchange as E;
    match error {
        E::Unusable(_) => Entry {
            id: "destination_unusable",
            remedy: "Correct the destination; the cause in the log says what is wrong.",
            ..resolve::INVALID_CONFIGURATION
        },
        E::MethodNotAllowed => METHOD_NOT_ALLOWED,
        E::RepeatedHeaders(_) => Entry {
            id: "repeated_headers",
            message: "The following headers: [<headers>] should be passed only once. Check your request parameters.",
            ..BAD_REQUEST
        },
        E::Overloaded => Entry {
            id: "overloaded",
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "There are too many connections. Retry the request later.",
            retry_after: Some(1),
            step: "accept",
            remedy: "Let the application use its connections again, or raise the limit.",
            closes: true,
            ..CONNECT_FAILED
        },
        E::InvalidRequestTarget => Entry {
            id: "invalid_request_target",
            message: "The path of the request is not valid for destination '<name>'.",
            ..BAD_REQUEST
        },
        E::RequestBody(_) => Entry {
            id: "request_body_aborted",
            message: "The request body ended before it was complete.",
            closes: true,
            ..BAD_REQUEST
        },
        E::NotAnswering(_) => Entry {
            id: "target_timeout",
            status: StatusCode::GATEWAY_TIMEOUT,
            message: "The target system of destination '<name>' did not respond within <seconds> seconds.",
            remedy: "Look for what keeps the target system busy, or raise URL.socketReadTimeoutInSeconds.",
            ..EXCHANGE
        },
        E::InvalidResponse(_) => Entry {
            id: "target_response_invalid",
            message: INVALID_RESPONSE,
            remedy: "Check that the target system speaks HTTP on this port (http:// or https://).",
            ..EXCHANGE
        },
        E::ClosedBeforeResponse(_) => Entry {
            id: "target_closed_connection",
            message: INVALID_RESPONSE,
            remedy: "Look into the target system's log for why it closed the connection.",
            ..EXCHANGE
        },
    }
}

const INVALID_RESPONSE: &str = "Invalid response from the target system of destination '<name>'.";

#[cfg(test)]
#[path = "catalogue/tests.rs"]
mod tests;
