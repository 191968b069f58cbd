//! What the pods may do, and how they fit together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, NodeSelectorTerm, PodSpec, SecurityContext, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use transparent_proxy::api::labels;

use super::helm::{NAMESPACE, Rendered, template};
use super::objects::{Object, PodTemplate, selects};
use super::{VALUE_SETS, rendered};

fn each_value_set(check: impl Fn(&str, &Rendered)) {
    for set in VALUE_SETS {
        check(set, rendered(set));
    }
}

fn pods(rendered: &Rendered) -> Vec<PodTemplate> {
    let templates = rendered.objects.iter().filter_map(Object::pod_template);
    templates.collect()
}

fn is_hooked_agent(set: &str, pod: &PodTemplate) -> bool {
    pod.of.starts_with("DaemonSet") && !matches!(set, "nothing-but-services")
}

fn security(container: &Container) -> &SecurityContext {
    container.security_context.as_ref().expect("a security context")
}

/// The only container.
fn container(pod: &PodTemplate) -> &Container {
    let [container] = pod.spec.containers.as_slice() else {
        panic!("{} has more than one container", pod.of)
    };
    assert_eq!(pod.spec.init_containers, None, "{}", pod.of);
    container
}

fn added(container: &Container) -> Vec<String> {
    let capabilities = security(container).capabilities.clone().expect("capabilities");
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    capabilities.add.unwrap_or_default()
}

fn host_paths(spec: &PodSpec) -> Vec<(String, String)> {
    spec.volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.host_path.clone())
        .map(|host| (host.path, host.type_.unwrap_or_default()))
        .collect()
}

#[test]
fn no_pod_is_root_or_sees_the_node() {
    each_value_set(|set, rendered| {
        for pod in pods(rendered) {
            let what = format!("{set}: {}", pod.of);
            assert_eq!(pod.spec.host_network, None, "{what}");
            assert_eq!(pod.spec.host_pid, None, "{what}");
            assert_eq!(pod.spec.host_ipc, None, "{what}");
            let security = security(container(&pod));
            assert_eq!(security.run_as_non_root, Some(true), "{what}");
            assert_eq!(security.run_as_user, Some(65532), "{what}");
            assert_eq!(security.allow_privilege_escalation, Some(false), "{what}");
            assert_eq!(security.read_only_root_filesystem, Some(true), "{what}");
            assert_eq!(security.privileged, None, "{what}");
            let seccomp = security.seccomp_profile.as_ref().map(|profile| &*profile.type_);
            assert_eq!(seccomp, Some("RuntimeDefault"), "{what}");
        }
    });
}

#[test]
fn only_agents_with_the_hook_have_capabilities_and_a_folder_of_the_node() {
    each_value_set(|set, rendered| {
        for pod in pods(rendered) {
            let what = format!("{set}: {}", pod.of);
            let (capabilities, folders) = (added(container(&pod)), host_paths(&pod.spec));
            if is_hooked_agent(set, &pod) {
                assert_eq!(capabilities, ["BPF", "NET_ADMIN"], "{what}");
                let [(_, kind)] = folders.as_slice() else {
                    panic!("{what}: {folders:?}")
                };
                assert_eq!(kind, "Directory", "{what}");
                let mounts = container(&pod).volume_mounts.iter().flatten();
                let mount = mounts.clone().find(|mount| mount.mount_path == "/host/cgroup");
                assert_eq!(mount.unwrap().read_only, Some(true), "{what}");
            } else {
                assert_eq!(capabilities, [""; 0], "{what}");
                assert_eq!(folders, [], "{what}");
            }
        }
    });
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
#[test]
fn volumes_are_of_the_kinds_that_restricted_pods_may_have() {
    each_value_set(|set, rendered| {
        for pod in pods(rendered) {
            for volume in pod.spec.volumes.iter().flatten() {
                let restricted =
                    volume.config_map.is_some() || volume.empty_dir.is_some() || volume.secret.is_some();
                let node = volume.name == "cgroup" && is_hooked_agent(set, &pod);
                assert!(restricted || node, "{set}: {}: {volume:?}", pod.of);
            }
        }
    });
}

#[test]
fn what_is_mounted_is_there() {
    each_value_set(|set, rendered| {
        for pod in pods(rendered) {
            let names: Vec<_> = pod.spec.volumes.iter().flatten().map(|v| &v.name).collect();
            let mounts = container(&pod).volume_mounts.iter().flatten();
            let mounted: Vec<_> = mounts.map(|mount| &mount.name).collect();
            assert_eq!(names, mounted, "{set}: {}", pod.of);
        }
    });
}

/// Of each term: they are alternatives.
fn architectures(spec: &PodSpec) -> Vec<Vec<String>> {
    let nodes = spec.affinity.clone().and_then(|affinity| affinity.node_affinity);
    let required = nodes.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution);
    let terms = required.map(|required| required.node_selector_terms);
    let of_term = |term: &NodeSelectorTerm| {
        let mut expressions = term.match_expressions.iter().flatten();
        let ours = expressions.find(|one| one.key == "kubernetes.io/arch");
        let ours = ours.expect("every term says it");
        assert_eq!(ours.operator, "In");
        ours.values.clone().expect("a list")
    };
    terms.iter().flatten().map(of_term).collect()
}

