//! The condition `Available` of a Destination CR: its reasons and its messages, spelled once.

use std::fmt;

use super::labels::TENANT_SUBDOMAINS;
use super::tenant::TenantMode;

/// The one type of condition.
pub const AVAILABLE: &str = "Available";

/// Every reason that a condition can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    ConfigurationSuccessful,
    DestinationNotFound,
    FragmentNotFound,
    TypeNotSupported,
    ProxyTypeNotSupported,
    WithFragmentProxyTypeNotSupported,
    UrlNotSupported,
    WithFragmentUrlNotSupported,
    TcpAddressNotSupported,
    WithFragmentTcpAddressNotSupported,
    LoopbackUrlNotSupported,
    WithFragmentLoopbackUrlNotSupported,
    KeyStoreInvalid,
    TrustStoreInvalid,
    HttpUrlWithStoreNotSupported,
    FragmentSpecificationNotSupported,
    DuplicateCustomResource,
    NameAlreadyPresent,
    TenantModeMismatch,
    MultitenancyAnnotationInvalid,
    FailedToApplyConfiguration,
    ServiceCreationFailed,
    ConfigurationFailed,
}

impl Reason {
    pub const ALL: [Self; 23] = [
        Self::ConfigurationSuccessful,
        Self::DestinationNotFound,
        Self::FragmentNotFound,
        Self::TypeNotSupported,
        Self::ProxyTypeNotSupported,
        Self::WithFragmentProxyTypeNotSupported,
        Self::UrlNotSupported,
        Self::WithFragmentUrlNotSupported,
        Self::TcpAddressNotSupported,
        Self::WithFragmentTcpAddressNotSupported,
        Self::LoopbackUrlNotSupported,
        Self::WithFragmentLoopbackUrlNotSupported,
        Self::KeyStoreInvalid,
        Self::TrustStoreInvalid,
        Self::HttpUrlWithStoreNotSupported,
        Self::FragmentSpecificationNotSupported,
        Self::DuplicateCustomResource,
        Self::NameAlreadyPresent,
        Self::TenantModeMismatch,
        Self::MultitenancyAnnotationInvalid,
        Self::FailedToApplyConfiguration,
        Self::ServiceCreationFailed,
        Self::ConfigurationFailed,
    ];

    /// As the condition spells it.
    #[rustfmt::skip]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigurationSuccessful => "ConfigurationSuccessful",
            Self::DestinationNotFound => "ConfigurationError-ReferencedDestination-NotFound",
            Self::FragmentNotFound => "ConfigurationError-ReferencedFragment-NotFound",
            Self::TypeNotSupported => "ConfigurationError-ReferencedDestination-TypeNotSupported",
            Self::ProxyTypeNotSupported => "ConfigurationError-ReferencedDestination-ProxyTypeNotSupported",
            Self::WithFragmentProxyTypeNotSupported => "ConfigurationError-ReferencedDestinationWithFragment-ProxyTypeNotSupported",
            Self::UrlNotSupported => "ConfigurationError-ReferencedDestination-UrlNotSupported",
            Self::WithFragmentUrlNotSupported => "ConfigurationError-ReferencedDestinationWithFragment-UrlNotSupported",
            Self::TcpAddressNotSupported => "ConfigurationError-ReferencedDestination-TcpAddressNotSupported",
            Self::WithFragmentTcpAddressNotSupported => "ConfigurationError-ReferencedDestinationWithFragment-TcpAddressNotSupported",
            Self::LoopbackUrlNotSupported => "ConfigurationError-ReferencedDestination-LoopbackUrlNotSupported",
            Self::WithFragmentLoopbackUrlNotSupported => "ConfigurationError-ReferencedDestinationWithFragment-LoopbackUrlNotSupported",
            Self::KeyStoreInvalid => "ConfigurationError-ReferencedDestination-KeyStoreInvalid",
            Self::TrustStoreInvalid => "ConfigurationError-ReferencedDestination-TrustStoreInvalid",
            Self::HttpUrlWithStoreNotSupported => "ConfigurationError-ReferencedDestination-HttpUrlWithTrustStoreOrKeyStoreNotSupported",
            Self::FragmentSpecificationNotSupported => "ConfigurationError-FragmentSpecification-NotSupported",
            Self::DuplicateCustomResource => "ConfigurationError-DuplicateDestinationCustomResource",
            Self::NameAlreadyPresent => "ConfigurationError-K8sResourceWithNameAlreadyPresent",
            Self::TenantModeMismatch => "ConfigurationError-ProxyTenantModeMismatch",
            Self::MultitenancyAnnotationInvalid => "ConfigurationError-MultitenancyAnnotation-Invalid",
            Self::FailedToApplyConfiguration => "FailedToApplyConfiguration",
            Self::ServiceCreationFailed => "ServiceCreationFailed",
            Self::ConfigurationFailed => "ConfigurationFailed",
        }
    }
}

