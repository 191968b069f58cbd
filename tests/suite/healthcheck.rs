//! The role `healthcheck` in front of a real API server, with agents that only answer probes.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use transparent_proxy::api::destination::{Destination, definition};
use transparent_proxy::api::labels;
use transparent_proxy::telemetry::registry::{Exposition, strict};

use crate::harness::account::{self, Account};
use crate::harness::api_server::ApiServer;
use crate::harness::role::{Role, Running};
use crate::harness::{tcp, wait};

/// An installation without any component but this one, with the rights that the chart gives it.
struct Installation {
    client: Client,
    /// Its namespace.
    namespace: String,
    /// With the label; the other one without.
    managed: String,
    unmanaged: String,
    pages: SocketAddr,
    role: Running,
    /// Its file is read at start only, but belongs to it.
    _account: Account,
}

impl Installation {
    async fn start(server: &ApiServer, name: &str) -> Self {
        server.define(&definition()).await;
        let namespace = server.namespace(name).await;
        let managed = server
            .labelled_namespace(&format!("{name}-managed"), &[(labels::NAMESPACE, &namespace)])
            .await;
        let unmanaged = server.namespace(&format!("{name}-unmanaged")).await;
        let (agents, pages) = (agents(), tcp::nobody());
        let settings = json!({
            "managedNamespacesMode": "labelSelector",
            "metrics": {"enabled": true},
            "logging": {"level": "trace"},
        });
        let account = Account::of_chart(server, &namespace, account::HEALTHCHECK).await;
        let role = Role::new("healthcheck", name, &settings)
            .env("KUBECONFIG", account.instead_of(&server.kubeconfig()))
            .option("--namespace", &namespace)
            .option("--listen", pages.to_string())
            .option("--agent-probes", agents.to_string())
            .start();
        wait::until("the pages are served", || TcpStream::connect(pages).is_ok());
        Self {
            client: server.client().await,
            namespace,
            managed,
            unmanaged,
            pages,
            role,
            _account: account,
        }
    }

    /// The answer of a page, as soon as there is one.
    fn page(&self, path: &str) -> String {
        let mut page = String::new();
        wait::until("the page is there", || {
            let answer = tcp::get(self.pages, path);
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            body.clone_into(&mut page);
            head.starts_with("HTTP/1.1 200 ")
        });
        page
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.page(path)).expect("it is JSON")
    }

    fn until_status_is(&self, wanted: &Value) {
        wait::until_equal("/status", wanted, || self.json("/status"));
    }

    async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let object: K = serde_json::from_value(object).expect("an object");
        api.create(&PostParams::default(), &object)
            .await
            .expect("it is created")
    }

    async fn pod(&self, component: &str, owner: (&str, &str), node: &str, address: Ipv4Addr, ready: bool) {
        let name = format!("{}-{node}", owner.1);
        let pod = json!({
            "metadata": {
                "name": name,
                "labels": {labels::COMPONENT: component},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": owner.0, "name": owner.1, "uid": "u", "controller": true,
                }],
            },
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
        });
        self.create::<Pod>(&self.namespace, pod).await;
        self.set_ready(&name, address, ready).await;
    }

    async fn set_ready(&self, pod: &str, address: Ipv4Addr, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let status = json!({"status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": status}],
        }});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("the status is set");
    }

    /// As its controller leaves it that has counted the nodes.
    async fn daemon_set(&self, name: &str, nodes: u32) {
        let labels = json!({"app": name});
        let set = json!({
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "none"}]},
                },
            },
        });
        self.create::<DaemonSet>(&self.namespace, set).await;
        let status = json!({"status": {
            "observedGeneration": 1, "desiredNumberScheduled": nodes,
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }});
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.namespace);
        sets.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("the status is set");
    }

    async fn service(&self, name: &str, protocol: &str) {
        let service = json!({
            "metadata": {"name": name, "labels": {
                labels::MANAGED_BY: labels::MANAGER,
                labels::INSTALLATION: self.namespace,
                labels::DESTINATION_NAMESPACE: self.managed,
                labels::DESTINATION_NAME: name,
            }},
            "spec": {"ports": [{"name": protocol, "appProtocol": protocol, "port": 80, "targetPort": 10001}]},
        });
        self.create::<Service>(&self.namespace, service).await;
    }

    async fn destination(&self, namespace: &str, name: &str, condition: Option<(&str, &str, &str)>) {
        let cr = json!({
            "apiVersion": "destination.connectivity.api.sap/v1",
            "kind": "Destination",
            "metadata": {"name": name},
            "spec": {"destinationRef": {"name": "backend"}},
        });
        self.create::<Destination>(namespace, cr).await;
        let Some((status, reason, message)) = condition else {
            return;
        };
        let status = json!({"status": {"conditions": [{
            "type": "Available", "status": status, "reason": reason, "message": message,
        }]}});
        let crs: Api<Destination> = Api::namespaced(self.client.clone(), namespace);
        crs.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("the status is set");
    }

    async fn manage(&self, namespace: &str, managed: bool) {
        let value = if managed {
            Value::from(self.namespace.as_str())
        } else {
            Value::Null
        };
        let change = json!({"metadata": {"labels": {labels::NAMESPACE: value}}});
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .patch(namespace, &PatchParams::default(), &Patch::Merge(change))
            .await
            .expect("the label is changed");
    }
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Two agents; the second one's hook has failed.
fn agents() -> u16 {
    loop {
        let first = TcpListener::bind((FIRST, 0)).expect("a port");
        let port = first.local_addr().expect("its address").port();
        let Ok(second) = TcpListener::bind((SECOND, port)) else {
            continue;
        };
        answer(first, r#"{"state": "working"}"#);
        answer(
            second,
            r#"{"state": "failed", "reason": "another program is in the way"}"#,
        );
        return port;
    }
}

fn answer(listener: TcpListener, hook: &'static str) {
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let Some(head) = tcp::read_head(&mut connection) else {
                continue;
            };
            assert!(head.starts_with("GET /status HTTP/1.1\r\n"), "{head}");
            let body = format!(
                r#"{{"phase": "ready", "pending": [], "component": "http-proxy", "version": "1", "hook": {hook}, "facts": []}}"#
            );
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = connection.write_all(answer.as_bytes());
        }
    });
}