/// There the program could not even start.
#[test]
fn no_pod_gets_to_a_node_for_which_the_image_was_not_made() {
    each_value_set(|set, rendered| {
        let image: &[&str] = match set {
            "everything" => &["amd64", "arm64"],
            _ => &["amd64"],
        };
        for pod in pods(rendered) {
            assert_eq!(architectures(&pod.spec), [image], "{set}: {}", pod.of);
        }
    });
}

#[test]
fn wishes_for_nodes_stay_beside_the_architecture() {
    let terms = "nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}, {matchFields: [{key: metadata.name, operator: In, values: [node-1]}]}]";
    let wished = format!(
        "deployment: {{affinity: {{podAntiAffinity: {{}}, nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{{terms}}}}}}}}}"
    );
    let rendered = template(&wished).unwrap();
    let agents = rendered.get("DaemonSet", "sap-transp-proxy");
    let agents = agents.pod_template().unwrap().spec;
    assert_eq!(architectures(&agents), [["amd64"], ["amd64"]]);
    let affinity = agents.affinity.unwrap();
    assert!(affinity.pod_anti_affinity.is_some());
    let nodes = affinity.node_affinity.unwrap();
    let required = nodes.required_during_scheduling_ignored_during_execution;
    let terms = required.unwrap().node_selector_terms;
    assert_eq!(terms[0].match_expressions.as_ref().unwrap()[0].key, "a");
    assert!(terms[1].match_fields.is_some());

    let anywhere = template("deployment: {image: {architectures: []}}").unwrap();
    for pod in pods(&anywhere) {
        assert_eq!(pod.spec.affinity, None, "{}", pod.of);
    }
}

/// The kubelet would give every container several variables per Service of the namespace.
#[test]
fn no_pod_gets_variables_for_services() {
    each_value_set(|set, rendered| {
        for pod in pods(rendered) {
            assert_eq!(pod.spec.enable_service_links, Some(false), "{set}: {}", pod.of);
        }
    });
}

#[test]
fn only_who_asks_the_api_server_gets_a_token() {
    each_value_set(|_, rendered| {
        for pod in pods(rendered) {
            let account = pod.spec.service_account_name.as_deref();
            let token = pod.spec.automount_service_account_token;
            assert_eq!(token, Some(account.is_some()), "{}", pod.of);
            assert_eq!(account.is_none(), pod.of.starts_with("Pod "), "{}", pod.of);
            if let Some(name) = account {
                let account: ServiceAccount = rendered.get("ServiceAccount", name).typed();
                assert_eq!(account.automount_service_account_token, Some(false), "{name}");
            }
        }
    });
}

fn rules(object: &Object) -> Vec<PolicyRule> {
    serde_json::from_value(object.json["rules"].clone()).expect("rules")
}

#[test]
fn no_role_has_wildcards_or_ways_to_more() {
    let too_much = ["*", "bind", "escalate", "impersonate", "deletecollection"];
    each_value_set(|set, rendered| {
        for role in rendered.of_kind("ClusterRole").chain(rendered.of_kind("Role")) {
            for rule in rules(role) {
                let parts = [Some(rule.verbs), rule.api_groups, rule.resources];
                for part in parts.iter().flatten().flatten() {
                    assert!(!too_much.contains(&part.as_str()), "{set}: {}: {part}", role.id());
                }
                assert_eq!(rule.non_resource_urls, None, "{set}: {}", role.id());
            }
        }
    });
}

