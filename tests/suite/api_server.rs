//! What controller tests build on: the API server of the harness, and what can be done to it.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, Error};
use serde_json::json;

use crate::harness::api_server::{ApiServer, Disturbance, Instead, Seen};
use crate::harness::peers;

const SOON: Duration = Duration::from_secs(20);
/// Long enough for an answer that is on its way.
const MOMENT: Duration = Duration::from_millis(300);

fn named(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

async fn create(client: &Client, namespace: &str, name: &str) -> kube::Result<ConfigMap> {
    let maps = Api::namespaced(client.clone(), namespace);
    maps.create(&PostParams::default(), &named(name)).await
}

async fn names(client: &Client, namespace: &str) -> kube::Result<Vec<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let maps = maps.list_metadata(&kube::api::ListParams::default()).await?;
    Ok(maps
        .items
        .into_iter()
        .filter_map(|map| map.metadata.name)
        .collect())
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(Error::Api(status)) => status.code,
        other => panic!("no refusal: {other:?}"),
    }
}

/// The smallest there is.
fn greeting() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": { "name": "greetings.test.example" },
        "spec": {
            "group": "test.example",
            "names": { "kind": "Greeting", "plural": "greetings" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "word": { "type": "string", "maxLength": 5 } },
                } },
            }],
        },
    }))
    .unwrap()
}

#[tokio::test]
async fn objects_of_a_definition_can_be_made_at_once_and_are_validated() {
    let server = ApiServer::shared().await;
    server.define(&greeting()).await;
    let namespace = server.namespace("defines").await;
    let kind = GroupVersionKind::gvk("test.example", "v1", "Greeting");
    let resource = ApiResource::from_gvk(&kind);
    let greetings: Api<DynamicObject> = Api::namespaced_with(server.client().await, &namespace, &resource);
    let create = async |word| {
        let greeting = DynamicObject::new(word, &resource).data(json!({ "word": word }));
        greetings.create(&PostParams::default(), &greeting).await
    };
    create("hello").await.expect("it is accepted");
    assert_eq!(code(create("goodbye").await), 422);
}

#[tokio::test]
async fn services_get_addresses_of_both_families() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("addresses").await;
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "shop" },
        "spec": { "ipFamilyPolicy": "PreferDualStack", "ports": [{ "port": 80, "protocol": "TCP" }] },
    }))
    .unwrap();
    let services = Api::namespaced(server.client().await, &namespace);
    let service = services.create(&PostParams::default(), &service).await.unwrap();
    assert_eq!(service.spec.unwrap().cluster_ips.unwrap().len(), 2);
}

#[tokio::test]
async fn frozen_it_keeps_everybody_waiting_and_thawed_it_goes_on() {
    let server = ApiServer::start().await;
    let client = server.client().await;
    server.freeze();
    let waiting = create(&client, "default", "patient");
    pin_mut!(waiting);
    tokio::time::timeout(MOMENT, &mut waiting)
        .await
        .expect_err("nobody answers");
    server.thaw();
    tokio::time::timeout(SOON, waiting)
        .await
        .expect("an answer in time")
        .expect("it is created");
}

#[tokio::test]
async fn killed_and_started_again_it_has_the_same_objects_at_the_same_address() {
    let server = ApiServer::start().await;
    let client = server.client().await;
    create(&client, "default", "survivor").await.unwrap();
    server.kill();
    names(&client, "default").await.expect_err("nobody is there");
    server.restart().await;
    let names = names(&client, "default").await.unwrap();
    assert!(names.contains(&"survivor".to_owned()), "{names:?}");
}

