//! One request to the target and the head of its answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, Sleep, sleep_until};

use super::HttpService;
use super::app::{AppConnection, Client};
use super::body::{Pooled, RequestBody, ResponseBody, Upload};
use super::headers;
use crate::connect::pool::{Http1, Http2, Lease, Reuse};
use crate::connect::{self, TlsFailure};
use crate::error::{Error, Exchange};
use crate::framing::Violation;

/// A target that is asked for `100 Continue` and stays silent this long gets the body
/// anyway (RFC 9110, section 10.1.1, forbids to wait for ever).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Why a connection gave no answer.
enum Failed {
    /// Nothing was sent; the request is as it was.
    Unsent(Box<Request<RequestBody>>),
    Lost(Option<hyper::Error>),
    TimedOut,
    /// In TLS 1.3 a server refuses a client certificate after the client has finished
    /// its handshake.
    Refused(TlsFailure),
}

impl Failed {
    fn or_refused(self, refusal: Option<TlsFailure>) -> Self {
        refusal.map_or(self, Self::Refused)
    }
}

impl HttpService {
    /// Sends a request, again on a new connection where nothing can have run.
    pub(super) async fn exchange(
        &self,
        request: Request<RequestBody>,
        client: Client<'_>,
    ) -> Result<Response<ResponseBody>, Error> {
        let safe = is_safe(request.method()) && request.body().is_empty();
        let reuse = if safe { Reuse::Any } else { Reuse::Recent };
        let lease = match self.pooled(client.app, reuse) {
            Some(lease) => lease,
            None => match Box::pin(self.open(reuse)).await {
                Ok(lease) => lease,
                Err(error) => return Err(self.not_connected(error, request).await),
            },
        };
        let again = (safe && lease.is_reused()).then(|| copy(&request));
        let afresh = lease.afresh();
        let upload = request.body().upload();
        let failed = match self.send(lease, request, client).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        match (failed, again) {
            (Failed::Unsent(request), _) => Box::pin(self.send_afresh(*request, afresh, client)).await,
            (Failed::Lost(error), Some(request)) if !error.as_ref().is_some_and(is_invalid) => {
                Box::pin(self.send_afresh(request, afresh, client)).await
            }
            (failed, _) => Err(self.failed(failed, upload.as_deref())),
        }
    }

    fn pooled(&self, app: &Arc<AppConnection>, reuse: Reuse) -> Option<Lease<RequestBody>> {
        if app.is_pinned() {
            return app.take_pinned(&self.origin).map(Lease::Http1);
        }
        self.origin.reuse(reuse)
    }

    async fn open(&self, reuse: Reuse) -> Result<Lease<RequestBody>, connect::Error> {
        let opened = self.origin.open(reuse);
        self.named.measured(|steps| &steps.connect, opened).await
    }

    async fn not_connected(&self, error: crate::connect::Error, request: Request<RequestBody>) -> Error {
        request.into_body().drain_if_cheap().await;
        error.into()
    }

    /// The one repeat that is always allowed. A new connection has no excuse.
    async fn send_afresh(
        &self,
        request: Request<RequestBody>,
        afresh: Reuse,
        client: Client<'_>,
    ) -> Result<Response<ResponseBody>, Error> {
        self.named.metrics.repeated.inc();
        let upload = request.body().upload();
        let lease = match self.open(afresh).await {
            Ok(lease) => lease,
            Err(error) => return Err(self.not_connected(error, request).await),
        };
        self.send(lease, request, client)
            .await
            .map_err(|failed| self.failed(failed, upload.as_deref()))
    }

    async fn send(
        &self,
        lease: Lease<RequestBody>,
        request: Request<RequestBody>,
        client: Client<'_>,
    ) -> Result<Response<ResponseBody>, Failed> {
        let answered = pin!(self.send_over(lease, request, client));
        self.named.measured(|steps| &steps.answer, answered).await
    }

