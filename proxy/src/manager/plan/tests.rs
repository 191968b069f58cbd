mod cluster;

use proptest::prelude::*;

use self::cluster::{Cluster, INSTALLATION, TARGET_PORT};
use super::*;
use crate::api::condition::Reason;
use crate::resolve::check::Kind;

const NAME: &str = "orders";

fn shop() -> Key {
    Key::new("shop", NAME)
}

fn warehouse() -> Key {
    Key::new("warehouse", NAME)
}

fn beside() -> Key {
    Key::new(INSTALLATION, NAME)
}

#[test]
fn a_cr_gets_a_virtual_ip_and_a_name_that_leads_there() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    let virtual_ip = cluster.service(&beside());
    assert_eq!(virtual_ip["spec"]["type"], "ClusterIP");
    assert_eq!(virtual_ip["spec"]["ipFamilyPolicy"], "PreferDualStack");
    assert_eq!(virtual_ip["metadata"].get("ownerReferences"), None);
    let port = &virtual_ip["spec"]["ports"][0];
    assert_eq!(port["port"], 80);
    assert_eq!(port["targetPort"], TARGET_PORT);
    assert_eq!(port["protocol"], "TCP");
    assert_eq!(
        (&port["name"], &port["appProtocol"]),
        (&"http".into(), &"http".into())
    );
    let name = cluster.service(&shop());
    assert_eq!(name["spec"]["type"], "ExternalName");
    assert_eq!(name["spec"]["externalName"], "orders.tp.svc.cluster.local");
    assert_eq!(name["spec"].get("selector"), None);
    assert_eq!(name["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    assert_eq!(cluster.reason(&shop()), Some(Reason::ConfigurationSuccessful));
}

#[test]
fn a_cr_in_the_installation_namespace_gets_one_service_that_it_owns() {
    let mut cluster = Cluster::default();
    cluster.cr(&beside(), 1);
    cluster.settle();
    assert_eq!(cluster.services.len(), 1);
    let service = cluster.service(&beside());
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "uid-1");
}

#[test]
fn another_type_and_port_change_the_services_in_place() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.checked = Ok(Configured {
        kind: Kind::Tcp,
        default_port: 20004,
    });
    let plan = cluster.plan();
    assert_eq!((plan.delete.len(), plan.make.len(), plan.change.len()), (0, 0, 2));
    cluster.settle();
    for key in [shop(), beside()] {
        let ports = cluster.service(&key)["spec"]["ports"].as_array().unwrap().clone();
        assert_eq!(ports.len(), 1);
        assert_eq!(
            (&ports[0]["name"], &ports[0]["port"]),
            (&"tcp".into(), &20004.into())
        );
    }
}

#[test]
fn the_older_cr_keeps_a_name_that_two_want() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 2);
    cluster.cr(&warehouse(), 1);
    cluster.settle();
    assert_eq!(cluster.reason(&shop()), Some(Reason::DuplicateCustomResource));
    assert_eq!(
        cluster.reason(&warehouse()),
        Some(Reason::ConfigurationSuccessful)
    );
    assert!(cluster.services.contains_key(&warehouse()) && !cluster.services.contains_key(&shop()));
}

#[test]
fn the_younger_cr_takes_over_when_the_older_one_goes() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.cr(&warehouse(), 2);
    cluster.settle();
    cluster.crs.remove(&shop());
    let plan = cluster.plan();
    assert_eq!(
        plan.delete.len(),
        2,
        "no application is led to another destination"
    );
    cluster.settle();
    assert_eq!(
        cluster.reason(&warehouse()),
        Some(Reason::ConfigurationSuccessful)
    );
    assert_eq!(cluster.made_for(&beside()), warehouse());
    assert!(!cluster.services.contains_key(&shop()));
}

#[test]
fn a_cr_in_deletion_is_gone() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.crs.get_mut(&shop()).unwrap().is_deleted = true;
    cluster.settle();
    assert!(cluster.services.is_empty());
}