fn agent() -> (&'static str, &'static str) {
    ("DaemonSet", "sap-transp-proxy")
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_how_the_pods_and_their_hooks_are() {
    let server = ApiServer::shared().await;
    let all = Installation::start(server, "health-status").await;
    let ok = json!({"Status": "ok"});
    all.until_status_is(&json!({"Status": "critical", "Components": {
        "sap-transp-proxy-http": ok, "sap-transp-proxy-tcp": ok,
        "sap-transp-proxy-manager": {"Status": "critical", "Message": "there is no manager pod"},
    }}));
    let manager = ("ReplicaSet", "sap-transp-proxy-manager");
    all.pod("manager", manager, "node-1", [10, 0, 0, 1].into(), true)
        .await;
    all.pod("http-proxy", agent(), "node-1", FIRST, true).await;
    all.service("my-dest", "http").await;
    all.service("db", "tcp").await;
    all.until_status_is(&json!({"Status": "ok", "Components": {
        "sap-transp-proxy-http": ok, "sap-transp-proxy-tcp": ok, "sap-transp-proxy-manager": ok,
    }}));
    all.pod("http-proxy", agent(), "node-2", SECOND, true).await;
    let message =
        "connections are not redirected by the hook on node-2, they take the detour of the Services";
    all.until_status_is(&json!({"Status": "warning", "Components": {
        "sap-transp-proxy-http": {"Status": "warning", "Message": message},
        "sap-transp-proxy-tcp": {
            "Status": "warning", "Message": message, "AffectedDeployments": ["sap-transp-proxy/node-2"],
        },
        "sap-transp-proxy-manager": ok,
    }}));
    for (node, address) in [("node-1", FIRST), ("node-2", SECOND)] {
        all.set_ready(&format!("sap-transp-proxy-{node}"), address, false)
            .await;
    }
    let message = "none of 2 proxy pods is ready";
    all.until_status_is(&json!({"Status": "warning", "Components": {
        "sap-transp-proxy-http": {"Status": "critical", "Message": message},
        "sap-transp-proxy-tcp": {
            "Status": "critical", "Message": message,
            "AffectedDeployments": ["sap-transp-proxy/node-1", "sap-transp-proxy/node-2"],
        },
        "sap-transp-proxy-manager": ok,
    }}));
    let page = all.page("/");
    assert!(page.contains("<b class=\"warning\">warning</b>"), "{page}");
    assert!(
        page.contains("sap-transp-proxy-node-2") && !page.contains("<script"),
        "{page}"
    );
    no_library_told_details(&all.role.log());
}

/// Nobody makes pods here, as where a quota or an admission forbids them.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_want_an_agent_and_have_none_are_counted() {
    let server = ApiServer::shared().await;
    let all = Installation::start(server, "health-agents").await;
    let manager = ("ReplicaSet", "sap-transp-proxy-manager");
    all.pod("manager", manager, "node-1", [10, 0, 0, 1].into(), true)
        .await;
    all.pod("http-proxy", agent(), "node-1", FIRST, true).await;
    all.service("my-dest", "http").await;
    all.daemon_set("sap-transp-proxy", 3).await;
    all.daemon_set("other", 9).await;
    let ok = json!({"Status": "ok"});
    let message = "2 of 3 nodes have no agent pod, so their connections take the detour of the Services";
    all.until_status_is(&json!({"Status": "warning", "Components": {
        "sap-transp-proxy-http": {"Status": "warning", "Message": message},
        "sap-transp-proxy-tcp": ok,
        "sap-transp-proxy-manager": ok,
    }}));
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_resources_are_told_and_counted_where_they_are_managed() {
    let server = ApiServer::shared().await;
    let all = Installation::start(server, "health-crs").await;
    let nothing = json!({"Status": "ok", "CustomResources": []});
    wait::until_equal("/destinationCRs", &nothing, || all.json("/destinationCRs"));
    let done = (
        "True",
        "ConfigurationSuccessful",
        "Technical connectivity is configured.",
    );
    let missing = (
        "False",
        "ConfigurationError-ReferencedDestination-NotFound",
        "Not found.",
    );
    all.destination(&all.managed, "b", Some(done)).await;
    all.destination(&all.managed, "a", Some(missing)).await;
    all.destination(&all.managed, "c", None).await;
    all.destination(&all.unmanaged, "d", Some(done)).await;
    let summary = |all: &Installation| {
        let answer = all.json("/destinationCRs");
        let rows = answer["CustomResources"].as_array().unwrap();
        let row = |row: &Value| {
            let field = |name: &str| row[name].as_str().unwrap().to_owned();
            format!("{}={}/{}", field("Name"), field("Available"), field("Reason"))
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        format!("{}: {}", answer["Status"].as_str().unwrap(), rows.join(" "))
    };
    let wanted = "warning: a=False/ConfigurationError-ReferencedDestination-NotFound \
                  b=True/ConfigurationSuccessful c=Unknown/";
    wait::until_equal("the summary", &wanted.to_owned(), || summary(&all));
    let row = &all.json("/destinationCRs")["CustomResources"][1];
    assert_eq!(row["Namespace"], all.managed.as_str());
    assert_eq!(row["DestinationRef"], json!({"name": "backend"}));
    assert_eq!(row["Message"], "Technical connectivity is configured.");
    let created = row["CreationTimestamp"].as_str().unwrap();
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
    assert_eq!(
        counted(&all),
        [("False".to_owned(), 2.0), ("True".to_owned(), 1.0)]
    );

    all.manage(&all.unmanaged, true).await;
    wait::until("the namespace is managed", || summary(&all).contains(" d=True"));
    all.manage(&all.managed, false).await;
    wait::until("the other one is not", || {
        summary(&all) == "ok: d=True/ConfigurationSuccessful"
    });
}

/// Above all not the token for the API server.
fn no_library_told_details(log: &[Value]) {
    let detailed: Vec<&Value> = log
        .iter()
        .filter(|line| line["level"] == "debug" || line["level"] == "trace")
        .collect();
    assert!(!detailed.is_empty(), "this is not level trace");
    for line in detailed {
        let target = line["target"].as_str().expect("a target");
        assert!(target.starts_with("transparent_proxy"), "{line}");
        assert!(!line.to_string().contains("s3cr3t"), "{line}");
    }
}

/// `tp_destination_crs` by the value of its label.
fn counted(all: &Installation) -> Vec<(String, f64)> {
    let answer = tcp::get(all.role.metrics(), "/metrics");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let families = strict::parse(body, Exposition::OpenMetrics).unwrap();
    let family = &families["tp_destination_crs"];
    assert_eq!(
        (family.kind.as_str(), family.help.as_str()),
        ("gauge", "Total Destination Crs")
    );
    let scope = r#"otel_scope_name="sap-transp-proxy-healthcheck",otel_scope_version="""#;
    let value = |(series, value): (&String, &f64)| {
        assert!(series.contains(scope), "{series}");
        let label = series.split_once("Available=\"").expect("the label").1;
        (label.split_once('"').expect("its value").0.to_owned(), *value)
    };
    family.samples.iter().map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_last_is_told_while_the_api_server_is_away() {
    let server = ApiServer::start().await;
    let all = Installation::start(&server, "health-away").await;
    all.destination(&all.managed, "a", None).await;
    wait::until("it is listed", || all.page("/destinationCRs").contains("\"a\""));
    let is_ready = || tcp::get(all.role.probes(), "/readyz").ends_with("ready\n");
    wait::until("everything is listed", is_ready);
    server.kill();
    all.role
        .line("the watch notices", |line| line["msg"] == "watch failed");
    assert!(all.page("/destinationCRs").contains("\"a\""));
    assert!(is_ready());
    server.restart().await;
    all.destination(&all.managed, "b", None).await;
    wait::until("the new one is listed, too", || {
        all.page("/destinationCRs").contains("\"b\"")
    });
}

#[test]
fn before_everything_is_known_nothing_is_told() {
    let pages = tcp::nobody();
    let role = Role::new("healthcheck", "health-nothing", &json!({}))
        .option("--listen", pages.to_string())
        .start();
    wait::until("the pages are served", || TcpStream::connect(pages).is_ok());
    for path in ["/status", "/destinationCRs", "/"] {
        let answer = tcp::get(pages, path);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    let ready = tcp::get(role.probes(), "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.contains("destinations"),
        "{ready}"
    );
}
