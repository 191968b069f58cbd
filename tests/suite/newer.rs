//! Destinations of a newer definition: whoever does not understand one goes on with all others.

use std::net::TcpStream;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};
use transparent_proxy::api::destination::{Destination, definition};

use crate::harness::agent::{Node, SHOP};
use crate::harness::api_server::ApiServer;
use crate::harness::role::{Role, Running};
use crate::harness::{node, tcp, wait};

/// Knows a level more than this version.
fn newer() -> CustomResourceDefinition {
    let mut newer = serde_json::to_value(definition()).unwrap();
    newer
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/destinationRef/properties/level/enum")
        .and_then(Value::as_array_mut)
        .expect("levels are an enumeration")
        .push("galaxy".into());
    serde_json::from_value(newer).unwrap()
}

async fn make(node: &Node, name: &str, level: Option<&str>) {
    let resource = ApiResource::erase::<Destination>(&());
    let crs: Api<DynamicObject> = Api::namespaced_with(node.client.clone(), &node.shop, &resource);
    let cr = json!({
        "apiVersion": "destination.connectivity.api.sap/v1",
        "kind": "Destination",
        "metadata": {"name": name},
        "spec": {"destinationRef": {"name": "backend", "level": level}},
    });
    let cr = serde_json::from_value(cr).unwrap();
    crs.create(&PostParams::default(), &cr)
        .await
        .expect("the CR is accepted");
}

/// Where the manager has put it.
async fn target_port(node: &Node, name: &str) -> u16 {
    let services: Api<Service> = node.in_installation();
    loop {
        let service = services.get_opt(name).await.unwrap();
        if let Some(IntOrString::Int(port)) =
            service.and_then(|service| service.spec?.ports?.remove(0).target_port)
        {
            return port.try_into().unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
}

fn role(name: &str, node: &Node, server: &ApiServer) -> Role {
    let settings = json!({"managedNamespacesMode": "all", "clusterDomain": "cluster.local"});
    Role::new(name, &format!("newer-{name}"), &settings)
        .env("KUBECONFIG", server.kubeconfig())
        .option("--namespace", &node.installation)
}

async fn is_served(node: &Node, name: &str) {
    let port = tokio::time::timeout(tcp::PATIENCE, target_port(node, name));
    let port = port.await.expect("the manager makes a Service");
    wait::until("it is served", || {
        node.try_ask(SHOP, port)
            .is_some_and(|answer| answer.ends_with("hello"))
    });
}

fn row(pages: std::net::SocketAddr, name: &str) -> Value {
    let answer = tcp::get(pages, "/destinationCRs");
    let body = answer.split_once("\r\n\r\n").expect("a head").1;
    let all: Value = serde_json::from_str(body).unwrap_or_default();
    let rows = all["CustomResources"].as_array().cloned().unwrap_or_default();
    rows.into_iter()
        .find(|row| row["Name"] == name)
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_not_understood_is_alone_in_its_misery() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::start().await;
    let node = Node::new(&server).await;
    server.define(&newer()).await;
    let web = node.web("hello");
    node.secret("backend", json!({"Type": "HTTP", "URL": web})).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    make(&node, "newer", Some("galaxy")).await;
    make(&node, "known", None).await;

    // Each lists one and the other, then sees one of each kind come.
    let pages = tcp::nobody();
    let healthcheck = role("healthcheck", &node, &server)
        .option("--listen", pages.to_string())
        .start();
    wait::until("the pages are served", || TcpStream::connect(pages).is_ok());
    wait::until("the row is there", || {
        row(pages, "newer")["Available"] == "Unknown"
    });
    assert!(
        row(pages, "newer")["Message"]
            .as_str()
            .unwrap()
            .contains("galaxy")
    );
    let _manager: Running = role("manager", &node, &server).start();
    let agent = node.agent("newer-agent").fallback().start();
    is_served(&node, "known").await;
    make(&node, "newer-too", Some("galaxy")).await;
    make(&node, "known-too", None).await;
    is_served(&node, "known-too").await;

    for name in ["newer", "newer-too"] {
        let what = format!("{name} is said not to be understood");
        wait::until(&what, || row(pages, name)["Available"] == "False");
        let row = row(pages, name);
        assert_eq!(row["Reason"], "ConfigurationFailed");
        assert!(row["Message"].as_str().unwrap().contains("galaxy"), "{row}");
        assert_eq!(row["DestinationRef"]["name"], "backend");
        let report = agent.explain(&format!("{shop}/{name}"));
        assert!(
            report["resource"]["broken"].as_str().unwrap().contains("galaxy"),
            "{report}"
        );
    }
    wait::until("the rows of the others are there", || {
        ["known", "known-too"]
            .iter()
            .all(|name| row(pages, name)["Available"] == "True")
    });
    wait::until("the healthcheck is ready", || {
        tcp::get(healthcheck.probes(), "/readyz").starts_with("HTTP/1.1 200 ")
    });
}
