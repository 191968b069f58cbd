//! What the chart refuses, and what it says then.

use super::helm::template;

fn complaint(values: &str) -> String {
    let refused = template(values);
    refused.err().unwrap_or_else(|| panic!("{values} is taken"))
}

/// Values, and part of what is said.
fn assert_refused(cases: &[(&str, &str)]) {
    for (values, expected) in cases {
        let complaint = complaint(values);
        assert!(complaint.contains(expected), "{values}: {complaint}");
    }
}

#[test]
fn what_comes_later_is_refused_by_name() {
    assert_refused(&[
        (
            "compliance: {fipsModeEnabled: true}",
            "compliance.fipsModeEnabled is not supported yet: leave it at false",
        ),
        (
            "config: {tenantMode: shared}",
            r#"config.tenantMode is not supported yet: leave it at "dedicated""#,
        ),
        (
            "config: {integration: {destinationService: {instances: [{name: main}]}}}",
            "config.integration.destinationService.instances is not supported yet: leave it at []",
        ),
        (
            "config: {integration: {connectivityProxy: {serviceName: connectivity-proxy.cp}}}",
            r#"config.integration.connectivityProxy.serviceName is not supported yet: leave it at """#,
        ),
        (
            "config: {integration: {connectivityProxy: {serviceCredentials: {secretName: key}}}}",
            "config.integration.connectivityProxy.serviceCredentials.secretName is not supported yet",
        ),
        (
            "config: {integration: {connectivityProxy: {serviceCredentials: {secretKey: key}}}}",
            "config.integration.connectivityProxy.serviceCredentials.secretKey is not supported yet",
        ),
        (
            "config: {integration: {connectivityProxy: {serviceCredentials: {secretNamespace: cp}}}}",
            "config.integration.connectivityProxy.serviceCredentials.secretNamespace is not supported yet",
        ),
        (
            "config: {integration: {connectivityProxy: {serviceCredentials: {privateKey: {secretName: a, secretInternalKey: b, secretNamespace: c}}}}}",
            "config.integration.connectivityProxy.serviceCredentials.privateKey.secretInternalKey is not supported yet",
        ),
        (
            "config: {integration: {serviceMesh: {istio: {istio-injection: enabled}}}}",
            "config.integration.serviceMesh.istio.istio-injection is not supported yet",
        ),
        (
            "deployment: {autoscaling: {http: {vertical: {enabled: true}}}}",
            "deployment.autoscaling.http.vertical.enabled is not supported yet",
        ),
        (
            "deployment: {autoscaling: {tcp: {vertical: {enabled: true}}}}",
            "deployment.autoscaling.tcp.vertical.enabled is not supported yet",
        ),
    ]);
}

/// Encryption between components: whatever is right or wrong about its issuer, it comes later.
#[test]
fn encryption_is_refused_with_any_issuer() {
    let issuers = [
        // no issuer
        "",
        // two kinds of issuer at once
        "name: issuer, kind: Issuer, namespace: garden",
        // neither kind
        "name: issuer",
        // one of cert.gardener.cloud, one of cert-manager.io for a namespace and for the cluster
        "name: issuer, namespace: garden",
        "name: issuer, kind: Issuer",
        "name: issuer, kind: ClusterIssuer",
    ];
    for issuer in issuers {
        let complaint = complaint(&format!(
            "config: {{security: {{communication: {{internal: {{encryptionEnabled: true, certManager: {{issuerRef: {{{issuer}}}}}}}}}}}}}"
        ));
        let expected = "config.security.communication.internal.encryptionEnabled is not supported yet: leave it at false";
        assert!(complaint.contains(expected), "{issuer}: {complaint}");
    }
}

/// Tenant modes that do not fit, or a list of regions that does not exist: there is no Connectivity Proxy yet.
#[test]
fn a_connectivity_proxy_is_refused_with_any_tenant_mode() {
    for mode in ["dedicated", "shared"] {
        let complaint = complaint(&format!(
            "config: {{tenantMode: {mode}, integration: {{connectivityProxy: {{serviceName: cp.cp}}}}}}"
        ));
        let expected = "config.integration.connectivityProxy.serviceName is not supported yet";
        assert!(complaint.contains(expected), "{mode}: {complaint}");
    }
}

