//! Destinations from Secrets, as an API server tells of them.

use super::*;
use crate::harness::api_server::Seen;

const SUCCESS: Reason = Reason::ConfigurationSuccessful;
const NOT_FOUND: Reason = Reason::DestinationNotFound;

#[tokio::test]
async fn secrets_of_the_named_namespaces_are_destinations_for_whom_they_allow() {
    let tp = Installation::new("allowed").await;
    let (shop, bank) = (tp.managed("shop").await, tp.managed("bank").await);
    let (more, other) = (
        tp.server.namespace("allowed-more").await,
        tp.server.namespace("allowed-other").await,
    );
    let _manager = tp
        .manager_with("allowed", &json!({"secrets": {"namespaces": [more]}}))
        .start();
    let for_shop = json!({"annotations": {(labels::ALLOWED_NAMESPACES): json!([shop]).to_string()}});
    tp.destination_in(&more, "for-shop", for_shop).await;
    tp.destination_in(&more, "for-all", json!({})).await;
    tp.destination_in(&other, "unseen", json!({})).await;
    for namespace in [&shop, &bank] {
        for destination in ["for-shop", "for-all", "unseen"] {
            // Names are for one namespace each.
            tp.cr(namespace, &format!("{destination}-{namespace}"), destination)
                .await;
        }
    }
    for (namespace, destination, reason) in [
        (&shop, "for-shop", SUCCESS),
        (&shop, "for-all", SUCCESS),
        (&shop, "unseen", NOT_FOUND),
        (&bank, "for-shop", NOT_FOUND),
        (&bank, "for-all", SUCCESS),
        (&bank, "unseen", NOT_FOUND),
    ] {
        tp.becomes(namespace, &format!("{destination}-{namespace}"), reason)
            .await;
    }
    let for_bank = json!({"annotations": {(labels::ALLOWED_NAMESPACES): json!([bank]).to_string()}});
    tp.destination_in(&more, "for-shop", for_bank).await;
    tp.becomes(&bank, &format!("for-shop-{bank}"), SUCCESS).await;
    tp.becomes(&shop, &format!("for-shop-{shop}"), NOT_FOUND).await;
}

#[tokio::test]
async fn a_secret_that_loses_its_label_or_is_made_again_is_followed() {
    let tp = Installation::new("labelled").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("labelled").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let secrets: Api<Secret> = Api::namespaced(tp.client.clone(), &tp.namespace);
    let patch = Patch::Merge(json!({"metadata": {"labels": {(labels::DESTINATION): null}}}));
    secrets
        .patch("backend", &PatchParams::default(), &patch)
        .await
        .unwrap();
    tp.becomes(&shop, "orders", NOT_FOUND).await;
    tp.http("backend").await;
    tp.works(&shop, "orders").await;
    tp.remove_destination("backend").await;
    tp.destination(
        "backend",
        json!({"Type": "TCP", "Address": "backend.example:5432"}),
    )
    .await;
    eventually("it is the new one", || async {
        (port(&tp.virtual_ip("orders").await).2 == "tcp").then_some(())
    })
    .await;
    tp.works(&shop, "orders").await;
}

#[tokio::test]
async fn of_two_secrets_with_one_name_the_older_one_counts_until_it_is_gone() {
    let tp = Installation::new("twice").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("twice").start();
    let http = json!({"Name": "backend", "Type": "HTTP", "URL": "https://backend.example"});
    let tcp = json!({"Name": "backend", "Type": "TCP", "Address": "backend.example:5432"});
    tp.destination("first", http).await;
    let secrets: Api<Secret> = Api::namespaced(tp.client.clone(), &tp.namespace);
    let first = secrets.get("first").await.unwrap();
    eventually("a second has passed", || async {
        let created = first.metadata.creation_timestamp.as_ref()?.0;
        let age = created.duration_until(k8s_openapi::jiff::Timestamp::now());
        (age.as_secs() >= 2).then_some(())
    })
    .await;
    // By name it would be the first one.
    tp.destination("a-second", tcp).await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    assert_eq!(port(&tp.virtual_ip("orders").await).2, "http");
    tp.remove_destination("first").await;
    eventually("it is the other one", || async {
        (port(&tp.virtual_ip("orders").await).2 == "tcp").then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_secret_is_asked_for_but_labelled_ones_of_the_named_namespaces() {
    let tp = Installation::new("asked").await;
    let (shop, more) = (tp.managed("shop").await, tp.server.namespace("asked-more").await);
    let way = tp.server.disturbed().await;
    let _manager = tp
        .manager_with("asked", &json!({"secrets": {"namespaces": [more]}}))
        .env("KUBECONFIG", way.kubeconfig())
        .start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    way.cut_streams();
    tp.destination_in(&more, "later", json!({})).await;
    tp.cr(&shop, "later", "later").await;
    tp.works(&shop, "later").await;
    let asked: Vec<Seen> = way
        .seen()
        .into_iter()
        .filter(|seen| seen.is_of("secrets"))
        .collect();
    assert!(asked.iter().any(Seen::is_watch) && !asked.iter().all(Seen::is_watch));
    let selector = format!("labelSelector={}", labels::DESTINATION.replace('/', "%2F"));
    for seen in asked {
        let places =
            [&tp.namespace, &more].map(|namespace| format!("/api/v1/namespaces/{namespace}/secrets"));
        assert!(places.contains(&seen.path), "{}", seen.path);
        assert!(seen.query.contains(&selector), "{}", seen.query);
    }
}
