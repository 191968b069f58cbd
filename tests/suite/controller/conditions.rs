//! Every reason that a condition can have so far, provoked.

use k8s_openapi::api::events::v1::Event;

use super::*;

struct Case {
    name: &'static str,
    properties: Value,
    spec: Value,
    reason: Reason,
}

fn http(more: &Value) -> Value {
    let mut properties = json!({"Type": "HTTP", "URL": "https://backend.example"});
    for (key, value) in more.as_object().unwrap() {
        properties[key] = value.clone();
    }
    properties
}

/// The destination is called as the CR.
fn cases() -> Vec<Case> {
    let of = |name, properties, spec, reason| Case {
        name,
        properties,
        spec,
        reason,
    };
    let named = |name: &str| json!({"destinationRef": {"name": name}});
    let plain = |name, properties, reason| of(name, properties, named(name), reason);
    vec![
        plain("fine", http(&json!({})), Reason::ConfigurationSuccessful),
        plain("missing", Value::Null, Reason::DestinationNotFound),
        plain("rfc", http(&json!({"Type": "RFC"})), Reason::TypeNotSupported),
        plain(
            "private",
            http(&json!({"ProxyType": "PrivateLink"})),
            Reason::ProxyTypeNotSupported,
        ),
        plain(
            "ftp",
            http(&json!({"URL": "ftp://backend.example"})),
            Reason::UrlNotSupported,
        ),
        plain("empty", http(&json!({"URL": ""})), Reason::UrlNotSupported),
        plain(
            "portless",
            json!({"Type": "TCP", "Address": "backend.example"}),
            Reason::TcpAddressNotSupported,
        ),
        plain(
            "loopback",
            http(&json!({"URL": "https://localhost"})),
            Reason::LoopbackUrlNotSupported,
        ),
        plain(
            "plaintext",
            http(&json!({"URL": "http://backend.example", "TrustStoreLocation": "ca.pem"})),
            Reason::HttpUrlWithStoreNotSupported,
        ),
        plain(
            "keyless",
            http(&json!({"Authentication": "ClientCertificateAuthentication"})),
            Reason::KeyStoreInvalid,
        ),
        plain(
            "trustless",
            http(&json!({"TrustStoreLocation": "ca.pem"})),
            Reason::TrustStoreInvalid,
        ),
        plain(
            "passwordless",
            http(&json!({"Authentication": "BasicAuthentication", "User": "me"})),
            Reason::ConfigurationFailed,
        ),
        of(
            "gateway-with-fragment",
            Value::Null,
            json!({"destinationRef": {"name": "*"}, "fragmentRef": {"name": "eu"}}),
            Reason::FragmentSpecificationNotSupported,
        ),
        of(
            "gateway-with-level",
            Value::Null,
            json!({"destinationRef": {"name": "*", "level": "instance"}}),
            Reason::ConfigurationFailed,
        ),
        of(
            "elsewhere",
            Value::Null,
            json!({"destinationRef": {"name": "x"}, "destinationServiceInstanceName": "btp"}),
            Reason::ConfigurationFailed,
        ),
        of(
            "chained",
            Value::Null,
            json!({"destinationRef": {"name": "x"}, "chainRef": {"name": "c"}}),
            Reason::ConfigurationFailed,
        ),
        of(
            "name.with.dots",
            http(&json!({})),
            json!({"destinationRef": {"name": "fine"}}),
            Reason::ServiceCreationFailed,
        ),
    ]
}

#[tokio::test]
async fn each_reason_is_told() {
    let tp = Installation::new("reasons").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("reasons").start();
    for case in cases() {
        if !case.properties.is_null() && !case.name.contains('.') {
            tp.destination(case.name, case.properties).await;
        }
        tp.cr(&shop, case.name, case.spec).await;
    }
    for case in cases() {
        let condition = tp.becomes(&shop, case.name, case.reason).await;
        let is_fine = case.reason == Reason::ConfigurationSuccessful;
        assert_eq!(
            condition.status.as_deref(),
            Some(if is_fine { "True" } else { "False" })
        );
        let message = condition.message.unwrap();
        let begin = if is_fine {
            "Technical connectivity is configured. "
        } else {
            "Technical connectivity is not configured. "
        };
        assert!(message.starts_with(begin), "{}: {message}", case.name);
    }
    let made = tp.made().await;
    assert_eq!(made.len(), 2, "only of the one that is fine: {made:?}");
}

