//! The eBPF hook while it is wanted: attached last, proven at once and every minute, off first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{error, info};

use crate::datapath::cgroup::Mount;
use crate::datapath::self_test::{SelfTest, SelfTestError};
use crate::datapath::{self, Datapath, cgroup};

const PROOF_INTERVAL: Duration = Duration::from_mins(1);

/// Why connections are not redirected.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Attach(#[from] datapath::Error),
    #[error("the hook is attached, but does not work")]
    Ineffective(#[from] SelfTestError),
}

/// The programs at the cgroup where they belong.
pub(super) struct Hook {
    pub(super) datapath: Datapath,
    pub(super) cgroup: PathBuf,
    test: SelfTest,
}

/// First tick after one interval: the start has proven the hook already.
pub(super) fn interval() -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + PROOF_INTERVAL, PROOF_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Where the self test must move its child: nowhere if it is hooked by birth, since moving
/// takes rights to both cgroups. In a container the node's tree is mounted elsewhere than
/// /proc says, and the lists of processes tell.
fn foreign(cgroup: &Path) -> Option<PathBuf> {
    let by_birth = Mount::find().is_ok_and(|mount| mount.holds_this_process(cgroup))
        || cgroup::holds_this_process(cgroup);
    (!by_birth).then(|| cgroup.to_owned())
}

impl Hook {
    /// Not attached yet.
    pub(super) fn new(datapath: Datapath, cgroup: PathBuf) -> Self {
        let test = SelfTest::new(&datapath, foreign(&cgroup));
        Self {
            datapath,
            cgroup,
            test,
        }
    }

    /// Attaches the programs; from here on connections arrive. Fails unless one really does.
    pub(super) async fn attach(&mut self) -> Result<(), Error> {
        self.datapath.attach(&self.cgroup)?;
        self.test.run_once().await?;
        info!(cgroup = %self.cgroup.display(), "connections are redirected");
        Ok(())
    }

    /// Tries the hook; attaches it anew if its cgroup was removed and made again.
    pub(super) async fn prove(&mut self) -> Result<(), Error> {
        let proof = self.test.run_once().await;
        let proof = match proof {
            Ok(()) => Ok(()),
            Err(_first) => self.prove_anew().await,
        };
        if let Err(error) = &proof {
            let cause = std::error::Error::source(error).map(tracing::field::display);
            error!(cgroup = %self.cgroup.display(), %error, cause, "connections are not redirected");
        }
        proof
    }

    async fn prove_anew(&mut self) -> Result<(), Error> {
        self.datapath.detach();
        self.datapath.attach(&self.cgroup)?;
        Ok(self.test.run_once().await?)
    }
}