#[test]
fn contradictions_are_named() {
    assert_refused(&[
        (
            "deployment: {autoscaling: {http: {horizontal: {enabled: true}, vertical: {enabled: true}}}}",
            "deployment.autoscaling.http: horizontal.enabled and vertical.enabled exclude each other",
        ),
        (
            "deployment: {autoscaling: {tcp: {horizontal: {enabled: true}, vertical: {enabled: true}}}}",
            "deployment.autoscaling.tcp: horizontal.enabled and vertical.enabled exclude each other",
        ),
        (
            "deployment: {replicas: {http: 0}, autoscaling: {http: {horizontal: {enabled: true}}}}",
            "there is nothing to scale, since deployment.replicas.http is 0",
        ),
        (
            "deployment: {replicas: {http: 5}, autoscaling: {http: {horizontal: {enabled: true}}}}",
            "maxReplicaCount is 4, less than deployment.replicas.http, which is 5",
        ),
        (
            "config: {integration: {destinationService: {defaultInstanceName: main}}}",
            "config.integration.destinationService.defaultInstanceName: main is no instance; there is secrets",
        ),
        (
            "config: {integration: {destinationService: {defaultInstanceName: third, instances: [{name: one}, {name: two}]}}}",
            "defaultInstanceName: third is no instance; there is secrets, one, two",
        ),
        (
            "config: {integration: {destinationService: {instances: [{name: one}, {name: two}, {name: one}]}}}",
            "config.integration.destinationService.instances[2].name: one is the name of another instance",
        ),
        (
            "config: {integration: {destinationService: {instances: [{name: secrets}]}}}",
            "instances[0].name: secrets is the name of another instance",
        ),
        (
            "config: {integration: {destinationService: {instances: [{name: one, serviceCredentials: {secretData: e30=, secretNamespace: other}}]}}}",
            "instances[0].serviceCredentials: secretData and secretNamespace exclude each other",
        ),
        (
            "deployment: {updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}}",
            "exactly one of maxSurge (1) and maxUnavailable (1) may be, and has to be, more than 0",
        ),
        (
            "deployment: {updateStrategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}}",
            "exactly one of maxSurge (0) and maxUnavailable (0%) may be, and has to be, more than 0",
        ),
        (
            "additionalCAs: {secretName: roots}",
            "additionalCAs.secretKey is missing: it names the key in the Secret roots",
        ),
    ]);
}

#[test]
fn ports_that_do_not_work_are_refused() {
    assert_refused(&[
        (
            "config: {tcp: {targetPortRange: 29999-10000}}",
            "config.tcp.targetPortRange: 29999-10000 is no range within 1024-65535",
        ),
        (
            "config: {tcp: {targetPortRange: 1000-2000}}",
            "1000-2000 is no range",
        ),
        (
            "config: {tcp: {targetPortRange: 60000-70000}}",
            "60000-70000 is no range",
        ),
        (
            "config: {tcp: {targetPortRange: 8081-9494}}",
            "8081-9494 contains 8081, 9494, where the pods serve something else",
        ),
        (
            "config: {tcp: {targetPortRange: 30000-32768}}",
            "30000-32768 overlaps 32768-60999, out of which the kernel takes the ports of outgoing connections",
        ),
        (
            "config: {tcp: {targetPortRange: 60999-65535}}",
            "60999-65535 overlaps 32768-60999",
        ),
        (
            "config: {tcp: {targetPortRange: 20000-65000}}",
            "20000-65000 overlaps 32768-60999",
        ),
        (
            "config: {tcp: {targetPortRange: any}}",
            "/config/tcp/targetPortRange",
        ),
    ]);
}

#[test]
fn ports_beside_those_of_outgoing_connections_are_taken() {
    for range in ["1024-8079", "9496-32767", "61000-65535"] {
        let taken = template(&format!("config: {{tcp: {{targetPortRange: {range}}}}}"));
        assert_eq!(taken.err(), None, "{range}");
    }
}

/// The API server would refuse the pods, in the middle of an installation.
#[test]
fn requests_above_the_limits_are_refused() {
    let cases = [
        // The sum of both planes counts, whatever the units.
        (
            "{http: {requests: {memory: 600M}}}",
            "deployment.resources.http and .tcp together: requests.memory is 632M, more than limits.memory, which is 576M",
        ),
        (
            "{http: {request: {memory: 1Gi}}}",
            "deployment.resources.http and .tcp together: requests.memory is 1105741824, more than",
        ),
        (
            "{tcp: {requests: {cpu: 2}}}",
            "deployment.resources.http and .tcp together: requests.cpu is 2200m, more than limits.cpu, which is 500m",
        ),
        (
            "{manager: {limits: {cpu: 49m}}}",
            "deployment.resources.manager: requests.cpu is 0.05, more than limits.cpu, which is 49m",
        ),
        (
            "{healthcheck: {requests: {memory: 100000000}}}",
            "deployment.resources.healthcheck: requests.memory is 100000000, more than limits.memory, which is 96M",
        ),
    ];
    for (resources, expected) in cases {
        assert_refused(&[(&format!("deployment: {{resources: {resources}}}"), expected)]);
    }
    for resources in [
        "{http: {requests: {memory: 500M}}}",
        "{http: {requests: {memory: 4Gi}, limits: {memory: null}}}",
        "{manager: {requests: {cpu: 500m}, limits: {cpu: 0.5}}}",
        "{healthcheck: {requests: {memory: 1G}, limits: null}}",
    ] {
        let taken = template(&format!("deployment: {{resources: {resources}}}"));
        assert_eq!(taken.err(), None, "{resources}");
    }
}

