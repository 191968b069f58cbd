//! The domain of the cluster's names.

use std::path::Path;

/// What Kubernetes calls it unless told otherwise.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// Where the kubelet writes a pod's search list.
pub const RESOLVER_CONFIGURATION: &str = "/etc/resolv.conf";

/// The configured domain, else the one that the pod's resolver searches in, else the default.
pub fn cluster_domain(configured: Option<&str>, resolver_configuration: &Path) -> String {
    if let Some(domain) = configured {
        return trimmed(domain).to_owned();
    }
    std::fs::read_to_string(resolver_configuration)
        .ok()
        .and_then(|text| searched(&text))
        .unwrap_or_else(|| DEFAULT_DOMAIN.to_owned())
}

/// Pods search in `<namespace>.svc.<domain>`, then in `svc.<domain>`, then in `<domain>`, see
/// <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>.
fn searched(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("search"))
        .filter(|list| list.starts_with([' ', '\t']))
        .flat_map(str::split_whitespace)
        .find_map(|domain| trimmed(domain).strip_prefix("svc."))
        .filter(|domain| !domain.is_empty())
        .map(str::to_owned)
}

fn trimmed(domain: &str) -> &str {
    domain.trim().trim_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_of_a_pod_names_the_domain() {
        let text = "search shop.svc.example.internal svc.example.internal example.internal corp.example\n\
            nameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(searched(text).as_deref(), Some("example.internal"));
    }

    #[test]
    fn other_search_lists_name_none() {
        for text in [
            "",
            "search corp.example",
            "searchsvc.x",
            "search",
            "#search svc.x",
        ] {
            assert_eq!(searched(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_configured_wins() {
        let file = Path::new(RESOLVER_CONFIGURATION);
        assert_eq!(cluster_domain(Some("k8s.example."), file), "k8s.example");
    }

    #[test]
    fn without_any_hint_it_is_the_default() {
        assert_eq!(cluster_domain(None, Path::new("/nonexistent")), DEFAULT_DOMAIN);
    }
}
