//! An API server in trouble.

use super::*;
use crate::harness::api_server::{Disturbance, Instead, Seen};

type Break = fn(&Disturbance);

struct Disturbed<'a> {
    tp: Installation<'a>,
    way: Disturbance,
    shop: String,
}

impl Disturbed<'static> {
    async fn new(prefix: &str) -> Self {
        let tp = Installation::new(prefix).await;
        let (way, shop) = (tp.server.disturbed().await, tp.managed("shop").await);
        tp.http("backend").await;
        Self { tp, way, shop }
    }

    fn manager(&self, name: &str) -> Role {
        self.tp.manager(name).env("KUBECONFIG", self.way.kubeconfig())
    }

    async fn cr_works(&self, name: &str) {
        self.tp.cr(&self.shop, name, "backend").await;
        self.tp.works(&self.shop, name).await;
    }
}

#[tokio::test]
async fn watches_that_break_are_taken_up_again() {
    let it = Disturbed::new("broken").await;
    let _manager = it.manager("broken").start();
    it.cr_works("before").await;
    let breaks: [(&str, Break); 3] = [
        ("cut", Disturbance::cut_streams),
        ("ended", Disturbance::end_streams),
        ("expired", Disturbance::expire_streams),
    ];
    for (name, break_them) in breaks {
        break_them(&it.way);
        it.cr_works(name).await;
    }
}

#[tokio::test]
async fn what_happens_while_nobody_is_heard_is_seen_afterwards() {
    let it = Disturbed::new("deaf").await;
    let _manager = it.manager("deaf").start();
    for name in ["stays", "goes", "changes", "again"] {
        it.cr_works(name).await;
    }
    for gone_for_good in [false, true] {
        it.way.disturb(|_| true, Instead::Cut);
        it.way.cut_streams();
        let (tp, shop) = (&it.tp, &it.shop);
        if gone_for_good {
            tp.remove(shop, "goes").await;
            tp.remove(shop, "again").await;
            tp.cr(shop, "again", "*").await;
        }
        tp.change(
            shop,
            "changes",
            json!({"service": {"port": if gone_for_good { 81 } else { 82 }}}),
        )
        .await;
        tp.delete_service(&tp.namespace, "stays").await;
        it.way.calm();
        if gone_for_good {
            // The versions that the manager knows are too old now.
            it.way.disturb_times(3, Seen::is_watch, Instead::Status(410));
        }
        eventually("the Service is back", || tp.service(&tp.namespace, "stays")).await;
        eventually("the change is seen", || async {
            let expected = if gone_for_good { 81 } else { 82 };
            (port(&tp.virtual_ip("changes").await).0 == expected).then_some(())
        })
        .await;
    }
    it.tp.is_gone(&it.tp.namespace, "goes").await;
    it.tp.is_gone(&it.shop, "goes").await;
    it.tp.works(&it.shop, "again").await;
}

#[tokio::test]
async fn writes_that_fail_are_tried_again() {
    let it = Disturbed::new("refusing").await;
    let manager = it.manager("refusing").start();
    let work = |seen: &Seen| seen.is_write() && !seen.is_of("leases");
    let answers = [
        ("busy", Instead::Status(429)),
        ("broken", Instead::Status(500)),
        ("away", Instead::Status(503)),
        ("slow", Instead::Status(504)),
        ("stale", Instead::Status(409)),
        ("unknown", Instead::Status(401)),
        ("cut", Instead::Cut),
        ("lost", Instead::LostAnswer),
    ];
    for (name, instead) in answers {
        it.way.disturb_times(2, work, instead);
        it.cr_works(name).await;
        it.way.calm();
    }
    assert_eq!(it.tp.made().await.len(), 2 * answers.len());
    let failed = metric(&manager, r#"tp_manager_reconciles_total{result="failed"} "#);
    assert!(failed >= 8.0, "{failed}");
}

#[tokio::test]
async fn what_was_refused_is_tried_again_in_the_next_cycle() {
    let it = Disturbed::new("cycle").await;
    let _manager = it
        .manager_with_interval("cycle")
        .env("KUBECONFIG", it.way.kubeconfig())
        .start();
    let makes = |seen: &Seen| seen.method == "POST" && seen.is_of("services");
    it.way.disturb(makes, Instead::Status(403));
    it.tp.cr(&it.shop, "orders", "backend").await;
    let condition = it
        .tp
        .becomes(&it.shop, "orders", Reason::ServiceCreationFailed)
        .await;
    assert!(condition.message.unwrap().contains("a test answers 403"));
    it.way.calm();
    within(Duration::from_secs(100), "the next cycle has come", || async {
        let condition = it.tp.condition(&it.shop, "orders").await?;
        (condition.status.as_deref() == Some("True")).then_some(())
    })
    .await;
}

impl Disturbed<'_> {
    fn manager_with_interval(&self, name: &str) -> Role {
        self.tp
            .manager_with(name, &json!({"executionIntervalMinutes": 1}))
    }
}