#[test]
fn a_cr_that_was_made_again_owns_what_was_there() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.cr(&shop(), 2);
    let plan = cluster.plan();
    assert_eq!((plan.delete.len(), plan.make.len(), plan.change.len()), (0, 0, 1));
    cluster.settle();
    let owners = cluster.service(&shop())["metadata"]["ownerReferences"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 1);
    assert_eq!(owners[0]["uid"], "uid-2");
}

#[test]
fn a_service_of_somebody_else_has_the_name_in_either_namespace() {
    for place in [shop(), beside()] {
        let mut cluster = Cluster::default();
        cluster.cr(&shop(), 1);
        cluster.foreign(&place);
        cluster.settle();
        assert_eq!(cluster.reason(&shop()), Some(Reason::NameAlreadyPresent));
        assert!(cluster.message(&shop()).contains(&*place.namespace));
        assert_eq!(cluster.services.len(), 1);
        cluster.services.remove(&place);
        cluster.settle();
        assert_eq!(cluster.reason(&shop()), Some(Reason::ConfigurationSuccessful));
    }
}

#[test]
fn services_stay_when_the_destination_becomes_invalid() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.checked = Err(NotConfigured::Refused(Verdict::destination_not_found(
        NAME, "secrets",
    )));
    cluster.settle();
    assert_eq!(cluster.services.len(), 2);
    assert_eq!(cluster.reason(&shop()), Some(Reason::DestinationNotFound));
}

#[test]
fn a_service_that_is_deleted_while_the_destination_is_missing_is_made_again() {
    for place in [shop(), beside()] {
        let mut cluster = Cluster {
            checked: Ok(Configured {
                kind: Kind::Tcp,
                default_port: 5432,
            }),
            ..Cluster::default()
        };
        cluster.cr(&shop(), 1);
        cluster.settle();
        let before = cluster.services.clone();
        cluster.checked = Err(NotConfigured::Refused(Verdict::destination_not_found(
            NAME, "secrets",
        )));
        cluster.services.remove(&place);
        cluster.settle();
        assert_eq!(cluster.services, before);
        assert_eq!(cluster.reason(&shop()), Some(Reason::DestinationNotFound));
        cluster.has_ports = false;
        cluster.services.remove(&place);
        cluster.settle();
        assert_eq!(cluster.services.len(), 1);
        assert_eq!(cluster.reason(&shop()), Some(Reason::DestinationNotFound));
    }
}

/// What belongs to a CR that is gone is removed by the garbage collector.
#[test]
fn a_cr_that_was_made_again_owns_what_was_there_although_the_destination_is_missing() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.checked = Err(NotConfigured::Refused(Verdict::destination_not_found(
        NAME, "secrets",
    )));
    cluster.cr(&shop(), 2);
    cluster.settle();
    assert_eq!(
        cluster.service(&shop())["metadata"]["ownerReferences"][0]["uid"],
        "uid-2"
    );
}

#[test]
fn no_service_is_made_for_what_was_never_valid() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.checked = Err(NotConfigured::Refused(Verdict::destination_not_found(
        NAME, "secrets",
    )));
    cluster.settle();
    assert!(cluster.services.is_empty());
}

#[test]
fn while_nothing_is_known_of_the_destination_nothing_changes() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.checked = Err(NotConfigured::NotLoaded);
    assert!(cluster.plan().is_empty());
}

#[test]
fn without_a_free_target_port_the_condition_says_so() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.has_ports = false;
    cluster.settle();
    assert!(cluster.message(&shop()).contains("target ports"));
}

#[test]
fn services_without_a_cr_are_removed() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.crs.clear();
    cluster.settle();
    assert!(cluster.services.is_empty());
}

#[test]
fn a_service_made_for_the_cr_in_a_strange_place_is_removed() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    let stray = cluster.services[&beside()].clone();
    cluster
        .services
        .insert(Key::new("elsewhere", "orders-acme"), stray);
    cluster.settle();
    assert_eq!(cluster.services.len(), 2);
}