/// What is asked for, and all that follows in the message.
fn not_there_yet() -> Vec<(&'static str, Value, Value, &'static str)> {
    let of = |more: Value| {
        let mut spec = more;
        spec["destinationRef"]["name"] = "x".into();
        spec
    };
    let action = json!({"name": "OAuth2ClientCredentials", "secretRef": {"name": "s", "key": "k"}});
    let unsupported = |what: &'static str, spec, sentence| (what, Value::Null, spec, sentence);
    let typed = |name: &'static str, properties, sentence| {
        (
            name,
            properties,
            json!({"destinationRef": {"name": name}}),
            sentence,
        )
    };
    vec![
        unsupported(
            "fragment",
            of(json!({"fragmentRef": {"name": "eu"}})),
            "'spec.fragmentRef' is not supported by Destination service instance 'secrets'.",
        ),
        unsupported(
            "chain",
            of(json!({"chainRef": {"name": "c"}})),
            "'spec.chainRef' is not supported by Destination service instance 'secrets'.",
        ),
        unsupported(
            "level",
            of(json!({"destinationRef": {"level": "subaccount"}})),
            "'spec.destinationRef.level' is not supported by Destination service instance 'secrets'.",
        ),
        unsupported(
            "actions",
            of(json!({"actions": [action]})),
            "'spec.actions' is not supported by Destination service instance 'secrets'.",
        ),
        unsupported(
            "instance",
            of(json!({"destinationServiceInstanceName": "btp"})),
            "The Destination service instance name in the Destination CR 'instance' is not configured as expected.",
        ),
        typed(
            "ldap",
            json!({"Type": "LDAP", "ldap.url": "ldap://ldap.example:389"}),
            "Destination 'ldap': Type is \"LDAP\", which is not supported yet; use a destination of type HTTP or TCP.",
        ),
        typed(
            "mail",
            json!({"Type": "MAIL", "mail.smtp.host": "mail.example"}),
            "Destination 'mail': Type is \"MAIL\", which is not supported yet; use a destination of type HTTP or TCP.",
        ),
        typed(
            "on-premise",
            http(&json!({"ProxyType": "OnPremise"})),
            "Destination 'on-premise': ProxyType is \"OnPremise\", which is not supported yet; use Internet.",
        ),
    ]
}

#[tokio::test]
async fn what_is_not_there_yet_is_told_in_a_full_sentence() {
    let tp = Installation::new("sentences").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("sentences").start();
    for (name, properties, spec, _) in not_there_yet() {
        if !properties.is_null() {
            tp.destination(name, properties).await;
        }
        tp.cr(&shop, name, spec).await;
    }
    for (name, _, _, sentence) in not_there_yet() {
        let what = format!("the sentence of {name} is said");
        let expected = format!("Technical connectivity is not configured. {sentence}");
        eventually(&what, || async {
            let condition = tp.condition(&shop, name).await?;
            assert_eq!(condition.status.as_deref(), Some("False"));
            // For a moment there is only the CR.
            (condition.message? == expected).then_some(())
        })
        .await;
        let reason = tp.condition(&shop, name).await.unwrap().reason;
        assert_eq!(reason.as_deref(), Some("ConfigurationFailed"), "{name}");
    }
    assert!(tp.made().await.is_empty());
}

/// What a gateway speaks is known, so its callers get an answer that says why.
#[tokio::test]
async fn a_gateway_of_an_unknown_instance_has_services_and_says_that_it_is_unknown() {
    let tp = Installation::new("nowhere").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("nowhere").start();
    let spec = json!({"destinationRef": {"name": "*"}, "destinationServiceInstanceName": "btp"});
    tp.cr(&shop, "any", spec).await;
    let condition = tp.becomes(&shop, "any", Reason::ConfigurationFailed).await;
    assert!(condition.message.unwrap().ends_with(
        "The Destination service instance name in the Destination CR 'any' is not configured as expected."
    ));
    assert_eq!(port(&tp.virtual_ip("any").await).2, "http");
    eventually("its name leads there", || tp.service(&shop, "any")).await;
}