#[tokio::test]
async fn a_start_in_trouble_is_only_late() {
    let it = Disturbed::new("start").await;
    it.way
        .disturb_times(2, |seen| seen.is_of("destinations"), Instead::Status(500));
    it.way
        .disturb_times(2, |seen| seen.is_of("services"), Instead::Status(429));
    it.way
        .disturb_times(2, |seen| seen.is_of("namespaces"), Instead::Cut);
    it.way
        .disturb_times(2, |seen| seen.is_of("leases"), Instead::Status(503));
    it.way
        .disturb_times(1, |seen| seen.is_of("secrets"), Instead::Status(410));
    let _manager = it.manager("start").start();
    it.cr_works("orders").await;
}

#[tokio::test]
async fn a_manager_that_may_not_watch_is_not_ready_and_says_why() {
    let it = Disturbed::new("denied").await;
    let manager = it.manager("denied").start();
    it.cr_works("orders").await;
    eventually("it is ready", || async { is_ready(&manager).then_some(()) }).await;
    it.way
        .disturb(|seen| seen.is_of("destinations"), Instead::Status(401));
    it.way.cut_streams();
    within(Duration::from_secs(50), "it is not ready", || async {
        (!is_ready(&manager)).then_some(())
    })
    .await;
    let status = crate::harness::tcp::get(manager.probes(), "/status");
    assert!(
        status.contains("watch on destinations") && status.contains("a test answers 401"),
        "{status}"
    );
    assert!(
        metric(
            &manager,
            r#"tp_watch_errors_total{resource="destinations",code="401"} "#
        ) > 3.0
    );
    it.way.calm();
    eventually("it is ready again", || async { is_ready(&manager).then_some(()) }).await;
    it.cr_works("later").await;
}

