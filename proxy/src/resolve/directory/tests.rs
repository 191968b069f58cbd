use serde_json::json;

use super::*;

fn service(name: &str, cr: (&str, &str), address: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "tp", "labels": {
            labels::DESTINATION_NAMESPACE: cr.0,
            labels::DESTINATION_NAME: cr.1,
        }},
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{"name": "http", "appProtocol": "http", "port": 80, "targetPort": 10001, "protocol": "TCP"}],
        },
    }))
    .unwrap()
}

fn entrance(name: &str, cr: (&str, &str)) -> Entrance {
    Entrance::of(&service(name, cr, "10.96.0.1")).unwrap()
}

fn cr(namespace: &str, name: &str) -> Cr {
    Cr::of(resource(namespace, name)).unwrap()
}

fn resource(namespace: &str, name: &str) -> Destination {
    serde_json::from_value(json!({
        "apiVersion": "destination.connectivity.api.sap/v1",
        "kind": "Destination",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "resourceVersion": "7",
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{…}"},
        },
        "spec": {"destinationRef": {"name": "backend"}},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    }))
    .unwrap()
}

fn name(namespace: &str, name: &str) -> CrName {
    CrName {
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn directory() -> Directory {
    Directory::new(Scope::Namespaced)
}

fn changed(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[test]
fn a_service_says_where_its_destination_is() {
    let mut service = service("my-dest", ("shop", "my-dest"), "10.96.0.1");
    service.spec.as_mut().unwrap().cluster_ips = Some(vec!["10.96.0.1".into(), "fd00::1".into()]);
    let entrance = Entrance::of(&service).unwrap();
    assert_eq!(entrance.cr.to_string(), "shop/my-dest");
    assert_eq!((entrance.port, entrance.target_port), (80, 10_001));
    assert_eq!(entrance.speaks, Speaks::Http);
    let addresses: Vec<_> = entrance.addresses.iter().map(IpAddr::to_string).collect();
    assert_eq!(addresses, ["10.96.0.1", "fd00::1"]);
}

#[test]
fn services_that_are_no_entrance_are_told_apart() {
    let good = service("my-dest", ("shop", "my-dest"), "10.96.0.1");
    let with = |change: &dyn Fn(&mut Service)| {
        let mut changed = good.clone();
        change(&mut changed);
        Entrance::of(&changed).unwrap_err()
    };
    assert_eq!(
        with(&|service| service.metadata.labels = None),
        NoEntrance::Unnamed
    );
    let ports = |change: fn(&mut Vec<ServicePort>)| {
        with(&|service| change(service.spec.as_mut().unwrap().ports.as_mut().unwrap()))
    };
    assert_eq!(ports(Vec::clear), NoEntrance::Ports);
    assert_eq!(ports(|ports| ports.push(ports[0].clone())), NoEntrance::Ports);
    assert_eq!(
        ports(|ports| ports[0].protocol = Some("UDP".into())),
        NoEntrance::Ports
    );
    assert_eq!(
        ports(|ports| ports[0].target_port = Some(IntOrString::String("http".into()))),
        NoEntrance::Ports
    );
    assert_eq!(ports(|ports| ports[0].port = 0), NoEntrance::Ports);
    let addresses = |address: Option<&str>| {
        with(&|service| {
            let spec = service.spec.as_mut().unwrap();
            spec.cluster_ip = address.map(str::to_owned);
            spec.cluster_ips = address.map(|address| vec![address.to_owned()]);
        })
    };
    assert_eq!(addresses(None), NoEntrance::NoAddress);
    assert_eq!(addresses(Some("None")), NoEntrance::NoAddress);
}

#[test]
fn an_entry_needs_both_the_service_and_the_cr() {
    let mut directory = directory();
    assert_eq!(
        directory.apply_entrance(entrance("a", ("shop", "a")))[..],
        changed(&["a"])
    );
    assert_eq!(directory.entry("a"), None);
    assert_eq!(directory.apply_cr(cr("shop", "a"))[..], changed(&["a"]));
    assert_eq!(
        directory.entry("a").unwrap().audience,
        Audience::Namespace("shop".into())
    );
    assert_eq!(directory.remove_cr(&name("shop", "a"))[..], changed(&["a"]));
    assert_eq!(directory.entry("a"), None);
}

#[test]
fn nothing_changes_with_what_nobody_looks_at() {
    let mut directory = directory();
    directory.apply_entrance(entrance("a", ("shop", "a")));
    directory.apply_cr(cr("shop", "a"));
    let mut touched = resource("shop", "a");
    touched.metadata.resource_version = Some("8".into());
    touched.status = None;
    assert!(directory.apply_cr(Cr::of(touched).unwrap()).is_empty());
    assert!(directory.apply_entrance(entrance("a", ("shop", "a"))).is_empty());
}

#[test]
fn a_cr_alone_changes_nothing() {
    let mut directory = directory();
    assert!(directory.apply_cr(cr("shop", "a")).is_empty());
    assert!(directory.remove_cr(&name("shop", "a")).is_empty());
}

#[test]
fn a_scope_of_its_own_goes_before_the_default() {
    let mut directory = Directory::new(Scope::ClusterWide);
    directory.apply_entrance(entrance("a", ("shop", "a")));
    directory.apply_cr(cr("shop", "a"));
    assert_eq!(directory.entry("a").unwrap().audience, Audience::Cluster);
    let mut own = cr("shop", "a");
    own.spec.access_control = Some(crate::api::destination::AccessControl {
        scope: Some(Scope::Namespaced),
    });
    assert_eq!(directory.apply_cr(own)[..], changed(&["a"]));
    assert_eq!(
        directory.entry("a").unwrap().audience,
        Audience::Namespace("shop".into())
    );
}

#[test]
fn a_service_that_is_labelled_for_another_cr_leaves_the_first() {
    let mut directory = directory();
    directory.apply_cr(cr("shop", "a"));
    directory.apply_entrance(entrance("a", ("shop", "a")));
    directory.apply_entrance(entrance("a", ("shop", "b")));
    assert_eq!(directory.entry("a"), None);
    assert!(directory.remove_cr(&name("shop", "a")).is_empty());
}

#[test]
fn a_list_removes_what_it_does_not_mention_and_only_at_its_end() {
    let mut directory = directory();
    for name in ["a", "b"] {
        directory.apply_entrance(entrance(name, ("shop", name)));
        directory.apply_cr(cr("shop", name));
    }
    directory.begin_entrances();
    directory.apply_entrance(entrance("b", ("shop", "b")));
    assert!(directory.entry("a").is_some());
    assert_eq!(directory.end_entrances()[..], changed(&["a"]));
    directory.begin_crs();
    assert!(directory.entry("b").is_some());
    assert_eq!(
        directory.end_crs()[..],
        changed(&["b"]),
        "nothing is served that belonged to `a`"
    );
    assert_eq!((directory.entrances().count(), directory.crs().count()), (1, 0));
}

#[test]
fn the_cr_alone_says_who_may_stay_connected() {
    let mut directory = directory();
    let a = name("shop", "a");
    assert_eq!(directory.standing(&a), Standing::Gone);
    directory.apply_cr(cr("shop", "a"));
    let of_shop = Standing::For(Audience::Namespace("shop".into()));
    assert_eq!(directory.standing(&a), of_shop);
    directory.apply_cr(Cr::broken(a.clone(), "no".into()));
    assert_eq!(directory.standing(&a), Standing::NotUnderstood);
    directory.remove_cr(&a);
    assert_eq!(directory.standing(&a), Standing::Gone);
}

#[test]
fn what_is_not_understood_is_known_and_not_served() {
    let mut directory = directory();
    directory.apply_entrance(entrance("a", ("shop", "a")));
    directory.apply_cr(cr("shop", "a"));
    let broken = Cr::broken(name("shop", "a"), "no".into());
    assert_eq!(directory.apply_cr(broken)[..], changed(&["a"]));
    assert_eq!(directory.entry("a"), None);
    let known = directory.cr(&name("shop", "a")).unwrap();
    assert_eq!(known.broken.as_deref(), Some("no"));
    assert_eq!(directory.apply_cr(cr("shop", "a"))[..], changed(&["a"]));
    assert!(directory.entry("a").is_some());
}

/// A list that is under way may have begun before.
#[test]
fn what_is_restored_has_to_be_confirmed_and_replaces_nothing() {
    for list_is_under_way in [false, true] {
        let mut directory = directory();
        let newer = Entrance {
            port: 8080,
            ..entrance("a", ("shop", "a"))
        };
        directory.apply_entrance(newer.clone());
        let begin = |directory: &mut Directory| {
            directory.begin_entrances();
            directory.begin_crs();
        };
        if list_is_under_way {
            begin(&mut directory);
        }
        let entrances = ["a", "b"].map(|name| entrance(name, ("shop", name)));
        let crs = ["a", "b"].map(|name| cr("shop", name));
        let mut restored = directory.restore(entrances.into(), crs.into()).to_vec();
        restored.sort();
        assert_eq!(restored, changed(&["a", "b"]));
        assert_eq!(directory.entry("a").unwrap().entrance.port, 8080);
        assert!(directory.entry("b").is_some());
        if !list_is_under_way {
            begin(&mut directory);
        }
        directory.apply_entrance(newer);
        directory.apply_cr(cr("shop", "a"));
        assert_eq!(directory.end_entrances()[..], changed(&["b"]));
        assert!(directory.end_crs().is_empty());
        assert!(directory.entry("a").is_some() && directory.entry("b").is_none());
    }
}

#[test]
fn what_was_listed_is_not_added_to_from_a_memory() {
    let mut directory = directory();
    directory.begin_entrances();
    directory.end_entrances();
    directory.begin_crs();
    directory.restore(vec![entrance("a", ("shop", "a"))], vec![cr("shop", "a")]);
    assert_eq!(directory.entrances().count(), 0, "a has been deleted meanwhile");
    assert_eq!(directory.crs().count(), 1, "they are not listed yet");
    directory.end_crs();
    directory.restore(vec![], vec![cr("shop", "a")]);
    assert_eq!(directory.crs().count(), 0);
}

#[test]
fn the_essence_of_a_cr_is_enough_to_check_it() {
    let mut original = resource("shop", "a");
    original.metadata.annotations = Some([(labels::TENANT_SUBDOMAINS.to_owned(), "[]".to_owned())].into());
    let cr = Cr::of(original.clone()).unwrap();
    let restored: Cr = serde_json::from_str(&serde_json::to_string(&cr).unwrap()).unwrap();
    assert_eq!(restored, cr);
    let checked = restored.resource();
    assert_eq!(checked.spec, original.spec);
    assert_eq!(checked.metadata.name, original.metadata.name);
    assert_eq!(checked.metadata.namespace, original.metadata.namespace);
    assert_eq!(checked.metadata.annotations, original.metadata.annotations);
    assert_eq!(checked.metadata.managed_fields, None);
}
