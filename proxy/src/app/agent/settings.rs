//! What the command line and the settings mean for an agent.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use http::StatusCode;

use crate::app::parts;
use crate::cli;
use crate::config::kubernetes::File;
use crate::connect::direct::{self, OwnAddresses};
use crate::connect::tls::Authorities;
use crate::datapath;
use crate::flow::http::Retry;
use crate::resolve::keystore::CertificateStore;
use crate::telemetry::connections::Connections;

/// Connections are redirected here, if that is possible.
pub(super) fn wants_hook(arguments: &cli::Agent, settings: &File) -> bool {
    settings.ebpf.enabled && !arguments.fallback
}

/// Where Secrets may be destinations.
pub(super) fn secret_namespaces(arguments: &cli::Agent, settings: &File) -> BTreeSet<String> {
    let more = settings.secrets.namespaces.iter().cloned();
    more.chain([arguments.cluster.namespace.clone()]).collect()
}

pub(super) fn decided(
    settings: &File,
    own: &Arc<OwnAddresses>,
    exempt: &Arc<ArcSwapOption<datapath::Exempt>>,
    authorities: &Authorities,
) -> anyhow::Result<parts::Decided> {
    let exempt = Arc::clone(exempt);
    let exempt_socket = move |socket: BorrowedFd<'_>| match &*exempt.load() {
        Some(exempt) => exempt.socket(socket),
        None => Ok(()),
    };
    Ok(parts::Decided {
        dialer: direct::Config {
            socket_hook: Some(Arc::new(exempt_socket)),
            own: Arc::clone(own),
            // Nothing that listens in this pod is for applications.
            forbid_loopback: true,
        },
        retry: retry(settings)?,
        access_log: settings.logging.access,
        technical_cas: authorities.clone(),
        target_cas: CertificateStore::default(),
        connections: Connections::default(),
    })
}

fn retry(settings: &File) -> anyhow::Result<Option<Retry>> {
    let retry = &settings.http.retry;
    let status_codes: Result<_, _> = retry
        .status_codes
        .iter()
        .map(|code| StatusCode::from_u16(*code))
        .collect();
    Ok((retry.max_retries > 0).then_some(Retry {
        max_retries: retry.max_retries.into(),
        status_codes: status_codes.context("http.retry.statusCodes")?,
    }))
}