#[tokio::test]
async fn a_broken_list_of_tenants_is_told_in_tenant_mode_shared() {
    let tp = Installation::new("tenants").await;
    let shop = tp.managed("shop").await;
    let _manager = tp
        .manager_with("tenants", &json!({"tenantMode": "shared"}))
        .start();
    tp.cr(&shop, "db", "backend").await;
    tp.becomes(&shop, "db", Reason::ConfigurationFailed).await;
    let annotate = async |value: &str| {
        let patch = json!({"metadata": {"annotations": {(labels::TENANT_SUBDOMAINS): value}}});
        let crs = tp.crs(&shop);
        crs.patch("db", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };
    annotate("acme, globex").await;
    tp.becomes(&shop, "db", Reason::MultitenancyAnnotationInvalid)
        .await;
    annotate(r#"["acme"]"#).await;
    tp.becomes(&shop, "db", Reason::ConfigurationFailed).await;
}

#[tokio::test]
async fn the_younger_of_two_crs_waits_until_the_name_is_free() {
    let tp = Installation::new("duplicate").await;
    let (shop, other) = (tp.managed("shop").await, tp.managed("warehouse").await);
    let _manager = tp.manager("duplicate").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let before = tp.virtual_ip("orders").await;
    // Ages are told by the second.
    eventually("a second has passed", || async {
        let age = before
            .metadata
            .creation_timestamp
            .clone()?
            .0
            .duration_until(k8s_openapi::jiff::Timestamp::now());
        (age.as_secs() >= 2).then_some(())
    })
    .await;
    tp.cr(&other, "orders", "backend").await;
    let condition = tp
        .becomes(&other, "orders", Reason::DuplicateCustomResource)
        .await;
    assert!(condition.message.unwrap().contains(&shop));
    assert!(tp.service(&other, "orders").await.is_none());
    tp.works(&shop, "orders").await;
    tp.remove(&shop, "orders").await;
    tp.works(&other, "orders").await;
    tp.is_gone(&shop, "orders").await;
    let after = tp.virtual_ip("orders").await;
    assert_eq!(
        after.metadata.labels.as_ref().unwrap()[labels::DESTINATION_NAMESPACE],
        other
    );
    assert_ne!(
        target_port(&after),
        target_port(&before),
        "who still goes to the old port must not end up at another destination"
    );
}

#[tokio::test]
async fn a_service_of_somebody_else_is_left_alone_and_waited_for() {
    let tp = Installation::new("foreign").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("foreign").start();
    tp.http("backend").await;
    let mut theirs = Vec::new();
    for (namespace, name) in [
        (&shop, "in-the-shop"),
        (&tp.namespace, "sap-transp-proxy-manager"),
    ] {
        theirs.push(tp.foreign_service(namespace, name).await);
        tp.cr(&shop, name, "backend").await;
    }
    for (namespace, name) in [
        (&shop, "in-the-shop"),
        (&tp.namespace, "sap-transp-proxy-manager"),
    ] {
        let condition = tp.becomes(&shop, name, Reason::NameAlreadyPresent).await;
        assert!(condition.message.unwrap().contains(namespace.as_str()));
        let theirs = theirs.remove(0);
        assert_eq!(tp.service(namespace, name).await, Some(theirs), "it is untouched");
    }
    assert!(tp.made().await.is_empty());
    for (namespace, name) in [
        (&shop, "in-the-shop"),
        (&tp.namespace, "sap-transp-proxy-manager"),
    ] {
        tp.delete_service(namespace, name).await;
        tp.works(&shop, name).await;
    }
}

#[tokio::test]
async fn a_service_that_somebody_makes_in_place_of_ours_rolls_the_rest_back() {
    let tp = Installation::new("replaced").await;
    let shop = tp.managed("shop").await;
    let mut manager = tp.manager("replaced").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    manager.stop();
    tp.delete_service(&shop, "orders").await;
    let theirs = tp.foreign_service(&shop, "orders").await;
    let _manager = tp.manager("replaced-later").start();
    tp.becomes(&shop, "orders", Reason::NameAlreadyPresent).await;
    tp.is_gone(&tp.namespace, "orders").await;
    assert_eq!(tp.service(&shop, "orders").await, Some(theirs));
}

#[tokio::test]
async fn a_condition_that_somebody_else_wrote_is_replaced() {
    let tp = Installation::new("status").await;
    let shop = tp.managed("shop").await;
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    let patch = json!({"status": {"conditions": [
        {"type": "Available", "status": "True", "reason": "Other", "message": "m"},
        {"type": "Ready", "status": "True"},
    ]}});
    let crs = tp.crs(&shop);
    crs.patch_status("orders", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let _manager = tp.manager("status").start();
    eventually("there is one condition", || async {
        let conditions = tp.crs(&shop).get("orders").await.unwrap().status?.conditions?;
        let reason = conditions[0].reason.as_deref();
        (conditions.len() == 1 && reason == Some("ConfigurationSuccessful")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_changes_in_a_condition_is_an_event_too() {
    let tp = Installation::new("events").await;
    let shop = tp.managed("shop").await;
    let _manager = tp.manager("events").start();
    let cr = tp.cr(&shop, "orders", "backend").await;
    tp.becomes(&shop, "orders", Reason::DestinationNotFound).await;
    tp.http("backend").await;
    tp.works(&shop, "orders").await;
    let events: Api<Event> = Api::namespaced(tp.client.clone(), &shop);
    let told = eventually("there are two events", || async {
        let mut events = events.list(&ListParams::default()).await.unwrap().items;
        events.sort_by_key(|event| event.event_time.clone());
        (events.len() == 2).then_some(events)
    })
    .await;
    for (event, (kind, reason)) in told.into_iter().zip([
        ("Warning", Reason::DestinationNotFound),
        ("Normal", Reason::ConfigurationSuccessful),
    ]) {
        assert_eq!(event.type_.as_deref(), Some(kind));
        assert_eq!(event.reason.as_deref(), Some(reason.as_str()));
        assert_eq!(event.regarding.unwrap().uid, cr.metadata.uid);
    }
}
