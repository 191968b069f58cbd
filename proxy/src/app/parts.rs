//! What destinations are served with, whatever role serves them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use crate::connect::Dialer;
use crate::connect::direct::{self, Direct};
use crate::connect::pool::{self, Pool};
use crate::connect::tls::Authorities;
use crate::credentials::TokenService;
use crate::flow;
use crate::flow::http::{HttpMetrics, HttpParts, HttpSettings, Retry};
use crate::flow::stream::{TcpMetrics, TcpParts, TcpSettings};
use crate::lifecycle::workers::{self, Workers};
use crate::resolve::keystore::{self, CertificateStore, FileName};
use crate::telemetry::connections::Connections;

/// What a role decides.
pub(super) struct Decided {
    pub(super) dialer: direct::Config,
    pub(super) retry: Option<Retry>,
    pub(super) access_log: bool,
    /// Trusted beside the system's authorities: for calls of the proxy's own, and for targets.
    pub(super) technical_cas: Authorities,
    pub(super) target_cas: CertificateStore,
    pub(super) connections: Connections,
}

/// The threads for connections, and all that is shared by what they serve.
pub(super) struct Shared {
    pub(super) workers: Workers,
    pub(super) flow: flow::Parts,
}

/// To be called within a runtime.
pub(super) fn start(decided: Decided) -> anyhow::Result<Shared> {
    let worker_count = workers::count();
    let dialer: Arc<dyn Dialer> = Arc::new(Direct::new(decided.dialer));
    let http = HttpParts {
        tokens: TokenService::new(Arc::clone(&dialer), decided.technical_cas),
        dialer: Arc::clone(&dialer),
        pool: Pool::new(pool::Limits {
            workers: worker_count,
            ..pool::Limits::default()
        }),
        settings: Arc::new(HttpSettings {
            retry: decided.retry,
            access_log: decided.access_log,
            additional_cas: decided.target_cas,
        }),
        metrics: HttpMetrics::default(),
        behalf: None,
    };
    let tcp = TcpParts {
        dialer,
        connections: decided.connections,
        metrics: TcpMetrics::default(),
        settings: TcpSettings::default(),
        behalf: None,
    };
    Ok(Shared {
        workers: Workers::start(worker_count).context("threads for connections cannot be started")?,
        flow: flow::Parts { http, tcp },
    })
}

/// The authorities in PEM files.
pub(super) fn authorities<'a>(
    files: impl IntoIterator<Item = &'a PathBuf>,
) -> anyhow::Result<CertificateStore> {
    let mut all = CertificateStore::default();
    for path in files {
        let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let name = path.to_string_lossy();
        let file = FileName {
            name: &name,
            shown: &name,
        };
        let store = keystore::load_trust_store(file, &bytes, None)
            .with_context(|| format!("{} cannot be used", path.display()))?;
        all.0.extend(store.0);
    }
    Ok(all)
}
