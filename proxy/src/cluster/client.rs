//! The connection to the API server.
//!
//! In a pod it is described by the service account, elsewhere by `KUBECONFIG`. Rotated tokens and
//! certificate authorities are read again within a minute: [bound tokens] live for an hour.
//!
//! [bound tokens]: https://kubernetes.io/docs/concepts/security/service-accounts/#bound-service-account-tokens

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::config::InferConfigError;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// An API server that is there accepts connections at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that vanished without a word is noticed after about three times this long, also by
/// watches that wait for a change for hours.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Written, but not acknowledged: the connection is dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither a service account nor KUBECONFIG says where the API server is")]
    NotConfigured(#[source] InferConfigError),
    #[error("the configuration for the API server cannot be used")]
    Unusable(#[source] kube::Error),
}

/// The client of a role, which the API server's audit log shows as `transparent-proxy/<role>`.
pub async fn connect(role: &str) -> Result<Client, Error> {
    let config = Config::infer().await.map_err(Error::NotConfigured)?;
    with_config(config, role)
}

/// The same to a known API server.
///
/// No request is repeated in here: whoever asks knows whether it is still wanted.
pub fn with_config(mut config: Config, role: &str) -> Result<Client, Error> {
    use_one_crypto_provider();
    config.headers.push((USER_AGENT, user_agent(role)));
    let https = config
        .rustls_https_connector_with_connector(connector())
        .map_err(Error::Unusable)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(Error::Unusable)?)
        .layer(config.extra_headers_layer().map_err(Error::Unusable)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.set_keepalive_interval(Some(KEEP_ALIVE));
    connector.set_keepalive_retries(Some(2));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

fn user_agent(role: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("transparent-proxy/{role}"))
        .unwrap_or(HeaderValue::from_static("transparent-proxy"))
}

/// kube asks rustls for the process's provider, which is ambiguous where nobody has chosen one.
fn use_one_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another thread has just installed the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}