#[tokio::test]
async fn programs_find_it_by_a_kubeconfig() {
    let server = ApiServer::shared().await;
    let disturbance = server.disturbed().await;
    for kubeconfig in [server.kubeconfig(), disturbance.kubeconfig()] {
        let output = tokio::process::Command::new(peers::path("kubectl"))
            .args(["get", "--raw", "/version"])
            .env("KUBECONFIG", kubeconfig)
            .output();
        let output = output.await.expect("kubectl starts");
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(disturbance.seen()[0].path, "/version");
}

/// With a way in of its own, and a namespace.
async fn disturbed(prefix: &str) -> (Disturbance, Client, String) {
    let server = ApiServer::shared().await;
    let disturbance = server.disturbed().await;
    let mut config = kube::Config::from_custom_kubeconfig(
        kube::config::Kubeconfig::read_from(disturbance.kubeconfig()).unwrap(),
        &kube::config::KubeConfigOptions::default(),
    )
    .await
    .unwrap();
    // Refusals shall be seen, not tried again.
    config.default_retry = false;
    (
        disturbance,
        Client::try_from(config).unwrap(),
        server.namespace(prefix).await,
    )
}

#[tokio::test]
async fn a_disturbance_answers_instead_of_the_server_as_often_as_it_was_told() {
    let (disturbance, client, namespace) = disturbed("refuses").await;
    disturbance.disturb_times(2, Seen::is_write, Instead::Status(429));
    assert_eq!(code(create(&client, &namespace, "one").await), 429);
    assert_eq!(code(create(&client, &namespace, "one").await), 429);
    create(&client, &namespace, "one")
        .await
        .expect("it is calm again");
    assert_eq!(disturbance.writes().len(), 3);
    assert!(disturbance.writes()[2].is_of("configmaps"));
    disturbance.forget();
    names(&client, &namespace).await.unwrap();
    assert!(disturbance.writes().is_empty());
    assert_eq!(disturbance.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_object_behind() {
    let (disturbance, client, namespace) = disturbed("loses").await;
    disturbance.disturb(Seen::is_write, Instead::Cut);
    create(&client, &namespace, "done")
        .await
        .expect_err("nothing is done");
    disturbance.disturb(Seen::is_write, Instead::LostAnswer);
    create(&client, &namespace, "done")
        .await
        .expect_err("no answer comes");
    disturbance.calm();
    assert_eq!(code(create(&client, &namespace, "done").await), 409);
}

#[tokio::test]
async fn silence_lasts_until_it_is_calm() {
    let (disturbance, client, namespace) = disturbed("silent").await;
    disturbance.disturb(|seen| seen.is_of("configmaps"), Instead::Silence);
    let waiting = tokio::time::timeout(MOMENT, names(&client, &namespace)).await;
    waiting.expect_err("no answer comes");
    disturbance.disturb(|seen| seen.is_of("configmaps"), Instead::Late(2 * MOMENT));
    let waiting = tokio::time::timeout(MOMENT, names(&client, &namespace)).await;
    waiting.expect_err("no answer comes yet");
    disturbance.calm();
    names(&client, &namespace).await.expect("it is calm again");
}

#[tokio::test]
async fn watches_can_be_cut_ended_expired_and_held() {
    let server = ApiServer::shared().await;
    let disturbance = server.disturbed().await;
    let namespace = server.namespace("watches").await;
    let maps: Api<ConfigMap> = Api::namespaced(disturbance.client().await, &namespace);
    let watch = || async {
        let watch = maps.watch(&WatchParams::default().disable_bookmarks(), "0").await;
        watch.unwrap().boxed()
    };

    let mut cut = watch().await;
    disturbance.cut_streams();
    let half = cut.next().await;
    assert!(!matches!(half, Some(Ok(_))), "{half:?}");

    let mut ended = watch().await;
    disturbance.end_streams();
    assert!(ended.next().await.is_none());

    let mut expired = watch().await;
    disturbance.expire_streams();
    let Some(Ok(WatchEvent::Error(status))) = expired.next().await else {
        panic!("an event that says why");
    };
    assert_eq!(status.code, 410);
    assert!(expired.next().await.is_none());

    let mut held = watch().await;
    disturbance.hold();
    create(&server.client().await, &namespace, "late").await.unwrap();
    tokio::time::timeout(MOMENT, held.next())
        .await
        .expect_err("nothing comes");
    disturbance.release();
    let event = tokio::time::timeout(SOON, held.next()).await;
    assert!(matches!(event, Ok(Some(Ok(WatchEvent::Added(_))))));
}