#[test]
fn secrets_are_read_by_namespace_and_never_written() {
    each_value_set(|set, rendered| {
        for role in rendered.of_kind("ClusterRole").chain(rendered.of_kind("Role")) {
            for rule in rules(role) {
                let resources = rule.resources.unwrap_or_default();
                if resources.iter().any(|resource| resource == "secrets") {
                    assert_eq!(role.kind(), "Role", "{set}: {}", role.id());
                    assert_eq!(rule.verbs, ["list", "watch"], "{set}: {}", role.id());
                }
            }
        }
    });
}

/// All namespaces are managed otherwise, so nobody has to know them.
#[test]
fn namespaces_are_read_only_where_their_labels_count() {
    let readers = |set| {
        let roles = rendered(set).of_kind("ClusterRole");
        let reads = |role: &&Object| {
            let mut rules = rules(role).into_iter();
            rules.any(|rule| {
                rule.resources
                    .unwrap_or_default()
                    .contains(&"namespaces".to_owned())
            })
        };
        roles
            .filter(reads)
            .map(|role| role.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(readers("default"), [""; 0]);
    assert_eq!(
        readers("everything"),
        [
            "sap-transp-proxy-healthcheck-proxy",
            "sap-transp-proxy-manager-proxy"
        ]
    );
}

#[test]
fn of_a_namespace_with_authorities_only_their_secret_is_read() {
    let roles = rendered("everything").of_kind("Role");
    let mut there = roles.filter(|role| role.namespace() == Some("pki"));
    let role = there
        .next()
        .expect("the namespace of additionalCAs.secretNamespace");
    assert_eq!(there.count(), 0);
    for rule in rules(role) {
        assert_eq!(rule.resources.as_deref(), Some(&["secrets".to_owned()][..]));
        assert_eq!(
            rule.resource_names.as_deref(),
            Some(&["company-roots".to_owned()][..])
        );
    }
}

#[test]
fn pods_are_only_written_by_kubernetes() {
    each_value_set(|set, rendered| {
        for role in rendered.of_kind("ClusterRole").chain(rendered.of_kind("Role")) {
            for rule in rules(role) {
                let resources = rule.resources.unwrap_or_default();
                let read = rule
                    .verbs
                    .iter()
                    .all(|v| matches!(&**v, "get" | "list" | "watch"));
                assert!(
                    read || !resources.iter().any(|resource| resource.starts_with("pods")),
                    "{set}: {}",
                    role.id()
                );
            }
        }
    });
}

#[test]
fn every_role_is_given_to_accounts_that_are_there() {
    each_value_set(|set, rendered| {
        for kind in ["ClusterRole", "Role"] {
            let bindings = format!("{kind}Binding");
            assert_eq!(
                rendered.of_kind(kind).count(),
                rendered.of_kind(&bindings).count(),
                "{set}"
            );
            for binding in rendered.of_kind(&bindings) {
                assert_eq!(binding.json["roleRef"]["kind"], kind, "{set}");
                let role = binding.json["roleRef"]["name"].as_str().unwrap();
                let roles = rendered.of_kind(kind);
                let mut there = roles.filter(|r| r.name() == role && r.namespace() == binding.namespace());
                assert!(there.next().is_some(), "{set}: {}", binding.id());
                for subject in binding.json["subjects"].as_array().unwrap() {
                    assert_eq!(subject["namespace"], NAMESPACE, "{set}: {}", binding.id());
                    rendered.get("ServiceAccount", subject["name"].as_str().unwrap());
                }
            }
        }
    });
}

#[test]
fn what_belongs_to_no_namespace_carries_that_of_the_installation() {
    each_value_set(|set, rendered| {
        for object in &rendered.objects {
            let named = object.name().ends_with(&format!("-{NAMESPACE}"));
            match object.kind() {
                "CustomResourceDefinition" => {}
                "ClusterRole" | "ClusterRoleBinding" | "PriorityClass" => {
                    assert_eq!(object.namespace(), None);
                    assert!(named, "{set}: {}", object.id());
                }
                _ if object.namespace() == Some(NAMESPACE) => {}
                "Role" | "RoleBinding" => assert!(named, "{set}: {}", object.id()),
                _ => panic!("{set}: {} is in another namespace", object.id()),
            }
        }
    });
}

/// They are no part of a release, so nobody else removes them.
#[test]
fn hooks_remove_themselves() {
    each_value_set(|_, rendered| {
        let hooks: Vec<_> = rendered.objects.iter().filter(|o| o.is_hook()).collect();
        assert_eq!(hooks.len(), 8);
        for hook in hooks {
            let policy = hook.annotation("helm.sh/hook-delete-policy");
            assert_eq!(
                policy,
                Some("before-hook-creation,hook-succeeded"),
                "{}",
                hook.id()
            );
        }
    });
}

#[test]
fn pods_belong_to_what_made_them_and_to_nothing_else() {
    each_value_set(|set, rendered| {
        let pods = pods(rendered);
        for kind in ["DaemonSet", "Deployment"] {
            for object in rendered.of_kind(kind) {
                let selector = object.json["spec"]["selector"]["matchLabels"].clone();
                let selector = serde_json::from_value(selector).unwrap();
                let selected: Vec<_> = pods
                    .iter()
                    .filter(|pod| selects(&selector, &pod.labels))
                    .map(|pod| &pod.of)
                    .collect();
                assert_eq!(selected, [&format!("{kind} {}", object.name())], "{set}");
            }
        }
    });
}

/// Selectors cannot be changed, so an upgrade with other values would fail.
#[test]
fn selectors_are_the_same_for_all_values() {
    let selectors = |set: &str| -> BTreeMap<String, String> {
        let rendered = rendered(set);
        let objects = rendered
            .of_kind("DaemonSet")
            .chain(rendered.of_kind("Deployment"));
        objects
            .map(|object| (object.id(), object.json["spec"]["selector"].to_string()))
            .collect()
    };
    let default = selectors("default");
    for set in VALUE_SETS {
        for (object, selector) in selectors(set) {
            assert_eq!(default.get(&object), Some(&selector), "{set}: {object}");
        }
    }
}

/// Pods and the port by which a Service reaches them.
fn behind(rendered: &Rendered, service: &str) -> Vec<(String, i32)> {
    let spec = rendered.get("Service", service).typed::<Service>().spec.unwrap();
    let selector = spec.selector.expect("a selector");
    let [port] = spec.ports.as_deref().expect("ports") else {
        panic!("{service} has one port")
    };
    assert_eq!(spec.ip_family_policy.as_deref(), Some("PreferDualStack"));
    let Some(IntOrString::String(name)) = &port.target_port else {
        panic!("{service} names its port")
    };
    let selected = pods(rendered)
        .into_iter()
        .filter(|pod| selects(&selector, &pod.labels));
    selected
        .map(|pod| {
            let ports = container(&pod).ports.iter().flatten();
            let port = ports.clone().find(|port| port.name.as_ref() == Some(name));
            let port = port.unwrap_or_else(|| panic!("{} has no port {name}", pod.of));
            (pod.of.clone(), port.container_port)
        })
        .collect()
}

#[test]
fn services_reach_the_right_ports() {
    let rendered = rendered("metrics");
    let one = |name: &str, port| vec![(format!("Deployment {name}"), port)];
    let proxy = |port| {
        vec![
            ("DaemonSet sap-transp-proxy".to_owned(), port),
            ("Deployment sap-transp-proxy-fallback".to_owned(), port),
        ]
    };
    let expected = [
        (
            "sap-transp-proxy-healthcheck",
            80,
            one("sap-transp-proxy-healthcheck", 8080),
        ),
        (
            "sap-transp-proxy-healthcheck-metrics",
            9494,
            one("sap-transp-proxy-healthcheck", 9494),
        ),
        ("sap-transp-proxy-http-metrics", 9494, proxy(9494)),
        (
            "sap-transp-proxy-int-healthcheck",
            80,
            one("sap-transp-proxy-healthcheck", 8080),
        ),
        (
            "sap-transp-proxy-manager",
            80,
            one("sap-transp-proxy-manager", 8081),
        ),
        (
            "sap-transp-proxy-manager-metrics",
            9494,
            one("sap-transp-proxy-manager", 9494),
        ),
        ("sap-transp-proxy-tcp-metrics", 9494, proxy(9495)),
    ];
    let mut names: Vec<_> = rendered.of_kind("Service").map(Object::name).collect();
    names.sort_unstable();
    assert_eq!(names, expected.each_ref().map(|(name, ..)| *name));
    for (name, port, pods) in expected {
        assert_eq!(
            rendered.get("Service", name).json["spec"]["ports"][0]["port"],
            port
        );
        assert_eq!(behind(rendered, name), pods, "{name}");
    }
}

#[test]
fn without_metrics_nothing_is_said_of_them() {
    let rendered = rendered("default");
    for service in rendered.of_kind("Service") {
        assert!(!service.name().contains("metrics"));
    }
    for pod in pods(rendered) {
        let ports = container(&pod).ports.iter().flatten();
        assert!(ports.clone().all(|port| port.container_port < 9000), "{}", pod.of);
    }
}

#[test]
fn documented_labels_select_the_documented_pods() {
    let rendered = rendered("default");
    let by_component: Vec<_> = pods(rendered)
        .into_iter()
        .filter_map(|pod| Some((pod.labels.get(labels::COMPONENT)?.clone(), pod.of)))
        .collect();
    let expected = [
        ("http-proxy", "DaemonSet sap-transp-proxy"),
        ("http-proxy", "Deployment sap-transp-proxy-fallback"),
        ("healthcheck", "Deployment sap-transp-proxy-healthcheck"),
        ("manager", "Deployment sap-transp-proxy-manager"),
    ];
    assert_eq!(
        by_component,
        expected.map(|(component, of)| (component.into(), of.into()))
    );
}

/// Somebody always serves the ordinary endpoints of the virtual IPs, and only one kind of pods.
#[test]
fn the_generated_services_select_the_fallback_or_else_the_agents() {
    each_value_set(|set, rendered| {
        let selector = BTreeMap::from([(labels::FALLBACK.to_owned(), "true".to_owned())]);
        let selected: Vec<_> = pods(rendered)
            .into_iter()
            .filter(|pod| selects(&selector, &pod.labels))
            .map(|pod| pod.of)
            .collect();
        let expected = match set {
            "no-fallback" | "nothing-but-services" => "DaemonSet sap-transp-proxy",
            _ => "Deployment sap-transp-proxy-fallback",
        };
        assert_eq!(selected, [expected], "{set}");
    });
}

#[test]
fn agents_are_there_if_they_have_something_to_do() {
    each_value_set(|set, rendered| {
        let agents = rendered.find("DaemonSet", "sap-transp-proxy").is_some();
        assert_eq!(agents, set != "without-hook", "{set}");
    });
}

#[test]
fn probes_go_to_the_probes() {
    each_value_set(|set, rendered| {
        for pod in pods(rendered) {
            let container = container(&pod);
            let long_lived = pod.of.starts_with('D');
            let probes = [&container.liveness_probe, &container.readiness_probe];
            let paths = probes.map(|probe| {
                let http = probe.as_ref()?.http_get.as_ref()?;
                assert_eq!(http.port, IntOrString::String("probes".to_owned()));
                http.path.clone()
            });
            let expected = ["/healthz", "/readyz"].map(|path| long_lived.then(|| path.to_owned()));
            assert_eq!(paths, expected, "{set}: {}", pod.of);
        }
    });
}

/// Of a pod: the only policy that selects it.
fn policy(rendered: &Rendered, pod: &PodTemplate) -> NetworkPolicySpec {
    let policies = rendered.of_kind("NetworkPolicy");
    let policies = policies.map(|policy| policy.typed::<NetworkPolicy>().spec.unwrap());
    let selects = |policy: &NetworkPolicySpec| {
        let selector = policy.pod_selector.clone().unwrap_or_default();
        selects(&selector.match_labels.unwrap_or_default(), &pod.labels)
    };
    let mut selecting: Vec<_> = policies.filter(selects).collect();
    assert_eq!(selecting.len(), 1, "{}", pod.of);
    selecting.remove(0)
}

/// First and last.
fn let_in(policy: &NetworkPolicySpec) -> Vec<(i32, i32)> {
    let rules = policy.ingress.iter().flatten();
    let ports = rules.flat_map(|rule| {
        assert_eq!(rule.from, None, "from everywhere");
        rule.ports.clone().expect("not every port")
    });
    let range = |port: NetworkPolicyPort| {
        assert_eq!(port.protocol.as_deref(), Some("TCP"));
        let Some(IntOrString::Int(first)) = port.port else {
            panic!("a number")
        };
        (first, port.end_port.unwrap_or(first))
    };
    let mut ranges: Vec<_> = ports.map(range).collect();
    ranges.sort_unstable();
    ranges
}

#[test]
fn network_policies_let_in_what_the_pods_serve_and_nothing_else() {
    let rendered = rendered("everything");
    for pod in pods(rendered) {
        let policy = policy(rendered, &pod);
        let ports = container(&pod).ports.iter().flatten();
        let mut served: Vec<_> = ports
            .map(|port| (port.container_port, port.container_port))
            .collect();
        if pod
            .labels
            .get(labels::COMPONENT)
            .is_some_and(|component| component == "http-proxy")
        {
            served.push((20_000, 29_999));
        }
        served.sort_unstable();
        assert_eq!(let_in(&policy), served, "{}", pod.of);
        let types = policy.policy_types.unwrap();
        assert_eq!(types, ["Ingress", "Egress"], "{}", pod.of);
    }
}

#[test]
fn network_policies_let_only_the_proxy_and_tests_out_to_everywhere() {
    let rendered = rendered("everything");
    let everywhere: Vec<_> = pods(rendered)
        .into_iter()
        .filter(|pod| policy(rendered, pod).egress == Some(vec![NetworkPolicyEgressRule::default()]))
        .map(|pod| pod.of)
        .collect();
    assert_eq!(
        everywhere,
        [
            "DaemonSet sap-transp-proxy",
            "Deployment sap-transp-proxy-fallback",
            "Pod sap-transp-proxy-test-destinations",
            "Pod sap-transp-proxy-test-status",
        ]
    );
    for name in ["sap-transp-proxy-manager", "sap-transp-proxy-cleanup"] {
        let policy = rendered.get("NetworkPolicy", name);
        let egress = policy.json["spec"]["egress"].to_string();
        assert_eq!(
            egress, r#"[{"ports":[{"port":16443,"protocol":"TCP"}]}]"#,
            "{name}"
        );
    }
}

#[test]
fn network_policies_are_made_only_if_they_are_wanted() {
    assert_eq!(rendered("default").of_kind("NetworkPolicy").count(), 0);
}

/// One of one would keep its node from being drained for ever.
#[test]
fn only_what_may_have_two_pods_has_a_disruption_budget() {
    let budgets = |values: &str| -> Vec<String> {
        let rendered = template(values).unwrap();
        let budgets = rendered.of_kind("PodDisruptionBudget");
        budgets
            .map(|budget| {
                let selector = budget.typed::<PodDisruptionBudget>().spec.unwrap().selector;
                let selector = selector.unwrap().match_labels.unwrap();
                let pods = pods(&rendered).into_iter();
                let selected: Vec<_> = pods
                    .filter(|pod| selects(&selector, &pod.labels))
                    .map(|pod| pod.of)
                    .collect();
                assert_eq!(selected, [format!("Deployment {}", budget.name())]);
                budget.name().to_owned()
            })
            .collect()
    };
    let replicas = |http, manager| {
        budgets(&format!(
            "deployment: {{replicas: {{http: {http}, manager: {manager}}}}}"
        ))
    };
    assert_eq!(replicas(0, 1), [""; 0]);
    assert_eq!(replicas(1, 1), [""; 0]);
    assert_eq!(replicas(2, 1), ["sap-transp-proxy-fallback"]);
    assert_eq!(
        replicas(2, 2),
        ["sap-transp-proxy-fallback", "sap-transp-proxy-manager"]
    );
    // By its load, there may be more.
    let scaled = |most| {
        budgets(&format!(
            "deployment: {{replicas: {{http: 1}}, autoscaling: {{http: {{horizontal: {{enabled: true, maxReplicaCount: {most}}}}}}}}}"
        ))
    };
    assert_eq!(scaled(1), [""; 0]);
    assert_eq!(scaled(2), ["sap-transp-proxy-fallback"]);
}

#[test]
fn what_is_ours_wins_over_labels_of_the_user() {
    let rendered = rendered("everything");
    for pod in pods(rendered) {
        assert_ne!(pod.labels["app.kubernetes.io/component"], "mine", "{}", pod.of);
        assert_eq!(pod.labels["cost-center"], "4711", "{}", pod.of);
    }
}

/// A digest is exact, a tag may move.
#[test]
fn a_digest_wins_over_the_tag() {
    let image = |values: &str| {
        let rendered = template(values).unwrap();
        let images = pods(&rendered)
            .into_iter()
            .map(|pod| container(&pod).image.clone().unwrap());
        let mut images: Vec<String> = images.collect();
        images.dedup();
        images.join(" ")
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(image(""), "docker.io/library/transparent-proxy:0.1.0");
    assert_eq!(
        image("deployment: {image: {registry: '', repository: proxy, tag: dev}}"),
        "proxy:dev"
    );
    assert_eq!(
        image(&format!("deployment: {{image: {{digest: '{digest}'}}}}")),
        format!("docker.io/library/transparent-proxy@{digest}")
    );
}
