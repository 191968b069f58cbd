//! Plumbing to a Kubernetes API server that all roles share: the client, watches, names.
//!
//! Below the stages: nothing here knows destinations.

pub mod client;
pub mod dns;
pub mod slim;
pub mod watch;

use std::future::Future;
use std::time::Duration;

/// How long a single request may take; a healthy API server answers within a second.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", told(.0))]
    Request(Box<kube::Error>),
    #[error("the API server did not answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
}

impl Error {
    /// The status that the API server answered with.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Request(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout(_) => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Somebody else was faster, or it exists already.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The API server is in trouble or busy, or cannot be reached: nothing is wrong with the request.
    pub fn is_temporary(&self) -> bool {
        self.code()
            .is_none_or(|code| code >= 500 || matches!(code, 408 | 429))
    }

    /// How long the API server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Request(error) = self else { return None };
        let kube::Error::Api(status) = &**error else {
            return None;
        };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Request(Box::new(error))
    }
}

/// Without the dump of the whole status that kube's own text ends with, but with all causes.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("the API server answered {}", status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        // Its text quotes what was found, and Secrets are answers.
        kube::Error::SerdeError(error) => format!(
            "the answer of the API server is not understood, at line {} column {}",
            error.line(),
            error.column()
        ),
        other => with_causes(other),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// A request that does not wait for ever: kube's clients have no deadline of their own.
pub async fn timely<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    timely_within(REQUEST_TIMEOUT, request).await
}

pub async fn timely_within<T>(
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(Error::from),
        Err(_elapsed) => Err(Error::Timeout(limit)),
    }
}