    async fn send_over(
        &self,
        lease: Lease<RequestBody>,
        request: Request<RequestBody>,
        client: Client<'_>,
    ) -> Result<Response<ResponseBody>, Failed> {
        let upload = request.body().upload();
        match lease {
            Lease::Http1(mut connection) => {
                let request = for_http1(request);
                let response = send_http1(&mut connection, request, upload.as_deref(), self.read_timeout)
                    .await
                    .map_err(|failed| failed.or_refused(connection.refusal()))?;
                Ok(self.answered_http1(connection, response, upload, client))
            }
            Lease::Http2(part) => {
                let request = self.for_http2(request);
                let response = Box::pin(send_http2(&part, request, upload.as_deref(), self.read_timeout))
                    .await
                    .map_err(|failed| failed.or_refused(part.refusal().get()))?;
                let reset = client.reset_on_error();
                Ok(response
                    .map(|body| ResponseBody::shared(body, self.read_timeout, upload, Some(part), reset)))
            }
        }
    }

    fn answered_http1(
        &self,
        mut connection: Box<Http1<RequestBody>>,
        response: Response<Incoming>,
        upload: Option<Arc<Upload>>,
        client: Client<'_>,
    ) -> Response<ResponseBody> {
        let reset_on_error = client.reset_on_error();
        let still_uploading = upload.as_ref().is_some_and(|upload| !upload.has_ended());
        // hyper would answer an HTTP/1.0 server in HTTP/1.0 from now on, without chunked bodies.
        let old = response.version() == Version::HTTP_10;
        if still_uploading || old {
            connection.detach();
            return response
                .map(|body| ResponseBody::shared(body, self.read_timeout, upload, None, reset_on_error));
        }
        if let Some(limit) = headers::server_idle(response.headers()) {
            connection.set_server_idle(limit);
        }
        let pinned = client.app.is_pinned() || headers::authenticates_connection(&response);
        response.map(|incoming| {
            ResponseBody::pooled(Pooled {
                incoming,
                connection: Some(connection),
                origin: Arc::clone(&self.origin),
                pin_to: pinned.then(|| Arc::clone(client.app)),
                timeout: self.read_timeout,
                waiting_since: None,
                reset_on_error,
            })
        })
    }

    fn failed(&self, failed: Failed, upload: Option<&Upload>) -> Error {
        Error::Exchange(match failed {
            Failed::TimedOut => Exchange::NotAnswering(self.read_timeout),
            Failed::Lost(Some(error)) if upload.is_some_and(Upload::has_failed) => {
                return request_body_failed(error);
            }
            Failed::Lost(Some(error)) if is_invalid(&error) => Exchange::InvalidResponse(error),
            Failed::Refused(failure) => return connect::Error::Tls(failure).into(),
            Failed::Lost(error) => Exchange::ClosedBeforeResponse(error),
            Failed::Unsent(_) => Exchange::ClosedBeforeResponse(None),
        })
    }

    /// HTTP/2 names the authority in the request's target.
    fn for_http2(&self, mut request: Request<RequestBody>) -> Request<RequestBody> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(http::header::HOST);
        request
    }
}

impl Lease<RequestBody> {
    fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reused(),
            Self::Http2(_) => true,
        }
    }

    /// What a request may take that got no answer over this one. Many requests lose an HTTP/2
    /// connection together, and one new one is enough for them.
    fn afresh(&self) -> Reuse {
        match self {
            Self::Http1(_) => Reuse::Never,
            Self::Http2(part) => Reuse::Newer(part.opening()),
        }
    }
}

/// The target has answered, but not in HTTP.
pub(super) fn is_invalid(error: &hyper::Error) -> bool {
    error.is_parse() || Violation::of(error).is_some()
}

fn request_body_failed(error: hyper::Error) -> Error {
    match Violation::of(&error) {
        Some(violation) => violation.into(),
        None => Exchange::RequestBody(error).into(),
    }
}

/// Safe methods ask for nothing to be done (RFC 9110, section 9.2.1).
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// A request without a body, to be sent again.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

fn for_http1(mut request: Request<RequestBody>) -> Request<RequestBody> {
    *request.version_mut() = Version::HTTP_11;
    let unknown_length = request.body().has_unknown_length();
    let fields: &mut HeaderMap = request.headers_mut();
    headers::finish_for_http1(fields, unknown_length);
    request
}

