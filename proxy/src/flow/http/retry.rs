//! Repeats that operators ask for. They know that a request may run twice then.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};

use super::HttpService;
use super::app::Client;
use super::body::{RequestBody, ResponseBody};
use crate::credentials::Injection;
use crate::error::{Error, Exchange};

/// `retry`: attempts after the first, and the answers that are worth one.
#[derive(Debug, Clone)]
pub struct Retry {
    pub max_retries: u32,
    pub status_codes: Vec<StatusCode>,
}

/// Only bodies up to here are kept for a repeat.
const MAX_BODY: usize = 64 * 1024;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(2);

impl Retry {
    fn repeats(&self, result: &Result<Response<ResponseBody>, Error>) -> bool {
        match result {
            Ok(response) => self.status_codes.contains(&response.status()),
            Err(Error::Connect(_)) => true,
            Err(Error::Exchange(error)) => matches!(
                error,
                Exchange::NotAnswering(_) | Exchange::InvalidResponse(_) | Exchange::ClosedBeforeResponse(_)
            ),
            Err(Error::Resolve(_) | Error::Credentials(_) | Error::Framing(_)) => false,
        }
    }
}

impl HttpService {
    pub(super) async fn exchange_with_retries(
        &self,
        request: Request<RequestBody>,
        injection: &Injection,
        retry: &Retry,
        client: Client<'_>,
    ) -> Result<Response<ResponseBody>, Error> {
        let (parts, body) = request.into_parts();
        let body = match body.collect_up_to(MAX_BODY).await {
            Ok(body) => body,
            Err(body) => return self.exchange(Request::from_parts(parts, body), client).await,
        };
        let mut kept = Request::from_parts(parts, body);
        for attempt in 0..retry.max_retries {
            let result = self.exchange(copy(&kept), client).await;
            if !retry.repeats(&result) {
                return result;
            }
            self.named.metrics.repeated.inc();
            let delay = delay(attempt, result.as_ref().ok());
            if result.is_ok_and(|response| response.status() == StatusCode::UNAUTHORIZED) {
                self.renew(&mut kept, injection).await?;
            }
            tokio::time::sleep(delay).await;
        }
        self.exchange(copy(&kept), client).await
    }

    /// A target that refused a token gets a new one.
    async fn renew(&self, request: &mut Request<Bytes>, refused: &Injection) -> Result<(), Error> {
        self.authenticator.rejected(refused);
        if let Some((name, value)) = self.authenticator.injection().await?.header {
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }
}

fn copy(kept: &Request<Bytes>) -> Request<RequestBody> {
    kept.clone().map(RequestBody::buffered)
}

/// What the target asks for if that is short, else growing delays of which a random half is left out.
fn delay(attempt: u32, response: Option<&Response<ResponseBody>>) -> Duration {
    let asked =
        response.and_then(|response| response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok());
    if let Some(asked) = asked.map(Duration::from_secs).filter(|asked| *asked <= MAX_DELAY) {
        return asked;
    }
    let longest = FIRST_DELAY.saturating_mul(1 << attempt.min(5)).min(MAX_DELAY);
    longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}