/// What the condition says, without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub status: bool,
    pub reason: Reason,
    pub message: String,
}

impl Verdict {
    /// All Services exist: one, or one for each tenant.
    pub fn configured<S: AsRef<str>>(services: &[S]) -> Self {
        let names: Vec<&str> = services.iter().map(AsRef::as_ref).collect();
        let message = if names.is_empty() {
            "Technical connectivity is configured. No tenant is listed, so there is no Kubernetes service."
                .to_owned()
        } else {
            format!(
                "Technical connectivity is configured. Kubernetes service with name {} is created.",
                names.join(", ")
            )
        };
        Self {
            status: true,
            reason: Reason::ConfigurationSuccessful,
            message,
        }
    }

    /// `sentence` says what is wrong and must hold no value that may be a secret.
    pub fn not_configured(reason: Reason, sentence: impl AsRef<str>) -> Self {
        Self {
            status: false,
            reason,
            message: format!("Technical connectivity is not configured. {}", sentence.as_ref()),
        }
    }

    /// Anything that has no reason of its own.
    pub fn failed(sentence: impl AsRef<str>) -> Self {
        Self::not_configured(Reason::ConfigurationFailed, sentence)
    }

    /// An older CR has the name.
    pub fn duplicate(cr: &str, older_namespace: &str) -> Self {
        Self::not_configured(
            Reason::DuplicateCustomResource,
            format!(
                "A Destination custom resource with name '{cr}' already exists in namespace '{older_namespace}'. \
                 Rename this one or remove the other one."
            ),
        )
    }

    /// A Service of somebody else has the name.
    pub fn name_already_present(cr: &str, namespace: &str) -> Self {
        Self::not_configured(
            Reason::NameAlreadyPresent,
            format!(
                "A Kubernetes service with name '{cr}' already exists in namespace '{namespace}'. \
                 Rename the Destination custom resource or remove the service."
            ),
        )
    }

    pub fn static_fragment_on_gateway() -> Self {
        Self::not_configured(
            Reason::FragmentSpecificationNotSupported,
            "Static declaration of a fragment is not supported for dynamic destination custom resources.",
        )
    }

    pub fn static_level_on_gateway() -> Self {
        Self::failed(
            "Static declaration of a destination level is not supported for dynamic destination custom resources.",
        )
    }

    /// The named or the default instance is unknown, or there is none.
    pub fn instance_not_configured(cr: &str) -> Self {
        Self::failed(format!(
            "The Destination service instance name in the Destination CR '{cr}' is not configured as expected."
        ))
    }

    pub fn annotation_invalid() -> Self {
        Self::not_configured(
            Reason::MultitenancyAnnotationInvalid,
            format!("\"{TENANT_SUBDOMAINS}\" annotation is invalid"),
        )
    }

    pub fn destination_not_found(destination: &str, instance: &str) -> Self {
        Self::not_configured(
            Reason::DestinationNotFound,
            format!("Destination '{destination}' is not found in Destination service instance '{instance}'."),
        )
    }

    pub fn tenant_mode_mismatch(connectivity_proxy: TenantMode, transparent_proxy: TenantMode) -> Self {
        Self::not_configured(
            Reason::TenantModeMismatch,
            format!(
                "Connectivity Proxy tenant mode \"{}\" is not compatible with Transparent Proxy tenant mode \"{}\"",
                tenant_mode(connectivity_proxy),
                tenant_mode(transparent_proxy)
            ),
        )
    }

