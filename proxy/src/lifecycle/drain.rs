//! (stand-in)
use tokio::sync::watch;

#[derive(Clone)]
pub struct DrainWatch(watch::Receiver<bool>);
pub struct Drain(watch::Sender<bool>);

impl Drain {
    #[expect(clippy::new_without_default, reason = "stand-in")]
    pub fn new() -> Self {
        Self(watch::channel(false).0)
    }
    pub fn watch(&self) -> DrainWatch {
        DrainWatch(self.0.subscribe())
    }
    pub fn start(&self) {
        self.0.send_replace(true);
    }
}

impl DrainWatch {
    pub async fn draining(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    pub fn is_draining(&self) -> bool {
        *self.0.borrow()
    }
}
