//! The way in for commands in an agent's own pod: a Unix socket, for its owner alone.
//!
//! One question and one answer per connection, both as one JSON value.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::explain::Report;
use crate::lifecycle::drain::DrainSignal;
use crate::telemetry::connections::Snapshot;

/// In the folder that the role is told.
const NAME: &str = "admin.sock";

/// From the first byte to the last, on either side.
const DEADLINE: Duration = Duration::from_secs(10);

const LONGEST_QUESTION: u64 = 4 << 10;
/// Tens of thousands of connections.
const LONGEST_ANSWER: u64 = 64 << 20;

/// People ask, one at a time.
const AT_ONCE: usize = 8;

/// After an accept that failed, which lack of descriptors makes happen again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What an agent answers.
pub trait Answers: Send + Sync + 'static {
    fn explain(&self, namespace: &str, name: &str) -> Report;
    fn connections(&self) -> Vec<Snapshot>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Question {
    Explain { namespace: String, name: String },
    Connections,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no agent answers at {}: run this in the pod of an agent, as in \
         `kubectl exec --namespace NAMESPACE POD -- transparent-proxy …`",
        .path.display()
    )]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the agent did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    #[error("the conversation with the agent broke off")]
    Broken(#[source] io::Error),
    #[error("the agent's answer is not understood; is it of another version?")]
    Answer(#[source] serde_json::Error),
}

/// Opens the socket in a folder. What a killed process left there is replaced.
pub fn bind(folder: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(NAME);
    let new = folder.join(format!(".{NAME}.{}", std::process::id()));
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    // Under its name it is there with its permissions only.
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, &path)?;
    Ok(listener)
}

/// Answers until `drain` is cut or the process ends.
pub async fn serve(listener: UnixListener, answers: Arc<dyn Answers>, drain: DrainSignal) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answers = Arc::clone(&answers);
                    tokio::spawn(async move {
                        answer(stream, answers).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "a question cannot be taken");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = drain.cut() => {}
    }
}

async fn answer(stream: UnixStream, answers: Arc<dyn Answers>) {
    if !is_owner(&stream) {
        debug!("somebody else asked");
        return;
    }
    match timeout(DEADLINE, converse(stream, answers)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a question was not answered"),
        Err(_late) => debug!("a question was not asked or an answer not taken in time"),
    }
}

/// The permissions of the socket say the same, except to whoever may ignore them.
fn is_owner(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own.as_raw() || peer.uid() == 0)
}

async fn converse(mut stream: UnixStream, answers: Arc<dyn Answers>) -> io::Result<()> {
    let question: Question = serde_json::from_slice(&read(&mut stream, LONGEST_QUESTION).await?)?;
    // It looks at many things, some of them in the kernel.
    let answer = tokio::task::spawn_blocking(move || match question {
        Question::Explain { namespace, name } => serde_json::to_vec(&answers.explain(&namespace, &name)),
        Question::Connections => serde_json::to_vec(&answers.connections()),
    });
    stream
        .write_all(&answer.await.map_err(io::Error::other)??)
        .await?;
    stream.shutdown().await
}

/// Asks the agent whose socket is in this folder.
pub async fn explain(folder: &Path, namespace: &str, name: &str) -> Result<Report, Error> {
    let question = Question::Explain {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    ask(folder, &question).await
}

pub async fn connections(folder: &Path) -> Result<Vec<Snapshot>, Error> {
    ask(folder, &Question::Connections).await
}

async fn ask<T: DeserializeOwned>(folder: &Path, question: &Question) -> Result<T, Error> {
    let path = folder.join(NAME);
    let conversation = async {
        let stream = UnixStream::connect(&path).await;
        let mut stream = stream.map_err(|source| Error::Connect {
            path: path.clone(),
            source,
        })?;
        let question = serde_json::to_vec(question).map_err(Error::Answer)?;
        stream.write_all(&question).await.map_err(Error::Broken)?;
        stream.shutdown().await.map_err(Error::Broken)?;
        read(&mut stream, LONGEST_ANSWER).await.map_err(Error::Broken)
    };
    let answer = timeout(DEADLINE, conversation)
        .await
        .map_err(|_late| Error::Timeout)??;
    serde_json::from_slice(&answer).map_err(Error::Answer)
}

/// To the end.
async fn read(stream: &mut UnixStream, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(longest + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