    /// `refusal` is the API server's own text.
    pub fn service_creation_failed(verb: Verb, service: &str, namespace: &str, refusal: &str) -> Self {
        let refusal = readable(refusal);
        Self::not_configured(
            Reason::ServiceCreationFailed,
            format!(
                "Kubernetes service '{service}' could not be {verb} in namespace '{namespace}{REFUSAL}{refusal}"
            ),
        )
    }

    /// In the order of the annotation; the other tenants are served.
    pub fn tenants_failed<S: AsRef<str>>(tenants: &[S]) -> Self {
        let names: Vec<String> = tenants
            .iter()
            .map(|tenant| format!("\"{}\"", tenant.as_ref()))
            .collect();
        Self {
            status: false,
            reason: Reason::FailedToApplyConfiguration,
            message: format!("Configuration failed for tenants: [{}]", names.join(", ")),
        }
    }
}

/// What stands in a message before the API server's own text; no name ends like this.
pub const REFUSAL: &str = "': ";

/// What somebody else's text may take of a message.
const LONGEST: usize = 512;

/// In one line, and no longer than people read.
fn readable(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    let cut = &line[..line.floor_char_boundary(LONGEST)];
    let more = if cut.len() < line.len() { " …" } else { "" };
    format!("{cut}{more}")
}

/// What was to be done to a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Read,
    Create,
    Update,
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Create => "created",
            Self::Update => "changed",
            Self::Delete => "deleted",
        })
    }
}

fn tenant_mode(mode: TenantMode) -> &'static str {
    match mode {
        TenantMode::Dedicated => "dedicated",
        TenantMode::Shared => "shared",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_twenty_three_reasons_differ() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), 23);
    }

    #[test]
    fn reasons_are_spelled_as_users_know_them() {
        let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn documented_messages_are_exact() {
        const NO: &str = "Technical connectivity is not configured. ";
        let cases = [
            (
                Verdict::configured(&["orders"]),
                "Technical connectivity is configured. Kubernetes service with name orders is created.".to_owned(),
            ),
            (
                Verdict::configured(&["db-acme", "db-globex"]),
                "Technical connectivity is configured. Kubernetes service with name db-acme, db-globex is created."
                    .to_owned(),
            ),
            (
                Verdict::static_fragment_on_gateway(),
                format!("{NO}Static declaration of a fragment is not supported for dynamic destination custom resources."),
            ),
            (
                Verdict::annotation_invalid(),
                format!("{NO}\"transparent-proxy.connectivity.api.sap/tenant-subdomains\" annotation is invalid"),
            ),
            (
                Verdict::tenant_mode_mismatch(TenantMode::Dedicated, TenantMode::Shared),
                format!("{NO}Connectivity Proxy tenant mode \"dedicated\" is not compatible with Transparent Proxy tenant mode \"shared\""),
            ),
            (
                Verdict::tenant_mode_mismatch(TenantMode::Shared, TenantMode::Dedicated),
                format!("{NO}Connectivity Proxy tenant mode \"shared\" is not compatible with Transparent Proxy tenant mode \"dedicated\""),
            ),
            (
                Verdict::instance_not_configured("orders"),
                format!("{NO}The Destination service instance name in the Destination CR 'orders' is not configured as expected."),
            ),
            (
                Verdict::tenants_failed(&["acme", "globex"]),
                "Configuration failed for tenants: [\"acme\", \"globex\"]".to_owned(),
            ),
        ];
        for (verdict, message) in cases {
            assert_eq!(verdict.message, message);
            assert_eq!(verdict.status, verdict.reason == Reason::ConfigurationSuccessful);
        }
    }

    #[test]
    fn a_refusal_is_told_by_what_was_refused_in_one_line() {
        let message = |verb, text: &str| Verdict::service_creation_failed(verb, "orders", "tp", text).message;
        assert_eq!(
            message(Verb::Create, "no\n\u{1b}way"),
            "Technical connectivity is not configured. Kubernetes service 'orders' could not be created in \
             namespace 'tp': no  way"
        );
        assert!(message(Verb::Delete, "no").contains("could not be deleted"));
        assert!(message(Verb::Update, &"ä".repeat(1000)).len() < 700);
    }

    #[test]
    fn no_tenant_is_a_success_too() {
        let verdict = Verdict::configured::<&str>(&[]);
        assert!(verdict.status && verdict.message.ends_with("there is no Kubernetes service."));
    }
}
