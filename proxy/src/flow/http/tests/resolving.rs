//! Requests that choose, or find nothing to choose.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use tokio::io::AsyncWriteExt;

use super::harness::{OK, Plane, answering, field, http_destination, named, read_head, read_until};
use crate::api::tenant::TenantMode;
use crate::flow::Behalf;
use crate::flow::http::{Lazy, NotSelected, Selection};
use crate::resolve;
use crate::resolve::destination::{Destination, DestinationName, Protocol, TcpDestination, Version};

type Known = Arc<Mutex<HashMap<String, Arc<Destination>>>>;

fn to(name: &str, target: SocketAddr) -> Arc<Destination> {
    Arc::new(named(name, http_destination("127.0.0.1", target.port())))
}

/// A plane where requests choose among `known`.
async fn choosing(known: &Known) -> (Plane, Arc<Selection>) {
    let known = Arc::clone(known);
    let label = DestinationName::new_unchecked("*");
    let selection = Arc::new(Selection::new(
        label,
        Arc::new(move |head: &HeaderMap| {
            let asked = head.get("x-destination-name").and_then(|name| name.to_str().ok());
            let name = asked.unwrap_or_default();
            let found = known.lock().unwrap().get(name).cloned();
            found.ok_or_else(|| NotSelected {
                error: resolve::Error::NoDestination,
                destination: name.to_owned(),
            })
        }),
    ));
    let serves = Arc::clone(&selection);
    let plane = Plane::to(([127, 0, 0, 1], 9).into())
        .resolving(|parts| move |head: &HeaderMap| serves.resolve(head, &parts))
        .await;
    (plane, selection)
}

