//! Certificate authorities out of Secrets: of token services, and of targets.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};

use super::*;
use crate::harness::agent::UPSTREAM;
use crate::harness::certs::Authority;

const NAME: &str = "roots";
const KEY: &str = "company.crt";

fn fact(agent: &Running) -> (bool, String) {
    let status = agent.status();
    let facts = status["facts"].as_array().expect("facts");
    let fact = facts.iter().find(|fact| fact["name"] == "additional authorities");
    let fact = fact.expect("it is told");
    (fact["ok"] == true, fact["value"].as_str().unwrap().to_owned())
}

fn of_client(service: &str, target: &str, client: &str) -> Value {
    json!({
        "Type": "HTTP", "URL": target, "Authentication": "OAuth2ClientCredentials",
        "tokenServiceURL": service, "clientId": client, "clientSecret": "s3cr3t-of-authorities",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_token_services_change_with_their_secret_and_stay_when_it_breaks() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::shared().await;
    let node = Node::new(server).await;
    let pki = server.namespace("pki").await;
    let (old, new) = (Authority::new(), Authority::new());
    let service = node.token_service(|address| new.server(&[address]));
    let target = node.web("hello");
    let mut entrances = Vec::new();
    for name in ["first", "second"] {
        node.secret(name, of_client(&service, &target, name)).await;
        entrances.push(node.destination(name, to(name), "http").await.port);
    }
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let secrets: Api<Secret> = Api::namespaced(node.client.clone(), &pki);
    let put = async |text: &str| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME},
            "stringData": {(KEY): text},
        });
        let params = PatchParams::apply("tests").force();
        secrets
            .patch(NAME, &params, &Patch::Apply(&secret))
            .await
            .expect("the Secret is applied");
    };
    put("hello").await;
    let place = json!({"namespace": pki, "secret": NAME, "key": KEY});
    let agent = node
        .agent("agent-authorities")
        .fallback()
        .setting("additionalCas", place)
        .start();
    let becomes = |what: &str, ok: bool, end: &str| {
        wait::until(what, || {
            let (is_ok, told) = fact(&agent);
            is_ok == ok && told.ends_with(end)
        });
    };
    becomes("what is broken is told", false, "; 0 certificates are trusted");
    let answer = node.ask(SHOP, entrances[0], "");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    put(&old.certificate_pem).await;
    becomes("the old one is trusted", true, "1 certificates");
    let answer = node.ask(SHOP, entrances[0], "");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    put(&format!("{}{}", old.certificate_pem, new.certificate_pem)).await;
    becomes("both are trusted", true, "2 certificates");
    wait::until("there is a token", || {
        node.ask(SHOP, entrances[0], "").ends_with("hello")
    });

    put("broken again").await;
    becomes("it is told", false, "; 2 certificates are trusted");
    secrets
        .delete(NAME, &DeleteParams::default())
        .await
        .expect("it is there");
    wait::until("what is missing is told", || {
        fact(&agent).1.contains(" is missing; ")
    });
    // Its token is fetched for the first time.
    assert!(node.ask(SHOP, entrances[1], "").ends_with("hello"));

    let asked = node
        .way
        .seen()
        .into_iter()
        .filter(|seen| seen.is_of("secrets") && seen.is_of(&pki));
    for seen in asked {
        assert!(
            seen.query.contains("fieldSelector=metadata.name%3Droots"),
            "{}",
            seen.query
        );
    }
}

/// The old one, both, the new one: whoever goes these steps loses no request, and what was
/// connected under another trust is not used.
#[tokio::test(flavor = "multi_thread")]
async fn the_authority_of_a_target_is_replaced_while_connections_to_it_are_kept() {
    if !node::privileged() {
        return;
    }
    let node = Node::new(ApiServer::shared().await).await;
    let (old, new) = (Authority::new(), Authority::new());
    let shown = Arc::new(Mutex::new((old.server(&[UPSTREAM]), "first")));
    let target = node.tls_web(&shown);
    let trust = async |authorities: &[&Authority]| {
        let pem: String = authorities
            .iter()
            .map(|authority| authority.certificate_pem.as_str())
            .collect();
        let properties =
            json!({"Type": "HTTP", "URL": target, "TrustStoreLocation": "ca.pem", "ca.pem": pem});
        node.secret("backend", properties).await;
    };
    trust(&[&old]).await;
    let entrance = node.destination("my-dest", to("backend"), "http").await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let _agent = node.agent("agent-trust").fallback().start();
    let ask = || node.ask(SHOP, entrance.port, "");
    let answers = |what: &str, is_meant: &dyn Fn(&str) -> bool| {
        wait::until(what, || {
            let answer = ask();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            is_meant(&answer)
        });
    };
    let is_kept = |answer: &str| !answer.ends_with(" 1");

    answers("a connection is kept", &is_kept);
    shown.lock().unwrap().1 = "second";
    trust(&[&old, &new]).await;
    answers("both are trusted", &|answer| answer.contains("second"));
    answers("a connection is kept", &is_kept);
    *shown.lock().unwrap() = (new.server(&[UPSTREAM]), "third");
    trust(&[&new]).await;
    answers("the new one alone is trusted", &|answer| answer.contains("third"));
    answers("a connection is kept", &is_kept);

    trust(&[&old]).await;
    wait::until("a connection from before is not used", || {
        ask().starts_with("HTTP/1.1 502")
    });
    for _ in 0..3 {
        let answer = ask();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}
