use proptest::prelude::*;

use super::*;

fn uid(number: u128) -> PodUid {
    PodUid(number)
}

fn pod(number: u128, addresses: &[&str]) -> Pod {
    Pod {
        uid: uid(number),
        cgroup_uid: None,
        namespace: "shop".into(),
        name: format!("pod-{number}").into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        host_network: false,
        ended: false,
        terminating: false,
    }
}

fn pods(all: impl IntoIterator<Item = Pod>) -> Pods {
    let mut pods = Pods::default();
    all.into_iter().for_each(|pod| assert!(pods.apply(pod)));
    pods
}

fn owner(pods: &Pods, address: &str) -> String {
    match pods.by_address(address.parse().unwrap()) {
        Owner::Pod(pod) => pod.name.to_string(),
        Owner::Shared => "shared".into(),
        Owner::Unknown => "unknown".into(),
    }
}

#[test]
fn a_uid_is_the_same_in_all_its_spellings() {
    let uid = PodUid::parse("1f0e2f0a-53c0-4d5e-9d3a-0b7f5d3c2a11");
    assert!(uid.is_some());
    assert_eq!(uid, PodUid::parse("1f0e2f0a_53c0_4d5e_9d3a_0b7f5d3c2a11"));
    assert_eq!(uid, PodUid::parse("1F0E2F0A53C04D5E9D3A0B7F5D3C2A11"));
    for wrong in ["", "1f0e", "g".repeat(32).as_str(), "0".repeat(33).as_str()] {
        assert_eq!(PodUid::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn both_addresses_lead_to_the_pod_in_every_notation() {
    let pods = pods([pod(1, &["10.0.0.1", "fd00::1"])]);
    for address in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"] {
        assert_eq!(owner(&pods, address), "pod-1", "{address}");
    }
    assert_eq!(owner(&pods, "10.0.0.2"), "unknown");
}

#[test]
fn the_address_of_a_node_is_nobodys_alone() {
    let host = Pod {
        host_network: true,
        ..pod(1, &["192.0.2.1"])
    };
    assert_eq!(owner(&pods([host]), "192.0.2.1"), "shared");
}

#[test]
fn an_ended_pod_has_no_address() {
    let ended = Pod {
        ended: true,
        ..pod(1, &["10.0.0.1"])
    };
    assert_eq!(owner(&pods([ended.clone()]), "10.0.0.1"), "unknown");
    assert_eq!(owner(&pods([ended, pod(2, &["10.0.0.1"])]), "10.0.0.1"), "pod-2");
}

#[test]
fn a_new_pod_takes_the_address_of_one_that_is_on_its_way_out() {
    let old = Pod {
        terminating: true,
        ..pod(1, &["10.0.0.1"])
    };
    assert_eq!(owner(&pods([old.clone()]), "10.0.0.1"), "pod-1");
    assert_eq!(owner(&pods([old, pod(2, &["10.0.0.1"])]), "10.0.0.1"), "pod-2");
}

#[test]
fn an_address_of_two_running_pods_belongs_to_neither() {
    let both = pods([pod(1, &["10.0.0.1"]), pod(2, &["10.0.0.1"])]);
    assert_eq!(owner(&both, "10.0.0.1"), "shared");
}

#[test]
fn a_pod_that_changes_leaves_nothing_behind() {
    let mut pods = pods([pod(1, &["10.0.0.1"])]);
    assert!(pods.apply(pod(1, &["10.0.0.2"])));
    assert!(!pods.apply(pod(1, &["10.0.0.2"])));
    assert_eq!(owner(&pods, "10.0.0.1"), "unknown");
    assert_eq!(owner(&pods, "10.0.0.2"), "pod-1");
    pods.remove(uid(1));
    assert!(pods.is_empty() && pods.by_address.is_empty());
}

#[test]
fn a_static_pod_is_found_by_the_name_of_its_cgroup() {
    let mut pods = pods([Pod {
        cgroup_uid: Some(uid(77)),
        ..pod(1, &[])
    }]);
    assert_eq!(pods.by_uid(uid(77)).unwrap().uid, uid(1));
    pods.remove(uid(1));
    assert!(pods.by_uid(uid(77)).is_none() && pods.by_cgroup.is_empty());
}

#[test]
fn a_mirror_that_was_made_again_while_nobody_looked_is_found() {
    let mirror = |number| Pod {
        cgroup_uid: Some(uid(77)),
        ..pod(number, &[])
    };
    let mut pods = pods([mirror(1)]);
    pods.begin_list();
    pods.apply(mirror(2));
    pods.end_list();
    assert_eq!(pods.by_uid(uid(77)).unwrap().uid, uid(2));
}

#[test]
fn a_list_removes_what_it_does_not_mention_and_only_at_its_end() {
    let mut pods = pods([pod(1, &["10.0.0.1"]), pod(2, &["10.0.0.2"])]);
    pods.begin_list();
    pods.apply(pod(2, &["10.0.0.2"]));
    pods.apply(pod(3, &["10.0.0.3"]));
    assert_eq!(owner(&pods, "10.0.0.1"), "pod-1");
    pods.end_list();
    assert_eq!(owner(&pods, "10.0.0.1"), "unknown");
    assert_eq!(owner(&pods, "10.0.0.2"), "pod-2");
    assert_eq!(owner(&pods, "10.0.0.3"), "pod-3");
}

/// A list that is under way may have begun before.
#[test]
fn what_is_restored_has_to_be_confirmed_and_replaces_nothing() {
    for list_is_under_way in [false, true] {
        let mut pods = pods([pod(1, &["10.0.0.1"])]);
        if list_is_under_way {
            pods.begin_list();
        }
        pods.restore(pod(1, &["10.0.0.9"]));
        pods.restore(pod(2, &["10.0.0.2"]));
        assert_eq!(owner(&pods, "10.0.0.1"), "pod-1");
        assert_eq!(owner(&pods, "10.0.0.2"), "pod-2");
        if !list_is_under_way {
            pods.begin_list();
        }
        pods.apply(pod(1, &["10.0.0.1"]));
        pods.end_list();
        assert_eq!(owner(&pods, "10.0.0.1"), "pod-1");
        assert_eq!(owner(&pods, "10.0.0.2"), "unknown");
    }
}

#[test]
fn names_of_namespaces_are_kept_once_and_not_for_ever() {
    let mut pods = Pods::default();
    for number in 0..2 {
        let namespace = pods.namespace("shop");
        pods.apply(Pod {
            namespace,
            ..pod(number, &[])
        });
    }
    let names = |pods: &Pods, number| Arc::clone(&pods.by_uid(uid(number)).unwrap().namespace);
    assert!(Arc::ptr_eq(&names(&pods, 0), &names(&pods, 1)));
    pods.begin_list();
    pods.end_list();
    assert!(pods.namespaces.is_empty());
}

proptest! {
    /// Whatever happens, the other indexes hold what the first one says. Of pods with one cgroup it
    /// is the last one that was new.
    #[test]
    fn the_indexes_agree(steps in prop::collection::vec((0u128..6, 0u8..4, any::<bool>()), 0..60)) {
        let mut pods = Pods::default();
        let mut cgroups: HashMap<PodUid, PodUid> = HashMap::new();
        for (number, last, apply) in steps {
            let pod = Pod {
                cgroup_uid: Some(uid(100 + u128::from(last))),
                ..pod(number, &[&format!("10.0.0.{last}")])
            };
            if !apply {
                pods.remove(pod.uid);
                cgroups.retain(|_, of| *of != pod.uid);
            } else if pods.apply(pod.clone()) {
                cgroups.retain(|_, of| *of != pod.uid);
                cgroups.extend(pod.cgroup_uid.map(|cgroup| (cgroup, pod.uid)));
            }
        }
        prop_assert_eq!(&cgroups, &pods.by_cgroup);
        let mut expected: HashMap<IpAddr, Vec<PodUid>> = HashMap::new();
        for pod in pods.by_uid.values() {
            for address in &pod.addresses {
                expected.entry(*address).or_default().push(pod.uid);
            }
        }
        let mut found: HashMap<IpAddr, Vec<PodUid>> =
            pods.by_address.iter().map(|(address, uids)| (*address, uids.to_vec())).collect();
        expected.values_mut().chain(found.values_mut()).for_each(|uids| uids.sort());
        prop_assert_eq!(expected, found);
    }
}