fn asking_for(name: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: app\r\nX-Destination-Name: {name}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn requests_of_one_connection_go_where_each_of_them_says() {
    let (first, seen_by_first) = answering(OK).await;
    let (second, seen_by_second) = answering(OK).await;
    let known = Known::default();
    known.lock().unwrap().insert("first".into(), to("first", first));
    known
        .lock()
        .unwrap()
        .insert("second".into(), to("second", second));
    let (plane, _) = choosing(&known).await;
    let mut app = plane.connect().await;
    for name in ["first", "second", "first"] {
        let request = asking_for(name).replace("close", "keep-alive");
        app.write_all(request.as_bytes()).await.unwrap();
        assert!(
            read_until(&mut app, b"ok")
                .await
                .unwrap()
                .starts_with("HTTP/1.1 200")
        );
    }
    assert_eq!(seen_by_first.lock().unwrap().len(), 2);
    assert_eq!(seen_by_second.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_for_nothing_is_answered_and_its_connection_goes_on() {
    let (target, _) = answering(OK).await;
    let known = Known::default();
    known.lock().unwrap().insert("there".into(), to("there", target));
    let (plane, _) = choosing(&known).await;
    let mut app = plane.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: app\r\nX-Request-Id: mine\r\nX-Destination-Name: made-up\r\nContent-Length: 4\r\n\r\nbody";
    app.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut app).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert_eq!(field(&head, "x-request-id"), Some("mine"));
    assert_eq!(field(&head, "x-error-origin"), Some("Transparent Proxy"));
    let body = read_until(&mut app, b"}}").await.unwrap();
    assert!(body.contains("No destination is configured"), "{body}");
    app.write_all(asking_for("there").as_bytes()).await.unwrap();
    assert!(
        read_until(&mut app, b"ok")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_name_that_a_request_made_up_gets_no_series_in_metrics() {
    let (plane, _) = choosing(&Known::default()).await;
    plane.ask(&asking_for("made-up")).await;
    let text = plane.scraped();
    assert!(!text.contains("made-up"), "{text}");
    assert!(
        text.contains("destination_received_requests_total{destination=\"*\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("request_errors_total{destination=\"*\",error=\"no_destination\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_new_version_is_used_by_the_next_request_of_an_open_connection() {
    let (old, _) = answering(OK).await;
    let (new, seen) = answering(OK).await;
    let known = Known::default();
    known.lock().unwrap().insert("it".into(), to("it", old));
    let (plane, _) = choosing(&known).await;
    let mut app = plane.connect().await;
    let request = asking_for("it").replace("close", "keep-alive");
    app.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut app, b"ok").await.unwrap();
    let changed = Destination {
        version: Version(2),
        ..named("it", http_destination("127.0.0.1", new.port()))
    };
    known.lock().unwrap().insert("it".into(), Arc::new(changed));
    app.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut app, b"ok").await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn services_that_nobody_asks_for_are_forgotten() {
    let (target, _) = answering(OK).await;
    let known = Known::default();
    known.lock().unwrap().insert("it".into(), to("it", target));
    let (plane, selection) = choosing(&known).await;
    plane.ask(&asking_for("it")).await;
    selection.rest();
    assert_eq!(selection.len(), 1, "it was asked for since the last look");
    selection.rest();
    assert_eq!(selection.len(), 0);
    assert!(plane.ask(&asking_for("it")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_that_is_no_http_destination_is_an_answer_too() {
    let known = Known::default();
    let tcp = Destination {
        protocol: Protocol::Tcp(Arc::new(TcpDestination {
            host: "127.0.0.1".into(),
            port: 1,
            connect_timeout: std::time::Duration::from_secs(1),
            socket: crate::resolve::destination::SocketOptions::default(),
        })),
        ..named("db", http_destination("127.0.0.1", 1))
    };
    known.lock().unwrap().insert("db".into(), Arc::new(tcp));
    let (plane, _) = choosing(&known).await;
    let answer = plane.ask(&asking_for("db")).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(
        answer.contains(
            "Received invalid configuration from Destination Service, requested via destination 'db'."
        ),
        "{answer}"
    );
}

/// However many want it first, the work is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_made_once_and_only_when_it_is_wanted() {
    let (target, _) = answering(OK).await;
    let http = Arc::new(http_destination("127.0.0.1", target.port()));
    let lazy = Arc::new(Lazy::new(&to("it", target), &http));
    let made: Arc<Mutex<HashSet<usize>>> = Arc::default();
    let (watched, services) = (Arc::clone(&lazy), Arc::clone(&made));
    let plane = Plane::to(target)
        .resolving(|parts| {
            move |_: &HeaderMap| {
                let resolved = lazy.resolve(&parts);
                let service = resolved
                    .as_ref()
                    .map_or(0, |service| Arc::as_ptr(service) as usize);
                services.lock().unwrap().insert(service);
                resolved
            }
        })
        .await;
    assert!(
        !watched.is_idle(),
        "there is nothing to forget before the first request"
    );
    let answers = futures_util::future::join_all((0..8).map(|_| plane.get("/"))).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")));
    assert_eq!(made.lock().unwrap().len(), 1);
    assert!(!watched.is_idle());
    assert!(watched.is_idle());
}

#[tokio::test]
async fn where_there_is_one_destination_none_can_be_selected() {
    let (target, seen) = answering(OK).await;
    let http = Arc::new(http_destination("127.0.0.1", target.port()));
    let lazy = Lazy::new(&to("it", target), &http);
    let plane = Plane::to(target)
        .resolving(|mut parts| {
            parts.behalf = Some(Behalf::new("shop".into(), "my-dest".into(), "secrets"));
            move |head: &HeaderMap| lazy.resolve_unselected(head, TenantMode::Dedicated, &parts)
        })
        .await;
    let answer = plane.ask(&asking_for("other")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("'x-destination-name' header is not supported"),
        "{answer}"
    );
    let twice = asking_for("a").replace("Connection", "X-Destination-Name: b\r\nConnection");
    let answer = plane.ask(&twice).await;
    assert!(
        answer.contains("[x-destination-name] should be passed only once"),
        "{answer}"
    );
    assert!(seen.lock().unwrap().is_empty());
    assert!(plane.get("/").await.starts_with("HTTP/1.1 200"));
}
