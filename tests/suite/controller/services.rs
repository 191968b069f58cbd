//! Services follow their Destination CRs.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::harness::api_server::{Instead, Seen};

#[tokio::test]
async fn a_cr_gets_a_virtual_ip_and_a_name_in_its_own_namespace() {
    let tp = Installation::new("made").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("made").start();
    tp.http("backend").await;
    let cr = tp.cr(&shop, "orders", "backend").await;
    let condition = tp.becomes(&shop, "orders", Reason::ConfigurationSuccessful).await;
    assert_eq!(condition.status.as_deref(), Some("True"));
    assert_eq!(
        condition.message.as_deref(),
        Some("Technical connectivity is configured. Kubernetes service with name orders is created.")
    );
    let time = condition.last_update_time.unwrap();
    assert!(
        time.len() == "2022-09-28T07:26:46Z".len() && time.ends_with('Z'),
        "{time}"
    );

    let virtual_ip = tp.virtual_ip("orders").await;
    let spec = virtual_ip.spec.clone().unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(spec.cluster_ips.unwrap().len(), 2, "both families");
    assert_eq!(
        spec.selector,
        Some(BTreeMap::from([(labels::FALLBACK.to_owned(), "true".to_owned())]))
    );
    let ports = spec.ports.unwrap();
    assert_eq!(ports[0].app_protocol.as_deref(), Some("http"));
    let (number, target, name) = port(&virtual_ip);
    assert_eq!((number, name.as_str()), (80, "http"));
    assert!((10_000..30_000).contains(&target.unwrap()), "{target:?}");
    assert_eq!(virtual_ip.metadata.owner_references, None);

    let name = tp.service(&shop, "orders").await.unwrap();
    let spec = name.spec.clone().unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ExternalName"));
    assert_eq!(
        spec.external_name,
        Some(format!("orders.{}.svc.cluster.local", tp.namespace))
    );
    assert_eq!(
        name.metadata.owner_references.unwrap()[0].uid,
        cr.metadata.uid.unwrap()
    );
    for service in [virtual_ip.metadata.labels, name.metadata.labels] {
        let expected = [
            (labels::MANAGED_BY, labels::MANAGER),
            (labels::INSTALLATION, &tp.namespace),
            (labels::DESTINATION_NAMESPACE, &shop),
            (labels::DESTINATION_NAME, "orders"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(service, Some(BTreeMap::from(expected)));
    }
}

#[tokio::test]
async fn a_cr_beside_the_proxy_gets_one_service() {
    let tp = Installation::new("beside").await;
    tp.label(&tp.namespace, Some(&tp.namespace)).await;
    let _manager = tp.manager("beside").start();
    tp.http("backend").await;
    let cr = tp.cr(&tp.namespace, "orders", "backend").await;
    tp.works(&tp.namespace, "orders").await;
    let service = tp.virtual_ip("orders").await;
    assert_eq!(
        service.metadata.owner_references.unwrap()[0].uid,
        cr.metadata.uid.unwrap()
    );
    assert_eq!(tp.made().await.len(), 1);
}

#[tokio::test]
async fn a_gateway_needs_no_destination() {
    let tp = Installation::new("gateway").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("gateway").start();
    tp.cr(&shop, "any", "*").await;
    tp.works(&shop, "any").await;
    assert_eq!(port(&tp.virtual_ip("any").await).0, 80);
}

#[tokio::test]
async fn ports_and_types_change_in_place() {
    let tp = Installation::new("inplace").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("inplace").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let before = tp.virtual_ip("orders").await;
    let becomes = async |number: i32, name: &str| {
        eventually(&format!("the port is {number}"), || async {
            let service = tp.virtual_ip("orders").await;
            let other = tp.service(&shop, "orders").await?;
            let is_so = |service: &Service| {
                let port = port(service);
                (port.0, port.2.as_str()) == (number, name)
            };
            (is_so(&service) && is_so(&other)).then_some(service)
        })
        .await
    };
    tp.change(&shop, "orders", json!({"service": {"port": 8080}}))
        .await;
    becomes(8080, "http").await;
    let tcp = json!({"Type": "TCP", "Address": "backend.example:5432", "URL": null});
    tp.destination("backend", tcp).await;
    becomes(8080, "tcp").await;
    tp.change(&shop, "orders", json!({"service": null})).await;
    let after = becomes(20_004, "tcp").await;
    assert_eq!(cluster_ips(&after), cluster_ips(&before));
    assert_eq!(target_port(&after), target_port(&before));
    assert_eq!(after.metadata.uid, before.metadata.uid);
}

#[tokio::test]
async fn what_a_cr_had_goes_with_it() {
    let tp = Installation::new("gone").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("gone").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    tp.remove(&shop, "orders").await;
    tp.nothing_is_left().await;
}

#[tokio::test]
async fn services_that_somebody_deletes_come_back() {
    let tp = Installation::new("deleted").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("deleted").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let before = tp.virtual_ip("orders").await;
    for namespace in [&tp.namespace, &shop] {
        tp.delete_service(namespace, "orders").await;
        eventually("it is back", || tp.service(namespace, "orders")).await;
    }
    let after = tp.virtual_ip("orders").await;
    assert_ne!(after.metadata.uid, before.metadata.uid);
    assert_eq!(target_port(&after), target_port(&before), "agents listen there");
}

#[tokio::test]
async fn what_somebody_changes_is_put_right() {
    let tp = Installation::new("changed").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("changed").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let before = tp.virtual_ip("orders").await;
    let change = json!({
        "metadata": {"annotations": {"their": "note"}},
        "spec": {
            "externalName": "elsewhere.example",
            "selector": {"app": "theirs"},
            "ports": [
                {"name": "a", "port": 81, "targetPort": 1, "protocol": "TCP"},
                {"name": "b", "port": 82, "targetPort": 2, "protocol": "UDP"},
            ],
        },
    });
    let services = tp.services(&tp.namespace);
    services
        .patch("orders", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    let after = eventually("it is as before", || async {
        let service = tp.virtual_ip("orders").await;
        (service.spec == before.spec).then_some(service)
    })
    .await;
    assert_eq!(after.metadata.annotations.unwrap()["their"], "note");
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let tp = Installation::new("restart").await;
    let shop = tp.managed("shop").await;
    let mut manager = tp.manager("restart").start();
    tp.http("backend").await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        tp.cr(&shop, name, "backend").await;
    }
    let mut before = Vec::new();
    for name in names {
        tp.works(&shop, name).await;
        before.push(tp.virtual_ip(name).await);
    }
    assert_eq!(manager.stop().code(), Some(0));
    let disturbance = tp.server.disturbed().await;
    let _manager = tp
        .manager("restart-again")
        .env("KUBECONFIG", disturbance.kubeconfig())
        .start();
    tp.cr(&shop, "f", "backend").await;
    tp.works(&shop, "f").await;
    for (name, before) in names.iter().zip(before) {
        let after = tp.virtual_ip(name).await;
        assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    }
    let others: Vec<_> = disturbance
        .writes()
        .into_iter()
        .filter(|seen| !seen.is_of("leases") && !seen.path.contains("/f"))
        .filter(|seen| !String::from_utf8_lossy(&seen.body).contains("\"f\""))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn target_ports_differ_and_are_not_given_away_at_once() {
    let tp = Installation::new("ports").await;
    let shop = tp.managed("shop").await;
    let settings = json!({"targetPorts": "20000-20003"});
    let _manager = tp.manager_with("ports", &settings).start();
    tp.http("backend").await;
    let mut ports = std::collections::BTreeSet::new();
    for name in ["a", "b", "c"] {
        tp.cr(&shop, name, "backend").await;
        tp.works(&shop, name).await;
        ports.insert(target_port(&tp.virtual_ip(name).await));
    }
    assert_eq!(ports.len(), 3);
    let freed = target_port(&tp.virtual_ip("c").await);
    tp.remove(&shop, "c").await;
    tp.is_gone(&tp.namespace, "c").await;
    tp.cr(&shop, "d", "backend").await;
    tp.works(&shop, "d").await;
    assert_ne!(target_port(&tp.virtual_ip("d").await), freed);
    tp.cr(&shop, "e", "backend").await;
    tp.works(&shop, "e").await;
    tp.cr(&shop, "f", "backend").await;
    let condition = tp.becomes(&shop, "f", Reason::ConfigurationFailed).await;
    assert!(condition.message.unwrap().contains("target ports"));
}

#[tokio::test]
async fn a_cr_that_is_made_again_keeps_its_virtual_ip_and_owns_its_name() {
    let tp = Installation::new("again").await;
    let shop = tp.managed("shop").await;
    let mut manager = tp.manager("again").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    for is_running in [true, false] {
        let before = tp.virtual_ip("orders").await;
        if !is_running {
            manager.stop();
        }
        tp.remove(&shop, "orders").await;
        let cr = tp.cr(&shop, "orders", "backend").await;
        if !is_running {
            manager = tp.manager("again-later").start();
        }
        tp.works(&shop, "orders").await;
        eventually("the new CR owns the name", || async {
            let service = tp.service(&shop, "orders").await?;
            let owners = service.metadata.owner_references?;
            (owners.len() == 1 && owners[0].uid == cr.metadata.uid.clone()?).then_some(())
        })
        .await;
        if !is_running {
            let after = tp.virtual_ip("orders").await;
            assert_eq!(cluster_ips(&after), cluster_ips(&before));
        }
    }
}

#[tokio::test]
async fn what_is_deleted_while_no_manager_runs_is_removed_later() {
    let tp = Installation::new("orphan").await;
    let shop = tp.managed("shop").await;
    let mut manager = tp.manager("orphan").start();
    tp.http("backend").await;
    for name in ["a", "b"] {
        tp.cr(&shop, name, "backend").await;
        tp.works(&shop, name).await;
    }
    manager.stop();
    tp.remove(&shop, "a").await;
    let _manager = tp.manager("orphan-later").start();
    tp.is_gone(&tp.namespace, "a").await;
    tp.is_gone(&shop, "a").await;
    assert_eq!(tp.made().await.len(), 2, "b is still there");
}

#[tokio::test]
async fn a_cr_that_is_deleted_while_its_services_are_made_leaves_none() {
    let tp = Installation::new("during").await;
    let shop = tp.managed("shop").await;
    let disturbance = tp.server.disturbed().await;
    let makes = |seen: &Seen| seen.method == "POST" && seen.is_of("services");
    disturbance.disturb(makes, Instead::WhenReleased);
    let _manager = tp
        .manager("during")
        .env("KUBECONFIG", disturbance.kubeconfig())
        .start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    eventually("a Service is under way", || async {
        disturbance.writes().iter().any(makes).then_some(())
    })
    .await;
    tp.remove(&shop, "orders").await;
    disturbance.calm();
    eventually("the Service was made", || async {
        let deleted = |seen: &Seen| seen.method == "DELETE" && seen.is_of("services");
        disturbance.writes().iter().any(deleted).then_some(())
    })
    .await;
    tp.nothing_is_left().await;
}

#[tokio::test]
async fn changed_secrets_are_followed_at_once() {
    let tp = Installation::new("secrets").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("secrets").start();
    tp.cr(&shop, "orders", "backend").await;
    tp.becomes(&shop, "orders", Reason::DestinationNotFound).await;
    assert!(tp.made().await.is_empty());
    tp.http("backend").await;
    tp.works(&shop, "orders").await;
    tp.remove_destination("backend").await;
    tp.becomes(&shop, "orders", Reason::DestinationNotFound).await;
    assert_eq!(tp.made().await.len(), 2, "applications are told why by the proxy");
    let before = tp.virtual_ip("orders").await;
    for namespace in [&tp.namespace, &shop] {
        tp.delete_service(namespace, "orders").await;
        eventually("it is back", || tp.service(namespace, "orders")).await;
    }
    assert_eq!(port(&tp.virtual_ip("orders").await), port(&before));
}