/// Sends over a connection that nobody else drives, and drives it until the answer's head is there.
async fn send_http1(
    connection: &mut Http1<RequestBody>,
    mut request: Request<RequestBody>,
    upload: Option<&Upload>,
    timeout: Duration,
) -> Result<Response<Incoming>, Failed> {
    relay_continue(&mut request);
    let mut waiting = Waiting::new(upload, timeout);
    let mut answer = pin!(connection.send(request));
    poll_fn(|cx| {
        let ended = connection.poll_drive(cx).is_ready();
        // Only driving the connection completes it, so it need not wake us.
        let mut asleep = Context::from_waker(Waker::noop());
        if let Poll::Ready(sent) = answer.as_mut().poll(&mut asleep) {
            // It now waits for somebody to ask for the body, and who asks drives it, too.
            let _ended_or_not = connection.poll_drive(&mut asleep);
            return Poll::Ready(sent.map_err(Failed::from));
        }
        if ended {
            return Poll::Ready(Err(Failed::Lost(None)));
        }
        waiting
            .poll(cx, |deadline, cx| connection.poll_deadline(deadline, cx))
            .map(Err)
    })
    .await
}

/// A target that is silent for too long gets no further request over this connection: it may be dead.
async fn send_http2(
    part: &Http2<RequestBody>,
    request: Request<RequestBody>,
    upload: Option<&Upload>,
    timeout: Duration,
) -> Result<Response<Incoming>, Failed> {
    let mut waiting = Waiting::new(upload, timeout);
    let mut timer = Box::pin(sleep_until(Instant::now() + timeout));
    let mut answer = pin!(part.sender().try_send_request(request));
    poll_fn(|cx| {
        if let Poll::Ready(sent) = answer.as_mut().poll(cx) {
            part.answered();
            return Poll::Ready(Sent::map_err(sent, Failed::from));
        }
        waiting
            .poll(cx, |deadline, cx| poll_timer(&mut timer, deadline, cx))
            .map(|failed| {
                part.retire();
                Err(failed)
            })
    })
    .await
}

fn poll_timer(timer: &mut Pin<Box<Sleep>>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    timer.as_mut().reset(deadline);
    timer.as_mut().poll(cx)
}

impl From<TrySendError<Request<RequestBody>>> for Failed {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Lost(Some(error.into_error())),
        }
    }
}

/// A `100 Continue` of the target opens the application's body.
fn relay_continue(request: &mut Request<RequestBody>) {
    if let Some(upload) = request.body().upload()
        && !upload.is_open()
    {
        hyper::ext::on_informational(request, move |response| {
            if response.status() == http::StatusCode::CONTINUE {
                upload.open();
            }
        });
    }
}

/// The clock of an exchange: how long the target has been silent while it was its turn.
struct Waiting<'a> {
    upload: Option<&'a Upload>,
    timeout: Duration,
    since: Instant,
    proceed: Option<Pin<Box<Sleep>>>,
}

impl<'a> Waiting<'a> {
    fn new(upload: Option<&'a Upload>, timeout: Duration) -> Self {
        let since = Instant::now();
        let gated = upload.is_some_and(|upload| !upload.is_open());
        let proceed = gated.then(|| Box::pin(sleep_until(since + CONTINUE_TIMEOUT)));
        Self {
            upload,
            timeout,
            since,
            proceed,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut poll_deadline: impl FnMut(Instant, &mut Context<'_>) -> Poll<()>,
    ) -> Poll<Failed> {
        if let (Some(proceed), Some(upload)) = (&mut self.proceed, self.upload)
            && proceed.as_mut().poll(cx).is_ready()
        {
            self.proceed = None;
            upload.open();
            // The connection asks for the body only when it is polled again.
            cx.waker().wake_by_ref();
        }
        while poll_deadline(self.since + self.timeout, cx).is_ready() {
            if !self.is_excused() {
                return Poll::Ready(Failed::TimedOut);
            }
            self.since = Instant::now();
        }
        Poll::Pending
    }

    /// The upload moves, or it is the application that keeps us waiting.
    fn is_excused(&self) -> bool {
        self.upload
            .is_some_and(|upload| upload.frames_since_last_look() || upload.waits_for_app())
    }
}