#[test]
fn all_mistakes_are_said_at_once() {
    let complaint = complaint(
        "{additionalCAs: {secretName: x}, config: {tenantMode: shared, tcp: {targetPortRange: 9-8}}}",
    );
    assert_eq!(complaint.matches("\n- ").count(), 3, "{complaint}");
}

#[test]
fn mistyped_keys_are_refused() {
    assert_refused(&[
        ("config: {tenantmode: dedicated}", "'tenantmode' not allowed"),
        (
            "config: {security: {internalCommunication: {}}}",
            "'internalCommunication' not allowed",
        ),
        (
            "config: {integration: {connectivityProxy: {httpPort: 1}}}",
            "'httpPort' not allowed",
        ),
        ("deployment: {replica: {}}", "'replica' not allowed"),
        ("deployment: {ebpf: {enable: true}}", "'enable' not allowed"),
        ("additionalCAs: {name: x}", "'name' not allowed"),
        ("compliance: {fips: true}", "'fips' not allowed"),
        ("deploymnet: {}", "deploymnet is unknown"),
    ]);
}

#[test]
fn values_out_of_range_are_refused() {
    for (values, place) in [
        ("config: {tenantMode: Shared}", "/config/tenantMode"),
        (
            "config: {managedNamespacesMode: some}",
            "/config/managedNamespacesMode",
        ),
        (
            "config: {manager: {executionIntervalMinutes: 0}}",
            "/config/manager/executionIntervalMinutes",
        ),
        (
            "config: {http: {retry: {maxRetries: -1}}}",
            "/config/http/retry/maxRetries",
        ),
        (
            "config: {http: {retry: {statusCodes: [99]}}}",
            "/config/http/retry/statusCodes/0",
        ),
        ("config: {logging: {level: loud}}", "/config/logging/level"),
        ("config: {logging: {format: xml}}", "/config/logging/format"),
        (
            "config: {metrics: {prometheus: {enabled: 'true'}}}",
            "/config/metrics/prometheus/enabled",
        ),
        (
            "config: {security: {accessControl: {destinations: {defaultScope: cluster}}}}",
            "/config/security/accessControl/destinations/defaultScope",
        ),
        (
            "config: {integration: {destinationService: {readTimeoutSeconds: 61}}}",
            "/config/integration/destinationService/readTimeoutSeconds",
        ),
        (
            "config: {integration: {destinationService: {connectionTimeoutSeconds: 0}}}",
            "/config/integration/destinationService/connectionTimeoutSeconds",
        ),
        (
            "config: {integration: {connectivityProxy: {connectionTimeoutSeconds: 61}}}",
            "/config/integration/connectivityProxy/connectionTimeoutSeconds",
        ),
        (
            "config: {integration: {secrets: {namespaces: [Shop]}}}",
            "/config/integration/secrets/namespaces/0",
        ),
        (
            "config: {integration: {destinationService: {instances: [{}]}}}",
            "/config/integration/destinationService/instances/0",
        ),
        ("config: {clusterDomain: 'a b'}", "/config/clusterDomain"),
        (
            "deployment: {replicas: {manager: 0}}",
            "/deployment/replicas/manager",
        ),
        ("deployment: {replicas: {http: -1}}", "/deployment/replicas/http"),
        (
            "deployment: {resources: {http: {limits: {memory: 192 M}}}}",
            "/deployment/resources/http/limits/memory",
        ),
        (
            "deployment: {resources: {tcp: {requests: {cpu: lots}}}}",
            "/deployment/resources/tcp/requests/cpu",
        ),
        ("deployment: {image: {digest: '123'}}", "/deployment/image/digest"),
        (
            "deployment: {priority: {value: 2000000000}}",
            "/deployment/priority/value",
        ),
        (
            "deployment: {ebpf: {cgroupRoot: cgroup}}",
            "/deployment/ebpf/cgroupRoot",
        ),
        (
            "deployment: {networkPolicy: {apiServerPorts: []}}",
            "/deployment/networkPolicy/apiServerPorts",
        ),
        (
            "deployment: {updateStrategy: {rollingUpdate: {maxUnavailable: 200%}}}",
            "/deployment/updateStrategy/rollingUpdate/maxUnavailable",
        ),
        (
            "deployment: {terminationGracePeriodSeconds: 9}",
            "/deployment/terminationGracePeriodSeconds",
        ),
        ("deployment: {podLabels: {a: 1}}", "/deployment/podLabels/a"),
    ] {
        let complaint = complaint(values);
        assert!(complaint.contains(place), "{values}: {complaint}");
    }
}