#[test]
fn what_somebody_changed_is_put_right() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    let expected = cluster.services.clone();
    cluster.service_mut(&beside())["spec"]["selector"] = serde_json::json!({"app": "mine"});
    cluster.service_mut(&beside())["spec"]["ports"][0]["targetPort"] = 1.into();
    cluster.service_mut(&beside())["spec"]["externalName"] = "elsewhere.example".into();
    cluster.service_mut(&shop())["spec"]["externalName"] = "elsewhere.example".into();
    cluster.service_mut(&shop())["metadata"]["labels"]["their"] = "own".into();
    cluster.settle();
    assert_eq!(cluster.service(&shop())["metadata"]["labels"]["their"], "own");
    cluster.service_mut(&shop())["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("their");
    let specs = |services: &std::collections::BTreeMap<Key, serde_json::Value>| {
        services
            .values()
            .map(|service| service["spec"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(specs(&cluster.services), specs(&expected));
}

/// A manager that has just begun to lead reads it from there.
#[test]
fn a_virtual_ip_with_an_external_name_still_has_its_target_port() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.service_mut(&beside())["spec"]["externalName"] = "elsewhere.example".into();
    assert_eq!(cluster.remembered_port(&beside()), Some(TARGET_PORT));
}

proptest! {
    #[test]
    fn planning_and_doing_comes_to_rest_and_touches_nothing_foreign(cluster in cluster::any()) {
        let mut cluster = cluster;
        let foreign = cluster.foreign_services();
        cluster.settle();
        prop_assert_eq!(cluster.foreign_services(), foreign);
        prop_assert!(cluster.plan().is_empty());
        let available = cluster.crs.keys().filter(|key| cluster.reason(key) == Some(Reason::ConfigurationSuccessful));
        prop_assert!(available.count() <= 1, "one name, one CR");
    }

    #[test]
    fn the_order_of_events_does_not_matter(cluster in cluster::any(), other in cluster::any()) {
        let mut at_once = cluster.clone();
        let mut later = other;
        // Whatever was made before, the CRs and the Services of others decide what there is.
        later.settle();
        later.become_like(&cluster);
        at_once.settle();
        later.settle();
        prop_assert_eq!(later.summary(), at_once.summary());
    }
}

#[test]
fn a_gateway_whose_requests_are_answered_with_the_reason_has_services_and_says_it() {
    let mut cluster = Cluster {
        checked: Err(NotConfigured::Answered(Verdict::instance_not_configured(NAME))),
        ..Cluster::default()
    };
    cluster.cr(&shop(), 1);
    cluster.settle();
    assert_eq!(cluster.service(&beside())["spec"]["ports"][0]["port"], 80);
    assert!(cluster.services.contains_key(&shop()));
    assert_eq!(cluster.reason(&shop()), Some(Reason::ConfigurationFailed));
    cluster.has_ports = false;
    cluster.services.clear();
    cluster.settle();
    assert!(cluster.services.is_empty());
}

#[test]
fn what_goes_says_which_crs_are_the_cause() {
    let mut cluster = Cluster::default();
    cluster.cr(&shop(), 1);
    cluster.settle();
    cluster.cr(&warehouse(), 0);
    let causes = |cluster: &Cluster| -> Vec<Cause> {
        let deletions = cluster.plan().delete.into_iter();
        deletions.map(|deletion| deletion.cause).collect()
    };
    let gone = || Cause::Gone(shop());
    let outranked = || Cause::Outranked {
        by: warehouse(),
        uid: "uid-0".to_owned(),
    };
    assert_eq!(causes(&cluster), [outranked(), outranked()]);
    cluster.crs.remove(&shop());
    assert_eq!(causes(&cluster), [gone(), gone()]);
    cluster.cr(&shop(), 1);
    cluster.crs.remove(&warehouse());
    cluster.crs.get_mut(&shop()).unwrap().is_deleted = true;
    assert_eq!(causes(&cluster), [gone(), gone()]);
    cluster.cr(&shop(), 1);
    cluster.foreign(&beside());
    assert_eq!(causes(&cluster), [Cause::InTheWay]);
}
