//! An API server whose every answer the test gives.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

type Answer = Response<BoxBody<Bytes, Infallible>>;

pub(super) struct FakeApi {
    client: Client,
    calls: mpsc::Receiver<Call>,
}

/// A request that waits for its answer.
pub(super) struct Call {
    query: String,
    answer: oneshot::Sender<Answer>,
}

/// An answer that goes on.
pub(super) struct Stream(mpsc::Sender<Bytes>);

impl FakeApi {
    pub(super) fn new() -> Self {
        let (sender, calls) = mpsc::channel(1);
        let service = tower::service_fn(move |request: Request<Body>| {
            let sender = sender.clone();
            let query = request.uri().query().unwrap_or_default().to_owned();
            async move {
                let (answer, answered) = oneshot::channel();
                let _ = sender.send(Call { query, answer }).await;
                answered
                    .await
                    .map_err(|_gone| std::io::Error::other("the test gave no answer"))
            }
        });
        let client = Client::new(service, "ns");
        Self { client, calls }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) async fn any(&mut self) -> Call {
        self.calls.recv().await.expect("the client lives")
    }

    pub(super) async fn list(&mut self) -> Call {
        let call = self.any().await;
        assert!(
            !call.query.contains("watch=true"),
            "expected a list: {}",
            call.query
        );
        call
    }

    pub(super) async fn watch(&mut self, version: &str) -> Call {
        let call = self.any().await;
        assert!(
            call.query.contains("watch=true"),
            "expected a watch: {}",
            call.query
        );
        let from = format!("resourceVersion={version}");
        assert!(call.query.contains(&from), "expected {from}: {}", call.query);
        call
    }
}

impl Call {
    pub(super) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }

    pub(super) fn page(self, objects: &[Value], version: &str, next: &str) {
        self.answer(
            200,
            &json!({
                "kind": "ConfigMapList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": version, "continue": next},
                "items": objects,
            }),
        );
    }

    pub(super) fn fail(self, code: u16) {
        self.answer(code, &status(code));
    }

    pub(super) fn too_many_requests(self, seconds: u32) {
        let mut status = status(429);
        status["details"] = json!({"retryAfterSeconds": seconds});
        self.answer(429, &status);
    }

    pub(super) fn stream(self) -> Stream {
        let (sender, mut receiver) = mpsc::channel(1);
        let frames = futures_util::stream::poll_fn(move |context| {
            receiver
                .poll_recv(context)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        });
        let _ = self
            .answer
            .send(Response::new(BoxBody::new(StreamBody::new(frames))));
        Stream(sender)
    }

    fn answer(self, code: u16, value: &Value) {
        let body = http_body_util::Full::new(Bytes::from(value.to_string()));
        let response = Response::builder().status(code).body(BoxBody::new(body)).unwrap();
        let _ = self.answer.send(response);
    }
}

impl Stream {
    pub(super) async fn event(&mut self, kind: &str, object: &Value) {
        self.text(&format!("{}\n", json!({"type": kind, "object": object})))
            .await;
    }

    pub(super) async fn bookmark(&mut self, version: &str) {
        let object =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": version}});
        self.event("BOOKMARK", &object).await;
    }

    pub(super) async fn error(&mut self, code: u16) {
        self.event("ERROR", &status(code)).await;
    }

    pub(super) async fn text(&mut self, text: &str) {
        self.0
            .send(Bytes::from(text.to_owned()))
            .await
            .expect("the watch reads");
    }

    #[expect(clippy::unused_self, reason = "dropping the sender ends the stream")]
    pub(super) fn end(self) {}
}

pub(super) fn object(name: &str, uid: &str) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": "5"}})
}

fn status(code: u16) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "for a test",
        "code": code,
    })
}