/// Tokens of service accounts are replaced in their file long before they expire.
#[tokio::test]
async fn a_token_that_was_replaced_is_read_again() {
    let it = Disturbed::new("rotated").await;
    let kubeconfig = std::fs::read_to_string(it.way.kubeconfig()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let mut kubeconfig: Value = serde_saphyr::from_str(&kubeconfig).unwrap();
    let user = &mut kubeconfig["users"][0]["user"];
    let token = user["token"].as_str().unwrap().to_owned();
    *user = json!({"tokenFile": token_file});
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    std::fs::write(&token_file, "expired").unwrap();
    let manager = it.tp.manager("rotated").env("KUBECONFIG", &path).start();
    eventually("the token is refused", || async {
        let status = crate::harness::tcp::get(manager.probes(), "/status");
        status.contains("Unauthorized").then_some(())
    })
    .await;
    std::fs::write(&token_file, token).unwrap();
    it.tp.cr(&it.shop, "orders", "backend").await;
    within(Duration::from_secs(90), "the token is read again", || {
        it.tp.service(&it.shop, "orders")
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_is_started_again_finds_the_manager_at_work() {
    let server = ApiServer::start().await;
    let tp = Installation::on(&server, "killed").await;
    let shop = tp.managed("shop").await;
    tp.http("backend").await;
    let manager = tp.manager("killed").start();
    tp.cr(&shop, "before", "backend").await;
    tp.works(&shop, "before").await;
    server.kill();
    eventually("it has noticed", || async { (!leads(&manager)).then_some(()) }).await;
    server.restart().await;
    tp.cr(&shop, "after", "backend").await;
    tp.works(&shop, "after").await;
    server.freeze();
    eventually("it has noticed", || async { (!leads(&manager)).then_some(()) }).await;
    server.thaw();
    tp.cr(&shop, "thawed", "backend").await;
    tp.works(&shop, "thawed").await;
}

#[tokio::test]
async fn an_api_server_that_goes_on_failing_is_told_and_asked_again() {
    let it = Disturbed::new("failing").await;
    let _manager = it.manager("failing").start();
    it.cr_works("changes").await;
    let of_services = |seen: &Seen| seen.is_write() && seen.is_of("services");
    it.way.disturb(of_services, Instead::Status(500));
    it.tp.cr(&it.shop, "new", "backend").await;
    it.tp
        .change(&it.shop, "changes", json!({"service": {"port": 81}}))
        .await;
    for (name, verb) in [("new", "created"), ("changes", "changed")] {
        let condition = it.tp.becomes(&it.shop, name, Reason::ServiceCreationFailed).await;
        let expected = format!(
            "Technical connectivity is not configured. Kubernetes service '{name}' could not be {verb} in \
             namespace '{}': a test answers 500",
            it.tp.namespace
        );
        assert_eq!(condition.message.as_deref(), Some(expected.as_str()));
    }
    it.way.calm();
    for name in ["new", "changes"] {
        it.tp.works(&it.shop, name).await;
    }
    assert_eq!(port(&it.tp.virtual_ip("changes").await).0, 81);
}

#[tokio::test]
async fn failures_with_good_order_in_between_are_not_told() {
    let it = Disturbed::new("between").await;
    let manager = it.manager("between").start();
    it.tp.label(&it.tp.namespace, Some(&it.tp.namespace)).await;
    // One Service, so one write.
    it.tp.cr(&it.tp.namespace, "orders", "backend").await;
    it.tp.works(&it.tp.namespace, "orders").await;
    let of_services = |seen: &Seen| seen.is_write() && seen.is_of("services");
    let nothing = || metric(&manager, r#"tp_manager_reconciles_total{result="nothing"} "#);
    let becomes = async |number: i32| {
        it.tp
            .change(&it.tp.namespace, "orders", json!({"service": {"port": number}}))
            .await;
        eventually(&format!("the port is {number}"), || async {
            (port(&it.tp.virtual_ip("orders").await).0 == number).then_some(())
        })
        .await;
    };
    it.way.disturb_times(1, of_services, Instead::LostAnswer);
    it.way.disturb_times(2, of_services, Instead::Status(500));
    becomes(81).await;
    let before = nothing();
    let note = json!({"metadata": {"annotations": {"their": "note"}}});
    let services = it.tp.services(&it.tp.namespace);
    services
        .patch("orders", &PatchParams::default(), &Patch::Merge(note))
        .await
        .unwrap();
    eventually("there is nothing to do", || async {
        (nothing() > before).then_some(())
    })
    .await;
    it.way.disturb_times(1, of_services, Instead::Status(500));
    becomes(82).await;
    let told = it.way.writes().into_iter().filter(|seen| seen.is_of("status"));
    assert_eq!(told.count(), 1, "only that it works");
}

#[tokio::test]
async fn a_cr_that_cannot_be_told_does_not_keep_its_namesakes_untold() {
    let it = Disturbed::new("untold").await;
    let other = it.tp.managed("warehouse").await;
    let of_shop = {
        let shop = it.shop.clone();
        move |seen: &Seen| seen.is_write() && seen.is_of("status") && seen.is_of(&shop)
    };
    it.way.disturb(of_shop, Instead::Status(500));
    it.tp.cr(&it.shop, "orders", "backend").await;
    let _manager = it.manager("untold").start();
    it.tp.virtual_ip("orders").await;
    it.tp.cr(&other, "orders", "backend").await;
    it.tp
        .becomes(&other, "orders", Reason::DuplicateCustomResource)
        .await;
    it.way.calm();
    it.tp.works(&it.shop, "orders").await;
}

#[tokio::test]
async fn a_service_that_may_not_be_deleted_is_told_in_the_log_where_no_cr_is_left() {
    let it = Disturbed::new("kept").await;
    let manager = it.manager("kept").start();
    it.cr_works("orders").await;
    let deletes = |seen: &Seen| seen.method == "DELETE" && seen.is_of("services");
    it.way.disturb(deletes, Instead::Status(403));
    it.tp.remove(&it.shop, "orders").await;
    let line = manager.line("the refusal is logged", |line| {
        let msg = line["msg"].as_str().unwrap_or_default();
        line["level"] == "warn" && msg.contains("could not be deleted")
    });
    assert!(line.to_string().contains("a test answers 403"), "{line}");
}

/// Which namespaces hold destinations is configured, but they are others'.
#[tokio::test]
async fn an_additional_namespace_that_is_taken_away_is_done_without() {
    let it = Disturbed::new("taken").await;
    let more = it.tp.server.namespace("taken-more").await;
    let of_more = {
        let more = more.clone();
        move |seen: &Seen| seen.is_of(&more) && seen.is_of("secrets")
    };
    it.way.disturb(of_more, Instead::Status(403));
    let manager = it
        .tp
        .manager_with("taken", &json!({"secrets": {"namespaces": [more]}}))
        .env("KUBECONFIG", it.way.kubeconfig())
        .start();
    within(Duration::from_mins(1), "it is ready without", || async {
        is_ready(&manager).then_some(())
    })
    .await;
    it.cr_works("orders").await;
    it.tp.cr(&it.shop, "elsewhere", "elsewhere").await;
    it.tp
        .becomes(&it.shop, "elsewhere", Reason::DestinationNotFound)
        .await;
    let status = crate::harness::tcp::get(manager.probes(), "/status");
    assert!(status.contains("a test answers 403"), "{status}");
    let warned = |line: &Value| {
        line["level"] == "warn" && line["msg"].as_str().unwrap().contains("until it is granted")
    };
    assert_eq!(manager.log().iter().filter(|line| warned(line)).count(), 1);
    it.way.calm();
    it.tp.destination_in(&more, "elsewhere", json!({})).await;
    it.tp.works(&it.shop, "elsewhere").await;
}
