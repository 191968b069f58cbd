//! Who may come in to a destination, and who is in already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lifecycle::drain::{Drain, DrainWatch};
use crate::resolve::scope::{Audience, Caller, Refused};

/// The door of one destination. Its connections are kept apart by the namespace that they come
/// from, so that those of one namespace can be ended alone.
#[derive(Debug)]
pub(super) struct Door {
    drain: Drain,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    audience: Audience,
    rooms: HashMap<Room, Drain>,
}

/// Callers that may or may not come in together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Room {
    Namespace(Arc<str>),
    PortForward,
    Unknown,
}

/// What happens to connections of those who may not come in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// They end after the answers that are on their way.
    Finish,
    Cut,
}

impl Door {
    /// Connections end with `drain`, too.
    pub(super) fn new(audience: Audience, drain: Drain) -> Self {
        Self {
            drain,
            state: Mutex::new(State {
                audience,
                rooms: HashMap::new(),
            }),
        }
    }

    /// Decides about a connection; it lives no longer than what this gives says.
    pub(super) fn admit(&self, caller: &Caller) -> Result<DrainWatch, Refused> {
        let mut state = self.state();
        state.audience.admits(caller)?;
        let room = Room::of(caller);
        if let Some(drain) = state.rooms.get(&room) {
            return Ok(drain.watch());
        }
        // Where nobody is any more, nobody needs to be told.
        state.rooms.retain(|_, drain| drain.held() > 0);
        let drain = self.drain.child();
        let watch = drain.watch();
        state.rooms.insert(room, drain);
        Ok(watch)
    }

    pub(super) fn audience(&self) -> Audience {
        self.state().audience.clone()
    }

    /// Connections that are in.
    pub(super) fn open(&self) -> usize {
        self.state().rooms.values().map(Drain::held).sum()
    }

    /// Says goodbye to those who are in and may not be any more; the others notice nothing.
    pub(super) fn open_to(&self, audience: &Audience, farewell: Farewell) {
        let mut state = self.state();
        state.audience = audience.clone();
        state.rooms.retain(|room, drain| {
            let stays = room.is_for(audience);
            if !stays {
                drain.start();
                if farewell == Farewell::Cut {
                    drain.cut();
                }
            }
            stays
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Pod(pod) => Self::Namespace(Arc::clone(&pod.namespace)),
            Caller::PortForward => Self::PortForward,
            Caller::Unknown(_) => Self::Unknown,
        }
    }

    fn is_for(&self, audience: &Audience) -> bool {
        match (audience, self) {
            (Audience::Cluster, _) | (_, Self::PortForward) => true,
            (Audience::Namespace(only), Self::Namespace(namespace)) => only == namespace,
            (Audience::Namespace(_), Self::Unknown) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::pods::testing::pod_in;
    use crate::resolve::scope::Unknown;

    fn from(namespace: &str) -> Caller {
        Caller::Pod(Arc::new(pod_in(namespace)))
    }

    fn shop() -> Audience {
        Audience::Namespace("shop".into())
    }

    #[tokio::test]
    async fn only_those_who_lose_their_right_have_to_go() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let admit = |caller: &Caller| door.admit(caller).unwrap();
        let of_shop = admit(&from("shop"));
        let of_bank = admit(&from("bank"));
        let forwarded = admit(&Caller::PortForward);
        let unknown = admit(&Caller::Unknown(Unknown::SharedAddress));
        door.open_to(&shop(), Farewell::Cut);
        for (watch, goes) in [
            (of_shop, false),
            (of_bank, true),
            (forwarded, false),
            (unknown, true),
        ] {
            assert_eq!((watch.is_draining(), watch.is_cut()), (goes, goes));
        }
        assert_eq!(door.admit(&from("bank")).unwrap_err(), Refused::OtherNamespace);
    }

    #[tokio::test]
    async fn http_may_finish_its_answers() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let watch = door.admit(&from("bank")).unwrap();
        door.open_to(&shop(), Farewell::Finish);
        assert!(watch.is_draining());
        assert!(!watch.is_cut());
    }

    #[tokio::test]
    async fn who_comes_back_after_the_door_was_opened_again_stays() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let _before = door.admit(&from("bank")).unwrap();
        door.open_to(&shop(), Farewell::Cut);
        door.open_to(&Audience::Cluster, Farewell::Cut);
        assert!(!door.admit(&from("bank")).unwrap().is_draining());
    }

    #[tokio::test]
    async fn the_end_of_the_destination_ends_them_all_and_waits_for_them() {
        let whole = Drain::new();
        let door = Door::new(shop(), whole.clone());
        let watch = door.admit(&from("shop")).unwrap();
        whole.start();
        assert!(watch.is_draining());
        assert_eq!(whole.held(), 1);
        drop(watch);
        assert_eq!(whole.held(), 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_namespaces_that_have_no_connection_any_more() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        for namespace in ["a", "b", "c"] {
            drop(door.admit(&from(namespace)).unwrap());
        }
        assert_eq!(door.state().rooms.len(), 1);
    }
}
