//! Labels and annotations, spelled once.

/// On our pods: which part of the installation it is.
pub const COMPONENT: &str = "transparent-proxy.connectivity.api.sap/component";

/// On pods that serve the ordinary endpoints of the virtual IPs; the generated Services select it.
pub const FALLBACK: &str = "transparent-proxy.connectivity.api.sap/fallback";

/// On namespaces: the installation namespace of the proxy that manages them.
pub const NAMESPACE: &str = "transparent-proxy.connectivity.api.sap/namespace";

/// On Secrets: this Secret is a destination.
pub const DESTINATION: &str = "transparent-proxy.connectivity.api.sap/destination";

/// Annotation of Secrets: JSON array of the namespaces whose Destination CRs may use it; `*` is all.
pub const ALLOWED_NAMESPACES: &str = "transparent-proxy.connectivity.api.sap/allowed-namespaces";

/// Annotation of Destination CRs, tenant mode `shared`: JSON array of tenant subdomains.
pub const TENANT_SUBDOMAINS: &str = "transparent-proxy.connectivity.api.sap/tenant-subdomains";

/// On generated Services, with the value [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// On generated Services: the installation namespace of the proxy that made it.
pub const INSTALLATION: &str = "transparent-proxy.connectivity.api.sap/installation";

/// On generated Services: namespace of the Destination CR.
pub const DESTINATION_NAMESPACE: &str = "transparent-proxy.connectivity.api.sap/destination-namespace";

/// On generated Services: name of the Destination CR.
pub const DESTINATION_NAME: &str = "transparent-proxy.connectivity.api.sap/destination-name";

/// Value of [`MANAGED_BY`], and our field manager.
pub const MANAGER: &str = "transparent-proxy";
