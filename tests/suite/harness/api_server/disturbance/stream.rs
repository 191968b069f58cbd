//! Bodies of watches that tests can end.

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{broadcast, watch};

use super::{Body, BrokenOff, status_object};

#[derive(Debug, Clone, Copy)]
pub(super) enum Interruption {
    Cut,
    End,
    Expire,
}

struct Open {
    body: kube::client::Body,
    interruptions: broadcast::Receiver<Interruption>,
    held: watch::Receiver<bool>,
    /// What is left to do after an interruption.
    last: Option<Result<(), BrokenOff>>,
}

pub(super) fn interruptible(
    body: kube::client::Body,
    interruptions: broadcast::Receiver<Interruption>,
    held: watch::Receiver<bool>,
) -> Body {
    let open = Open {
        body,
        interruptions,
        held,
        last: None,
    };
    StreamBody::new(stream::unfold(open, next)).boxed_unsync()
}

type Next = Option<(Result<Frame<Bytes>, BrokenOff>, Open)>;

async fn next(mut open: Open) -> Next {
    match open.last.take() {
        Some(Ok(())) => return None,
        Some(Err(broken_off)) => return Some((Err(broken_off), ended(open))),
        None => {}
    }
    let frame = tokio::select! {
        biased;
        interruption = open.interruptions.recv() => return interrupted(open, interruption.ok()?),
        frame = open.body.frame() => frame?.map_err(|_broken| BrokenOff),
    };
    open.held.wait_for(|held| !held).await.ok()?;
    Some((frame, open))
}

fn interrupted(mut open: Open, interruption: Interruption) -> Next {
    let (text, last) = match interruption {
        Interruption::End => return None,
        Interruption::Cut => (r#"{"type":"MODI"#.to_owned(), Err(BrokenOff)),
        Interruption::Expire => (
            format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status_object(410)),
            Ok(()),
        ),
    };
    open.last = Some(last);
    Some((Ok(Frame::data(text.into())), open))
}

fn ended(mut open: Open) -> Open {
    open.last = Some(Ok(()));
    open
}
